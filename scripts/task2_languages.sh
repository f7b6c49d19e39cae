#!/usr/bin/env bash
# Setting 2 of the paper (arXiv 2310.02277), figure Task_2: does a language pair with little data (English-Gujarati) lose more
# under pruning than one with much (English-German)? A translation model is pruned once and translates OPUS-100's test text
# both ways, without any update (zero-shot), and fine-tuned on ten pairs before it is pruned (few-shot):
# 2 ways x 2 pairs x (8 sparsities + 7 N:M ratios), and 4 dense runs = 64 runs.
#   DRY_RUN=1 bash scripts/task2_languages.sh         # the commands, the runs, their folders, and which are done
# Repeating the command finishes what is missing. Every variable below can be set from the environment, DRY_RUN too.
set -euo pipefail

# The paper's zero-shot model is mbart-large-cc25, which has never learned to translate: it copies its source.
ZERO_SHOT="${ZERO_SHOT-facebook/mbart-large-50-many-to-many-mmt}" # model; a name on the Hub, or a folder; empty: none of these
FEW_SHOT="${FEW_SHOT-facebook/mbart-large-cc25}" # model that is fine-tuned first; empty: none of these runs
PAIRS="${PAIRS:-en-de en-gu}"
MIX="${MIX:-en-fr en-cs en-de en-gu en-ja en-my en-ro en-ru en-vi en-zh}" # what few-shot models are trained on
SPARSITIES="${SPARSITIES-0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8}" # fraction removed, unstructured; empty: none of these runs
RATIOS="${RATIOS-7:8 6:8 5:8 4:8 3:8 2:8 1:8}" # N:M, N kept of M; empty: none of these runs
SEEDS="${SEEDS:-222}"
DATA_DIR="${DATA_DIR:-}" # folder of texts; empty: OPUS-100 from the Hub
TRAINING="${TRAINING:---max_train_steps 40000 --learning_rate 3e-5 --lr_scheduler_type inverse_sqrt --num_warmup_steps 2500
  --per_device_train_batch_size 46 --gradient_accumulation_steps 2 --label_smoothing 0.2 --dropout 0.3
  --attention_dropout 0.1 --temperature 1.5 --checkpointing_steps 2000}" # of the few-shot models: the released run
RUNS="${RUNS:-}" # root of the runs' folders and place of the report; empty: runs/task2_languages in the repository
EXTRA="${EXTRA:-}" # further flags; of a flag given twice the later counts

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"

# shellcheck disable=SC2086  # lists of words are meant
grid() {
  run_grid python "$experiment_root/Translation_tasks/Translation_prune_oneshot.py" "$@" $dense \
    --model_name_or_path "$model" --pair $PAIRS ${DATA_DIR:+--data_dir "$DATA_DIR"} $training --seed $seeds \
    --output_dir "$RUNS/{model}/{shots}/{pair}/{pattern}/{seed}/" $EXTRA
}

grids() {
  if [ -n "$ZERO_SHOT" ]; then
    model=$ZERO_SHOT training= seeds=${SEEDS%% *} # nothing is drawn: other seeds would be the same run
    transfer
  fi
  if [ -n "$FEW_SHOT" ]; then
    model=$FEW_SHOT training="--mix $MIX $TRAINING --prune_after_training" dense=--with_dense seeds=$SEEDS
    transfer
  fi
}

experiment
