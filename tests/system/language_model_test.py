#!/usr/bin/env python3
"""From text to a trained model, on the prose of this repository: tokenize, train, resume, evaluate, score, generate."""
import json
import shutil
import signal
import time
import unittest

from harness import ROOT, ProgramTest

MODEL = {"data.path": "shards", "model.layers": 2, "model.width": 32, "model.heads": 2, "model.sequence": 64,
         "train.batch": 8, "train.log_every": 1, "train.threads": 1, "schedule.warmup_steps": 2}


def training(run, steps, **changes):
    """Arguments of a new run; changes are keys with __ for the dot."""
    values = {**MODEL, "train.steps": steps, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["train", "--run", run] + [word for key, value in values.items() for word in (f"--{key}", str(value))]


class LanguageModel(ProgramTest):
    def setUp(self):
        super().setUp()
        (self.folder / "text").mkdir()
        for number, path in enumerate(sorted(ROOT.glob("*/README.md")) + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]):
            shutil.copy(path, self.folder / "text" / f"{number}.md")
        self.succeed("data", "tokenize", "--input", "text", "--output", "shards", "--vocabulary", "400",
                     "--document-paragraphs", "3")

    def metrics(self, run):
        lines = [json.loads(line) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line for line in lines if "loss" in line and "step" in line}

    def losses(self, run):
        return {step: line["loss"] for step, line in self.metrics(run).items()}

    def test_train_resume_evaluate_score_generate(self):
        text = self.succeed(*training("run", 40), ranks=2)
        self.assertIn("unigram model of the same text", text)
        losses = self.losses("run")
        self.assertLess(losses[40], losses[1] - 0.5)
        self.succeed("train", "--resume", "run", "--train.steps", "42", ranks=2)
        self.assertIn(42, self.losses("run"))

        report = json.loads(self.succeed("eval", "--from-run", "run", "--json"))
        self.assertEqual(report["step"], 42)
        self.assertLess(report["perplexity"], 400)

        line = "Filigree trains a model.\n"
        (self.folder / "line.txt").write_text(line)
        self.succeed("score", "--from-run", "run", "--input", "line.txt", "--output", "scores.jsonl")
        scores = [json.loads(row) for row in (self.folder / "scores.jsonl").read_text().splitlines()]
        self.assertGreater(len(scores), 5)
        first = self.succeed("generate", "--from-run", "run", "--prompt", "The", "--max-tokens", "8", "--seed", "3")
        again = self.succeed("generate", "--from-run", "run", "--prompt", "The", "--max-tokens", "8", "--seed", "3")
        self.assertTrue(first.startswith("The"), first)
        self.assertEqual(first, again)

    def test_every_layout_follows_the_curve_of_one_rank(self):
        self.succeed(*training("one", 8), ranks=1)
        alone = self.losses("one")
        for tensor in [1, 2]:
            run = f"tensor{tensor}"
            self.succeed(*training(run, 8, parallel__tensor=tensor), ranks=2)
            together = self.losses(run)
            self.assertEqual(sorted(together), sorted(alone))
            for step, loss in alone.items():
                self.assertAlmostEqual(together[step], loss, delta=2e-4, msg=f"{run} step {step}")

    def test_a_signal_saves_and_exits_75(self):
        process = self.start_program(*training("run", 100000))
        deadline = time.time() + 60
        while time.time() < deadline and not (self.folder / "run" / "metrics.jsonl").exists():
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 75, output + errors)
        saved = sorted((self.folder / "run" / "checkpoints").glob("step_*"))
        self.assertTrue(saved, output)
        step = int(saved[-1].name.split("_")[1])
        self.succeed("train", "--resume", "run", "--train.steps", str(step + 2))
        self.assertIn(step + 2, self.losses("run"))

    def test_bad_input_is_one_clear_line(self):
        self.succeed(*training("run", 2))
        cases = [
            ("run", training("run", 2)),
            ("no_shards", training("x", 2, data__path="no_shards")),
            ("model.heads", training("x", 2, model__heads=5)),
        ]
        for expected, arguments in cases:
            self.assertIn(expected, "\n".join(self.refuse(*arguments)))
            self.assertFalse((self.folder / "x").exists(), arguments)
        shard = next((self.folder / "shards").rglob("*.h5"))
        shard.write_bytes(shard.read_bytes()[:-100])
        self.assertIn(shard.name, self.refuse(*training("x", 2))[0])

    def test_more_ranks_than_the_batch_can_feed(self):
        lines = self.refuse(*training("run", 2, train__batch=1), ranks=2)
        self.assertIn("train.batch", lines[0])
        self.assertNotIn("twice", lines[0])


if __name__ == "__main__":
    unittest.main()
