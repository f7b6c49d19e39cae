#!/usr/bin/env bash
# This repository's figures: real models that two cores can prune and train, on their data's original files.
#   bash scripts/evidence.sh Task_4           # what is missing runs; then results/Task_4/ and Images_png/Task_4.png
#   bash scripts/evidence.sh Task_4 rates     # the dense runs by which the learning rates below were chosen, and their table
#   bash scripts/evidence.sh Task_4 report    # the report alone, of what there is
#   bash scripts/evidence.sh Task_4 unpack    # the records of earlier runs, from results/Task_4/, to be reported or gone on from
# Figures: Task_1 Task_2 Task_3 Task_4 TRUE_GEM controls. They share runs where their settings agree. Two calls at the same time
# share the work. DRY_RUN=1 lists commands and runs, and which are done. Exit codes as in experiment.sh.
set -euo pipefail

MODELS="${MODELS:-models}" # folder of all-MiniLM-L6-v2, all-mpnet-base-v2, SmolLM2-135M-Instruct (GGUF), multi30k
GLUE_DIR="${GLUE_DIR:-glue_data}" # folder in the layout of the standard GLUE download
DATA_DIR="${DATA_DIR:-data}" # folder of commonsenseqa, mawps, svamp, winogrande, nq_open, triviaqa, plain_text
TASKS="${TASKS:-}" # of the figure, these alone; empty: all (Task_2 and Task_3 have no choice)
RUNS="${RUNS:-runs/evidence}" # root of the runs' folders
OUT="${OUT:-}" # where results/ and Images_png/ are; empty: the repository
EXTRA="${EXTRA:-}" # further flags of every run; of a flag given twice the later counts

# shellcheck source=scripts/experiment.sh
. "$(dirname "$0")/experiment.sh"
OUT="${OUT:-$experiment_root}"
# shellcheck source=scripts/figures.sh
. "$experiment_root/scripts/figures.sh"

FIGURE="${1-}" WHAT="${2-all}" folders=() there=()
case "$FIGURE $WHAT" in
  Task_[1-4]" all" | Task_[1-4]" report" | Task_[1-4]" unpack" | Task_[14]" rates") ;;
  TRUE_GEM" all" | TRUE_GEM" report" | TRUE_GEM" unpack" | TRUE_GEM" rates") ;;
  controls" all" | controls" report" | controls" unpack" | controls" rates") ;;
  *)
    echo "error: '$*': give Task_1, Task_2, Task_3, Task_4, TRUE_GEM or controls; then nothing, report, unpack, or rates" \
      "(which Task_2 and Task_3 have none of)" >&2
    exit 2
    ;;
esac

