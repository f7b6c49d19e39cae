"""The command line's flags: unit, range, default and meaning of each, and the reading of their values.

Importable without torch or transformers, so that ``--help`` and every complaint come at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import re
import sys
from decimal import Decimal, InvalidOperation

from junkdna.runs import cell as cells
from junkdna.families.glue import tasks as glue
from junkdna.runs.cell import SPARSE_INITS
from junkdna.errors import Faults, UserError, did_you_mean
from junkdna.sparsity.patterns import parse_nm, parse_sparsity

PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "comet_ml": ("comet_ml",),
    "aim": ("aim",),
    "mlflow": ("mlflow",),
    "clearml": ("clearml",),
    "dvclive": ("dvclive",),
    "swanlab": ("swanlab",),
    "trackio": ("trackio",),
}
"""accelerate's trackers, each with the packages of which it needs one."""

LAUNCHERS = ("local", "slurm")
SECONDS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}

ALIASES = {"sparse_unstuctured": "sparse_unstructured"}

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


def read(argv: list[str], faults: Faults) -> dict:
    """Return the flags' values by name, each checked on its own; what is wrong goes to ``faults``."""
    given = vars(_parser(faults).parse_args(_without_gone(argv, faults)))
    if given["with_tracking"] and given["report_to"]:
        faults.collect(_check_tracker, given["report_to"])
    return given


