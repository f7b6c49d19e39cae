# shellcheck shell=bash
# Sourced by the scripts of the paper's figures: turns the variables that they set and their `grids` into grid commands.
#   transfer FLAG...   within `grids`: the runs of one kind of transfer, unstructured and N:M
#   grid FLAG...       one grid command, of GLUE unless the script has a `grid` of its own, which ends in `run_grid COMMAND...`
#   run_all            checks every grid, then runs them in turn; with DRY_RUN=1 it lists their runs, and ends there
#   experiment         run_all, and the report beside the runs
# Exit code: 0; 1 when runs failed (the others are done and reported); 2 for a mistake in a variable, before anything runs.
# Paths are relative to where the script is called. It runs the `python` on the PATH, with requirements.txt installed.
experiment_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
RUNS="${RUNS:-$experiment_root/runs/$(basename "$0" .sh)}"
set -f # what is split into words below is not matched against the names of files
for name in EXTRA TRAINING; do # they are split at spaces: a quote would become part of a value
  case "${!name-}" in *[\'\"\\]*)
    echo "error: $name ${!name}: holds a quote or a backslash; it is split at spaces, so leave them out" >&2
    exit 2
    ;;
  esac
done
case "$RUNS" in *[{}]*)
  echo "error: RUNS $RUNS: holds a brace; give a folder without fields" >&2
  exit 2
  ;;
esac
dense=--with_dense # for the first grid only: one dense run normalises every kind of pattern and of transfer
failed=0

# shellcheck disable=SC2086  # lists of words are meant, here and below
transfer() {
  [ -z "$SPARSITIES" ] || grid --sparsity $SPARSITIES "$@"
  [ -z "$RATIOS" ] || grid --nm_ratio $RATIOS "$@"
}

# shellcheck disable=SC2086
grid() {
  run_grid python "$experiment_root/GLUE_tasks/Glue_prune_oneshot.py" --noembed "$@" $dense \
    --model_name_or_path "$MODEL" --task_name $TASKS ${GLUE_DIR:+--glue_dir "$GLUE_DIR"} \
    --validation_split_percentage $PERCENTAGES --seed $SEEDS $TRAINING \
    --output_dir "$RUNS/{model}/{method}/{task_name}/{pattern}/{validation_split_percentage}/{seed}/" $EXTRA
}

# Show a grid's command, and run it, or list its runs.
run_grid() {
  dense=
  show "$@"
  if [ "$stage" = plan ]; then
    "$@" --dry_run || exit
    return
  fi
  local code=0
  "$@" || code=$?
  # failed runs (1) do not keep the other grids from theirs, nor does a single run's mistake (2); an interruption does
  [ "$code" -le 2 ] || exit "$code"
  [ "$code" = 0 ] || failed=1
}

# Print a command so that it can be pasted into a shell; the fields of the output folder's template stay readable.
show() {
  local word line=
  for word in "$@"; do
    case $word in *[!A-Za-z0-9_./:,=+%@{}-]* | "") word="$(printf %q "$word")" ;; esac
    line+="$word "
  done
  echo "${line% }"
}

# Folders into which several grids of a plan would put different runs, one a line.
shared_folders() {
  sed -nE 's/^(to run|done|broken) +([^ ].*)  (\[.*\])$/\2\t\3/p' <<<"$1" | LC_ALL=C sort -u | cut -f1 | uniq -d
}

run_all() {
  local plan shared
  stage=plan
  plan="$(grids)" # a mistake in the last grid shows before the first one starts
  shared="$(shared_folders "$plan")"
  if [ -n "$shared" ]; then
    echo "error: EXTRA: several grids would share the folder ${shared%%$'\n'*}; leave --method and --output_dir out" >&2
    exit 2
  fi
  if [ "${DRY_RUN:-0}" != 0 ]; then
    echo "$plan"
    exit
  fi
  stage=run
  grids
}

report() {
  PYTHONPATH="$experiment_root${PYTHONPATH:+:$PYTHONPATH}" python -m junkdna.report "$@"
}

experiment() {
  if [ -z "$SPARSITIES$RATIOS" ]; then
    echo "error: SPARSITIES and RATIOS are both empty; leave one of them at its default" >&2
    exit 2
  fi
  run_all
  report "$RUNS" --out "$RUNS" || failed=1
  exit "$failed"
}
