"""Groups of settings that several families take: the model, training, the holding of a mask, output.

Each is a dataclass whose fields are flags (see ``settings``); a family's cell inherits those that it needs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from junkdna.errors import Fault, Faults, UserError
from junkdna.runs import processes
from junkdna.runs.settings import derived, flag, model, number, one_of, path
from junkdna.sparsity.kinds import KINDS

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


def steps_or_epoch(text: str) -> int | str:
    """Read a number of steps or the word epoch."""
    return text if text == "epoch" else number(int, 1)(text)


# --- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Model:
    """Where the weights come from."""

    title = "model"

    model_name_or_path: str | None = flag(
        model,
        role="model",
        metavar="MODEL",
        help="pre-trained model: a Hub name (roberta-base) or a folder; required",
    )
    model_revision: str = flag(
        role="model", metavar="REV", default="main", help="branch, tag or commit on the Hub; default main"
    )


@dataclass(frozen=True, kw_only=True)
class Holding:
    """How removed weights are held while the model trains."""

    title = "pruning"

    freeze_weights: bool = flag(
        role="treatment", default=False, help="sparse transfer: removed weights are 0 and stay 0"
    )
    freeze_weights_frompretrain: bool = flag(
        role="treatment",
        default=False,
        help="dense transfer with freezing: small weights keep their pre-trained values while the others train. With "
        "neither flag: sparse-to-dense transfer, removed weights are set to 0 once and then train freely",
    )

    @property
    def hold(self) -> str:
        """How the mask is held, as ``junkdna.hold`` calls it."""
        return "sparse" if self.freeze_weights else "frozen" if self.freeze_weights_frompretrain else "free"

    @property
    def treatment(self) -> str:
        """The paper's name of what is done with the removed weights (section 2.2 of its GLUE experiments)."""
        return "dense transfer" if self.dense else KINDS[self.hold]


