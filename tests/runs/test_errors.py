"""Mistakes of the user: each is one line that names flag, value and what is allowed, exit code 2, and nothing is
touched.

Every case goes through the entry point. A case is (id, what is added to a correct command, and for every line of error
that must come the words that it must hold). Names in braces stand for files and folders that ``places`` makes.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SCRIPT, run_command, save_tiny_model

GOOD = "--model_name_or_path {model} --train_file {train} --validation_file {validation} --output_dir out"

DATA = [
    ("unknown task", "--task_name qnl",
     ["--task_name qnl", "did you mean qnli", "cola mnli mrpc qnli qqp rte sst2 stsb wnli"]),
    ("task far from any", "--task_name squad", ["--task_name squad: no such task; allowed: cola mnli"]),
    ("both sources", "--task_name cola", ["--task_name", "--train_file", "not both"]),
    ("both sources, with glue_dir", "--task_name cola --glue_dir {glue}",
     ["--task_name", "not both"], ["--glue_dir {glue}", "--train_file"]),
    ("missing file", "--train_file no.csv", ["--train_file no.csv: no such file"]),
    ("both files missing", "--train_file no.csv --validation_file none.csv",
     ["--train_file no.csv: no such file"], ["--validation_file none.csv: no such file"]),
    ("folder for a file", "--train_file {mistakes}/folder.csv", ["--train_file {mistakes}/folder.csv: no such file"]),
    ("unknown kind of file", "--train_file {mistakes}/train.tsv",
     ["--train_file {mistakes}/train.tsv", ".csv, .json or .jsonl"]),
    ("csv without label", "--train_file {mistakes}/nolabel.csv",
     ["nolabel.csv: has no column 'label'", "'sentence1', 'lable'"]),
    ("csv with spaces in its header", "--train_file {mistakes}/spaces.csv", ["no column 'label'", "' label'"]),
    ("csv without text", "--train_file {mistakes}/notext.csv",
     ["--train_file {mistakes}/notext.csv: has no text column"]),
    ("csv without rows", "--train_file {mistakes}/norows.csv", ["--train_file {mistakes}/norows.csv: has no rows"]),
    ("empty csv", "--validation_file {mistakes}/empty.csv", ["--validation_file {mistakes}/empty.csv: has no rows"]),
    ("empty label", "--train_file {mistakes}/emptylabel.csv",
     ["--train_file {mistakes}/emptylabel.csv: row 2 has no 'label'"]),
    ("row too short", "--train_file {mistakes}/short.csv", ["--train_file {mistakes}/short.csv: row 2 has no 'label'"]),
    ("row too long", "--train_file {mistakes}/long.csv",
     ["{mistakes}/long.csv", "row 2 has more than 2 columns", "quoted"]),
    ("column twice", "--train_file {mistakes}/twice.csv", ["{mistakes}/twice.csv", "two columns have the same name"]),
    ("quote never closed", "--train_file {mistakes}/quote.csv", ["{mistakes}/quote.csv: cannot be read"]),
    ("not UTF-8", "--train_file {mistakes}/latin.csv",
     ["{mistakes}/latin.csv: cannot be read: line 2 is not UTF-8 (byte 0xe9)"]),
    ("one class", "--train_file {mistakes}/oneclass.csv",
     ["{mistakes}/oneclass.csv: all rows have the same label '1'"]),
    ("a class a row", "--train_file {mistakes}/classes.csv",
     ["{mistakes}/classes.csv: has 150 different labels in 150 rows"]),
    ("label that training lacks", "--validation_file {mistakes}/newlabel.csv",
     ["--validation_file {mistakes}/newlabel.csv: row 2 has label '2'", "--train_file {train} lacks", "0 1"]),
    ("class among scores", "--train_file {mistakes}/amongscores.csv",
     ["{mistakes}/amongscores.csv: row 2 has label 'good' beside the number 1.5"]),
    ("name for a score", "--train_file {mistakes}/scores.csv --validation_file {mistakes}/names.csv",
     ["--validation_file {mistakes}/names.csv: row 1 has label 'good', which is not a finite number"]),
    ("pair and single", "--validation_file {mistakes}/pairs.csv",
     ["{mistakes}/pairs.csv: has a column 'sentence2', which --train_file {train} lacks"]),
    ("broken json line", "--train_file {mistakes}/broken.jsonl",
     ["{mistakes}/broken.jsonl: cannot be read: line 2 is not JSON"]),
    ("json that is not lines", "--train_file {mistakes}/list.json", ["{mistakes}/list.json", "one object a line"]),
    ("json without a label", "--train_file {mistakes}/nolabel.jsonl",
     ["{mistakes}/nolabel.jsonl: row 2 has no 'label'"]),
    ("json list for a label", "--train_file {mistakes}/listlabel.jsonl",
     ["row 1 has a 'label' that is neither text nor number"]),
    ("mistakes in both files", "--train_file {mistakes}/nolabel.csv --validation_file {mistakes}/norows.csv",
     ["nolabel.csv: has no column"], ["norows.csv: has no rows"]),
    ("percentage 0", "--validation_split_percentage 0",
     ["--validation_split_percentage 0: must be a number > 0 and <= 100"]),
    ("percentage above 100", "--validation_split_percentage 100.5",
     ["--validation_split_percentage 100.5: must be", "<= 100"]),
    ("negative percentage", "--train_percentage -5", ["--validation_split_percentage -5: must be a number > 0"]),
    ("percentage in words", "--validation_split_percentage ten",
     ["--validation_split_percentage ten: must be a number"]),
    ("percentage leaving no row", "--validation_split_percentage 0.1",
     ["--validation_split_percentage 0.1: leaves none of the 64 training rows"]),
    ("max_train_samples 0", "--max_train_samples 0", ["--max_train_samples 0: must be a whole number >= 1"]),
    ("max_eval_samples 0", "--max_eval_samples 0", ["--max_eval_samples 0: must be a whole number >= 1"]),
]  # fmt: skip

GLUE = "--model_name_or_path {model} --output_dir out "
WHOLE = [
    ("no source", GLUE, ["no data: give --task_name", "--train_file"]),
    ("one file only", GLUE + "--train_file {train}", ["--train_file {train}: also needs --validation_file"]),
    ("glue_dir alone", GLUE + "--glue_dir {glue}", ["no data: give --task_name"]),
    ("glue_dir missing", GLUE + "--task_name cola --glue_dir nowhere", ["--glue_dir nowhere: no such folder"]),
    ("task not in glue_dir", GLUE + "--task_name SST-2 --glue_dir {glue}",
     ["{glue}/SST-2/train.tsv is missing", "sst2"], ["{glue}/SST-2/dev.tsv is missing"]),
    ("GLUE file with commas", GLUE + "--task_name cola --glue_dir {badglue}",
     ["CoLA/dev.tsv has no row of 4 tab-separated columns"]),
    ("GLUE column missing", GLUE + "--task_name rte --glue_dir {badglue}",
     ["RTE/dev.tsv has no column 'label'", "lable"]),
    ("GLUE label unknown", GLUE + "--task_name mrpc --glue_dir {badglue}",
     ["MRPC/dev.tsv: row 1 has a label '7'; allowed: not_equivalent equivalent"]),
    ("GLUE score no number", GLUE + "--task_name stsb --glue_dir {badglue}",
     ["STS-B/dev.tsv: row 1 has no 'score': nan stands for a missing value"]),
    ("GLUE not UTF-8", GLUE + "--task_name mnli --glue_dir {badglue}",
     ["MNLI/dev_matched.tsv cannot be read: line 2 is not UTF-8"]),
    ("GLUE percentage leaving no row", GLUE + "--task_name cola --glue_dir {glue} --validation_split_percentage 1",
     ["--validation_split_percentage 1: leaves none of the 40 training rows"]),
    ("no model", "--train_file {train} --validation_file {validation}", ["--model_name_or_path: is required"]),
    ("nothing at all", "", ["no data: give --task_name"], ["--model_name_or_path: is required"]),
]  # fmt: skip

PRUNING = [
    ("sparsity 1", "--sparsity 1", ["--sparsity 1: must be a number in [0, 1)"]),
    ("sparsity 1.5", "--sparsity 1.5", ["--sparsity 1.5: must be a number in [0, 1)"]),
    ("negative sparsity", "--sparsity -0.1", ["--sparsity -0.1: must be a number in [0, 1)"]),
    ("sparsity in percent", "--sparsity 50%", ["--sparsity 50%: must be a number in [0, 1)"]),
    ("sparsity nan", "--sparsity nan", ["--sparsity nan: must be a number in [0, 1)"]),
    ("two of three sparsities", "--sparsity 0.5 2 x", ["--sparsity 2: must be"], ["--sparsity x: must be"]),
    ("both freezes", "--freeze_weights --freeze_weights_frompretrain",
     ["--freeze_weights --freeze_weights_frompretrain", "one of them"]),
    ("N:M malformed", "--nm_ratio 2-8", ["--nm_ratio 2-8", "N:M", "2:8", "68"]),
    ("N:M of three", "--nm_ratio 2:8:4", ["--nm_ratio 2:8:4: write N:M"]),
    ("N:M of one digit", "--nm_ratio 8", ["--nm_ratio 8: write N:M"]),
    ("N above M", "--nm_ratio 9:8", ["--nm_ratio 9:8", "1 <= N <= M"]),
    ("N 0", "--nm_ratio 0:8", ["--nm_ratio 0:8", "1 <= N <= M"]),
    ("M above 64", "--nm_ratio 2:65", ["--nm_ratio 2:65", "M <= 64"]),
    ("two digits that keep nothing", "--nm_ratio 88", ["--nm_ratio 88", "prune", "68 is the same as 2:8"]),
    ("sparsity against N:M", "--nm_ratio 2:8 --sparsity 0.5",
     ["--sparsity 0.5: contradicts --nm_ratio 2:8, which removes 0.75"]),
    ("sparsity against two digits", "--nm_ratio 68 --sparsity 0.25", ["--sparsity 0.25: contradicts --nm_ratio 2:8"]),
    ("sparsity of no N of 8", "--sparse_init sparse_nm --sparsity 0.3",
     ["--sparsity 0.3", "0.25 (6:8)", "0.875 (1:8)", "give the ratio"]),
    ("N:M without N:M mode", "--nm_ratio 2:8 --sparse_init random", ["--nm_ratio", "sparse_nm", "random"]),
    ("mode misspelled", "--sparse_init sparse_unstruct",
     ["--sparse_init sparse_unstruct", "did you mean sparse_unstructured", "dense"]),
    ("mode without underscore", "--sparse_init sparsenm", ["--sparse_init sparsenm", "did you mean sparse_nm"]),
    ("mode in capitals", "--sparse_init Dense", ["--sparse_init Dense", "did you mean dense"]),
    ("mode unknown", "--sparse_init lottery",
     ["--sparse_init lottery: unknown; allowed: sparse_unstructured sparse_nm dense random"]),
    ("dense with sparsity", "--sparse_init dense --sparsity 0.5", ["--sparsity 0.5", "--sparse_init dense"]),
    ("dense with N:M", "--sparse_init dense --nm_ratio 2:8", ["--nm_ratio", "dense"]),
    ("prune_exclude malformed", "--prune_exclude (", ["--prune_exclude (: is not a valid regular expression"]),
    ("mask file missing", "--mask_file none.safetensors", ["--mask_file none.safetensors: no such file"]),
    ("mask file with sparsity", "--mask_file {train} --sparsity 0.5", ["--mask_file {train}", "leave out --sparsity"]),
    ("mask file with a mode", "--mask_file {train} --sparse_init random",
     ["--mask_file {train}", "leave out --sparse_init"]),
]  # fmt: skip

MODEL = [
    ("folder missing", "--model_name_or_path ./nowhere", ["--model_name_or_path ./nowhere: no such folder"]),
    ("no name for a model", "--model_name_or_path roberta-base!",
     ["--model_name_or_path roberta-base!: no such folder", "the Hub"]),
    ("absolute folder missing", "--model_name_or_path /no/where", ["--model_name_or_path /no/where: no such folder"]),
    ("file for a folder", "--model_name_or_path {train}", ["--model_name_or_path {train}: is a file; give the folder"]),
    ("no config", "--model_name_or_path {models}/noconfig", ["{models}/noconfig: the folder holds no config.json"]),
    ("config broken", "--model_name_or_path {models}/badconfig", ["{models}/badconfig: config.json cannot be read"]),
    ("config no object", "--model_name_or_path {models}/listconfig",
     ["{models}/listconfig: config.json does not hold an object"]),
    ("no weights", "--model_name_or_path {models}/noweights",
     ["{models}/noweights: the folder holds no weights (model.safetensors, pytorch_model.bin)"]),
    ("weights no weights", "--model_name_or_path {models}/pointer", ["{models}/pointer: model.safetensors is damaged"]),
    ("weights empty", "--model_name_or_path {models}/empty", ["{models}/empty: model.safetensors is damaged"]),
    ("weights cut off", "--model_name_or_path {models}/cut", ["{models}/cut: model.safetensors is damaged"]),
    ("weights in parts, one missing", "--model_name_or_path {models}/parts",
     ["{models}/parts: model-00002-of-00002.safetensors is missing"]),
    ("weights' index broken", "--model_name_or_path {models}/index",
     ["{models}/index: model.safetensors.index.json is damaged"]),
    ("other label count", "--model_name_or_path {models}/three",
     ["{models}/three", "3 label(s)", "has 2", "--ignore_mismatched_sizes"]),
    ("beyond positions, offset", "--max_length 129",
     ["--max_length 129: {model} has positions for at most 128 tokens"]),
    ("beyond positions, plain", "--max_length 131 --model_name_or_path {models}/bert",
     ["--max_length 131: {models}/bert has positions for at most 130 tokens"]),
    ("beyond 512, offset", "--max_length 513 --model_name_or_path {models}/roberta514",
     ["--max_length 513", "at most 512 tokens"]),
    ("beyond 512, plain", "--max_length 513 --model_name_or_path {models}/bert512",
     ["--max_length 513", "at most 512 tokens"]),
    ("max_length 0", "--max_length 0", ["--max_length 0: must be a whole number >= 1"]),
    ("slow tokenizer", "--use_slow_tokenizer", ["--use_slow_tokenizer", "fast tokenizers only"]),
]  # fmt: skip

TRAINING = [
    ("batch size 0", "--per_device_train_batch_size 0",
     ["--per_device_train_batch_size 0: must be a whole number >= 1"]),
    ("evaluation batch size 0", "--per_device_eval_batch_size 0",
     ["--per_device_eval_batch_size 0: must be a whole number >= 1"]),
    ("epochs 0", "--num_train_epochs 0", ["--num_train_epochs 0: must be a whole number >= 1"]),
    ("epochs negative", "--num_train_epochs -1", ["--num_train_epochs -1: must be a whole number >= 1"]),
    ("epochs a fraction", "--num_train_epochs 1.5", ["--num_train_epochs 1.5: must be a whole number >= 1"]),
    ("steps 0", "--max_train_steps 0", ["--max_train_steps 0: must be a whole number >= 1"]),
    ("accumulation 0", "--gradient_accumulation_steps 0",
     ["--gradient_accumulation_steps 0: must be a whole number >= 1"]),
    ("learning rate 0", "--learning_rate 0", ["--learning_rate 0: must be a number > 0"]),
    ("learning rate nan", "--learning_rate nan", ["--learning_rate nan: must be a number > 0"]),
    ("weight decay negative", "--weight_decay -1", ["--weight_decay -1: must be a number >= 0"]),
    ("warm-up negative", "--num_warmup_steps -1", ["--num_warmup_steps -1: must be a whole number >= 0"]),
    ("seed negative", "--seed -1", ["--seed -1: must be a whole number >= 0"]),
    ("seed too large", "--seed 4294967296", ["--seed 4294967296", "<= 4294967295"]),
    ("schedule misspelled", "--lr_scheduler_type linea",
     ["--lr_scheduler_type linea", "did you mean linear", "cosine"]),
    ("precision unknown", "--mixed_precision fp8", ["--mixed_precision fp8: unknown; allowed: no bf16 fp16"]),
    ("tracker misspelled", "--report_to wandbb", ["--report_to wandbb", "did you mean wandb", "tensorboard"]),
    ("fix", "--fix", ["--fix", "had no effect"]),
    ("fix with a value", "--fix true", ["--fix", "had no effect"]),
    ("sparse_mode", "--sparse_mode GMP", ["--sparse_mode", "had no effect"]),
    ("update_frequency", "--update_frequency 100", ["--update_frequency", "had no effect"]),
    ("prune times", "--initial_prune_time=0.1 --final_prune_time 0.5",
     ["--initial_prune_time", "had no effect"], ["--final_prune_time"]),
    ("unknown flag", "--sparsty 0.5", ["--sparsty: no such flag (did you mean --sparsity?)"]),
    ("abbreviated flag", "--freeze", ["--freeze: no such flag (did you mean --freeze_weights?)"]),
    ("flag like no other", "--zzz 1 2", ["--zzz: no such flag"]),
    ("stray word", "roberta-base", ["roberta-base: is not the value of any flag"]),
    ("value missing at the end", "--sparsity", ["--sparsity: expected at least one argument"]),
    ("value missing before a flag", "--learning_rate --noembed", ["--learning_rate: expected one argument"]),
    ("value for a switch", "--freeze_weights=1", ["--freeze_weights", "'1'"]),
]  # fmt: skip

OUTPUT = [
    ("below a file", "--output_dir {train}/run", ["--output_dir {train}/run: {train} is a file, not a folder"]),
    ("a file", "--output_dir {train}", ["--output_dir {train}: {train} is a file, not a folder"]),
    ("a model's folder", "--output_dir {model}", ["--output_dir {model}: is the folder of --model_name_or_path"]),
    ("a name too long", "--output_dir " + 300 * "x", ["cannot be a folder: File name too long"]),
    ("no name", "--output_dir=", ["--output_dir: is empty"]),
    ("template with a format", "--output_dir {{seed:d}}", ["--output_dir {{seed:d}}: write {{seed}} without a format"]),
    ("template with a conversion", "--output_dir {{seed!x}}", ["--output_dir {{seed!x}}: write {{seed}} without a"]),
    ("a repository for two runs", "--seed 1 2 --output_dir {{seed}} --push_to_hub --hub_model_id me/model",
     ["--hub_model_id me/model: 2 runs would share this repository"]),
    ("template misspelled", "--output_dir out/{{sed}}",
     ["--output_dir out/{{sed}}", "did you mean seed", "{{pattern}}"]),
    ("template unclosed", "--output_dir out/{{seed", ["--output_dir out/{{seed: is not a valid template"]),
    ("two runs, one folder", "--seed 1 2", ["--output_dir out: several runs would share this folder; use {{seed}}"]),
    ("the same run twice", "--seed 1 1 --output_dir out/{{seed}}",
     ["--output_dir out/1", "the command asks for the same run twice"]),
    ("hub_model_id alone", "--hub_model_id me/model", ["--hub_model_id me/model: has no effect without --push_to_hub"]),
]  # fmt: skip

SEVERAL = [
    ("values of seven flags", "--sparsity 2 --seed -1 --nm_ratio 9:8 --max_length 0 --sparse_init foo --fix --sparsty",
     ["--fix"], ["--sparsity 2"], ["--seed -1"], ["--nm_ratio 9:8"], ["--max_length 0"], ["--sparse_init foo"],
     ["--sparsty"]),
    ("flags against each other",
     "--freeze_weights --freeze_weights_frompretrain --nm_ratio 2:8 --sparsity 0.5 --train_file no.csv",
     ["--train_file no.csv"], ["--freeze_weights --freeze_weights_frompretrain"], ["--sparsity 0.5: contradicts"]),
    ("data, model and output",
     "--train_file {mistakes}/nolabel.csv --model_name_or_path {models}/noweights --output_dir {train}/x",
     ["nolabel.csv: has no column 'label'"], ["{models}/noweights: the folder holds no"], ["--output_dir {train}/x"]),
    ("once for all cells", "--max_length 129 --seed 1 2 3 --output_dir out/{{seed}}", ["--max_length 129"]),
]  # fmt: skip

# These show only when the model is there, so torch is imported; still before anything is trained or written.
LOADED = [
    ("config of no known model", "--model_name_or_path {models}/unknown",
     ["{models}/unknown: cannot be loaded", "`foo`"]),
    ("pickled weights damaged", "--model_name_or_path {models}/pickle",
     ["{models}/pickle: cannot be loaded", "damaged"]),
    ("no tokenizer", "--model_name_or_path {models}/notokenizer", ["{models}/notokenizer: has no tokenizer files"]),
    ("tokenizer damaged", "--model_name_or_path {models}/badtokenizer",
     ["{models}/badtokenizer: its tokenizer cannot be loaded"]),
    ("tokenizer of another model", "--model_name_or_path {models}/vocabulary",
     ["its tokenizer has ids up to", "its model's vocabulary is 20"]),
    ("weights of another width", "--model_name_or_path {models}/width",
     ["roberta.embeddings", "(32,)", "(48,)", "config.json"]),
    ("of another width, head ignored", "--model_name_or_path {models}/width --ignore_mismatched_sizes",
     ["(32,)", "(48,)"]),
    ("weights of another model", "--model_name_or_path {models}/other",
     ["{models}/other: the weights lack 37 parameter(s) of the encoder"]),
    ("a matrix missing", "--model_name_or_path {models}/hole",
     ["{models}/hole: the weights lack 1 parameter(s) of the encoder, such as "
      "roberta.encoder.layer.1.output.dense.weight"]),
    ("NaN in a matrix", "--model_name_or_path {models}/nan",
     ["{models}/nan: the weight roberta.encoder.layer.1.output.dense.weight", "NaN"]),
    ("NaN, dense", "--model_name_or_path {models}/nan --sparse_init dense",
     ["roberta.encoder.layer.1.output.dense.weight", "NaN"]),
    ("infinity in a bias", "--model_name_or_path {models}/inf",
     ["roberta.encoder.layer.0.output.dense.bias", "infinite"]),
    ("M that does not divide", "--nm_ratio 2:7",
     ["--nm_ratio 2:7: 7 does not divide the 32 input columns of roberta."]),
    ("prune_exclude without match", "--prune_exclude clasifier", ["--prune_exclude clasifier: matches no matrix"]),
    ("prune_exclude of all", "--prune_exclude .", ["--prune_exclude .", "no matrix is left"]),
    ("sparsity that removes nothing", "--sparsity 0.00001", ["--sparsity", "removes no weight"]),
    ("max_length without text", "--max_length 2", ["--max_length 2: leaves no room for text"]),
    ("mask file no safetensors", "--mask_file {train}", ["--mask_file {train}: cannot be read"]),
    ("mask file no mask", "--mask_file {model}/model.safetensors",
     ["--mask_file {model}/model.safetensors: is not a junkdna mask file"]),
    ("mask of matrices out of scope", "--mask_file {done}/mask.safetensors --noembed",
     ["--mask_file", "embeddings", "not in the scope"]),
    ("mask of another width", "--mask_file {done}/mask.safetensors --model_name_or_path {models}/wide",
     ["--mask_file", "(", "the matrix is"]),
]  # fmt: skip

AT_ONCE = [
    *((f"data {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in DATA),
    *((f"source {name}", *rest) for name, *rest in WHOLE),
    *((f"pruning {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in PRUNING),
    *((f"model {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in MODEL),
    *((f"training {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in TRAINING),
    *((f"output {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in OUTPUT),
    *((f"several {name}", f"{GOOD} {flags}", *faults) for name, flags, *faults in SEVERAL),
]


def named(cases):
    return pytest.mark.parametrize(
        "flags, faults", [pytest.param(c[1], c[2:], id=c[0].replace(" ", "-")) for c in cases]
    )


@pytest.fixture(scope="session")
def places(tmp_path_factory, tiny_model, csv_task, glue_folder):
    """The files and folders that the cases name, good and bad."""
    root = tmp_path_factory.mktemp("places")
    make_files(root / "mistakes")
    make_models(root / "models", Path(tiny_model))
    break_glue(shutil.copytree(glue_folder, root / "badglue"))
    return {
        "model": tiny_model,
        "train": csv_task.train,
        "validation": csv_task.validation,
        "glue": glue_folder,
        **{name: str(root / name) for name in ("mistakes", "models", "badglue", "done")},
    }


@pytest.fixture(scope="session")
def finished(places) -> Path:
    """The folder of a finished run of one epoch."""
    import Glue_prune_oneshot

    flags = [*argv(GOOD, places), "--num_train_epochs", "1", "--output_dir", places["done"]]
    assert Glue_prune_oneshot.main(flags) == 0
    return Path(places["done"])


def argv(flags: str, places: dict) -> list[str]:
    return [word.format(**places) for word in flags.split()]


def state(*folders) -> dict:
    """Every file and folder below some folders, with content and time of change."""
    found = [path for folder in folders for path in Path(folder).rglob("*")]
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in found}


def check(command, words, faults, places, tmp_path, monkeypatch):
    """Run a command that must be refused; compare its lines with the faults, and the files before and after."""
    monkeypatch.chdir(tmp_path)
    root = Path(places["mistakes"]).parent
    before = state(tmp_path, root, places["model"])
    code, out, err = command(words)
    lines = err.splitlines()
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err and all(line.startswith("error: ") for line in lines), err
    assert len(lines) == len(faults), err
    for line, parts in zip(lines, faults):
        for part in parts:
            assert part.format(**places) in line
    assert state(tmp_path, root, places["model"]) == before


# --- the cases -------------------------------------------------------------------------------------------------------


@named(AT_ONCE)
def test_shown_before_anything_is_loaded(command, flags, faults, places, tmp_path, monkeypatch):
    monkeypatch.setattr("junkdna.runs.grid.run", pytest.fail)  # nothing gets as far as that
    check(command, argv(flags, places), faults, places, tmp_path, monkeypatch)


@named(LOADED)
def test_shown_before_anything_is_trained(command, flags, faults, places, finished, tmp_path, monkeypatch):
    check(command, argv(f"{GOOD} {flags}", places), faults, places, tmp_path, monkeypatch)


def test_what_the_cases_add_to_is_correct(command, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command([*argv(GOOD, places), "--dry_run"])[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_longest_inputs_that_fit_are_taken(command, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model, length in (
        ("{models}/bert512", 512),
        ("{models}/roberta514", 512),
        ("{models}/bert", 130),
        ("{model}", 128),
    ):
        flags = f"{GOOD} --dry_run --model_name_or_path {model} --max_length {length}"
        assert command(argv(flags, places))[0] == 0


def test_a_head_for_other_labels_can_be_replaced(command, places, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = f"{places['models']}/three"
    flags = [*argv(GOOD, places), "--model_name_or_path", model, "--num_train_epochs", "1", "--ignore_mismatched_sizes"]
    code, _, err = command(flags)
    assert (code, err) == (0, "")
    drawn = json.loads((tmp_path / "out" / "run.json").read_text())["model"]["drawn"]
    assert drawn == ["classifier.out_proj.bias", "classifier.out_proj.weight"]


# --- folders that are taken ------------------------------------------------------------------------------------------


def test_a_folder_with_another_run_is_refused_with_the_difference(command, places, finished, tmp_path, monkeypatch):
    words = [*argv(GOOD, places), "--output_dir", str(finished), "--learning_rate", "1e-3", "--seed", "7"]
    fault = ["--output_dir {done}: holds a different run", "learning_rate: 5e-05, now 0.001", "seed: 42, now 7",
             "num_train_epochs: 1, now 3", "--overwrite_output_dir"]  # fmt: skip
    check(command, words, [fault], places, tmp_path, monkeypatch)


def test_a_finished_run_is_left_alone_and_said_to_be_done(command, places, finished):
    before = state(finished)
    words = [*argv(GOOD, places), "--output_dir", str(finished), "--num_train_epochs", "1"]
    code, out, err = command(words)
    assert (code, err) == (0, "") and out.count("\n") == 1
    assert "already done" in out and str(finished) in out and "--overwrite_output_dir" in out
    assert state(finished) == before


def test_overwriting_must_be_asked_for(command, places, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    words = [*argv(GOOD, places), "--output_dir", folder, "--num_train_epochs", "1", "--seed", "7"]
    assert command(words)[0] == 2
    assert command([*words, "--overwrite_output_dir"])[0] == 0
    assert json.loads((folder / "run.json").read_text())["settings"]["seed"] == 7


# --- how it is said --------------------------------------------------------------------------------------------------


def test_a_token_is_refused_and_never_repeated(command, places, tmp_path, monkeypatch):
    monkeypatch.setattr("junkdna.runs.grid.run", pytest.fail)
    for flags in (["--hub_token", "hf_secret"], ["--hub_token=hf_secret"]):
        check(command, [*argv(GOOD, places), *flags], [["--hub_token", "HF_TOKEN"]], places, tmp_path, monkeypatch)
        assert "secret" not in "".join(command([*argv(GOOD, places), *flags])[1:])


def test_trackers_that_are_not_installed_are_refused(command, places, tmp_path, monkeypatch):
    monkeypatch.setattr("junkdna.runs.groups._is_installed", lambda package: package == "mlflow")
    words = [*argv(GOOD, places), "--with_tracking"]
    fault = ["--report_to wandb: is not installed; installed: mlflow"]
    check(command, [*words, "--report_to", "wandb"], [fault], places, tmp_path, monkeypatch)
    assert command([*words, "--report_to", "mlflow", "--dry_run"])[0] == 0
    assert command([*words, "--dry_run"])[0] == 0

    monkeypatch.setattr("junkdna.runs.groups._is_installed", lambda package: False)
    check(command, words, [["--with_tracking: no tracker is installed", "wandb"]], places, tmp_path, monkeypatch)
    assert command([*argv(GOOD, places), "--report_to", "wandb", "--dry_run"])[0] == 0  # no tracking, no matter


def test_a_folder_that_a_tracker_left_is_not_the_tracker(tmp_path, monkeypatch):
    from junkdna.runs.groups import _is_installed

    (tmp_path / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not _is_installed("no_such_tracker") and _is_installed("json")


def test_fp16_needs_a_gpu(command, places, tmp_path, monkeypatch):
    import torch
    from accelerate.state import AcceleratorState

    if torch.cuda.is_available():
        pytest.skip("there is one")
    AcceleratorState._reset_state(reset_partial_state=True)  # one process has one precision
    try:
        fault = ["--mixed_precision fp16: needs a GPU", "bf16 or no"]
        check(command, argv(f"{GOOD} --mixed_precision fp16", places), [fault], places, tmp_path, monkeypatch)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_only_the_first_of_several_processes_speaks(command, places, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command(argv(f"{GOOD} --sparsity 2", places)) == (2, "", "")


HEAVY = ("torch", "transformers", "accelerate", "datasets", "numpy", "sklearn", "scipy", "huggingface_hub")
"""What must not be imported to print the help or to refuse a command."""


@pytest.mark.parametrize(
    "flags, code, said",
    [
        ("--help", 0, "usage: Glue_prune_oneshot.py"),
        (f"{GOOD} --sparsity 2", 2, "error: --sparsity 2"),
        (f"{GOOD} --max_length 129", 2, "error: --max_length 129"),
        (f"{GOOD} --dry_run", 0, "to run  out"),
    ],
)
def test_answers_come_within_a_second_without_torch(places, tmp_path, flags, code, said):
    words, times = argv(flags, places), []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_command(words, tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)  # whatever else is running
        assert done.returncode == code and said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []
    assert statistics.median(times) < 1

    look = f"""
