# shellcheck shell=bash
# Sourced by evidence.sh: what each of this repository's figures is made of. A function of a figure's name calls `cells` (or
# `glue` and `reasoning`, which do) once for each grid. evidence.sh has set MODELS, GLUE_DIR, DATA_DIR, TASKS, RUNS, EXTRA,
# model and seeds.
# shellcheck disable=SC2154

five="0.1 0.3 0.5 0.7 0.9" four="0.3 0.5 0.7 0.9" three="0.3 0.5 0.7"
spared="pooler ^classifier"

# Of 2e-5, 5e-5 and 1e-4 (word problems: 5e-5, 1e-4 and 2e-4) the rate with the best dense run of seed 41.
rate() {
  case $1 in
    mawps) echo "${RATE:-2e-4}" ;;
    svamp | stsb) echo "${RATE:-1e-4}" ;;
    *) echo "${RATE:-5e-5}" ;;
  esac
}

passes() { # over the training data; few where it is large
  case $1 in
    commonsense_qa) echo 1 ;;
    sst2) echo 2 ;;
    mawps | svamp) echo 5 ;;
    rte) echo 6 ;;
    *) echo 3 ;;
  esac
}

# shellcheck disable=SC2086  # lists of words are meant, here and below
cells() { # cells FOLDER TEMPLATE ENTRY FLAG...: one grid, whose runs lie below FOLDER; the report reads that
  local folder="$RUNS/$1" template=$2 entry=$3
  shift 3
  case " ${folders[*]-} " in *" $folder "*) ;; *) folders+=("$folder") ;; esac
  [ "$stage" = list ] || run_grid python "$experiment_root/$entry" --model_name_or_path "$model" "$@" \
    --output_dir "$folder/$template" $EXTRA
}

train() { # train ENTRY PLACE TASK BATCH FLAG...; PLACE names the folder beside those of other transfers and scopes
  local entry=$1 place=$2 task=$3 batch=$4
  shift 4
  case " ${TASKS:-$task} " in *" $task "*) ;; *) return 0 ;; esac
  cells "$(basename "$model")/$place/$task" '{pattern}/{seed}/' "$entry" --task_name "$task" --noembed "$@" \
    --learning_rate "$(rate "$task")" --num_train_epochs "$(passes "$task")" --per_device_train_batch_size "$batch" \
    --mixed_precision bf16 --checkpointing_steps epoch --seed $seeds
}

share() { # of the training rows, in percent
  [ "$1" = sst2 ] && echo 10 || echo 100
}

glue() { # glue PLACE TASK SHARE FLAG...
  local place=$1 task=$2 share=$3
  shift 3
  train GLUE_tasks/Glue_prune_oneshot.py "$place-$share" "$task" 32 --glue_dir "$GLUE_DIR" --train_percentage "$share" "$@"
}

reasoning() { # reasoning PLACE TASK FLAG...
  local place=$1 task=$2 flags=
  shift 2
  case $task in
    mawps) flags="--decoder_learning_rate 1e-3 --fold 0" ;;
    svamp) flags="--decoder_learning_rate 1e-3" ;;
    winogrande) flags="--winogrande_size m" ;;
  esac
  case $task in commonsense_qa | winogrande) flags+=" --prune_exclude $spared" ;; esac
  train Reasoning_tasks/Reasoning_prune_oneshot.py "$place" "$task" 16 --data_dir "$DATA_DIR" $flags "$@"
}

# Setting 1: does pruning hurt more when there is less data to learn from? mrpc's dense runs are 7, 5 and 6 % of the way from
# the most frequent answer to 1 with a quarter of the data, and 19, 14 and 23 % with half: it is left out, by the rule below.
Task_1() {
  local task share
  for task in sst2 stsb; do
    for share in 25 50 100 $([ "$task" != sst2 ] || echo 10); do
      case "$task $share" in "sst2 50" | "sst2 100") seeds="41 42" ;; *) seeds="41 42 43" ;; esac
      glue sparse "$task" "$share" --freeze_weights --prune_exclude $spared --with_dense --sparsity $five
      glue nm "$task" "$share" --freeze_weights --prune_exclude $spared --nm_ratio 4:8 2:8
    done
  done
}

# Setting 4: easy and hard tasks, by the gap between people and models. Pooler and head in scope, as in the paper's code, are
# the second variant of GLUE. WinoGrande's dense run does not learn (`rates`), and rte's dense runs are 17, 13 and 7 % of the
# way from chance to 1: a task is left out whose dense runs do not all come 15 % of that way.
Task_4() {
  local task
  for task in commonsense_qa mawps svamp; do
    reasoning sparse "$task" --freeze_weights --with_dense --sparsity $four
  done
  for task in cola sst2 stsb mrpc; do
    glue sparse "$task" "$(share "$task")" --freeze_weights --prune_exclude $spared --with_dense --sparsity $five
    glue more "$task" "$(share "$task")" --freeze_weights --prune_exclude $spared --sparsity 0.2 # not in other figures
  done
  for task in cola sst2 stsb mrpc; do
    glue in_scope "$task" "$(share "$task")" --freeze_weights --sparsity 0.2 $five
  done
  model="$MODELS/all-mpnet-base-v2" seeds=41
  for task in mrpc rte; do
    glue sparse "$task" 100 --freeze_weights --prune_exclude ^classifier --with_dense --sparsity $three
  done
}

