#!/usr/bin/env python3
"""other_compiler.py COMPILER ROOT: the CUDA sources are C++ for the emulator with a compiler that this build does not use.

Only syntax and types are checked. Exits with 77, which ctest takes for skipped, where there is no such compiler.
"""
import concurrent.futures
import os
import pathlib
import subprocess
import sys

compiler, root = sys.argv[1], pathlib.Path(sys.argv[2])
if compiler.endswith("NOTFOUND"):
    print("skipped: the compiler that does not build the tests, clang++ or g++, is not installed here")
    sys.exit(77)

FLAGS = ["-fsyntax-only", "-std=c++20", "-xc++", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
         "-Wno-missing-field-initializers", "-Wno-unknown-pragmas", "-Wno-reserved-identifier",
         "-DFILIGREE_SIMT", "-I.", "-Itests/harness/simt/include"]


def complaints(source):
    result = subprocess.run([compiler, *FLAGS, source], capture_output=True, text=True, cwd=root)
    return result.stderr if result.returncode else ""


sources = sorted(str(path.relative_to(root)) for folder in ("kernels", "tests/simt") for path in (root / folder).rglob("*.cu"))
with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
    failed = {source: text for source, text in zip(sources, pool.map(complaints, sources)) if text}
for source, text in failed.items():
    print(f"{source}:\n{text}")
print(f"{len(sources) - len(failed)} of {len(sources)} sources compile with {compiler}")
sys.exit(1 if failed or not sources else 0)
