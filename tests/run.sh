#!/usr/bin/env bash
# Builds with warnings as errors and runs the tests.
set -euo pipefail

self=tests/run.sh
. "$(dirname "${BASH_SOURCE[0]}")/../launch/setup.sh"

usage() {
  cat <<'TEXT'
usage: tests/run.sh [--no-install] [--quick] [--preset NAME]

Installs the packages that the tests need (it says which), builds a preset and runs every test.

  --no-install    install nothing; say what is missing and how to get it
  --quick         leave out the system tests, the interop tests and the CUDA code in the emulator:
                  about two minutes on two cores
  --preset NAME   ci (default: optimised, warnings are errors), cpu-debug (AddressSanitizer and
                  UndefinedBehaviorSanitizer), cpu-tsan, cpu-release
  --help          print this

Exits 0 when every test passes, and ends with the summary of ctest.
TEXT
}

install=yes
quick=no
preset=ci
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=no ;;
    --quick) quick=yes ;;
    --preset)
      [ $# -gt 1 ] || fail "option --preset needs a value" "tests/run.sh --help lists them"
      preset=$2
      shift
      ;;
    --help | -h) usage; exit 0 ;;
    *) fail "unknown option '$1'" "tests/run.sh --help lists them" ;;
  esac
  shift
done
case $preset in
  ci | cpu-debug | cpu-tsan | cpu-release) ;;
  *) fail "unknown preset '$preset'" "allowed: ci, cpu-debug, cpu-tsan, cpu-release" ;;
esac

headline "Packages"
ensure_packages "$install" build test
[ "$quick" = yes ] ||
  offer_packages "$install" interop "what the interop tests compare with" \
    "those tests try PyTorch's own wheel, or are skipped."
drop_root --no-install "${arguments[@]}"
cd "$filigree_root"
[ "$preset" != ci ] || ensure_cudnn_frontend "$install"

headline "Build (output in build/$preset.log)"
build "$preset" ON all
say "Built build/$preset, of and for:"
"build/$preset/bin/filigree" doctor

headline "Tests"
prepare_mpi
selection=()
[ "$quick" = no ] || selection=(--label-regex quick)
# The shell's last command: its summary comes last and its result is the script's.
exec ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --parallel "$(nproc)" "${selection[@]}"