# The three transfers, and sparse-to-dense with a third of the learning rate: does that avert its collapse?
TRUE_GEM() {
  local task share
  for task in sst2 mrpc stsb; do
    share="$(share "$task")"
    glue sparse "$task" "$share" --freeze_weights --prune_exclude $spared --with_dense --sparsity $five
    glue freezing "$task" "$share" --freeze_weights_frompretrain --prune_exclude $spared --sparsity $five
    glue to_dense "$task" "$share" --prune_exclude $spared --sparsity $five
    RATE="$(LC_ALL=C awk "BEGIN { printf \"%.2g\", $(rate "$task") / 3 }")"
    glue slow "$task" "$share" --prune_exclude $spared --with_dense --sparsity $five
    RATE=
  done
}

# Is it the magnitude of what is removed, or only that something is?
controls() {
  local task share
  for task in sst2 mrpc; do
    share="$(share "$task")"
    glue sparse "$task" "$share" --freeze_weights --prune_exclude $spared --with_dense --sparsity $five
    for control in "--score random" "--score largest" "--sparsity_pattern per_matrix" "--sparsity_pattern per_row"; do
      glue controls "$task" "$share" --freeze_weights --prune_exclude $spared --sparsity $three $control
    done
  done
}

# Setting 2: two small translation models (scripts/multi30k_mbart.py), one of which has seen little of en-cs.
Task_2() {
  local kind entry=Translation_tasks/Translation_prune_oneshot.py few
  few="--mix en-de en-cs --freeze_weights --max_train_steps 60 --learning_rate 4e-4 --num_warmup_steps 12"
  few+=" --label_smoothing 0.1 --per_device_train_batch_size 128 --mixed_precision bf16 --seed $seeds"
  for kind in majority equal; do
    model="$MODELS/multi30k/multi30k-$kind"
    for flags in "--sparsity 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8" "--nm_ratio 7:8 6:8 5:8 4:8 3:8" "--sparsity 0.5 0.7 0.8 $few"; do
      cells "multi30k/$kind" '{shots}/{pair}/{pattern}/{seed}/' $entry --data_dir "$MODELS/multi30k/$kind" \
        --pair en-de en-cs --with_dense --max_eval_samples 500 --max_new_tokens 60 $flags
    done
  done
}

# Setting 3: with and without the text that holds the answer.
Task_3() {
  local entry=QA_tasks/QA_prune_oneshot.py questions pattern asking
  model="$MODELS/SmolLM2-135M-Instruct"
  for pattern in "--sparsity 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8" "--nm_ratio 7:8 6:8 5:8 4:8 3:8 2:8 1:8"; do
    for questions in nq_open trivia_qa; do
      case "$questions $pattern" in trivia_qa*ratio*) continue ;; esac
      asked $questions
      cells "SmolLM2/$questions" '{prune_method}/{book}/{pattern}/{seed}/' $entry --task_name $questions "${asking[@]}" \
        --gguf_file SmolLM2-135M-Instruct.Q4_1.gguf --dtype bf16 --chat_template --max_eval_samples 500 --eval_batch_size 64 \
        --with_dense --prune_method magnitude wanda sparsegpt $pattern \
        --calibration "$DATA_DIR/plain_text/c4.utf8" --nsamples 32 --seqlen 512 \
        --perplexity "$DATA_DIR/plain_text/wiki.test.raw" --perplexity_windows 8
    done
  done
}

asked() { # asked QUESTIONS: where they are and with which books they are asked, as flags in the array `asking`
  case $1 in
    nq_open) asking=(--data_file "$DATA_DIR/nq_open/nq-open-oracle.jsonl.gz" --book open closed) ;;
    trivia_qa) asking=(--data_file "$DATA_DIR/triviaqa/trivia_qa.jsonl" --book closed) ;;
  esac
}

rates() { # the dense runs of a figure's tasks
  local task tasks tried
  case $FIGURE in
    Task_4) tasks="cola sst2 stsb mrpc rte commonsense_qa winogrande mawps svamp" ;;
    controls) tasks="sst2 mrpc" ;;
    *) tasks="sst2 mrpc stsb" ;;
  esac
  seeds=41
  for task in $tasks; do
    tried="2e-5 5e-5 1e-4"
    case $task in mawps | svamp) tried="5e-5 1e-4 2e-4" ;; esac
    for RATE in $tried; do
      case $task in
        commonsense_qa | winogrande | mawps | svamp) reasoning "rates/$RATE" "$task" --sparsity_pattern dense ;;
        *) glue "rates/$RATE" "$task" "$(share "$task")" --sparsity_pattern dense ;;
      esac
    done
  done
  RATE=
}
