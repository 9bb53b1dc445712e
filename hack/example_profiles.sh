#!/usr/bin/env bash
# Writes the example profiles to a directory: estimates for four models on every GPU type of the catalogue.
set -euo pipefail
directory=$1
mkdir -p "$directory"
# The date is fixed so that the files change only when the estimates do.
estimate() {
  .venv/bin/medley profile estimate --model "$1" --gpu all --tp "$2" --date 2026-11-23 -o yaml \
    > "$directory/$(basename "$1" | tr '[:upper:]' '[:lower:]').yaml"
}
estimate meta-llama/Llama-3.1-8B-Instruct 1,2
estimate meta-llama/Llama-3.3-70B-Instruct 2,4,8
estimate Qwen/Qwen2.5-7B-Instruct 1,2
estimate Qwen/Qwen2.5-32B-Instruct 1,2,4