# --- the flags -------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse that collects faults instead of stopping at the first, and never guesses an abbreviated flag."""

    def __init__(self, faults: Faults):
        super().__init__(
            prog=os.path.basename(sys.argv[0]),
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
    _job_flags(parser.add_argument_group("several jobs"), faults)
    return parser


def _data_flags(group, faults: Faults) -> None:
    add = group.add_argument
    tasks = " ".join(sorted(glue.TASKS))
    add(
        "--task_name",
        "--TASK_NAME",
        nargs="+",
        metavar="TASK",
        type=_checked(glue.task_name, faults),
        help=f"GLUE task(s), any case, SST-2 and STS-B too: {tasks}",
    )
    add(
        "--glue_dir",
        metavar="DIR",
        help="folder in the layout of the standard GLUE download (DIR/CoLA/train.tsv ...); read instead of the Hub",
    )
    add(
        "--train_file",
        metavar="FILE",
        help="own training data, csv or json lines: columns sentence1, optionally "
        "sentence2, and label (or else the first one or two columns that are not label); float labels mean regression",
    )
    add("--validation_file", metavar="FILE", help="own validation data, same columns")
    add(
        "--validation_split_percentage",
        "--train_percentage",
        nargs="+",
        metavar="P|TASK=P",
        default=[(None, Decimal(100))],
        type=_percentage(faults),
        help="percentage of the TRAINING set that is used, its first rows; (0, 100], fractions allowed; default 100. "
        "sst2=10 is for that task alone, which then takes no others. "
        "The name is historical: the validation set is always used whole",
    )
    add(
        "--max_length",
        metavar="TOKENS",
        default=128,
        type=_number("--max_length", int, faults, 1),
        help="longer inputs are cut to this many tokens; default 128",
    )
    add(
        "--pad_to_max_length",
        action="store_true",
        help="pad every input to --max_length instead of to the longest of "
        "its batch; slower, same result up to rounding; default off",
    )
    add(
        "--max_train_samples",
        metavar="ROWS",
        type=_number("--max_train_samples", int, faults, 1),
        help="use at most this many training rows, after the percentage; default all",
    )
    add(
        "--max_eval_samples",
        metavar="ROWS",
        type=_number("--max_eval_samples", int, faults, 1),
        help="use at most this many validation rows, for trying things out; default all",
    )


def _model_flags(group) -> None:
    add = group.add_argument
    add(
        "--model_name_or_path",
        metavar="MODEL",
        help="pre-trained encoder: a Hub name (roberta-base) or a folder; required",
    )
    add("--model_revision", metavar="REV", default="main", help="branch, tag or commit on the Hub; default main")
    add(
        "--ignore_mismatched_sizes",
        action="store_true",
        help="replace a head made for another number of labels by a freshly drawn one instead of refusing; default off",
    )
    add(
        "--use_slow_tokenizer", action="store_true", help="refused: the installed transformers has fast tokenizers only"
    )


def _pruning_flags(group, faults: Faults) -> None:
    add = group.add_argument
    inits = "; ".join(f"{name}: {meaning}" for name, meaning in SPARSE_INITS.items())
    add(
        "--sparse_init",
        metavar="MODE",
        type=_one_of("--sparse_init", SPARSE_INITS, faults, ALIASES),
        help=f"what is removed; default sparse_unstructured, or sparse_nm when --nm_ratio is given. {inits}. "
        "sparse_unstuctured (historical spelling) means sparse_unstructured",
    )
    add(
        "--sparsity",
        nargs="+",
        metavar="S",
        type=_checked(parse_sparsity, faults),
        help="fraction of the weights in scope that is REMOVED, [0, 1); 0 removes nothing; default 0.2",
    )
    add(
        "--nm_ratio",
        nargs="+",
        metavar="N:M",
        type=_checked(parse_nm, faults),
        help="2:8 KEEPS 2 of every 8 neighbouring inputs; also written as two digits, 68 (prune 6 of 8); 1 <= N <= M <= 64",
    )
    add("--noembed", action="store_true", help="leave the embeddings out of scope; default off, they are pruned too")
    add(
        "--prune_exclude",
        nargs="+",
        metavar="REGEX",
        default=[],
        type=_checked(_regex, faults),
        help="matrices whose name matches stay out of scope, for example '^classifier'; default none (the head is in scope)",
    )
    add("--freeze_weights", action="store_true", help="sparse transfer: removed weights are 0 and stay 0")
    add(
        "--freeze_weights_frompretrain",
        action="store_true",
        help="dense transfer with freezing: nothing is zeroed, the "
        "small weights keep their pre-trained values while the others train. Neither: sparse-to-dense, zeroed once, then free",
    )
    add(
        "--with_dense",
        action="store_true",
        help="also run dense transfer for every task, percentage and seed: what the others are normalised by",
    )
    add("--mask_file", metavar="FILE", help="use this mask.safetensors of an earlier run instead of making a mask")


def _training_flags(group, faults: Faults) -> None:
    add = group.add_argument
    add(
        "--per_device_train_batch_size",
        metavar="N",
        default=8,
        help="examples per device and step; default 8",
        type=_number("--per_device_train_batch_size", int, faults, 1),
    )
    add(
        "--per_device_eval_batch_size",
        metavar="N",
        default=64,
        help="examples per device in evaluation; changes no result; default 64",
        type=_number("--per_device_eval_batch_size", int, faults, 1),
    )
    add(
        "--learning_rate",
        metavar="LR",
        default=5e-5,
        type=_number("--learning_rate", float, faults, 0, above=True),
        help="peak learning rate of AdamW, > 0; default 5e-5",
    )
    add(
        "--weight_decay",
        metavar="WD",
        default=0.0,
        type=_number("--weight_decay", float, faults, 0),
        help="decoupled weight decay, >= 0, not on biases and normalisation; default 0",
    )
    add(
        "--num_train_epochs",
        metavar="N",
        default=3,
        type=_number("--num_train_epochs", int, faults, 1),
        help="passes over the training rows; default 3",
    )
    add(
        "--max_train_steps",
        metavar="N",
        type=_number("--max_train_steps", int, faults, 1),
        help="optimiser steps, instead of --num_train_epochs; default off",
    )
    add(
        "--gradient_accumulation_steps",
        metavar="N",
        default=1,
        help="batches per optimiser step; default 1",
        type=_number("--gradient_accumulation_steps", int, faults, 1),
    )
    add(
        "--lr_scheduler_type",
        metavar="NAME",
        default="linear",
        type=_one_of("--lr_scheduler_type", SCHEDULES, faults),
        help=f"{', '.join(SCHEDULES)}; default linear (to zero)",
    )
    add(
        "--num_warmup_steps",
        metavar="N",
        type=_number("--num_warmup_steps", int, faults, 0),
        help="optimiser steps of linear warm-up; default 6 %% of all steps, as the paper's code always did",
    )
    add(
        "--seed",
        nargs="+",
        metavar="N",
        default=[42],
        type=_number("--seed", int, faults, 0, 2**32 - 1),
        help="drives the fresh head, the order of examples and dropout; 0 to 2**32-1; default 42",
    )
    add(
        "--mixed_precision",
        metavar="P",
        default="no",
        type=_one_of("--mixed_precision", PRECISIONS, faults),
        help="no (fp32, the paper's numerics), bf16 or fp16; weights and optimiser stay fp32; default no",
    )
    add(
        "--deterministic",
        action="store_true",
        help="on a GPU, the same command gives the same bits each time, more slowly; an operation that cannot stops the run; "
        "a run that was finished without it counts as finished; a CPU needs no flag for it; default off",
    )
    add(
        "--no_cuda_graphs",
        action="store_true",
        help="on a GPU, start every operation of a step by itself, more slowly, in place of recorded graphs of them; the way "
        "out should a graph give trouble; default off",
    )
    add(
        "--checkpointing_steps",
        metavar="N|epoch",
        type=_steps_or_epoch(faults),
        help="write a checkpoint every N optimiser steps, or after every epoch; the newest is kept until the run is done, and a "
        "run that was interrupted goes on from it when the command is repeated; default none",
    )
    add(
        "--resume_from_checkpoint",
        metavar="PATH|latest",
        help="go on from this checkpoint-N folder; latest: from the newest in the run's own folder, which is what happens "
        "without this flag too",
    )
    add("--with_tracking", action="store_true", help="send metrics to the trackers of --report_to; default off")
    add(
        "--report_to",
        metavar="NAME",
        default="all",
        type=_one_of("--report_to", ("all", *TRACKERS), faults),
        help=f"tracker, of accelerate's: {', '.join(TRACKERS)}; default all, which means all that are installed",
    )


def _output_flags(group) -> None:
    add = group.add_argument
    add(
        "--output_dir",
        metavar="DIR",
        default=cells.DEFAULT_OUTPUT,
        help=f"folder of the run, or a template with {cells.TEMPLATE_WORDS}; default {cells.DEFAULT_OUTPUT}",
    )
    add("--method", metavar="LABEL", help="a name for the kind of run, recorded; default made from the pruning flags")
    add("--save_model", action="store_true", help="also write the fine-tuned model, as from_pretrained(DIR) reads it")
    add(
        "--push_to_hub",
        action="store_true",
        help="upload the saved model afterwards (implies --save_model); the token "
        "comes from 'hf auth login' or HF_TOKEN",
    )
    add(
        "--hub_model_id",
        metavar="ID",
        help="repository for --push_to_hub; default made from model, task, pattern, percentage and seed",
    )
    add("--overwrite_output_dir", action="store_true", help="run even if the folder holds another or a finished run")
    add(
        "--dry_run",
        action="store_true",
        help="check everything that can be checked, print what would run and where, stop",
    )


def _job_flags(group, faults: Faults) -> None:
    add = group.add_argument
    add(
        "--launcher",
        metavar="NAME",
        type=_one_of("--launcher", LAUNCHERS, faults),
        help="where the jobs run: local, this machine, or slurm; default local",
    )
    add(
        "--num_jobs",
        metavar="N",
        type=_number("--num_jobs", int, faults, 1),
        help="deal the unfinished runs to N jobs, each one process on one GPU; default: local, the visible NVIDIA GPUs, "
        "and without several of them 1, this process; slurm, 1",
    )
    add(
        "--jobs_dir",
        metavar="DIR",
        help="folder of the jobs' logs, on slurm one that all nodes see; default .jobs in the folder that holds all runs",
    )
    for name in ("partition", "account", "qos", "constraint"):
        add(f"--slurm_{name}", metavar="NAME", help=f"sbatch --{name}; default the cluster's")
    add(
        "--slurm_time",
        metavar="TIME",
        type=_checked(slurm_minutes, faults),
        help="time limit of a job: minutes, HH:MM:SS, D-HH or D-HH:MM; a job that reaches it is queued again and goes on; "
        "default 1440 (a day)",
    )
    add("--slurm_gres", metavar="GRES", help="sbatch --gres; a job uses one GPU: gpu:1; default none")
    add("--slurm_mem", metavar="MEM", help="memory per node, for example 16G; default the cluster's")
    add(
        "--slurm_cpus_per_task",
        metavar="N",
        type=_number("--slurm_cpus_per_task", int, faults, 1),
        help="CPU cores of a job; default the cluster's",
    )
    add(
        "--slurm_setup",
        nargs="+",
        action="extend",
        metavar="LINE",
        default=[],
        help="shell lines that a job runs first, for example 'module load cuda'; may be repeated; default none",
    )
    add(
        "--slurm_additional",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        default=[],
        type=_checked(_slurm_option, faults),
        help="other options of sbatch without their dashes, for example nodelist=node7 or exclusive; default none",
    )


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
        if value is not None and not math.isfinite(value):
            value = None
        low = value is not None and least is not None and (value < least or (above and value == least))
        high = value is not None and most is not None and value > most
        if value is None or low or high:
            faults.append(f"{flag} {text}: must be {allowed}")
            return None
        return value

    return read


def _percentage(faults: Faults):
    """Return a reader of P or TASK=P, as (task or None, percentage)."""
    number = _number("--validation_split_percentage", Decimal, faults, 0, 100, above=True)

    def read(text: str):
        name, _, value = text.rpartition("=")
        return (faults.collect(glue.task_name, name) if name else None), number(value)

    return read


def _steps_or_epoch(faults: Faults):
    """Return a reader of a number of steps or the word epoch."""
    number = _number("--checkpointing_steps", int, faults, 1)
    return lambda text: text if text == "epoch" else number(text)


def _one_of(flag: str, allowed, faults: Faults, aliases: dict[str, str] | None = None):
    """Return a reader of one name out of several, with a hint for the nearest."""

    def read(text: str):
        name = (aliases or {}).get(text, text)
        if name in allowed:
            return name
        faults.append(f"{flag} {text}: unknown{did_you_mean(text, allowed)}; allowed: {' '.join(allowed)}")
        return None

    return read


SLURM_TIMES = (
    r"(?P<minutes>\d+)(:(?P<seconds>\d+))?",
    r"(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>\d+)",
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?",
)


def slurm_minutes(text: str) -> int:
    """Return the minutes, rounded up, of a time limit in any of sbatch's forms; raises UserError."""
    found = next(filter(None, (re.fullmatch(form, text) for form in SLURM_TIMES)), None)
    parts = {name: int(value) for name, value in found.groupdict(default="0").items()} if found else {}
    seconds = sum(parts.get(name, 0) * unit for name, unit in SECONDS.items())
    if seconds == 0:
        raise UserError(f"--slurm_time {text}: must be minutes, HH:MM:SS, D-HH or D-HH:MM, and > 0")
    return math.ceil(seconds / 60)


def _slurm_option(text: str) -> tuple[str, str | bool]:
    """Return one of sbatch's options as (name, value); a name alone is a switch."""
    if not re.fullmatch(r"[A-Za-z][\w-]*(=.+)?", text):
        raise UserError(f"--slurm_additional {text}: must be KEY=VALUE, or KEY alone, without dashes in front")
    name, equals, value = text.partition("=")
    return name, value if equals else True


def _check_tracker(name: str) -> None:
    """Refuse a tracker that is not installed: accelerate would go on without it and track nothing."""
    installed = [known for known, packages in TRACKERS.items() if any(map(_is_installed, packages))]
    if name == "all" and not installed:
        raise UserError(f"--with_tracking: no tracker is installed; install one of: {' '.join(TRACKERS)}")
    if name not in ("all", *installed):
        raise UserError(f"--report_to {name}: is not installed; installed: {' '.join(installed) or 'none'}")


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # no origin: a mere folder, such as the one wandb logs to


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
