#!/usr/bin/env python3
"""Checks what the compiler cannot: who includes whom, registries against files, READMEs, and the form of text files.

usage: check_structure.py [ROOT]   prints one line for each problem, exits 1 when there is any
"""
import pathlib
import re
import subprocess
import sys

# Folder -> folders it may include, besides itself. Arrows point downwards only; siblings do not know each other.
CORE = ["runtime/core"]
LAYERS_BELOW = ["kernels", "parallel", "runtime/autograd", "runtime/core"]
MAY_INCLUDE = {
    "runtime/core": [],
    "runtime/cuda": CORE,
    "runtime/autograd": ["kernels"] + CORE,
    "runtime/storage": CORE,
    "kernels": ["runtime/cuda"] + CORE,
    "parallel": ["runtime/autograd", "runtime/cuda"] + CORE,
    "layers": LAYERS_BELOW,
    "data_pipeline": ["runtime/storage"] + CORE,
    "checkpoint": ["parallel", "runtime/storage", "runtime/autograd"] + CORE,
    "runtime/training": ["layers", "data_pipeline", "checkpoint", "runtime/storage"] + LAYERS_BELOW,
}
MAY_INCLUDE["conversion"] = ["runtime/training"] + MAY_INCLUDE["runtime/training"]
MAY_INCLUDE["launch"] = list(MAY_INCLUDE)
README_FOLDERS = list(MAY_INCLUDE) + ["configs", "tests"]
README_LINES = 80

