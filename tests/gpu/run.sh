#!/usr/bin/env bash
# In a folder that tests/gpu/bundle.sh made: parity, training equivalence and benchmarks on this machine's GPU.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  cat <<'TEXT'
usage: run.sh [--output DIR] [--tests]

Runs the tests of the CUDA backend and its benchmarks on the first GPU, and ends with one table. The
tests of NCCL take four GPUs, or fewer with NCCL 2.30 or newer.

  --output DIR   gets the reports: results.md, the table; results.json, everything; and what each
                 program printed (default: results)
  --tests        the tests only
  --help         print this

Exits 0 when every test passed and every benchmark ran, 1 when one did not, 2 without a GPU.
TEXT
}

fail() { printf 'run.sh: error: %s\n' "$1" >&2; exit 2; }

output=results
benchmarks=yes
while [ $# -gt 0 ]; do
  case $1 in
    --output) [ $# -gt 1 ] || fail "option --output needs a value"; output=$2; shift ;;
    --tests) benchmarks=no ;;
    --help | -h) usage; exit 0 ;;
    *) fail "unknown option '$1'; run.sh --help lists them" ;;
  esac
  shift
done

export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
filigree=$here/bin/filigree
report=$("$filigree" doctor) || fail "$(grep ' broken ' <<<"$report" || echo "filigree does not start here")"
grep -q '^GPU 0 .* ok ' <<<"$report" ||
  fail "$(grep -E '^(NVIDIA driver|GPU) ' <<<"$report" | grep -m 1 ' missing ' | tr -s ' ')"
mkdir -p "$output" || fail "cannot make the folder '$output'"
printf '%s\n' "$report"
"$filigree" doctor --json >"$output/doctor.json"

failed=0
rows=()
row() { rows+=("| $1 | $2 |"); }

# program NAME COMMAND...: runs it, its output in NAME.txt, and notes the result.
program() {
  local name=$1 seconds=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@" >"$output/$name.txt" 2>&1; then
    row "$name" "passed, $((SECONDS - seconds)) s"
  else
    row "$name" "**failed**, see $name.txt"
    failed=1
  fi
  tail -n 3 "$output/$name.txt"
}

# number KEY FILE: the first number of this key in a JSON file.
number() { sed -nE "s/.*\"$1\": *([-+0-9.eE]+).*/\\1/p" "$2" | head -n 1; }

training() {
  local name=$1
  program "$name" "$filigree" bench scale --config "$here/configs/$name.cfg" --data.path "" --device cuda \
    --train.dtype bf16 --steps 20 --warmup 5 --output "$output/$name"
  [ -s "$output/$name.json" ] && [ -s "$output/kernels.json" ] || return 0
  row "$name, bf16, tokens/s" "$(number tokens_per_second "$output/$name.json" | awk '{ printf "%.0f", $1 }')"
  row "$name, model FLOP/s of cuBLASLt's" "$(awk -v model="$(number model_flops_per_second "$output/$name.json")" \
    -v peak="$(number bf16_gemm_gflops "$output/kernels.json")" 'BEGIN { printf "%.1f %%", model / peak / 1e7 }')"
}

program parity "$here/bin/tests_kernels_gpu" --gtest_brief=1 --gtest_output="json:$output/parity.json"
program training_equivalence "$here/bin/tests_training_gpu" --gtest_brief=1 --gtest_output="json:$output/training_equivalence.json"
files=(doctor parity training_equivalence)
# Four ranks. NCCL 2.30 and newer lets them share a GPU where it is told to.
gpus=$(grep -c '^GPU [0-9]* .* ok ' <<<"$report")
nccl=$(sed -nE 's/^NCCL +ok +([0-9.]+).*/\1/p' <<<"$report")
if [ "$gpus" -ge 4 ] || printf '2.30\n%s\n' "$nccl" | sort -CV; then
  [ "$gpus" -ge 4 ] || export NCCL_MULTI_RANK_GPU_ENABLE=1
  program nccl "$here/bin/tests_nccl_gpu" --gtest_brief=1 --gtest_output="json:$output/nccl.json"
  unset NCCL_MULTI_RANK_GPU_ENABLE
  files+=(nccl)
else
  row nccl "skipped: $gpus GPUs for 4 ranks, and NCCL $nccl does not share them (2.30 does)"
fi
cudnn=no
if [ -x "$here/bin/tests_cudnn" ]; then
  cudnn=yes
  program cudnn_parity "$here/bin/tests_cudnn" --gtest_brief=1 --gtest_output="json:$output/cudnn_parity.json"
  files+=(cudnn_parity)
fi
if [ $benchmarks = yes ]; then
  program kernels "$filigree" bench kernels --device cuda --json "$output/kernels.json"
  for width in 64 128; do
    attention=("$filigree" bench attention --device cuda --dtype bf16 --heads 16 --kv-heads 16 --head-dim "$width"
      --sequence 4096,8192,16384,32768,65536 --density 100,50,25,10,5 --query-block 64 --key-block 64)
    program "attention_$width" "${attention[@]}" --json "$output/attention_$width.json"
    files+=("attention_$width")
    [ $cudnn = yes ] || continue
    program "attention_${width}_cudnn" "${attention[@]}" --dense cudnn --json "$output/attention_${width}_cudnn.json"
    files+=("attention_${width}_cudnn")
  done
  training lm_7m
  training gpt2_124m
  files+=(kernels lm_7m gpt2_124m)
fi

{
  printf '| %s | %s |\n|---|--:|\n' "$(grep '^GPU 0 ' <<<"$report" | sed 's/.* ok *//')" "$(date -u +%Y-%m-%d)"
  printf '%s\n' "${rows[@]}"
} >"$output/results.md"
{
  separator='{'
  for name in "${files[@]}"; do
    [ -s "$output/$name.json" ] || continue
    printf '%s\n"%s": ' "$separator" "$name"
    cat "$output/$name.json"
    separator=','
  done
  printf '}\n'
} >"$output/results.json"
for name in kernels attention_{64,128}{,_cudnn}; do [ ! -s "$output/$name.txt" ] || { printf '\n'; cat "$output/$name.txt"; }; done
printf '\n'
cat "$output/results.md"
exit $failed
