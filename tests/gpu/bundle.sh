#!/usr/bin/env bash
# Packs the tests and benchmarks of the CUDA backend for a machine that has a GPU.
set -euo pipefail

self=tests/gpu/bundle.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../launch/setup.sh"

usage() {
  cat <<'TEXT'
usage: tests/gpu/bundle.sh [--output DIR] [--build DIR] [--symlink]

Builds the GPU tests and benchmarks and puts them into a folder with every shared library that they
need, except the C library and NVIDIA's driver. Copy it to an x86-64 machine with an NVIDIA driver
and a C library that is not older than this one's, and start run.sh there. No GPU is needed here.

  --output DIR   the folder; must not exist yet (default: build/gpu-bundle)
  --build DIR    take the programs of this build, which has FILIGREE_CUDA and FILIGREE_TESTS, as
                 they are; without it, the preset cuda-release is built
  --symlink      link to the libraries instead of copying them: to try the folder on this machine
  --help         print this
TEXT
}

output=build/gpu-bundle
build=
place=(cp -L)
while [ $# -gt 0 ]; do
  case $1 in
    --output | --build)
      [ $# -gt 1 ] || fail "option $1 needs a value" "tests/gpu/bundle.sh --help lists them"
      [ "$1" = --output ] && output=$2 || build=$2
      shift
      ;;
    --symlink) place=(ln -s) ;;
    --help | -h) usage; exit 0 ;;
    *) fail "unknown option '$1'" "tests/gpu/bundle.sh --help lists them" ;;
  esac
  shift
done
programs=(filigree tests_kernels_gpu tests_nccl_gpu tests_training_gpu)

[ ! -e "$output" ] || fail "'$output' exists" "remove it, or choose another folder with --output"
if [ -z "$build" ]; then
  headline "Build (output in build/cuda-release.log)"
  ensure_cudnn_frontend yes
  build cuda-release ON gpu_programs
  build=$filigree_root/build/cuda-release
fi
for program in "${programs[@]}"; do
  [ -x "$build/bin/$program" ] || fail "'$build' has no bin/$program" \
    "configure it with -DFILIGREE_CUDA=ON -DFILIGREE_TESTS=ON and build it"
done

[ ! -x "$build/bin/tests_cudnn" ] || programs+=(tests_cudnn)

# libraries_of FILE...: paths of the shared libraries that they load, without the C library's and the driver's: these must
# be the ones of the machine that runs them.
libraries_of() {
  ldd "$@" | awk '
    /not found/ { print "missing " $1 > "/dev/stderr"; failed = 1 }
    $2 == "=>" && $3 ~ /^\// && $1 !~ /^(ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|anl|nsl|mvec|nss_.*|cuda|nvidia.*))\.so/ { print $3 }
    END { exit failed }' | sort -u
}

mkdir -p "$output/bin" "$output/lib" "$output/configs"
libraries=$(libraries_of "${programs[@]/#/$build/bin/}") || fail "a shared library of '$build' is not installed here"
# What cuDNN loads by itself, and the compiler that makes some of its kernels on the spot.
cudnn=$(grep '/libcudnn\.so' <<<"$libraries" | head -n 1 || true)
if [ -n "$cudnn" ]; then
  for library in "$(dirname "$cudnn")"/{libcudnn_*.so.9,libnvrtc.so.[0-9]*,libnvrtc-builtins.so.[0-9]*}; do
    [ ! -f "$library" ] || libraries+=$'\n'$library
  done
fi
libraries=$(awk -F/ '!seen[$NF]++' <<<"$libraries")  # a program may load one of these itself
for library in $libraries; do "${place[@]}" "$library" "$output/lib/$(basename "$library")"; done
for program in "${programs[@]}"; do cp "$build/bin/$program" "$output/bin/"; done
cp "$filigree_root"/configs/{lm_7m,gpt2_124m}.cfg "$output/configs/"
cp "$filigree_root/tests/gpu/run.sh" "$output/"
say "$output: $(echo "$libraries" | wc -l) libraries, $(du -shL "$output" | cut -f1); on the machine with the GPU: ./run.sh"