import sys, Glue_prune_oneshot
try:
    Glue_prune_oneshot.main(sys.argv[1:])
except SystemExit:
    pass
print("imported:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", look, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.endswith("imported: []\n"), done.stdout + done.stderr


# --- what the cases name ---------------------------------------------------------------------------------------------


def make_files(root: Path) -> None:
    """Data files with one mistake each."""
    contents = {
        "train.tsv": "sentence1\tlabel\na\t1\nb\t0\n",
        "nolabel.csv": "sentence1,lable\na,1\nb,0\n",
        "spaces.csv": "sentence1, label\na,1\nb,0\n",
        "notext.csv": "label\n1\n0\n",
        "norows.csv": "sentence1,label\n",
        "empty.csv": "",
        "emptylabel.csv": "sentence1,label\na,1\nb,\n",
        "short.csv": "sentence1,label\na,1\nb\n",
        "long.csv": "sentence1,label\na,1\nb, and more,0\n",
        "twice.csv": "sentence1,sentence1,label\na,b,1\nc,d,0\n",
        "quote.csv": 'sentence1,label\n"a,1\nb,0\n',
        "latin.csv": "sentence1,label\ncaf\xe9,1\nb,0\n".encode("latin-1"),
        "oneclass.csv": "sentence1,label\na,1\nb,1\n",
        "classes.csv": "sentence1,label\n" + "".join(f"a,class{i}\n" for i in range(150)),
        "newlabel.csv": "sentence1,label\na,1\nb,2\n",
        "amongscores.csv": "sentence1,label\na,1.5\nb,good\n",
        "scores.csv": "sentence1,label\na,1.5\nb,0.5\n",
        "names.csv": "sentence1,label\na,good\n",
        "pairs.csv": "sentence1,sentence2,label\na,b,1\n",
        "broken.jsonl": '{"sentence1": "a", "label": 1}\n{oops\n',
        "list.json": '[{"sentence1": "a", "label": 1}, {"sentence1": "b", "label": 0}]',
        "nolabel.jsonl": '{"sentence1": "a", "label": 1}\n{"sentence1": "b"}\n',
        "listlabel.jsonl": '{"sentence1": "a", "label": [1]}\n{"sentence1": "b", "label": [0]}\n',
    }
    (root / "folder.csv").mkdir(parents=True)
    for name, content in contents.items():
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def break_glue(root: Path) -> None:
    """Put one mistake into the validation file of every task."""

    def change(name: str, old: str, new: str, encoding: str = "utf-8") -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_bytes(text.replace(old, new, 1).encode(encoding))

    (root / "CoLA/dev.tsv").write_text((root / "CoLA/dev.tsv").read_text().replace("\t", ","))
    change("RTE/dev.tsv", "label", "lable")
    change("MRPC/dev.tsv", "\n1\t", "\n7\t")
    change("STS-B/dev.tsv", "4.000", "nan")
    change("MNLI/dev_matched.tsv", "old man", "b\xe9b\xe9", "latin-1")


def make_models(root: Path, tiny: Path) -> None:
    """Model folders with one mistake each, and good ones of other sizes."""
    import torch
    from safetensors.torch import load_file, save_file

    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny, root / name))

    def with_config(name: str, **changes) -> None:
        folder = copy(name)
        (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))

    def with_weights(name: str, weights: dict) -> None:
        save_file(weights, copy(name) / "model.safetensors", {"format": "pt"})

    (copy("noconfig") / "config.json").unlink()
    (copy("badconfig") / "config.json").write_text("{oops")
    (copy("listconfig") / "config.json").write_text("[]")
    with_config("unknown", model_type="foo")
    with_config("vocabulary", vocab_size=20)
    with_config("width", hidden_size=48)

    (copy("noweights") / "model.safetensors").unlink()
    (copy("pointer") / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    (copy("empty") / "model.safetensors").write_bytes(b"")
    whole = (tiny / "model.safetensors").read_bytes()
    (copy("cut") / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    for name, index in (("index", "oops"), ("parts", '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')):
        (copy(name) / "model.safetensors").unlink()
        (root / name / "model.safetensors.index.json").write_text(index)
    (copy("pickle") / "model.safetensors").unlink()
    (root / "pickle" / "pytorch_model.bin").write_bytes(b"no weights" * 100)

    matrix, bias = "roberta.encoder.layer.1.output.dense.weight", "roberta.encoder.layer.0.output.dense.bias"
    weights = load_file(tiny / "model.safetensors")
    with_weights("other", {"unheard.of": torch.ones(2)})
    with_weights("hole", {name: value for name, value in weights.items() if name != matrix})
    for name, parameter, value in (("nan", matrix, float("nan")), ("inf", bias, float("inf"))):
        spoilt = weights[parameter].clone()
        spoilt.view(-1)[5] = value
        with_weights(name, weights | {parameter: spoilt})

    copy("notokenizer")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (root / "notokenizer" / file).unlink()
    (copy("badtokenizer") / "tokenizer.json").write_text("{}")

    save_tiny_model(root / "three", head=3)
    save_tiny_model(root / "wide", hidden_size=64)
    save_tiny_model(root / "bert", model_type="bert")
    save_tiny_model(root / "bert512", model_type="bert", max_position_embeddings=512)
    save_tiny_model(root / "roberta514", max_position_embeddings=514)


def test_output_that_nobody_reads_on_is_no_traceback(tiny_model, csv_task, tmp_path):
    flags = ["--model_name_or_path", tiny_model, *csv_task.flags, "--dry_run", "--output_dir", "{seed}"]
    argv = [sys.executable, str(SCRIPT), *flags, "--seed", *map(str, range(3000))]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("to run")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 1
