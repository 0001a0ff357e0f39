#!/usr/bin/env python3
"""`filigree doctor`: what the program was linked with, on this machine."""
import json
import os
import subprocess
import unittest

from harness import PROGRAM, ROOT, ProgramTest

HAS_CUDA = os.environ.get("FILIGREE_HAS_CUDA") == "TRUE"
HAS_CUDNN = os.environ.get("FILIGREE_HAS_CUDNN") == "TRUE"


class Doctor(ProgramTest):
    def findings(self, **options):
        report = json.loads(self.succeed("doctor", "--json", **options))
        self.assertTrue(report["healthy"])
        return {finding["name"]: finding for finding in report["findings"]}

    def test_every_finding_is_a_line(self):
        findings = self.findings()
        lines = self.succeed("doctor").splitlines()
        self.assertEqual([line.split("  ")[0] for line in lines], list(findings))
        for line, finding in zip(lines, findings.values()):
            self.assertRegex(line, rf"^{finding['name']} +{finding['status']} ")

    def test_under_mpirun_one_rank_speaks_and_counts_all(self):
        text = self.succeed("doctor", ranks=2)
        self.assertEqual(text.count("\nMPI "), 1)
        self.assertRegex(text, r"\nMPI +ok +.*\d+\.\d+.*; 2 ranks, 2 on this host\n")

    def test_names_what_the_program_is_linked_with(self):
        linked = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
        findings = self.findings()
        for name, library in {"cuBLASLt": "libcublasLt.so", "NCCL": "libnccl.so"}.items():
            self.assertEqual(library in linked, HAS_CUDA, linked)
            if HAS_CUDA:
                self.assertEqual(findings[name]["status"], "ok", findings[name])
                self.assertRegex(findings[name]["found"], r"^\d+\.\d+\.\d+")
        self.assertEqual(findings["CUDA"]["status"], "ok" if HAS_CUDA else "missing")
        if HAS_CUDA:
            self.assertRegex(findings["CUDA"]["found"], r"^built with \d+\.\d+ for sm_\d+")
            self.assertIn("NVIDIA driver", findings)
            self.assertEqual("libcudnn.so" in linked, HAS_CUDNN, linked)
            self.assertEqual(findings["cuDNN"]["status"], "ok" if HAS_CUDNN else "missing")
        else:
            self.assertIn("cmake --preset cuda-release", findings["CUDA"]["hint"])

    def test_the_version_is_that_of_the_project(self):
        version = self.succeed("--version").split()[1]
        self.assertIn(version, self.findings()["filigree"]["found"])
        self.assertIn(f"VERSION {version} ", (ROOT / "CMakeLists.txt").read_text())


if __name__ == "__main__":
    unittest.main()
