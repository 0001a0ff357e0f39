#!/usr/bin/env bash
# From a fresh clone to a small language model trained on two MPI ranks, in about five minutes on two cores.
set -euo pipefail

self=launch/quickstart.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
  cat <<'TEXT'
usage: launch/quickstart.sh [--no-install]

Installs the packages that Filigree needs (Debian 12, Ubuntu 22.04 or 24.04; it says which), builds
build/cpu-release/bin/filigree, and trains a language model of one million parameters on English text
from a Debian package with two MPI ranks: tokenize, train, save, resume, generate.

  --no-install   install nothing; say what is missing and how to get it
  --help         print this

Everything it makes lies in build/ and runs/quickstart/. Running it again replaces runs/quickstart/.
TEXT
}

install=yes
for argument in "$@"; do
  case $argument in
    --no-install) install=no ;;
    --help | -h) usage; exit 0 ;;
    *) fail "unknown option '$argument'" "launch/quickstart.sh --help lists them" ;;
  esac
done

work=runs/quickstart
filigree=build/cpu-release/bin/filigree

install_packages() {
  headline "1/6  Packages"
  ensure_packages "$install" build
  offer_packages "$install" text "the text to train on" "another text will do."
}

build_program() {
  headline "2/6  Build (a few minutes the first time; output in build/cpu-release.log)"
  build cpu-release OFF filigree
  say "Built $filigree"
}

# Verses as `bible` prints them, "1Ki12:3 And they sent ...", to one file per chapter: its sentences, without labels.
chapters() {
  awk -v folder="$1" '
    {
      split($1, label, ":")
      if (label[1] != chapter) {
        if (chapter != "") { printf "\n" > file; close(file) }
        chapter = label[1]
        file = sprintf("%s/%04d_%s.txt", folder, ++count, chapter)
        separator = ""
      }
      printf "%s%s", separator, substr($0, length($1) + 2) > file
      separator = " "
    }
    END { if (chapter != "") printf "\n" > file }'
}

bible_program() {
  if have bible; then echo bible; elif [ -x /usr/games/bible ]; then echo /usr/games/bible; fi
}

# The reStructuredText sources of the Python manual: installed, or fetched without installing (images of containers often
# leave out /usr/share/doc).
python_manual() {
  local folder=$1 sources package
  sources=$(find /usr/share/doc/python3* -type d -path '*html/_sources' 2>/dev/null | head -n 1 || true)
  if [ -z "$sources" ] && [ "$install" = yes ] && have apt-get; then
    package=$(apt-cache depends python3-doc 2>/dev/null | awk '/Depends: python3\.[0-9]+-doc/ { print $2; exit }')
    [ -n "$package" ] || return 1
    say "Fetching $package"
    (cd "$work" && apt-get download -qq "$package" && dpkg-deb -x "$package"_*.deb manual) >/dev/null 2>&1 || return 1
    sources=$(find "$work/manual" -type d -path '*html/_sources' | head -n 1)
  fi
  [ -n "$sources" ] || return 1
  (cd "$sources" && find . -name '*.txt' -size +2k | sort) | while read -r file; do
    cp "$sources/$file" "$folder/$(printf '%s' "${file#./}" | tr '/' '_')"
  done
}

prepare_text() {
  headline "3/6  Text"
  if [ -e "$work" ]; then
    say "Replacing $work/ of an earlier quickstart"
    rm -rf "$work"
  fi
  mkdir -p "$work/text"
  local bible
  bible=$(bible_program)
  if [ -n "$bible" ] && "$bible" -f "Gen1:1-Rev22:21" 2>/dev/null </dev/null | chapters "$work/text" &&
    [ -n "$(ls "$work/text")" ]; then
    prompt="And the LORD said unto"
    say "The King James Bible, one document for each chapter"
  else
    say "The program 'bible' (packages bible-kjv, bible-kjv-text) is not here; taking the Python manual instead"
    python_manual "$work/text" || fail "there is no text to train on" \
      "Install one of these: apt-get install bible-kjv bible-kjv-text, or apt-get install python3-doc" \
      "Or train on your own: see 'Train on your own text' in README.md"
    prompt="The function returns"
  fi
  say "$(find "$work/text" -type f | wc -l) documents, $(cat "$work"/text/* | wc -c) bytes in $work/text/"
}

# Shows a command as one would type it, then runs it.
run() {
  local word line='$'
  for word in "$@"; do
    case $word in *' '*) line="$line \"$word\"" ;; *) line="$line $word" ;; esac
  done
  say "$line"
  "$@"
}

train() {
  headline "4/6  Tokenize"
  run "$filigree" data tokenize --input "$work/text" --output "$work/shards" --vocabulary 2048
  headline "5/6  Train on two ranks, then resume for a few more steps"
  prepare_mpi
  local steps
  steps=$(awk '$1 == "steps" { print $3 }' configs/quickstart.cfg)
  run mpirun -np 2 "$filigree" train --config configs/quickstart.cfg --run "$work/run"
  say ""
  run mpirun -np 2 "$filigree" train --resume "$work/run" --train.steps $((steps + 10))
  headline "6/6  Generate"
  run "$filigree" generate --from-run "$work/run" --prompt "$prompt" --max-tokens 120 --temperature 0.8 --top-p 0.9
}

what_next() {
  headline "Done"
  cat <<TEXT
The run is in $work/run/: config.cfg, metrics.jsonl, logs/ and checkpoints/. What to do next:
  generate more     $filigree generate --from-run $work/run --prompt "In the beginning" --greedy
  evaluate          $filigree eval --from-run $work/run
  split the layers  mpirun -np 2 $filigree train --config configs/quickstart.cfg --run runs/tensor2 --parallel.tensor 2
  see every key     $filigree train --help-config
  your own text     README.md, 'Train on your own text'
As root, or on fewer cores than ranks, mpirun needs --allow-run-as-root or --oversubscribe.
TEXT
}

install_packages
drop_root --no-install
cd "$filigree_root"
build_program
prepare_text
train
what_next
