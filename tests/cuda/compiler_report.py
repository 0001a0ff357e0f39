#!/usr/bin/env python3
"""Holds what nvcc made of the kernels of a budget table to it, for every architecture: registers, no spills, no local
stack, and the instructions meant. Reads the objects that the program is linked from, which have their intermediate code
inside and the report of ptxas beside them.
Usage: compiler_report.py LIST_OF_OBJECTS TABLE ARCHITECTURE..."""

import re
import sys
from pathlib import Path

USAGE = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'\s+ptxas info\s+: Function properties for \w+\s+"
                   r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\s+"
                   r"ptxas info\s+: Used (\d+) registers")
PTX = re.compile(rb"\.target (\w+)[^\0]*")
ENTRY = re.compile(r"\.entry (\w+)\(.*?\n}", flags=re.DOTALL)


class Compiled:
    """One source's kernels for one architecture."""

    def __init__(self, report, ptx, architecture):
        self.report = report
        # By mangled name: bytes of stack and spills, registers; and the intermediate code.
        self.usages = {name: (int(stack) + int(stores) + int(loads), int(registers))
                       for name, target, stack, stores, loads, registers in USAGE.findall(report)
                       if target == architecture}
        self.bodies = {match.group(1): match.group(0) for text, target in ptx if target == architecture
                       for match in ENTRY.finditer(text)}

    def problems(self, kernel, budget, instructions):
        used = {name: use for name, use in self.usages.items() if kernel in name}
        if not used:
            yield f"{kernel}: ptxas reports no instance of it"
        for name, (local_bytes, registers) in used.items():
            if local_bytes > 0:
                yield f"{name}: {local_bytes} bytes of stack and spills, none are allowed"
            if registers > budget:
                yield f"{name}: {registers} registers, the budget is {budget}"
        # wgmma that waits for the one before it, or for registers, although the source does not say so.
        for line in self.report.splitlines():
            if kernel in line and re.search(r"\(C75\d\d\)|serialized", line):
                yield f"{kernel}: ptxas says: {line.strip()}"
        bodies = {name: body for name, body in self.bodies.items() if kernel in name}
        for instruction in instructions:
            # The matrix unit is meant for bf16 only.
            meant = [body for name, body in bodies.items()
                     if instruction not in ("mma.sync", "ldmatrix") or "nv_bfloat16" in name]
            if not meant or any(instruction not in body for body in meant):
                yield f"{kernel}: an instance has no {instruction}"

    def most_registers(self, kernel):
        return max((registers for name, (_, registers) in self.usages.items() if kernel in name), default=0)


def budgets(table):
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            source, kernel, code, registers, *instructions = line.split()
            yield source, kernel, code, int(registers), instructions


def read(target):
    """The report beside an object, and (text, architecture) of the intermediate code in it."""
    ptx = [(match.group(0).decode(), match.group(1).decode()) for match in PTX.finditer(target.read_bytes())]
    return Path(f"{target}.ptxas").read_text(encoding="utf-8"), ptx


def main():
    targets = [Path(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    table, architectures = Path(sys.argv[2]), sys.argv[3:]
    by_source = {target.stem: target for target in targets if target.stem.endswith(".cu")}
    failed = False
    for architecture in architectures:
        for source, kernel, code, budget, instructions in budgets(table):
            if code not in ("any", architecture):
                continue
            compiled = Compiled(*read(by_source[source]), architecture)
            print(f"{architecture} {kernel}: at most {compiled.most_registers(kernel)} registers of {budget}")
            for problem in compiled.problems(kernel, budget, instructions):
                print(f"{architecture} {source}: {problem}", file=sys.stderr)
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
