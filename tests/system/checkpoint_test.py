#!/usr/bin/env python3
"""The `filigree checkpoint` commands as a user types them, on runs trained here: two layouts of one configuration."""
import json
import shutil
import unittest

from harness import ModelTest, training

STEPS = 6
RUN = {"checkpoint__every": 2, "checkpoint__keep": 9}
COMMANDS = ["list", "verify", "show", "diff", "prune"]


class Checkpoint(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prepare(*training("data", STEPS, **RUN), ranks=2)
        cls.prepare(*training("tensor", STEPS, **RUN, parallel__tensor=2), ranks=2)

    def step(self, run, step):
        return self.folder / run / f"checkpoints/step_{step:08}"

    def damage(self, run, step, tensor="parameters/blocks.0.norm1.weight"):
        """Flips one bit of the tensor; returns the name of the file it lies in."""
        manifest = json.loads((self.step(run, step) / "manifest.json").read_text())
        part = manifest["tensors"][tensor]["slices"][0]
        file = self.step(run, step) / manifest["files"][part["file"]]["name"]
        with file.open("r+b") as stream:
            stream.seek(part["file_offset"])
            byte = stream.read(1)[0]
            stream.seek(part["file_offset"])
            stream.write(bytes([byte ^ 1]))
        return str(file.relative_to(self.folder))

    def leave(self, run, step):
        """What a save leaves that was killed."""
        folder = self.folder / run / f"checkpoints/step_{step:08}.tmp.0123abcd"
        shutil.copytree(self.step(run, STEPS), folder)
        (folder / "manifest.json").unlink()
        return folder

    def test_help_has_an_example(self):
        for name in COMMANDS:
            text = self.succeed("checkpoint", name, "--help")
            self.assertIn(f"filigree checkpoint {name} runs/", text)
            self.assertIn("--help", text)

    def test_list(self):
        lines = self.succeed("checkpoint", "list", "data").splitlines()
        self.assertEqual([line.split()[0] for line in lines[1:4]], [f"step_{step:08}" for step in (2, 4, 6)])
        for line in lines[1:4]:
            self.assertIn("dp2", line)
            self.assertTrue(line.endswith("complete"), line)
        self.assertEqual(self.succeed("checkpoint", "list", "data/checkpoints/"), "\n".join(lines) + "\n")
        listed = json.loads(self.succeed("checkpoint", "list", "tensor", "--json"))
        self.assertEqual([(one["step"], one["layout"], one["complete"]) for one in listed],
                         [(2, "tp2", True), (4, "tp2", True), (6, "tp2", True)])
        manifest = json.loads((self.step("tensor", 6) / "manifest.json").read_text())
        self.assertEqual(listed[2]["tensors"], len(manifest["tensors"]))
        self.assertEqual(listed[2]["bytes"], sum(file["bytes"] for file in manifest["files"]))

    def test_list_says_what_is_not_usable_and_what_was_left(self):
        (self.step("data", 4) / "rank_00001.h5").unlink()
        left = self.leave("data", 7)
        text = self.succeed("checkpoint", "list", "data")
        self.assertRegex(text, r"step_00000004 .*NOT USABLE: .*rank_00001\.h5")
        self.assertRegex(text, rf"{left.name} .*not finished")
        listed = json.loads(self.succeed("checkpoint", "list", "data", "--json"))
        self.assertEqual([one["complete"] for one in listed], [True, False, True, False])

    def test_verify(self):
        text = self.succeed("checkpoint", "verify", "data")
        self.assertEqual([line.split(":")[0] for line in text.splitlines()], [f"step_{step:08}" for step in (2, 4, 6)])
        self.assertEqual(text.count(": intact, "), 3)
        text = self.succeed("checkpoint", "verify", "tensor/checkpoints/step_00000004/")
        self.assertRegex(text, r"^step_00000004: intact, .* tensors\n$")

    def test_verify_names_the_damaged_tensor_and_its_file(self):
        file = self.damage("data", 4)
        result = self.run_program("checkpoint", "verify", "data")
        self.assertEqual(result.returncode, 2)
        self.assertEqual(result.stdout.count(": intact, "), 2)
        errors = result.stderr.strip().splitlines()
        self.assertEqual(len(errors), 1, errors)
        for part in (file, "'parameters/blocks.0.norm1.weight'", "[0:32]"):
            self.assertIn(part, errors[0])
        # Nothing of this checkpoint but that tensor is affected: the others can be looked at.
        self.succeed("checkpoint", "show", self.step("data", 4), "--tensors")

    def test_verify_of_a_leftover_says_that_it_was_not_finished(self):
        left = self.leave("data", 7)
        self.assertEqual(self.succeed("checkpoint", "verify", "data").count(": intact, "), 3)
        self.assertRegex(self.refuse("checkpoint", "verify", left)[0], rf"{left.name}.*not finished")

    def test_show(self):
        text = self.succeed("checkpoint", "show", "tensor")
        self.assertIn("step     6", text)
        self.assertIn("tp2, 2 ranks", text)
        for group in ("parameters", "optimizer/m", "optimizer/v"):
            self.assertRegex(text, rf"(?m)^  {group} +\d+ tensors")
        state = json.loads(next(line for line in text.splitlines() if line.startswith("  state ")).split(None, 1)[1])
        self.assertEqual((state["step"], state["samples"]), (6, 48))
        text = self.succeed("checkpoint", "show", self.step("tensor", 2), "--tensors", "--config")
        self.assertIn("\nwidth = 32\n", text)
        self.assertRegex(text, r"(?m)^parameters/embedding\S*  f32\[400, 32\]$")
        self.assertRegex(text, r"(?m)^    rank_00001\.h5  \[\d+:\d+, \d+:\d+\]  [0-9a-f]{32}$")
        manifest = (self.step("tensor", 6) / "manifest.json").read_text()
        self.assertEqual(self.succeed("checkpoint", "show", "tensor", "--json"), manifest)

    def test_diff(self):
        # A copy is the same; other steps are not, and the exit code says so.
        shutil.copytree(self.folder / "data", self.folder / "copy")
        text = self.succeed("checkpoint", "diff", "data", "copy")
        self.assertRegex(text, r"^all \d+ tensors are the same\n$")
        result = self.run_program("checkpoint", "diff", self.step("data", 4), self.step("data", 6))
        self.assertEqual((result.returncode, result.stderr), (1, ""))
        self.assertRegex(result.stdout, r"(?m)^parameters/\S+: \d+ of \d+ values differ, by at most \S+ \(relative \S+\)$")
        self.assertRegex(result.stdout, r"\d+ of \d+ tensors differ\n$")

    def test_diff_across_layouts(self):
        """The layouts differ by rounding only, in every tensor's place."""
        result = self.run_program("checkpoint", "diff", "data", "tensor", "--json")
        self.assertEqual(result.returncode, 1, result.stderr)
        listed = json.loads(result.stdout)
        self.assertGreater(len(listed), 30)
        self.assertFalse([one for one in listed if "form" in one])
        self.assertLess(max(one.get("largest", 0) for one in listed if one["name"].startswith("parameters/")), 1e-3)
        text = self.succeed("checkpoint", "diff", "data", "tensor", "--tolerance", 1e-2)
        self.assertRegex(text, r"^all \d+ tensors differ by at most 0\.01\n$")
        # A checkpoint that was saved and loaded on another layout is the same to the bit.
        self.succeed("train", "--resume", "data", "--train.steps", STEPS + 1, "--parallel.tensor", 2, ranks=2)
        self.succeed("checkpoint", "diff", self.step("data", STEPS), self.step("data", STEPS))

    def test_diff_refuses_what_is_damaged(self):
        file = self.damage("data", 6)
        error = self.refuse("checkpoint", "diff", "data", "tensor")[0]
        self.assertIn(file, error)
        self.assertIn("'parameters/blocks.0.norm1.weight'", error)

    def test_diff_of_other_shapes(self):
        self.succeed(*training("wide", 2, model__layers=3), ranks=1)
        result = self.run_program("checkpoint", "diff", self.step("data", 2), "wide")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("parameters/blocks.2.norm1.weight: only in the second\n", result.stdout)

    def test_prune(self):
        left = self.leave("data", 7)
        text = self.succeed("checkpoint", "prune", "data", "--keep", 1, "--dry-run")
        self.assertEqual(text, f"would remove step_00000002\nwould remove {left.name}\n")
        self.assertEqual(self.saved_steps("data"), [2, 4, 6])
        self.assertTrue(left.exists())
        text = self.succeed("checkpoint", "prune", "data", "--keep", 1)
        self.assertEqual(text, f"removed step_00000002\nremoved {left.name}\n")
        self.assertEqual(sorted(path.name for path in (self.folder / "data/checkpoints").glob("step_*")),
                         ["step_00000004", "step_00000006"])
        self.assertEqual(self.succeed("checkpoint", "prune", "data", "--keep", 1), "nothing to remove\n")
        self.succeed("checkpoint", "verify", "data")

    def test_prune_keeps_the_last_two_that_are_intact(self):
        self.damage("data", 6)
        self.assertEqual(self.succeed("checkpoint", "prune", "data", "--keep", 1), "nothing to remove\n")
        self.assertEqual(self.saved_steps("data"), [2, 4, 6])

    def test_prune_keeps_every(self):
        self.assertEqual(self.succeed("checkpoint", "prune", "data", "--keep", 1, "--keep-every", 2), "nothing to remove\n")

    def test_what_is_not_there(self):
        for name in COMMANDS:
            second = ["data"] if name == "diff" else []
            for path, message in [("missing", "there is no folder 'missing'"),
                                  ("shards/..", "'shards/..' holds no checkpoints"),
                                  ("data/checkpoints/step_00000003", "step_00000003"),
                                  ("data/config.cfg", "data/config.cfg")]:
                if name == "prune" and path.endswith("3"):
                    continue  # takes a run only, below
                errors = self.refuse("checkpoint", name, path, *second)
                self.assertIn(message, errors[0], f"{name} {path}")
            self.assertIn("is missing", self.refuse("checkpoint", name)[0])
        self.assertIn("saved are steps 2, 4, 6", self.refuse("checkpoint", "verify", self.step("data", 3))[0])
        self.assertIn("is one checkpoint; give its run", self.refuse("checkpoint", "prune", self.step("data", 4))[0])
        self.assertIn("--kep", self.refuse("checkpoint", "prune", "data", "--kep", 1)[0])
        self.assertEqual(self.saved_steps("data"), [2, 4, 6])


if __name__ == "__main__":
    unittest.main()
