#!/usr/bin/env python3
"""Runs one test in a Python environment of its own: run.py FOLDER TEST. Makes the environment when it is not there yet:
PyTorch of this machine (python3-torch) where it has one, otherwise its CPU wheel, and requirements.txt.

Exits with 77 and says why when the environment cannot be had: no network, as a rule."""
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

SKIPPED = 77
SECONDS_UNTIL_RETRY = 120
HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


class Unavailable(Exception):
    """Why there is no environment, in one line."""


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def attempt(what, *command, timeout=600):
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what}: not done after {timeout} s") from error
    if result.returncode != 0:
        raise Unavailable(f"{what}: {last_line(result.stderr or result.stdout)}")


def install(python, what, *arguments):
    attempt(f"pip install {what}", python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1",
            "--timeout", "30", *arguments)


def has_torch(python):
    """One that requirements.txt's transformers takes: 1.13 or newer."""
    test = "import sys, torch; sys.exit(tuple(map(int, torch.__version__.split('.')[:2])) < (1, 13))"
    return os.access(python, os.X_OK) and subprocess.run([python, "-c", test], capture_output=True).returncode == 0


def make(folder):
    shutil.rmtree(folder, ignore_errors=True)  # an older one, or one that was not finished
    # Debian's PyTorch belongs to Debian's Python, which need not be the first on the path.
    base = next((python for python in [sys.executable, "/usr/bin/python3"] if has_torch(python)), sys.executable)
    attempt("python3 -m venv (package python3-venv)", base, "-m", "venv", "--system-site-packages", str(folder))
    python = str(folder / "bin/python")
    if not has_torch(python):
        install(python, "torch", "torch", "--index-url", TORCH_INDEX)
    install(python, REQUIREMENTS.name, "--requirement", str(REQUIREMENTS))
    attempt("import of what was installed", python, "-c", "import torch, transformers, tokenizers, safetensors, gguf")


def environment(folder):
    """The interpreter of a finished environment; several tests may ask at once. What failed is not tried again by the
    tests that follow at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished, failed = folder / "finished", folder.with_suffix(".failed")
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if finished.exists() and finished.read_text() == wanted:
            return folder / "bin/python"
        if failed.exists() and time.time() - failed.stat().st_mtime < SECONDS_UNTIL_RETRY:
            raise Unavailable(failed.read_text())
        try:
            make(folder)
        except Unavailable as reason:
            failed.write_text(str(reason))
            raise
        finished.write_text(wanted)
    return folder / "bin/python"


def main():
    folder, test = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    try:
        python = environment(folder)
    except Unavailable as reason:
        print(f"skipped: {test} needs PyTorch and {REQUIREMENTS.name}, which cannot be installed ({reason})")
        return SKIPPED
    # From here on nothing asks the network, and what transformers keeps stays in the build folder.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=str(folder / "huggingface"))
    os.execv(python, [str(python), test])


if __name__ == "__main__":
    sys.exit(main())
