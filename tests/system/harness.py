"""Runs the program as a user does. FILIGREE names the executable; without it, build/cpu-release's."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FILIGREE", str(ROOT / "build/cpu-release/bin/filigree"))


def mpi_environment():
    """On one machine, quiet, also as root and with more ranks than cores."""
    return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
            "OMPI_MCA_btl": "^openib", "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMP_NUM_THREADS": "1"}


def command(arguments, ranks=0):
    """The command line of `filigree ARGUMENTS`, under mpirun when ranks > 0."""
    launcher = ["mpirun", "-np", str(ranks)] if ranks else []
    return launcher + [PROGRAM] + [str(argument) for argument in arguments]


class ProgramTest(unittest.TestCase):
    """Each test has a folder of its own, self.folder, and starts the program in it."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="filigree_system_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def run_program(self, *arguments, ranks=0, timeout=300, environment=None):
        return subprocess.run(command(arguments, ranks), cwd=self.folder, capture_output=True, text=True, timeout=timeout,
                              env={**mpi_environment(), **(environment or {})}, stdin=subprocess.DEVNULL)

    def start_program(self, *arguments, ranks=0):
        process = subprocess.Popen(command(arguments, ranks), cwd=self.folder, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=mpi_environment(), stdin=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        return process

    def succeed(self, *arguments, **options):
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, 0, f"{arguments}\n{result.stdout}\n{result.stderr}")
        return result.stdout

    def refuse(self, *arguments, code=2, **options):
        """Expects this exit code; returns the program's error lines without their prefix."""
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, code, f"{arguments}\n{result.stdout}\n{result.stderr}")
        prefix = "filigree: error: "
        lines = [line[len(prefix):] for line in result.stderr.splitlines() if line.startswith(prefix)]
        self.assertTrue(lines, f"{arguments}: no error line in\n{result.stderr}")
        return lines