needed() { # a line for each thing that is not there: needed PATH WHENCE...
  local lacking=0
  while [ $# -gt 0 ]; do
    [ -e "$1" ] || { echo "error: $1 is missing: $2" >&2 && lacking=1; }
    shift 2
  done
  [ "$lacking" = 0 ] || exit 2
}

finished() { # the finished runs below some folders, by their folders
  find -L "$@" -name '.?*' -prune -o -name all_results.json -printf '%h\n' | LC_ALL=C sort
}

packed_runs() { # the same of what is packed, below RUNS
  [ ! -e "$packed" ] || tar --list --gzip --file "$packed" | sed -n 's|/run\.json$||p'
}

present() { # of the packed runs those that RUNS has, finished or not
  packed_runs | while IFS= read -r run; do [ ! -e "$RUNS/$run/run.json" ] || echo "$run"; done
}

records_of() { # what is packed of the finished runs below a folder; predictions too, where a point of it is one run
  local run runs several
  [ -e "$1" ] || return 0
  runs=$(finished "$1")
  several=$(sed 's|/[^/]*$||' <<<"$runs" | uniq -c | awk '$1 == 1 { alone = 1 } END { print !alone }')
  [ -z "$runs" ] || while IFS= read -r run; do
    run="${run#"$RUNS/"}"
    printf '%s\n' "$run/run.json" "$run/all_results.json"
    [ "$several" = 1 ] || [ ! -e "$RUNS/$run/predictions.jsonl" ] || echo "$run/predictions.jsonl"
  done <<<"$runs"
}

pack() { # the records of the finished runs below some folders, beside those that are packed already
  local folder file
  {
    [ ! -e "$packed" ] || tar --list --gzip --file "$packed"
    for folder in "$@"; do records_of "$folder"; done
  } | LC_ALL=C sort -u >"$made/packed.txt"
  while IFS= read -r file; do
    [ -e "$RUNS/$file" ] && continue
    echo "error: $packed holds $file, which $RUNS has no longer: finish that run, or delete the archive" >&2
    exit 1
  done <"$made/packed.txt"
  tar --create --gzip --file "$packed.partial" --directory "$RUNS" --files-from "$made/packed.txt" --dereference \
    --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=644
  mv "$packed.partial" "$packed"
}

minilm=("$MODELS/all-MiniLM-L6-v2" "set MODELS to a folder with sentence-transformers/all-MiniLM-L6-v2 of the Hub")
glue_data=("$GLUE_DIR" "set GLUE_DIR to a folder of GLUE's tasks")
own_data=("$DATA_DIR" "set DATA_DIR to a folder of the tasks' original files")
made="$RUNS/report/$FIGURE" results="$OUT/results/$FIGURE"
packed="$results/runs.tar.gz" # records, without models and masks: a run that has its records is finished
lacking=$(($(packed_runs | wc -l) - $(present | wc -l)))
if [ "${DRY_RUN:-0}" != 0 ] && { [ "$WHAT" = report ] || [ "$WHAT" = unpack ]; }; then
  echo "error: DRY_RUN=$DRY_RUN: '$FIGURE $WHAT' runs nothing, so there is no dry run of it" >&2
  exit 2
fi
if [ "$WHAT" = unpack ]; then
  needed "$packed" "no runs of $FIGURE were packed"
  mkdir -p "$RUNS"
  tar --extract --gzip --file "$packed" --directory "$RUNS" --anchored --no-wildcards --exclude-from <(present)
  echo "unpacked: $lacking runs into $RUNS"
  exit
fi
if [ "$WHAT" != rates ] && [ "${DRY_RUN:-0}" = 0 ] && [ "$lacking" != 0 ]; then
  echo "error: $packed holds $lacking runs that $RUNS lacks: '$FIGURE unpack' brings them, OUT=FOLDER leaves them alone" >&2
  exit 2
fi
[ "$WHAT" = report ] || case $FIGURE in
  Task_1 | TRUE_GEM | controls) needed "${minilm[@]}" "${glue_data[@]}" ;;
  Task_4) needed "${minilm[@]}" "${glue_data[@]}" "${own_data[@]}" "$MODELS/all-mpnet-base-v2" \
    "set MODELS to a folder with sentence-transformers/all-mpnet-base-v2 of the Hub" ;;
  Task_2)
    for kind in majority equal; do
      needed "$MODELS/multi30k/$kind" "scripts/multi30k_mbart.py makes it, under --out" \
        "$MODELS/multi30k/multi30k-$kind" "copy translators/$kind/en-de to it, from where scripts/multi30k_mbart.py says"
    done
    ;;
  Task_3) needed "${own_data[@]}" "$MODELS/SmolLM2-135M-Instruct" \
    "set MODELS to a folder with SmolLM2-135M-Instruct.Q4_1.gguf in SmolLM2-135M-Instruct" ;;
esac

grids() { # also called twice: a figure may change these
  model="$MODELS/all-MiniLM-L6-v2" seeds="41 42 43" RATE=
  case $WHAT in rates) rates ;; *) "$FIGURE" ;; esac
}

stage=list # the folders alone
grids
case $FIGURE in Task_2 | Task_3) has= ;; *) has="${folders[*]/%/ }" ;; esac
for task in $TASKS; do
  case "$has" in *"/$task "*) ;; *)
    echo "error: TASKS $task: no task of which $FIGURE can be made alone" >&2
    exit 2
    ;;
  esac
done
if [ ${#folders[@]} = 0 ]; then
  echo "error: TASKS is set, and names no task" >&2
  exit 2
fi
if [ "$WHAT" = report ]; then
  for folder in "${folders[@]}"; do
    if [ -e "$folder" ]; then there+=("$folder"); else echo "no runs yet: $folder"; fi
  done
  folders=("${there[@]}")
  if [ ${#folders[@]} = 0 ]; then
    echo "error: $RUNS has no runs of $FIGURE" >&2
    exit 2
  fi
else
  run_all
fi
if [ "$WHAT" = rates ]; then
  report "${folders[@]}" --out "$made-rates" || failed=1
  exit "$failed"
fi
mkdir -p "$made" "$results"
pack "${folders[@]}" # first, since it refuses where a run has been lost
case $FIGURE in Task_3) shaped="--scale change" ;; *) shaped=--published ;; esac
# shellcheck disable=SC2086  # words
report "${folders[@]}" --out "$made" --figure "$OUT/Images_png/$FIGURE.png" $shaped || exit 1
cp "$made"/{summary,claims}.{csv,md} "$made/points.json" "$results"
exit "$failed"
