"""The command line: flags with unit, range, default and meaning, and from them the cells of a run.

Importable without torch or transformers, so that ``--help`` and every complaint come at once.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from junkdna import cell as cells
from junkdna import glue
from junkdna.cell import SPARSE_INITS, Cell
from junkdna.errors import Faults, UserError, did_you_mean
from junkdna.patterns import nm_from_sparsity, parse_nm, parse_sparsity, plain

PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt")
TRACKERS = ("all", "tensorboard", "wandb", "comet_ml", "aim", "mlflow", "clearml", "dvclive", "swanlab", "trackio")
ALIASES = {"sparse_unstuctured": "sparse_unstructured"}
DEFAULT_SPARSITY = Decimal("0.2")

NEVER_USED = "had no effect in this experiment (masks are made once and never updated); leave it out"
GONE = {
    "--fix": NEVER_USED,
    "--sparse_mode": NEVER_USED,
    "--update_frequency": NEVER_USED,
    "--initial_prune_time": NEVER_USED,
    "--final_prune_time": NEVER_USED,
    "--hub_token": "a token on a command line ends up in shell histories and logs; run 'hf auth login' or set HF_TOKEN",
}
"""Historical flags that cannot be honoured, with the reason that the user is told."""


@dataclass(frozen=True)
class Request:
    """What a command line asks for: cells in the order in which they run, and how to go about them."""

    cells: tuple[Cell, ...]
    dry_run: bool
    overwrite_output_dir: bool
    argv: tuple[str, ...]


def parse(argv: list[str] | None = None) -> Request:
    """Turn a command line into validated cells.

    Raises UserError with every fault found in the flags and in the files and folders they name.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    faults = Faults()
    given = vars(_parser(faults).parse_args(_without_gone(argv, faults)))
    faults.raise_any()
    request = _resolve(given, argv, faults)
    faults.raise_any()
    return request


# --- the flags -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse that collects faults instead of stopping at the first, and never guesses an abbreviated flag."""

    def __init__(self, faults: Faults):
        super().__init__(
            prog="Glue_prune_oneshot.py",
            description="Prune a pre-trained encoder once by magnitude, fine-tune it on a task with the mask held, "
            "evaluate after every epoch, and record. --task_name, --sparsity, --nm_ratio, "
            "--validation_split_percentage and --seed take several values: every combination is run.",
            allow_abbrev=False,
            add_help=True,
        )
        self.faults = faults

    def error(self, message: str):
        raise UserError(*self.faults, message.removeprefix("argument "))

    def parse_args(self, argv=None):
        namespace, unknown = self.parse_known_args(argv)
        known = [option for action in self._actions for option in action.option_strings]
        after_flag = False
        for word in unknown:
            is_flag = word.startswith("-")
            if is_flag:
                self.faults.append(f"{word}: no such flag{did_you_mean(word.split('=')[0], known)}")
            elif not after_flag:  # else it is the value of the unknown flag before it
                self.faults.append(f"{word}: belongs to no flag")
            after_flag = is_flag or after_flag
        return namespace


def _parser(faults: Faults) -> _Parser:
    parser = _Parser(faults)
    _data_flags(parser.add_argument_group("data"), faults)
    _model_flags(parser.add_argument_group("model"))
    _pruning_flags(parser.add_argument_group("pruning"), faults)
    _training_flags(parser.add_argument_group("training"), faults)
    _output_flags(parser.add_argument_group("output"))
    return parser


