#!/usr/bin/env bash
# Setting 1 of the paper (arXiv 2310.02277), figure Task_1, varying data adequacy: does pruning hurt more when there is less
# data to learn from? Sparse transfer of roberta-base on 3 tasks x 5 fractions of their data x (dense + 9 sparsities + 7 N:M
# ratios) = 255 runs with one seed, as in the released script. Its plotted points are means of two runs: SEEDS="41 42", 510 runs.
# The published MNLI curves are the mismatched set (eval_mm_accuracy here).
#   DRY_RUN=1 bash scripts/task1_data_adequacy.sh          # the commands, the runs, their folders, and which are done
# Repeating the command finishes what is missing. Every variable below can be set from the environment, DRY_RUN too.
set -euo pipefail

MODEL="${MODEL:-roberta-base}" # name on the Hub, or a folder
TASKS="${TASKS:-qnli sst2 mnli}"
SPARSITIES="${SPARSITIES-0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9}" # fraction removed, unstructured; empty: none of these runs
RATIOS="${RATIOS-7:8 6:8 5:8 4:8 3:8 2:8 1:8}" # N:M, N kept of M; empty: none of these runs
PERCENTAGES="${PERCENTAGES:-10 25 50 75 100}" # of the training set, its first rows
SEEDS="${SEEDS:-41}"
GLUE_DIR="${GLUE_DIR:-}" # folder in the layout of the standard GLUE download; empty: the Hub
RUNS="${RUNS:-}" # root of the runs' folders and place of the report; empty: runs/task1_data_adequacy in the repository
EXTRA="${EXTRA:-}" # further flags; of a flag given twice the later counts, so they replace those of TRAINING
TRAINING="${TRAINING:---max_length 128 --per_device_train_batch_size 32 --learning_rate 2e-5 --num_train_epochs 3 --checkpointing_steps epoch}"

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"

grids() {
  transfer --freeze_weights
}

experiment