def check_holding(given: dict, faults: Faults) -> None:
    """Refuse two ways of holding at once."""
    if given["freeze_weights"] and given["freeze_weights_frompretrain"]:
        faults.append(
            "--freeze_weights --freeze_weights_frompretrain: give one of them (sparse transfer or dense "
            "transfer with freezing) or neither (sparse-to-dense transfer)"
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained."""

    title = "training"

    per_device_train_batch_size: int = flag(
        number(int, 1), role="training", metavar="N", default=8, help="examples per device and step, >= 1; default 8"
    )
    per_device_eval_batch_size: int = flag(
        number(int, 1),
        role="option",
        metavar="N",
        default=64,
        help="examples per device in evaluation; changes outputs by rounding at most, which in bf16 may turn an "
        "answer into another; default 64",
    )
    learning_rate: float = flag(
        number(float, 0, above=True),
        role="training",
        metavar="LR",
        default=5e-5,
        help="peak learning rate of AdamW, > 0; default 5e-5",
    )
    weight_decay: float = flag(
        number(float, 0),
        role="training",
        metavar="WD",
        default=0.0,
        help="decoupled weight decay, >= 0, not applied to biases and normalisation; default 0",
    )
    num_train_epochs: int = flag(
        number(int, 1), role="training", metavar="N", default=3, help="passes over the training rows; default 3"
    )
    max_train_steps: int | None = flag(
        number(int, 1),
        role="training",
        metavar="N",
        help="number of optimizer steps, instead of --num_train_epochs; default off",
    )
    gradient_accumulation_steps: int = flag(
        number(int, 1), role="training", metavar="N", default=1, help="batches per optimizer step; default 1"
    )
    lr_scheduler_type: str = flag(
        one_of(SCHEDULES),
        role="training",
        metavar="NAME",
        default="linear",
        help=f"{', '.join(SCHEDULES)}; default linear (to zero)",
    )
    num_warmup_steps: int | None = flag(
        number(int, 0),
        role="training",
        metavar="N",
        help="optimizer steps of linear warm-up; default 6 %% of all steps, as the paper's code always did",
    )
    mixed_precision: str = flag(
        one_of(PRECISIONS),
        role="training",
        metavar="P",
        default="no",
        help="no (fp32, the paper's numerics), bf16 or fp16; weights and optimizer stay fp32; default no",
    )
    deterministic: bool = flag(
        role="option",
        default=False,
        help="on a GPU, make the same command give the same bits each time, more slowly; an operation that cannot "
        "stops the run. A run that was finished without this flag counts as finished. A CPU does not need it. "
        "Default off",
    )
    checkpointing_steps: int | str | None = flag(
        steps_or_epoch,
        role="option",
        metavar="N|epoch",
        help="write a checkpoint every N optimizer steps, or after every epoch. The newest is kept until the run is "
        "done. An interrupted run continues from it when the command is repeated. Default none",
    )
    resume_from_checkpoint: str | None = flag(
        path,
        role="option",
        metavar="PATH|latest",
        help="continue from this checkpoint-N folder; latest: from the newest in the run's own folder, as without this "
        "flag; default latest",
    )
    with_tracking: bool = flag(
        role="option", default=False, help="send metrics to the trackers of --report_to; default off"
    )
    report_to: str = flag(
        one_of(("all", *TRACKERS)),
        role="option",
        metavar="NAME",
        default="all",
        help=f"one of accelerate's trackers: {', '.join(TRACKERS)}; default all: every tracker that is installed",
    )
    num_processes: int = derived("training", processes.world_size)


def check_training(given: dict, faults: Faults) -> None:
    """Check what the flags of training say together."""
    schedule, rate = given["lr_scheduler_type"], given["learning_rate"]
    if schedule == "constant" and given["num_warmup_steps"]:
        faults.append(
            f"--num_warmup_steps {given['num_warmup_steps']}: --lr_scheduler_type constant has no warm-up; "
            "constant_with_warmup has"
        )
    if schedule == "polynomial" and rate <= 1e-7:
        faults.append(f"--learning_rate {rate:g}: must be > 1e-07, where --lr_scheduler_type polynomial ends")
    if given["resume_from_checkpoint"] and given["overwrite_output_dir"]:
        faults.append(
            "--resume_from_checkpoint --overwrite_output_dir: one continues, the other starts again; give one of them"
        )
    if given["with_tracking"]:
        faults.collect(_check_tracker, given["report_to"])


def check_one_checkpoint(given: dict, runs: int, faults: Faults) -> None:
    """Refuse one named checkpoint for several runs."""
    if given.get("resume_from_checkpoint") not in (None, "latest") and runs > 1:
        faults.append(
            f"--resume_from_checkpoint {given['resume_from_checkpoint']}: belongs to one run, but the command "
            f"asks for {runs}; give latest, or leave it out: every run continues from its own"
        )


def _check_tracker(name: str) -> None:
    """Refuse a tracker that is not installed: accelerate would go on without it and track nothing."""
    installed = [known for known, packages in TRACKERS.items() if any(map(_is_installed, packages))]
    if name == "all" and not installed:
        raise UserError(f"--with_tracking: no tracker is installed; install one of: {' '.join(TRACKERS)}")
    if name not in ("all", *installed):
        raise UserError(Fault("report_to", name, f"is not installed; installed: {' '.join(installed) or 'none'}"))


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # no origin: a mere folder, such as the one wandb logs to


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a run goes, and what of it is kept."""

    title = "output"

    output_dir: str | None = flag(
        path,
        role="option",
        metavar="DIR",
        help="folder of the run, or a template with fields such as {model} {method} {pattern} {seed} and those of the "
        "experiment; default: a template of all of them",
    )
    method: str | None = flag(
        role="label",
        metavar="LABEL",
        help="a name for the kind of run, recorded; default: made from the pruning flags",
    )
    save_model: bool = flag(
        role="layout", default=False, help="also save the model, for from_pretrained(DIR); default off"
    )
    push_to_hub: bool = flag(
        role="option",
        default=False,
        help="upload the saved model afterwards (implies --save_model); the token comes from 'hf auth login' or "
        "HF_TOKEN; default off",
    )
    hub_model_id: str | None = flag(
        role="option",
        metavar="ID",
        help="repository for --push_to_hub; default: made from model, method, axes, pattern, fold and seed",
    )


# --- how to go about the runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Overwriting:
    """Whether runs replace what is there, and whether they run at all."""

    title = "output"

    overwrite_output_dir: bool = flag(
        role="option", default=False, help="run even if the folder holds a finished run or a different one; default off"
    )
    dry_run: bool = flag(
        role="option",
        default=False,
        help="check everything that can be checked, print what would run and where, and stop; default off",
    )


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """Steps as CUDA graphs, for models that can be taken so."""

    title = "training"

    cuda_graphs: bool = flag(
        role="training",
        default=False,
        help="on a GPU, replay recorded CUDA graphs of a step instead of starting every operation by itself; dropout "
        "draws other numbers; not yet measured on a GPU; default off",
    )


@dataclass(frozen=True, kw_only=True)
class Graphless:
    """A flag of the time when CUDA graphs were the default; it changes nothing now."""

    title = "training"

    no_cuda_graphs: bool = flag(
        role="option", default=False, help="has no effect, since this is the default; accepted for old commands"
    )