SOURCE_SUFFIXES = {".hpp", ".cpp", ".inl", ".cu", ".cuh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".txt", ".cmake", ".py", ".sh", ".cfg", ".json", ".yaml"}
SKIPPED_FOLDERS = {".git", ".cache", "build", "runs", "__pycache__"}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def project_files(root):
    """Files of the checkout, tracked or about to be; every file where there is no git."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={root}", "-C", str(root), "ls-files", "-z", "--cached", "--others",
             "--exclude-standard"],
            capture_output=True, text=True)
        if listed.returncode == 0:
            return sorted(root / name for name in listed.stdout.split("\0") if name and (root / name).is_file())
    return sorted(path for path in root.rglob("*")
                  if path.is_file() and not SKIPPED_FOLDERS & set(path.relative_to(root).parts))


def folder_of(name):
    """The folder of MAY_INCLUDE that holds this file, or the first part of its path."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "runtime" else parts[0]


def include_problems(root, files):
    for path in files:
        name = path.relative_to(root).as_posix()
        folder = folder_of(name)
        if path.suffix not in SOURCE_SUFFIXES:
            continue
        if folder not in MAY_INCLUDE and folder != "tests":
            yield f"{name}: source in '{folder}', a folder that check_structure.py does not know"
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = match.group(1)
            if folder == "tests" and (path.parent / target).is_file():  # a helper beside the test
                continue
            if not (root / target).is_file():
                yield f'{name}:{number}: "{target}" is no file; write paths from the root of the repository'
            elif folder != "tests" and folder_of(target) != folder and folder_of(target) not in MAY_INCLUDE[folder]:
                yield f'{name}:{number}: {folder} must not include "{target}"'


def names_in(text, pattern):
    return set(re.findall(pattern, text, flags=re.MULTILINE))


def compare(registry, listed, found, what):
    for name in sorted(found - listed):
        yield f"{registry}: add the line for {what.format(name)}"
    for name in sorted(listed - found):
        yield f"{registry}: lists {what.format(name)}, which no file has"


def untested_cuda_ops(root, texts, ops):
    """The emulator runs those suites of tests/kernels that its list names."""
    lists = "tests/simt/CMakeLists.txt"
    found = re.search(r"set\(suites\s([^)]*)\)", (root / lists).read_text(encoding="utf-8")) \
        if (root / lists).is_file() else None
    run = set(found.group(1).split()) if found else set()
    suites = {}
    for name, text in texts.items():
        if not name.startswith("tests/kernels/"):
            continue
        helpers, *parts = re.split(r"^TEST(?:_F|_P)?\(", text, flags=re.MULTILINE)
        for part in parts:
            compared = re.findall(r"(?:expect_parity|expect_reference_bits|accepting_implementations)<(\w+)>",
                                  helpers + part)
            if "fast_implementations(" in part:  # of attention: those are run forward and backward
                compared += ["AttentionForward", "AttentionBackward"]
            for op in compared:
                suites.setdefault(op, set()).add(part.split(",")[0])
    for op in sorted(ops):
        if not suites.get(op, set()) & run:
            yield f"{lists}: `suites` names no suite that compares {op} with its reference"


def registry_problems(root, files):
    texts = {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in files
             if p.suffix in SOURCE_SUFFIXES}

    def stems(pattern):
        return {match.group(1) for match in (re.fullmatch(pattern, name) for name in texts) if match}

    registry = "kernels/registry.cpp"
    if registry in texts:
        yield from compare(registry, names_in(texts[registry], r"\bregister_(\w+)\("),
                           stems(r"kernels/\w+/(\w+)_reference\.cpp"), "register_{0} (kernels/*/{0}_reference.cpp)")
    registry = "kernels/cuda/registry.cpp"
    if registry in texts:
        listed = names_in(texts[registry], r"\bregister_cuda<(\w+)")
        cuda = [text for name, text in texts.items() if re.fullmatch(r"kernels/\w+/\w+_(?:cuda\.cu|cublaslt\.cpp)", name)]
        found = set().union(*(names_in(text, r"^void (\w+)::cuda\(") for text in cuda))
        yield from compare(registry, listed, found, "register_cuda<{0}> (void {0}::cuda in a _cuda.cu or _cublaslt.cpp)")
        yield from untested_cuda_ops(root, texts, listed)
    registry = "layers/sparsity/registry.cpp"
    if registry in texts:
        mechanisms = {stem for stem in stems(r"layers/sparsity/(\w+)\.cpp")
                      if re.search(rf"\bmake_{stem}_mechanism\(", texts[f"layers/sparsity/{stem}.cpp"])}
        yield from compare(registry, names_in(texts[registry], r"\bmake_(\w+)_mechanism\b"), mechanisms,
                           "make_{0}_mechanism (layers/sparsity/{0}.cpp)")
    registry = "data_pipeline/registry.cpp"
    if registry in texts:
        yield from compare(registry, names_in(texts[registry], r"\bopen_(\w+)\b"),
                           stems(r"data_pipeline/importers/(\w+)\.cpp"), "open_{0} (data_pipeline/importers/{0}.cpp)")
    registry = "launch/registry.cpp"
    if registry in texts:
        commands = {stem for stem in stems(r"launch/commands/(\w+)\.cpp")
                    if re.search(rf"\bCommand {stem}_command\(", texts[f"launch/commands/{stem}.cpp"])}
        yield from compare(registry, names_in(texts[registry], r"\b(\w+)_command\(\)"), commands,
                           "{0}_command (launch/commands/{0}.cpp)")


def readme_problems(root, files):
    for folder in README_FOLDERS:
        if not (root / folder).is_dir():
            continue
        readme = root / folder / "README.md"
        if not readme.is_file():
            yield f"{folder}: has no README.md"
        elif len(readme.read_text(encoding="utf-8").splitlines()) > README_LINES:
            yield f"{folder}/README.md: longer than a page ({README_LINES} lines)"


def text_problems(root, files):
    for path in files:
        if path.suffix not in TEXT_SUFFIXES:
            continue
        name = path.relative_to(root).as_posix()
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            yield f"{name}: not UTF-8 at byte {error.start}"
            continue
        if data and not data.endswith(b"\n"):
            yield f"{name}: does not end with a line break"
        if data.endswith(b"\n\n"):
            yield f"{name}: ends with an empty line"
        if path.suffix == ".hpp" and "#pragma once" not in text:
            yield f"{name}: a header without #pragma once"
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield f"{name}:{number}: white space at the end of the line"
            if "\t" in line:
                yield f"{name}:{number}: a tab"
            if path.suffix in SOURCE_SUFFIXES and re.search(r"\b(TODO|FIXME|XXX)\b", line):
                yield f"{name}:{number}: an unfinished note ({line.strip()[:60]})"
            if path.suffix in SOURCE_SUFFIXES and re.match(r"\s*#\s*if\s+0\b", line):
                yield f"{name}:{number}: code that is switched off"


ANONYMOUS = re.compile(r"^namespace \{\n.*?^\}  // namespace$", re.MULTILINE | re.DOTALL)
MERGED = re.compile(r"^(?:(?:struct|class|enum class|union) (\w+)(?: final)?(?: : [^;{]*)? \{|inline constexpr [^={(]*?(k[A-Z]\w*)\b)",
                    re.MULTILINE)


def name_problems(root, files):
    """Two types, or two inline constants, of one name in the one namespace: the linker takes them for one without a word."""
    defined = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        if path.suffix not in SOURCE_SUFFIXES or name.startswith("tests/"):
            continue
        for match in MERGED.finditer(ANONYMOUS.sub("", path.read_text(encoding="utf-8"))):
            defines = match.group(1) or match.group(2)
            other = defined.setdefault(defines, name)
            if other != name:
                yield f"{name}: defines {defines}, as {other} does"


CHECKS = [include_problems, registry_problems, readme_problems, text_problems, name_problems]


def problems(root):
    root = pathlib.Path(root).resolve()
    files = project_files(root)
    return [problem for check in CHECKS for problem in check(root, files)]


def main():
    found = problems(sys.argv[1] if len(sys.argv) > 1 else ".")
    for problem in found:
        print(problem)
    print(f"{len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
