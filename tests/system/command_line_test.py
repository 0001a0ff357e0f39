#!/usr/bin/env python3
"""The command line: help, mistakes, exit codes."""
import unittest

from harness import ROOT, ProgramTest


class CommandLine(ProgramTest):
    def test_help_and_version(self):
        text = self.succeed("--help")
        for name in ["train", "eval", "score", "generate", "data tokenize", "data inspect", "bench scale", "bench kernels",
                     "bench attention"]:
            self.assertIn(f"\n  {name} ", text)
        self.assertRegex(self.succeed("--version"), r"^filigree \d+\.\d+\.\d+\n$")

    def test_no_command_is_a_mistake(self):
        result = self.run_program()
        self.assertEqual(result.returncode, 2)
        self.assertIn("Usage: filigree COMMAND", result.stdout)

    def test_unknown_command_and_option_offer_the_nearest_name(self):
        self.assertEqual(self.refuse("trian"), ["unknown command 'trian'; did you mean 'train'?"])
        self.assertEqual(self.refuse("train", "--run", "r", "--train.stesp", "3"),
                         ["unknown option --train.stesp; did you mean --train.steps?"])

    def test_missing_configuration_file(self):
        lines = self.refuse("train", "--config", "none.cfg")
        self.assertIn("cannot read the configuration file 'none.cfg'; presets are in configs/", lines)

    def test_every_problem_of_a_file_is_reported_with_its_line(self):
        (self.folder / "bad.cfg").write_text("[train]\nsteps = 12x\n[modle]\nwidth = 3\n")
        self.assertEqual(self.refuse("train", "--config", "bad.cfg", "--train.dtype", "fp16"),
                         ["bad.cfg:4: unknown key modle.width; did you mean model.width?",
                          "bad.cfg:2: train.steps = 12x: must be a whole number of at least 1",
                          "--train.dtype fp16: must be one of f64, f32, bf16; did you mean 'bf16'?"])

    def test_under_mpirun_one_rank_speaks_for_all(self):
        result = self.run_program("train", "--config", "none.cfg", ranks=2)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stderr.count("cannot read the configuration file"), 1, result.stderr)
        help_text = self.succeed("train", "--help", ranks=2)
        self.assertEqual(help_text.count("Example:"), 1)

    def test_reference_page_documents_every_key_of_the_presets(self):
        page = self.succeed("train", "--help-config")
        for preset in (ROOT / "configs").glob("*.cfg"):
            for line in preset.read_text().splitlines():
                if "=" in line.split("#")[0]:
                    self.assertIn(f"| `{line.split('=')[0].strip()}` |", page)

    def test_not_a_run_directory(self):
        self.assertEqual(self.refuse("train", "--resume", "nowhere"),
                         ["'nowhere' is not a run directory: there is no nowhere/config.cfg; `filigree train` makes "
                          "one under its --run"])


if __name__ == "__main__":
    unittest.main()
