#!/usr/bin/env python3
"""tests/gpu/bundle.sh and the folder that it makes, as far as they go without a GPU."""
import os
import pathlib
import shutil
import subprocess
import unittest

from harness import PROGRAM, ROOT, ProgramTest

HAS_CUDA = os.environ.get("FILIGREE_HAS_CUDA") == "TRUE"
C_LIBRARY = ("ld-linux", "libc.so", "libm.so", "libdl.so", "librt.so", "libpthread.so", "libutil.so", "libresolv.so",
             "linux-vdso")


class GpuBundle(ProgramTest):
    def run_script(self, *words, **environment):
        return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300,
                              env={**os.environ, **environment}, cwd=self.folder)

    def refuse(self, pattern, *words, **environment):
        result = self.run_script(*words, **environment)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertRegex(result.stderr, pattern)
        return result

    def test_mistakes_are_refused(self):
        script = ROOT / "tests/gpu/bundle.sh"
        self.refuse("error: unknown option '--ouput'", script, "--ouput", "x")
        self.refuse("error: '.*' exists", script, "--output", self.folder, "--build", self.folder)
        self.refuse("error: '.*' has no bin/filigree", script, "--output", "new", "--build", self.folder)
        self.assertFalse((self.folder / "new").exists())
        self.refuse("run.sh: error: unknown option '--tets'", ROOT / "tests/gpu/run.sh", "--tets")

    @unittest.skipUnless(HAS_CUDA, "this build has no CUDA")
    def test_the_folder_stands_on_its_own_and_says_that_there_is_no_gpu(self):
        folder = self.folder / "bundle"
        made = self.run_script(ROOT / "tests/gpu/bundle.sh", "--output", folder, "--symlink", "--build",
                               pathlib.Path(PROGRAM).resolve().parents[1])
        self.assertEqual(made.returncode, 0, made.stderr)
        libraries = {path.name for path in (folder / "lib").iterdir()}
        for name in ("libcublasLt.so", "libnccl.so", "libhdf5", "libmpi.so", "libstdc++.so"):
            self.assertTrue(any(library.startswith(name) for library in libraries), libraries)
        if "libcudnn.so.9" in libraries:  # which loads these by itself
            self.assertLessEqual({"libcudnn_graph.so.9", "libcudnn_heuristic.so.9", "libcudnn_engines_precompiled.so.9",
                                  "libcudnn_engines_runtime_compiled.so.9"}, libraries)
            self.assertTrue((folder / "bin/tests_cudnn").exists())
        self.assertFalse(any(library.startswith(C_LIBRARY) for library in libraries), libraries)
        for program in (folder / "bin").iterdir():
            loaded = self.run_script("ldd", program, LD_LIBRARY_PATH=str(folder / "lib")).stdout
            for line in loaded.splitlines():
                if not line.strip().startswith(C_LIBRARY + ("/lib64/ld-linux",)):
                    self.assertIn(f"=> {folder}/lib/", line)
        for program, suite in [("tests_kernels_gpu", "AttentionParity"), ("tests_nccl_gpu", "NcclCommunicator"),
                               ("tests_training_gpu", "TrainingStep")]:
            listed = self.run_script(folder / "bin" / program, "--gtest_list_tests", LD_LIBRARY_PATH=str(folder / "lib"))
            self.assertIn(suite, listed.stdout)
        result = self.refuse("^run.sh: error: (NVIDIA driver|GPU) missing none; ", folder / "run.sh", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertFalse((self.folder / "results").exists())

    def test_nccl_is_tested_where_ranks_can_have_or_share_gpus(self):
        """The programs say what they are told instead of computing."""
        folder = self.folder / "bundle"
        (folder / "bin").mkdir(parents=True)
        shutil.copy(ROOT / "tests/gpu/run.sh", folder)
        for name in ["filigree", "tests_kernels_gpu", "tests_nccl_gpu", "tests_training_gpu"]:
            (folder / "bin" / name).write_text("#!/bin/sh\nprintf \"$REPORT\"\necho shared: $NCCL_MULTI_RANK_GPU_ENABLE\n")
            (folder / "bin" / name).chmod(0o755)
        for version, gpus, row, shared in [("2.28.9", 1, "skipped: 1 GPUs for 4 ranks, and NCCL 2.28.9 ", None),
                                           ("2.30.1", 1, "passed", "shared: 1\n"), ("2.28.9", 4, "passed", "shared:\n")]:
            with self.subTest(version=version, gpus=gpus):
                report = f"NCCL  ok  {version}\\n" + "".join(f"GPU {gpu}  ok  some\\n" for gpu in range(gpus))
                output = self.folder / f"{version}_{gpus}"
                result = self.run_script(folder / "run.sh", "--tests", "--output", output, REPORT=report)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(f"\n| nccl | {row}", (output / "results.md").read_text())
                self.assertEqual((output / "nccl.txt").exists(), shared is not None)
                if shared is not None:
                    self.assertTrue((output / "nccl.txt").read_text().endswith(shared))


if __name__ == "__main__":
    unittest.main()
