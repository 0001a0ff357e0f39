#!/usr/bin/env python3
"""launch/setup.sh and quickstart.sh where something is missing: apt-get and dpkg-query are replaced, nothing is installed."""
import os
import pathlib
import subprocess
import tempfile
import unittest

from harness import ROOT


class SetupScript(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tools = pathlib.Path(folder.name)
        self.replace("dpkg-query", "echo not-installed")
        self.replace("apt-get", 'echo "$*" >> "$(dirname "$0")/calls"; exit 100')

    def replace(self, name, body):
        (self.tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.tools / name).chmod(0o755)

    def bash(self, text):
        return subprocess.run(["bash", "-c", f"set -euo pipefail; . '{ROOT}/launch/setup.sh'; {text}"], text=True,
                              capture_output=True, env={**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}"})

    def test_says_what_it_installs_and_explains_a_failed_update(self):
        self.replace("sudo", 'exec "$@"')
        result = self.bash("ensure_packages yes build")
        self.assertEqual(result.returncode, 2)
        self.assertIn("About to install with apt-get: cmake ninja-build g++", result.stdout)
        self.assertIn("error: apt-get update failed", result.stderr)
        self.assertIn("--no-install", result.stderr)
        self.assertEqual((self.tools / "calls").read_text(), "update -qq\n")

    def test_no_install_installs_nothing_and_says_how(self):
        result = self.bash("ensure_packages no build test")
        self.assertEqual(result.returncode, 0)
        self.assertIn("To install them: apt-get install cmake", result.stdout)
        self.assertIn("python3", result.stdout)
        self.assertFalse((self.tools / "calls").exists())

    def test_nothing_to_do_when_everything_is_installed(self):
        self.replace("dpkg-query", "echo installed")
        result = self.bash("ensure_packages yes build test")
        self.assertEqual(result.stdout, "Every package it needs is installed.\n")
        self.assertFalse((self.tools / "calls").exists())

    def test_the_frontend_of_cudnn_is_fetched_where_cudnn_is_and_a_failure_ends_nothing(self):
        (self.tools / "include").mkdir()
        (self.tools / "include/cudnn.h").touch()
        here = f"filigree_root={self.tools}; CUDNN_ROOT={self.tools}; unset CUDNN_FRONTEND_ROOT; "
        self.replace("python3", 'echo "$*" >> "$(dirname "$0")/calls"; exit 1')
        result = self.bash(here + "ensure_cudnn_frontend no")
        self.assertIn("pip install --target build/cudnn_frontend --no-deps nvidia-cudnn-frontend==", result.stdout)
        self.assertFalse((self.tools / "calls").exists())
        result = self.bash(here + "ensure_cudnn_frontend yes")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("could not be fetched, so cuDNN's attention is left out", result.stdout)
        self.assertIn(f"--target {self.tools}/build/cudnn_frontend", (self.tools / "calls").read_text())
        self.assertEqual(self.bash(here + "have_cudnn() { false; }; ensure_cudnn_frontend yes").stdout, "")

    def test_what_can_be_done_without_is_tried_and_no_more(self):
        self.replace("sudo", 'exec "$@"')
        result = self.bash("offer_packages yes interop 'what to compare with' 'tests are skipped.'; echo on")
        self.assertEqual(result.returncode, 0)
        self.assertIn("About to install what to compare with: python3-torch", result.stdout)
        self.assertIn("They cannot be installed; tests are skipped.\non\n", result.stdout)
        self.assertEqual(self.bash("offer_packages no interop a b").stdout, "")

    def test_unknown_options_are_refused(self):
        for script in ["launch/quickstart.sh", "tests/run.sh"]:
            result = subprocess.run([ROOT / script, "--instal"], capture_output=True, text=True)
            self.assertEqual(result.returncode, 2)
            self.assertIn("unknown option '--instal'", result.stderr)


if __name__ == "__main__":
    unittest.main()
