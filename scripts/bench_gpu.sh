#!/usr/bin/env bash
# Everything about speed that needs one NVIDIA GPU, in one command: training steps and memory of roberta-base at batch 32 in fp32
# and bf16, a grid of nine sparsities in one process and in three at once, and steps of roberta-large at batch 16; each beside
# the plain way in fp32. Random weights in these shapes: no download.
#   GLUE_DIR=glue_data bash scripts/bench_gpu.sh             # three JSON files and three tables
#   SMOKE=1 DEVICE=cpu bash scripts/bench_gpu.sh             # the same at its smallest, to see that it runs; numbers mean nothing
# RTE stands for QNLI, whose training set has lengths like it; TASK=qnli if GLUE_DIR has that. It runs the python on the PATH.
set -euo pipefail

DEVICE="${DEVICE:-cuda}"
GLUE_DIR="${GLUE_DIR:-}" # folder in the layout of the standard GLUE download; without it the demo's task, whose lengths say little
TASK="${TASK:-rte}"      # of GLUE_DIR
OUT="${OUT:-.}"          # folder of the three files
SMOKE="${SMOKE:-}"
GRAPHS="${GRAPHS:-}"     # anything: the product repeats CUDA graphs of its steps (--cuda_graphs)

bench="$(cd "$(dirname "$0")" && pwd)/bench.py"
common=(--device "$DEVICE")
[ -z "$GRAPHS" ] || common+=(--cuda_graphs)
[ -z "$GLUE_DIR" ] || common+=(--glue_dir "$GLUE_DIR" --tasks "$TASK")
base=(--model roberta-base)
grid=(--model roberta-base --cells 9 --num_jobs 3 --steps 300 --runs 1)
large=(--model roberta-large)
[ -z "$SMOKE" ] || base=(--smoke) grid=(--smoke) large=(--smoke)

code=0
python "$bench" "${common[@]}" "${base[@]}" --parts step memory --out "$OUT/gpu-base.json" || code=$?
python "$bench" "${common[@]}" "${grid[@]}" --parts grid --out "$OUT/gpu-grid.json" || code=$?
python "$bench" "${common[@]}" "${large[@]}" --batch_size 16 --parts step memory --out "$OUT/gpu-large.json" || code=$?
exit "$code"
