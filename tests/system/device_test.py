#!/usr/bin/env python3
"""--device where there is no GPU, with and without CUDA in the program: one line, nothing left behind."""
import os
import unittest

from harness import ModelTest, training

# What the build says of the program; not asked for from the program itself.
HAS_CUDA = os.environ.get("FILIGREE_HAS_CUDA") == "TRUE"
NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}
WHY = (r"no NVIDIA GPU can be used: CUDA says '.+'; .*(install|nvidia-smi)" if HAS_CUDA else
       r"this filigree was built without CUDA; .*cmake --preset cuda-release")


class Device(ModelTest):
    def refuse_once(self, *arguments, **options):
        result = self.run_program(*arguments, environment={**NO_GPUS, "OMPI_MCA_odls_base_sigkill_timeout": "0"}, **options)
        self.assertEqual(result.returncode, 2, result.stderr)
        lines = [line for line in result.stderr.splitlines() if line.startswith("filigree")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertRegex(lines[0], f"^filigree: error: device cuda: {WHY}")

    def test_training_without_a_gpu_is_refused_in_one_line(self):
        for ranks in (0, 1, 2):
            self.refuse_once(*training("new", 2), "--device", "cuda", ranks=ranks)
            self.assertFalse((self.folder / "new").exists())

    def test_auto_takes_the_cpu_and_says_so_once(self):
        for ranks in (0, 2):
            result = self.run_program(*training(f"run{ranks}", 2), "--device", "auto", ranks=ranks, environment=NO_GPUS)
            self.assertEqual(result.returncode, 0, result.stderr)
            lines = [line for line in result.stderr.splitlines() if line.startswith("filigree: device")]
            self.assertEqual(len(lines), 1, result.stderr)
            self.assertRegex(lines[0], f"^filigree: device auto: the CPU; {WHY}")

    def test_a_run_may_change_its_device(self):
        self.succeed(*training("run", 2))
        self.assertIn("device = cpu", (self.folder / "run/config.cfg").read_text())
        self.succeed("train", "--resume", "run", "--train.steps", "3", "--device", "auto", environment=NO_GPUS)

    def test_every_command_that_computes_takes_it(self):
        self.succeed(*training("run", 2))
        (self.folder / "text.txt").write_text("some words\n")
        for words in (["eval"], ["generate", "--prompt", "word"], ["score", "--input", "text.txt", "--output", "scores"]):
            self.refuse_once(*words, "--from-run", "run", "--device", "cuda")
        self.refuse_once("bench", "scale", "--steps", "1", "--device", "cuda")
        self.refuse_once("bench", "quality", "--data", "shards", "--steps", "1", "--device", "cuda")


if __name__ == "__main__":
    unittest.main()
