#!/usr/bin/env bash
# Setting 3 of the paper (arXiv 2310.02277), figure Task_3: does knowledge that a model must remember (closed book) suffer
# from pruning before knowledge that it can read in its prompt (open book)? Vicuna-7B answers 2,000 questions of TriviaQA
# both ways, without retraining: 3 methods x (8 sparsities + 7 N:M ratios) x 2 books, and 2 dense runs = 92 runs.
#   DRY_RUN=1 bash scripts/task3_open_closed_book.sh         # the commands, the runs, their folders, and which are done
# Repeating the command finishes what is missing. Every variable below can be set from the environment, DRY_RUN too.
set -euo pipefail

MODEL="${MODEL:-lmsys/vicuna-7b-v1.3}" # name on the Hub, or a folder
TASKS="${TASKS:-trivia_qa}"
BOOKS="${BOOKS:-open closed}"
METHODS="${METHODS:-magnitude wanda sparsegpt}"
SPARSITIES="${SPARSITIES-0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8}" # fraction removed, unstructured; empty: none of these runs
RATIOS="${RATIOS-7:8 6:8 5:8 4:8 3:8 2:8 1:8}" # N:M, N kept of M; empty: none of these runs
SEEDS="${SEEDS:-0}" # calibration samples; dense and magnitude draw none, run for the first alone, and by themselves take one seed
DATA_FILE="${DATA_FILE:-}" # questions of your own, JSON lines; empty: the Hub
RUNS="${RUNS:-}" # root of the runs' folders and place of the report; empty: runs/task3_open_closed_book in the repository
EXTRA="${EXTRA:-}" # further flags; of a flag given twice the later counts

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"

# shellcheck disable=SC2086  # lists of words are meant
grid() {
  run_grid python "$experiment_root/QA_tasks/QA_prune_oneshot.py" --prune_method $METHODS "$@" $dense \
    --model_name_or_path "$MODEL" --task_name $TASKS ${DATA_FILE:+--data_file "$DATA_FILE"} --book $BOOKS \
    --seed $SEEDS --output_dir "$RUNS/{model}/{prune_method}/{task_name}/{book}/{pattern}/{seed}/" $EXTRA
}

grids() {
  transfer
}

experiment
