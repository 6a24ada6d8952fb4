#!/usr/bin/env bash
# Trains and evaluates both demo models side by side, one CPU core each, or on a GPU where there is one; needs no network.
#   models/train/train_all.sh [DIRECTORY [train.py's arguments]]
# Writes DIRECTORY/demo, DIRECTORY/demo-moe and the log of each; DIRECTORY is models/ unless given, or $OUT where that is set.
# On a GPU, for the full set of facts: train_all.sh DIRECTORY --facts all --documents 250000 --batch-tokens 16384 --seconds 300
set -euo pipefail
code=$(cd "$(dirname "$0")" && pwd)
out=${1:-${OUT:-$code/..}}
shift $(($# > 0))
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
mkdir -p "$out"

train_and_evaluate() {  # name arguments
  "$python" "$code/train.py" --model "$1" --out "$out/$1" "${@:2}"
  "$python" "$code/evaluate.py" "$out/$1"
}

train_and_evaluate demo "$@" >"$out/demo.log" 2>&1 &
demo=$!
status=0
train_and_evaluate demo-moe "$@" >"$out/demo-moe.log" 2>&1 || status=1
wait "$demo" || status=1
tail -n 3 "$out/demo.log" "$out/demo-moe.log"
exit "$status"
