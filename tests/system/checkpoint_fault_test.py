#!/usr/bin/env python3
"""Runs that are killed or told to stop while they save, that find damage when they start, and whose disk is full.

FILIGREE_KILLS sets how many jobs are killed or stopped: a few by default, 200 where it counts."""
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

from harness import ModelTest, command, kill_job, mpi_environment, rank_processes, training

KILLS = int(os.environ.get("FILIGREE_KILLS", "12"))
BASE, STEPS = 4, 30
# A save after every step, each waited for by the next: there is always one under way.
SAVING = {"checkpoint__every": 1, "train__micro_batch": 2, "model__dropout": 0.1}


def checkpoint(folder, step):
    return folder / f"checkpoints/step_{step:08}"


class Stopped(ModelTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # In the foreground: nothing of it is done in another order, and every step is kept to compare with.
        cls.prepare(*training("straight", STEPS, **SAVING, checkpoint__keep=STEPS, checkpoint__background="false"),
                    ranks=2)
        base = cls.corpus / "base"
        shutil.copytree(cls.corpus / "straight", base)
        for path in base.glob("checkpoints/step_*"):
            if int(path.name[5:]) > BASE:
                shutil.rmtree(path)

    def leftovers(self, run):
        return sorted(path.name for path in (self.folder / run / "checkpoints").glob("*.tmp.*"))

    def stop_within_saves(self, run, seconds, stop):
        """Resumes the run, stops it so many seconds after its first save has begun; returns its exit code."""
        shutil.copytree(self.folder / "base", self.folder / run)
        process = self.start_program("train", "--resume", run, "--checkpoint.background", "true",
                                     "--checkpoint.keep", 2, ranks=2)
        deadline = time.monotonic() + 60
        while not self.leftovers(run) and self.saved_steps(run)[-1] == BASE:
            self.assertTrue(process.poll() is None and time.monotonic() < deadline, process.stderr)
            time.sleep(0.001)
        time.sleep(seconds)
        stop(process)
        process.communicate(timeout=60)
        return process.returncode

    def assert_is_straight(self, run, step):
        self.assertEqual(self.tensor_hashes(run, step), self.tensor_hashes("straight", step), f"step {step} of {run}")

    def resume_elsewhere(self, run, number):
        """On the layout of the run, to its bits; now and then on another one, to its losses."""
        other = [{}, {"ranks": 1}, {"arguments": ["--parallel.tensor", 2]}][number % 3]
        self.succeed("train", "--resume", run, *other.get("arguments", []), ranks=other.get("ranks", 2))
        if other:
            losses, expected = self.losses(run), self.losses("straight")
            self.assertEqual(sorted(losses), sorted(expected))
            for step, loss in losses.items():
                self.assertAlmostEqual(loss, expected[step], delta=1e-4 * expected[step])
        else:
            self.assert_is_straight(run, STEPS)
            self.assertEqual(self.metrics(run), self.metrics("straight"))
        self.assertEqual(self.leftovers(run), [])

    def test_killed_at_random_moments_of_saves(self):
        moments, within = random.Random(6), 0
        for number in range(KILLS):
            run = f"killed_{number}"
            with self.subTest(run=run):
                self.stop_within_saves(run, moments.uniform(0, 0.25), kill_job)
                within += bool(self.leftovers(run))
                newest = self.saved_steps(run)[-1]
                self.succeed("checkpoint", "verify", run)
                self.assert_is_straight(run, newest)
                if newest < STEPS:
                    self.resume_elsewhere(run, number)
                shutil.rmtree(self.folder / run)
        self.assertGreater(within, KILLS // 4, "kills that met a save")

    def test_told_to_stop_at_random_moments_of_saves(self):
        def terminate(process):
            for pid in rank_processes(process).values():
                os.kill(pid, signal.SIGTERM)

        moments = random.Random(7)
        for number in range(max(3, KILLS // 4)):
            run = f"stopped_{number}"
            with self.subTest(run=run):
                code = self.stop_within_saves(run, moments.uniform(0, 0.2), terminate)
                newest = self.saved_steps(run)[-1]
                self.assertEqual(code, 75 if newest < STEPS else 0)
                self.assertEqual(newest, max(self.losses(run)))
                self.assertEqual(self.leftovers(run), [])
                self.assert_is_straight(run, newest)
                if newest < STEPS:
                    self.resume_elsewhere(run, number)
                shutil.rmtree(self.folder / run)

    def test_the_newest_that_verifies_is_taken_up(self):
        """A leftover, a checkpoint without its manifest, one with a flipped bit: said aloud, passed over, and redone."""
        run = self.folder / "base"
        for step in (BASE + 1, BASE + 2):
            shutil.copytree(checkpoint(self.folder / "straight", step), checkpoint(run, step))
        shutil.copytree(checkpoint(run, BASE), f"{checkpoint(run, BASE + 3)}.tmp.01234567")
        (checkpoint(run, BASE + 2) / "manifest.json").unlink()
        file = checkpoint(run, BASE + 1) / "rank_00001.h5"
        values = bytearray(file.read_bytes())
        values[len(values) // 2] ^= 16
        file.write_bytes(values)
        result = self.run_program("train", "--resume", "base", ranks=2)
        text = result.stdout + result.stderr
        self.assertEqual(result.returncode, 0, text)
        warnings = [line for line in text.splitlines() if "passing over checkpoint" in line]
        self.assertEqual(len(warnings), 2, text)
        self.assertIn(f"step_{BASE + 2:08} has no file manifest.json", warnings[0])
        self.assertRegex(warnings[1], rf"step_{BASE + 1:08}/rank_00001\.h5 is damaged: tensor '\S+/\S+' \[.*\] does not match")
        for line in warnings:
            self.assertIn("warning", line)
        self.assertIn(f"resuming after step {BASE} ", text)
        self.assertIn(f"step_{BASE + 3:08}.tmp.01234567", text)
        self.assertEqual(self.leftovers("base"), [])
        self.assert_is_straight("base", STEPS)

    def test_no_checkpoint_that_verifies(self):
        for path in (self.folder / "base/checkpoints").glob("step_*"):
            (path / "rank_00000.h5").write_bytes(b"")
        text = "\n".join(self.refuse("train", "--resume", "base", ranks=2))
        self.assertIn("no complete checkpoint to resume from", text)

    def test_full_disk(self):
        """Two checkpoints fit, a third does not: training goes on, the old ones stay; the last save must not fail."""
        if subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                          capture_output=True).returncode != 0:
            self.skipTest("mounting a tmpfs is not permitted here")
        (self.folder / "disk").mkdir()
        size = sum(path.stat().st_size for path in checkpoint(self.folder / "straight", STEPS).iterdir())
        other = sum(path.stat().st_size for path in (self.folder / "straight").rglob("*")
                    if path.is_file() and "checkpoints" not in path.parts)
        steps = 8
        full = training("disk/run", steps, checkpoint__every=2)
        more = ["train", "--resume", "disk/run"]
        script = (f"mount -t tmpfs -o size={int(2.4 * size) + other} tmpfs disk && "
                  f"{{ {' '.join(command(full, 2))} >full.txt 2>&1; code=$?; cp -a disk full; "
                  f"mount -o remount,size=64m disk && {' '.join(command(more, 2))} >more.txt 2>&1; "
                  "echo $? >more.code; cp -a disk more; exit $code; }")
        result = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], cwd=self.folder,
                                capture_output=True, text=True, timeout=120, env=mpi_environment())
        text = (self.folder / "full.txt").read_text()
        self.assertEqual(result.returncode, 2, text + result.stderr)
        self.assertEqual(self.saved_steps("full/run"), [2, 4])
        self.assertEqual(self.leftovers("full/run"), [])
        self.assertEqual(sorted(self.losses("full/run")), list(range(1, steps + 1)))
        failures = [line for line in text.splitlines() if "was not saved" in line]
        self.assertEqual(sum("step 6 was not saved" in line for line in failures), 1, text)
        for part in ("warning", "No space left on device", "bytes are needed", "newest checkpoint: step 4"):
            self.assertIn(part, failures[0])
        errors = [line for line in text.splitlines() if line.startswith("filigree: error: ")]
        self.assertEqual(len(errors), 1, text)
        self.assertIn("checkpoint of step 8 was not saved", errors[0])
        # With room it goes on from what is there, to the bits of a run that always had room.
        self.assertEqual((self.folder / "more.code").read_text(), "0\n", (self.folder / "more.txt").read_text())
        self.succeed(*training("roomy", steps, checkpoint__every=2), ranks=2)
        self.assertEqual(self.tensor_hashes("more/run", steps), self.tensor_hashes("roomy", steps))


if __name__ == "__main__":
    unittest.main()
