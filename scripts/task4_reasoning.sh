#!/usr/bin/env bash
# Setting 4 of the paper (arXiv 2310.02277), figure Task_4, its other pairs: WinoGrande and CommonsenseQA (multiple choice,
# roberta-large), MAWPS and SVAMP (word problems, roberta-base with a fresh decoder). Sparse transfer on
# (2 tasks + 1 fold + 1 task) x 3 seeds x (dense + 9 sparsities + 7 N:M ratios) = 204 runs.
#   DRY_RUN=1 bash scripts/task4_reasoning.sh         # the commands, the runs, their folders, and which are done
# Repeating the command finishes what is missing. Every variable below can be set from the environment, DRY_RUN too.
set -euo pipefail

CHOOSER="${CHOOSER-roberta-large}" # model for multiple choice; a name on the Hub, or a folder; empty: none of these runs
SOLVER="${SOLVER-roberta-base}" # model for word problems; empty: none of these runs
CHOICES="${CHOICES:-commonsense_qa winogrande}"
PROBLEMS="${PROBLEMS:-mawps svamp}"
SIZES="${SIZES:-xl}" # of WinoGrande's training set
FOLDS="${FOLDS:-0}" # of MAWPS; 0 1 2 3 4 are all of them
SPARSITIES="${SPARSITIES-0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9}" # fraction removed, unstructured; empty: none of these runs
RATIOS="${RATIOS-7:8 6:8 5:8 4:8 3:8 2:8 1:8}" # N:M, N kept of M; empty: none of these runs
SEEDS="${SEEDS:-41 42 43}"
DATA_DIR="${DATA_DIR:-}" # folder of the original files; the Hub has those of multiple choice only
OF_CHOICES="${OF_CHOICES:---learning_rate 1e-5 --num_train_epochs 3}" # training on multiple choice
OF_PROBLEMS="${OF_PROBLEMS:---learning_rate 1e-5 --decoder_learning_rate 1e-3 --num_train_epochs 50}" # on word problems
TRAINING="${TRAINING:---per_device_train_batch_size 16 --checkpointing_steps epoch}" # on both
RUNS="${RUNS:-}" # root of the runs' folders and place of the report; empty: runs/task4_reasoning in the repository
EXTRA="${EXTRA:-}" # further flags; of a flag given twice the later counts

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"

# shellcheck disable=SC2086  # lists of words are meant
grid() {
  run_grid python "$experiment_root/Reasoning_tasks/Reasoning_prune_oneshot.py" --noembed "$@" $dense \
    --model_name_or_path "$model" $tasks ${DATA_DIR:+--data_dir "$DATA_DIR"} --seed $SEEDS $TRAINING $training \
    --output_dir "$RUNS/{model}/{method}/{task_name}/{pattern}/{winogrande_size}/{fold}/{seed}/" $EXTRA
}

grids() {
  if [ -n "$CHOOSER" ]; then
    model=$CHOOSER training=$OF_CHOICES tasks="--task_name $CHOICES"
    case " $CHOICES " in *" winogrande "*) tasks+=" --winogrande_size $SIZES" ;; esac
    transfer --freeze_weights
  fi
  if [ -n "$SOLVER" ]; then
    model=$SOLVER training=$OF_PROBLEMS tasks="--task_name $PROBLEMS" dense=--with_dense
    case " $PROBLEMS " in *" mawps "*) tasks+=" --fold $FOLDS" ;; esac
    transfer --freeze_weights
  fi
}

experiment