def _data_flags(group, faults: Faults) -> None:
    add = group.add_argument
    tasks = " ".join(sorted(glue.TASKS))
    add("--task_name", "--TASK_NAME", nargs="+", metavar="TASK", type=_checked(glue.task_name, faults),
        help=f"GLUE task(s), any case, SST-2 and STS-B too: {tasks}")
    add("--glue_dir", metavar="DIR", help="folder in the layout of the standard GLUE download (DIR/CoLA/train.tsv ...); "
        "read instead of the Hub")
    add("--train_file", metavar="FILE", help="own training data, csv or json lines: columns sentence1, optionally "
        "sentence2, and label (or else the first one or two columns that are not label); float labels mean regression")
    add("--validation_file", metavar="FILE", help="own validation data, same columns")
    add("--validation_split_percentage", "--train_percentage", nargs="+", metavar="P", default=[Decimal(100)],
        type=_number("--validation_split_percentage", Decimal, faults, 0, 100, above=True),
        help="percentage of the TRAINING set that is used, its first rows; (0, 100], fractions allowed; default 100. "
        "The name is historical: the validation set is always used whole")
    add("--max_length", metavar="TOKENS", default=128, type=_number("--max_length", int, faults, 1),
        help="longer inputs are cut to this many tokens; default 128")
    add("--pad_to_max_length", action="store_true", help="pad every input to --max_length instead of to the longest of "
        "its batch; slower, same result up to rounding; default off")
    add("--max_train_samples", metavar="ROWS", type=_number("--max_train_samples", int, faults, 1),
        help="use at most this many training rows, after the percentage; default all")
    add("--max_eval_samples", metavar="ROWS", type=_number("--max_eval_samples", int, faults, 1),
        help="use at most this many validation rows, for trying things out; default all")


def _model_flags(group) -> None:
    add = group.add_argument
    add("--model_name_or_path", metavar="MODEL", help="pre-trained encoder: a Hub name (roberta-base) or a folder; required")
    add("--model_revision", metavar="REV", default="main", help="branch, tag or commit on the Hub; default main")
    add("--ignore_mismatched_sizes", action="store_true", help="replace a head made for another number of labels by a "
        "freshly drawn one instead of refusing; default off")
    add("--use_slow_tokenizer", action="store_true", help="refused: the installed transformers has fast tokenizers only")


def _pruning_flags(group, faults: Faults) -> None:
    add = group.add_argument
    inits = "; ".join(f"{name}: {meaning}" for name, meaning in SPARSE_INITS.items())
    add("--sparse_init", metavar="MODE", type=_one_of("--sparse_init", SPARSE_INITS, faults, ALIASES),
        help=f"what is removed; default sparse_unstructured, or sparse_nm when --nm_ratio is given. {inits}. "
        "sparse_unstuctured (historical spelling) means sparse_unstructured")
    add("--sparsity", nargs="+", metavar="S", type=_checked(parse_sparsity, faults),
        help=f"fraction of the weights in scope that is REMOVED, [0, 1); 0 removes nothing; default {DEFAULT_SPARSITY}")
    add("--nm_ratio", nargs="+", metavar="N:M", type=_checked(parse_nm, faults),
        help="2:8 KEEPS 2 of every 8 neighbouring inputs; also written as two digits, 68 (prune 6 of 8); 1 <= N <= M <= 64")
    add("--noembed", action="store_true", help="leave the embeddings out of scope; default off, they are pruned too")
    add("--prune_exclude", nargs="+", metavar="REGEX", default=[], type=_checked(_regex, faults),
        help="matrices whose name matches stay out of scope, for example '^classifier'; default none (the head is in scope)")
    add("--freeze_weights", action="store_true", help="sparse transfer: removed weights are 0 and stay 0")
    add("--freeze_weights_frompretrain", action="store_true", help="dense transfer with freezing: nothing is zeroed, the "
        "small weights keep their pre-trained values while the others train. Neither: sparse-to-dense, zeroed once, then free")
    add("--mask_file", metavar="FILE", help="use this mask.safetensors of an earlier run instead of making a mask")


