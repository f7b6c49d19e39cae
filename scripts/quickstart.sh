#!/usr/bin/env bash
# The main job on the embedded default, in under three minutes on two cores: a tiny pre-trained RoBERTa, pruned once by
# magnitude and fine-tuned with the mask held, on an easy and a hard task; dense and five sparsities; a table and a figure.
# The fresh head stays out of scope: beside so small a model's large weights it would be the first to go (demo/README.md).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh requirements.txt

RUNS="${RUNS:-$PWD/runs/quickstart}"
SPARSITIES="${SPARSITIES:-0.1 0.3 0.5 0.7 0.9}"
EXTRA="${EXTRA:-}"
mkdir -p "$RUNS"
RUNS="$(cd "$RUNS" && pwd)"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # the model is tiny: the two tasks side by side, a thread each

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
