#!/usr/bin/env python3
"""Compiles the kernels of a budget table with nvcc and holds ptxas to it: registers, no spills, no local stack, and the
instructions meant. Usage: compiler_report.py NVCC SOURCE_ROOT TABLE"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ARCHITECTURES = ("80", "90a")


def rows(table):
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            source, kernel, registers, *instructions = line.split()
            yield source, kernel, int(registers), instructions


def compile_source(nvcc, root, source, architecture, ptx):
    """Writes the PTX and returns what ptxas reports."""
    common = [nvcc, "-std=c++20", f"-I{root}"]
    subprocess.run([*common, f"-arch=compute_{architecture}", "-ptx", source, "-o", ptx], check=True)
    done = subprocess.run([nvcc, f"-arch=sm_{architecture}", "-cubin", "-Xptxas", "-v", ptx, "-o", f"{ptx}.cubin"],
                          check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def usages(report, kernel):
    """(mangled name, stack and spill bytes, registers) of every instance."""
    pattern = (r"Function properties for (\S*" + kernel + r"\S*)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, "
               r"(\d+) bytes spill loads\s+ptxas info\s+: Used (\d+) registers")
    for name, *numbers in re.findall(pattern, report):
        stack, stores, loads, registers = map(int, numbers)
        yield name, stack + stores + loads, registers


def problems(report, ptx, kernel, budget, instructions):
    found = list(usages(report, kernel))
    if not found:
        yield f"{kernel}: ptxas reports no instance of it"
    for name, local_bytes, registers in found:
        if local_bytes > 0:
            yield f"{name}: {local_bytes} bytes of stack and spills, none are allowed"
        if registers > budget:
            yield f"{name}: {registers} registers, the budget is {budget}"
    bodies = re.findall(r"\.entry (\S*" + kernel + r"\S*)\((.*?)\n}", ptx, flags=re.DOTALL)
    for instruction in instructions:
        # The matrix unit is meant for bf16 only.
        meant = [body for name, body in bodies
                 if instruction not in ("mma.sync", "ldmatrix") or "nv_bfloat16" in name]
        if not meant or any(instruction not in body for body in meant):
            yield f"{kernel}: an instance has no {instruction}"


def main():
    nvcc, root, table = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    budgets = list(rows(table))
    failed = False
    for architecture in ARCHITECTURES:
        for source in sorted({row[0] for row in budgets}):
            with tempfile.TemporaryDirectory() as folder:
                ptx = str(Path(folder) / "kernels.ptx")
                report = compile_source(nvcc, root, str(table.parent / source), architecture, ptx)
                text = Path(ptx).read_text(encoding="utf-8")
            for _, kernel, budget, instructions in (row for row in budgets if row[0] == source):
                most = max((use[2] for use in usages(report, kernel)), default=0)
                print(f"sm_{architecture} {kernel}: at most {most} registers of {budget}")
                for problem in problems(report, text, kernel, budget, instructions):
                    print(f"sm_{architecture} {source}: {problem}", file=sys.stderr)
                    failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