def _training_flags(group, faults: Faults) -> None:
    add = group.add_argument
    add("--per_device_train_batch_size", metavar="N", default=8, help="examples per device and step; default 8",
        type=_number("--per_device_train_batch_size", int, faults, 1))
    add("--per_device_eval_batch_size", metavar="N", default=64, help="examples per device in evaluation; changes no "
        "result; default 64", type=_number("--per_device_eval_batch_size", int, faults, 1))
    add("--learning_rate", metavar="LR", default=5e-5, type=_number("--learning_rate", float, faults, 0, above=True),
        help="peak learning rate of AdamW, > 0; default 5e-5")
    add("--weight_decay", metavar="WD", default=0.0, type=_number("--weight_decay", float, faults, 0),
        help="decoupled weight decay, >= 0, not on biases and normalisation; default 0")
    add("--num_train_epochs", metavar="N", default=3, type=_number("--num_train_epochs", int, faults, 1),
        help="passes over the training rows; default 3")
    add("--max_train_steps", metavar="N", type=_number("--max_train_steps", int, faults, 1),
        help="optimiser steps, instead of --num_train_epochs; default off")
    add("--gradient_accumulation_steps", metavar="N", default=1, help="batches per optimiser step; default 1",
        type=_number("--gradient_accumulation_steps", int, faults, 1))
    add("--lr_scheduler_type", metavar="NAME", default="linear", type=_one_of("--lr_scheduler_type", SCHEDULES, faults),
        help=f"{', '.join(SCHEDULES)}; default linear (to zero)")
    add("--num_warmup_steps", metavar="N", type=_number("--num_warmup_steps", int, faults, 0),
        help="optimiser steps of linear warm-up; default 6 %% of all steps, as the paper's code always did")
    add("--seed", nargs="+", metavar="N", default=[42], type=_number("--seed", int, faults, 0, 2**32 - 1),
        help="drives the fresh head, the order of examples and dropout; 0 to 2**32-1; default 42")
    add("--mixed_precision", metavar="P", default="no", type=_one_of("--mixed_precision", PRECISIONS, faults),
        help="no (fp32, the paper's numerics), bf16 or fp16; weights and optimiser stay fp32; default no")
    add("--with_tracking", action="store_true", help="send metrics to the trackers of --report_to; default off")
    add("--report_to", metavar="NAME", default="all", type=_one_of("--report_to", TRACKERS, faults),
        help=f"tracker, of accelerate's: {', '.join(TRACKERS)}; default all that are installed")


def _output_flags(group) -> None:
    add = group.add_argument
    add("--output_dir", metavar="DIR", default=cells.DEFAULT_OUTPUT, help="folder of the run, or a template with "
        f"{' '.join('{%s}' % field for field in cells.TEMPLATE_FIELDS)}; default {cells.DEFAULT_OUTPUT}")
    add("--method", metavar="LABEL", help="a name for the kind of run, recorded; default made from the pruning flags")
    add("--save_model", action="store_true", help="also write the fine-tuned model, as from_pretrained(DIR) reads it")
    add("--push_to_hub", action="store_true", help="upload the saved model afterwards (implies --save_model); the token "
        "comes from 'hf auth login' or HF_TOKEN")
    add("--hub_model_id", metavar="ID", help="repository for --push_to_hub; default the output folder's name")
    add("--overwrite_output_dir", action="store_true", help="run even if the folder holds another or a finished run")
    add("--dry_run", action="store_true", help="check everything that can be checked, print what would run and where, stop")


# --- values ----------------------------------------------------------------------------------------------------------


def _checked(function, faults: Faults):
    """Wrap a parser that raises UserError so that its faults are collected."""
    return lambda text: faults.collect(function, text)


def _number(flag: str, kind, faults: Faults, least=None, most=None, above: bool = False):
    """Return a reader of numbers of one kind in a range; ``above`` leaves the lower end out."""
    bounds = [f"{'>' if above else '>='} {least}"] if least is not None else []
    bounds += [f"<= {most}"] if most is not None else []
    allowed = f"{'a whole number' if kind is int else 'a number'} {' and '.join(bounds)}".strip()

    def read(text: str):
        try:
            value = kind(text)
        except (ValueError, InvalidOperation):
            value = None
        if value is None or not math.isfinite(value) or (least is not None and (value < least or above and value == least)) or (
            most is not None and value > most
        ):
            faults.append(f"{flag} {text}: must be {allowed}")
            return None
        return value

    return read


def _one_of(flag: str, allowed, faults: Faults, aliases: dict[str, str] | None = None):
    """Return a reader of one name out of several, with a hint for the nearest."""

    def read(text: str):
        name = (aliases or {}).get(text, text)
        if name in allowed:
            return name
        faults.append(f"{flag} {text}: unknown{did_you_mean(text, allowed)}; allowed: {' '.join(allowed)}")
        return None

    return read


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise UserError(f"--prune_exclude {text}: is no regular expression: {error}") from None
    return text


