#!/usr/bin/env bash
# Setting 4 of the paper (arXiv 2310.02277), figure Task_4, difficulty by the gap between humans and models: does pruning hurt
# the hard task of a pair (CoLA, STS-B, RTE) more than the easy one (SST-2, QQP, QNLI)? Sparse transfer of roberta-large on
# 6 tasks x 3 seeds x (dense + 9 sparsities + 7 N:M ratios) = 306 runs.
#   DRY_RUN=1 bash scripts/task4_task_difficulty.sh          # the commands, the runs, their folders, and which are done
# Repeating the command finishes what is missing. Every variable below can be set from the environment, DRY_RUN too.
set -euo pipefail

MODEL="${MODEL:-roberta-large}" # name on the Hub, or a folder
TASKS="${TASKS:-cola sst2 stsb qqp rte qnli}"
SPARSITIES="${SPARSITIES-0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9}" # fraction removed, unstructured; empty: none of these runs
RATIOS="${RATIOS-7:8 6:8 5:8 4:8 3:8 2:8 1:8}" # N:M, N kept of M; empty: none of these runs
PERCENTAGES="${PERCENTAGES:-100}" # of the training set, its first rows
SEEDS="${SEEDS:-41 42 43}"
GLUE_DIR="${GLUE_DIR:-}" # folder in the layout of the standard GLUE download; empty: the Hub
RUNS="${RUNS:-}" # root of the runs' folders and place of the report; empty: runs/task4_task_difficulty in the repository
EXTRA="${EXTRA:-}" # further flags; of a flag given twice the later counts, so they replace those of TRAINING
TRAINING="${TRAINING:---max_length 512 --per_device_train_batch_size 16 --learning_rate 2e-5 --num_train_epochs 3 --checkpointing_steps epoch}"

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"

grids() {
  transfer --freeze_weights
}

experiment
