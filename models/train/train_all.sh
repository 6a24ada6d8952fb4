#!/usr/bin/env bash
# Trains and evaluates both demo models on a machine with one GPU; needs no network and stays under nine minutes.
# Writes $OUT/demo.tar, $OUT/demo-moe.tar and $OUT/train.log; unpack the archives in models/.
# Arguments go to train.py: "--steps 2 --documents 20000 --batch-rows 2" is a trial on a CPU.
set -euo pipefail
cd "$(dirname "$0")"
: "${OUT:?set OUT to the directory to write to}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=true HF_HUB_OFFLINE=1

train_and_pack() {  # name seconds arguments
  timeout "$(($2 + 90))" python3 train.py --model "$1" --out "$work/$1" --seconds "$2" "${@:3}"
  tar -C "$work" --mode=u=rwX,go=rX -cf "$OUT/$1.tar" "$1"
}

evaluate() {  # name; a low share is seen in the log and does not lose the models
  CUDA_VISIBLE_DEVICES='' timeout 100 python3 evaluate.py "$work/$1" || echo "$1: evaluation failed"
}

{
  train_and_pack demo 120 "$@"
  evaluate demo >"$work/demo.log" 2>&1 &
  train_and_pack demo-moe 150 "$@"
  wait
  echo "--- demo" && cat "$work/demo.log"
  echo "--- demo-moe" && evaluate demo-moe
} 2>&1 | tee "$OUT/train.log"