def _without_gone(argv: list[str], faults: Faults) -> list[str]:
    """Drop historical flags together with their value, and note why; a value may be a secret and is not repeated."""
    kept, skip_value = [], False
    for word in argv:
        name = word.split("=")[0]
        if name in GONE:
            faults.append(f"{name}: {GONE[name]}")
            skip_value = "=" not in word
        elif not (skip_value and not word.startswith("-")):
            kept.append(word)
            skip_value = False
    return kept


# --- from flags to cells ---------------------------------------------------------------------------------------------


def _resolve(given: dict, argv: list[str], faults: Faults) -> Request:
    """Check what the flags say together, and build the product of their lists."""
    _check_data(given, faults)
    _check_model(given, faults)
    patterns = _patterns(given, faults)
    if given["freeze_weights"] and given["freeze_weights_frompretrain"]:
        faults.append("--freeze_weights --freeze_weights_frompretrain: give one of them (sparse transfer or dense "
                      "transfer with freezing) or neither (sparse-to-dense transfer)")
    if given["hub_model_id"] and not given["push_to_hub"]:
        faults.append(f"--hub_model_id {given['hub_model_id']}: has no effect without --push_to_hub")
    faults.raise_any()
    product = itertools.product(
        given["task_name"] or [None], given["validation_split_percentage"], patterns, given["seed"]
    )
    made = [_cell(given, task, percentage, pattern, seed, faults) for task, percentage, pattern, seed in product]
    faults.raise_any()
    _check_folders(made, faults)
    return Request(tuple(made), given["dry_run"], given["overwrite_output_dir"], tuple(argv))


def _check_data(given: dict, faults: Faults) -> None:
    files = [name for name in ("train_file", "validation_file") if given[name]]
    if given["task_name"] and files:
        faults.append(f"--task_name and --{files[0]}: two sources of data; give a task or files, not both")
    if not given["task_name"] and not files:
        faults.append("no data: give --task_name (a GLUE task) or --train_file with --validation_file")
    if len(files) == 1:
        missing = "validation_file" if files[0] == "train_file" else "train_file"
        faults.append(f"--{files[0]} {given[files[0]]}: needs --{missing} too")
    if given["glue_dir"] and files:
        faults.append(f"--glue_dir {given['glue_dir']}: goes with --task_name, not with --{files[0]}")
    for name in files:
        suffix = Path(given[name]).suffix.lower()
        if suffix not in (".csv", ".json", ".jsonl"):
            faults.append(f"--{name} {given[name]}: must end in .csv, .json or .jsonl (json lines)")
        if not os.path.isfile(given[name]):
            faults.append(f"--{name} {given[name]}: no such file")
    if given["glue_dir"] and not os.path.isdir(given["glue_dir"]):
        faults.append(f"--glue_dir {given['glue_dir']}: no such folder")
    elif given["glue_dir"]:
        for name in given["task_name"] or []:
            task = glue.TASKS[name]
            for file in ["train.tsv", *(file for _, _, file in task.evals)]:
                path = os.path.join(given["glue_dir"], task.folder, file)
                if not os.path.isfile(path):
                    faults.append(f"--glue_dir {given['glue_dir']}: {path} is missing (needed for --task_name {name})")


def _check_model(given: dict, faults: Faults) -> None:
    if not given["model_name_or_path"]:
        faults.append("--model_name_or_path: is required, a Hub name (roberta-base) or a folder")
    if given["use_slow_tokenizer"]:
        faults.append("--use_slow_tokenizer: the installed transformers has fast tokenizers only; leave it out")


