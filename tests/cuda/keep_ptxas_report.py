#!/usr/bin/env python3
"""Runs a compiler and keeps what ptxas reports (-Xptxas -v) in OBJECT.ptxas instead of printing it; anything else it
prints. Usage: keep_ptxas_report.py OBJECT COMMAND..."""

import re
import subprocess
import sys
from pathlib import Path

REPORT = re.compile(r"ptxas info |\s+\d+ bytes stack frame, ")


def main():
    target, command = sys.argv[1], sys.argv[2:]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.splitlines(keepends=True)
    Path(f"{target}.ptxas").write_text("".join(line for line in lines if REPORT.match(line)), encoding="utf-8")
    sys.stdout.write("".join(line for line in lines if not REPORT.match(line)))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
