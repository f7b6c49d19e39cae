#!/usr/bin/env bash
# The main jobs on the embedded defaults, each in one to three minutes on two cores; a table and a figure.
#   bash scripts/quickstart.sh       a tiny pre-trained RoBERTa, pruned once by magnitude and fine-tuned with the mask held,
#                                    on an easy and a hard task; dense and five sparsities
#   bash scripts/quickstart.sh qa    a tiny pre-trained Llama, pruned once by three methods, asked the same questions with and
#                                    without a text that holds the answer; dense and five sparsities
#   bash scripts/quickstart.sh translation    a tiny mBART, pruned once by magnitude, translates a pair of languages that it
#                                    has seen much of and one that it has seen little of; dense and five sparsities
# The fresh head stays out of scope: beside so small a model's large weights it would be the first to go (demo/README.md).
set -euo pipefail
cd "$(dirname "$0")/.."
WHAT="${1:-glue}"
case $WHAT in glue | qa | translation) ;; *)
  echo "error: $WHAT: give glue (the default), qa or translation" >&2
  exit 2
  ;;
esac
. scripts/venv.sh requirements.txt

RUNS="${RUNS:-$PWD/runs/quickstart$([ "$WHAT" = glue ] || echo "_$WHAT")}"
SPARSITIES="${SPARSITIES:-0.1 0.3 0.5 0.7 0.9}"
EXTRA="${EXTRA:-}"
mkdir -p "$RUNS"
RUNS="$(cd "$RUNS" && pwd)"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # the models are tiny: two processes side by side, a thread each

if [ "$WHAT" = qa ]; then
  cd QA_tasks
  ask() {
    # shellcheck disable=SC2086  # lists of words are meant
    python QA_prune_oneshot.py --model_name_or_path demo/model --data_file demo/questions.jsonl --book open closed \
      --prune_method $methods --sparsity $SPARSITIES $dense --calibration demo/calibration.txt --nsamples 32 \
      --perplexity demo/perplexity.txt --eval_batch_size 64 --output_dir "$RUNS/{prune_method}/{book}/{pattern}/" $EXTRA
  }
  methods=sparsegpt dense=
  ask >"$RUNS/sparsegpt.log" 2>&1 &
  beside=$!
  trap 'kill "$beside" 2>/dev/null || true' EXIT
  methods="magnitude wanda" dense=--with_dense
  ask
  wait "$beside" || { cat "$RUNS/sparsegpt.log" >&2; exit 1; }
  echo "sparsegpt ran beside it; its log is $RUNS/sparsegpt.log"
  echo
  cd ..
  exec python -m junkdna.report "$RUNS" --out "$RUNS" --scale change
fi

if [ "$WHAT" = translation ]; then
  cd Translation_tasks
  translate() {
    # shellcheck disable=SC2086  # lists of words are meant
    python Translation_prune_oneshot.py --model_name_or_path demo/model --data_dir demo/data --pair $pair \
      --sparsity $SPARSITIES --with_dense --output_dir "$RUNS/{shots}/{pair}/{pattern}/" $EXTRA
  }
  pair=ao-ei
  translate >"$RUNS/ao-ei.log" 2>&1 &
  beside=$!
  trap 'kill "$beside" 2>/dev/null || true' EXIT
  pair=ao-ui
  translate
  wait "$beside" || { cat "$RUNS/ao-ei.log" >&2; exit 1; }
  echo "ao-ei ran beside it; its log is $RUNS/ao-ei.log"
  echo
  cd ..
  exec python -m junkdna.report "$RUNS" --out "$RUNS"
fi

cd GLUE_tasks
run_task() {
  # shellcheck disable=SC2086  # lists of words are meant
  python Glue_prune_oneshot.py --method quickstart --freeze_weights --noembed --prune_exclude "^classifier" \
    --model_name_or_path demo/model --train_file demo/$task/train.csv --validation_file demo/$task/validation.csv \
    --sparsity $SPARSITIES --with_dense \
    --per_device_train_batch_size 32 --learning_rate 1e-3 --num_train_epochs 3 --seed 41 \
    --output_dir "$RUNS/{task_name}/{pattern}/{seed}/" $EXTRA
}
task=easy
run_task >"$RUNS/easy.log" 2>&1 &
easy=$!
trap 'kill "$easy" 2>/dev/null || true' EXIT
task=hard
run_task
wait "$easy" || { cat "$RUNS/easy.log" >&2; exit 1; }
echo "the easy task ran beside it; its log is $RUNS/easy.log"
echo
cd ..
python -m junkdna.report "$RUNS" --out "$RUNS"