def _patterns(given: dict, faults: Faults) -> list[dict]:
    """Return one set of pattern settings per value of --sparsity or --nm_ratio, checking that they agree."""
    init, sparsities, ratios = given["sparse_init"], given["sparsity"], given["nm_ratio"]
    none = {"sparse_init": init, "sparsity": None, "nm_ratio": None}
    if given["mask_file"]:
        for name in ("sparse_init", "sparsity", "nm_ratio"):
            if given[name]:
                faults.append(f"--mask_file {given['mask_file']}: says what is removed; leave out --{name}")
        if not os.path.isfile(given["mask_file"]):
            faults.append(f"--mask_file {given['mask_file']}: no such file")
        return [none | {"sparse_init": "mask_file"}]
    if ratios and init not in (None, "sparse_nm"):
        faults.append(f"--nm_ratio: goes with --sparse_init sparse_nm, not with {init}")
    if init == "dense":
        if any(sparsities or []):
            faults.append(f"--sparsity {_words(sparsities)}: --sparse_init dense prunes nothing; leave one of them out")
        return [none]
    if ratios or init == "sparse_nm":
        return [none | {"sparse_init": "sparse_nm", "nm_ratio": ratio} for ratio in _ratios(sparsities, ratios, faults)]
    return [
        none | {"sparse_init": init or "sparse_unstructured", "sparsity": s} for s in sparsities or [DEFAULT_SPARSITY]
    ]


def _ratios(sparsities, ratios, faults: Faults) -> list[str]:
    """Return the N:M ratios meant by --nm_ratio, or by --sparsity as N of 8."""
    if not ratios:
        found = [faults.collect(nm_from_sparsity, s) for s in sparsities or [DEFAULT_SPARSITY]]
        return [f"{nm.keep}:{nm.of}" for nm in found if nm]
    for ratio in ratios:
        for sparsity in sparsities or []:
            if ratio.sparsity != Fraction(sparsity):
                faults.append(f"--sparsity {plain(sparsity)}: contradicts --nm_ratio {ratio.keep}:{ratio.of}, which removes "
                              f"{float(ratio.sparsity):g}; leave --sparsity out")
    return [f"{ratio.keep}:{ratio.of}" for ratio in ratios]


def _words(values) -> str:
    return " ".join(plain(value) for value in values)


def _cell(given: dict, task, percentage, pattern: dict, seed: int, faults: Faults) -> Cell | None:
    """Build one cell and its folder's name."""
    values = {name: given[name] for name in Cell.__dataclass_fields__ if name in given}
    values |= pattern | {
        "task_name": task,
        "validation_split_percentage": percentage,
        "seed": seed,
        "prune_exclude": tuple(given["prune_exclude"]),
        "num_processes": int(os.environ.get("WORLD_SIZE", "1")),
        "method": given["method"] or _method(given, pattern),
        "save_model": given["save_model"] or given["push_to_hub"],
    }
    draft = Cell(**values)
    fields = {
        "method": draft.method,
        "task_name": draft.task_label,
        "sparsity": plain(draft.sparsity) if draft.sparsity is not None else draft.pattern_slug,
        "pattern": draft.pattern_slug,
        "validation_split_percentage": plain(percentage),
        "seed": str(seed),
        "model": Path(draft.model_name_or_path.rstrip("/")).name,
    }
    folder = faults.collect(cells.output_dir, given["output_dir"], fields)
    return Cell(**values | {"output_dir": folder}) if folder else None


def _method(given: dict, pattern: dict) -> str:
    """Name a kind of run in the manner of the paper's scripts: Glue_noembed_freeze_weights."""
    parts = ["Glue"]
    parts += ["noembed"] if given["noembed"] else []
    if pattern["sparse_init"] == "dense":
        return "_".join([*parts, "dense"])
    held = [name for name in ("freeze_weights", "freeze_weights_frompretrain") if given[name]]
    return "_".join(parts + (held or ["sparse_to_dense"]))


def _check_folders(made: list[Cell], faults: Faults) -> None:
    """Refuse two cells in one folder."""
    seen: dict[str, Cell] = {}
    for cell in made:
        other = seen.setdefault(os.path.abspath(cell.output_dir), cell)
        if other is not cell:
            differ = [name for name, value in cell.settings().items() if other.settings()[name] != value]
            wanted = " ".join(dict.fromkeys("{pattern}" if n in ("sparsity", "nm_ratio") else "{%s}" % n for n in differ))
            faults.append(f"--output_dir {cell.output_dir}: several runs would share this folder; "
                          + (f"use {wanted} in it" if wanted else "the same run is asked for twice"))
            return
