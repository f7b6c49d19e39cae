"""What an encoder's configuration shows before its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping

from junkdna.errors import Fault, Faults, UserError
from junkdna.models import folder, labels


def check_sources(given: Mapping, folder_flag: str, tasks: str, faults: Faults) -> list[str]:
    """Check that rows come from a task or from two files; return the flags of the files that are given.

    ``folder_flag`` names the flag of a folder of tasks, ``tasks`` says what --task_name takes.
    """
    files = [name for name in ("train_file", "validation_file") if given[name]]
    if given["task_name"] and files:
        faults.append(f"--task_name and --{files[0]}: these are two sources of data; give a task or files, not both")
    if not given["task_name"] and not files:
        faults.append(f"no data: give --task_name ({tasks}) or --train_file with --validation_file")
    if len(files) == 1:
        missing = "validation_file" if files[0] == "train_file" else "train_file"
        faults.append(f"--{files[0]} {given[files[0]]}: also needs --{missing}")
    if given[folder_flag] and files:
        faults.append(f"--{folder_flag} {given[folder_flag]}: goes with --task_name, not with --{files[0]}")
    return files


def check_folder(name: str, num_labels: int | None, max_length: int, ignore_mismatched: bool) -> None:
    """Refuse what a local model folder's files show to be impossible; a Hub name passes unless it can only be a
    path.
    """
    config = folder.check(name)
    if config is not None:
        check_config(config, name, num_labels, max_length, ignore_mismatched)


def unclear_labels(name: str, reason: str) -> UserError:
    """The error for a head whose label maps are unclear."""
    return folder.wrong(name, f"config.json: {reason}, so that its head's classes are not known")


def has_head(config: Mapping) -> bool:
    """Whether a model was saved with a head for classification."""
    heads = config.get("architectures")
    return isinstance(heads, (list, tuple)) and any("ForSequenceClassification" in str(head) for head in heads)


def check_config(config: Mapping, name: str, num_labels: int | None, max_length: int, ignore_mismatched: bool) -> None:
    """Refuse what ``check_encoder`` does, unclear labels, and a head made for another number of them."""
    check_encoder(config, name, max_length)
    if has_head(config):
        try:
            labels.named(config)
        except ValueError as error:
            raise unclear_labels(name, str(error)) from None
    if num_labels and has_head(config):
        own = len(config.get("id2label") or {}) or config.get("num_labels", 2)
        if own != num_labels and not ignore_mismatched:
            reason = f"was trained for {own} label(s), this task has {num_labels}"
            raise folder.wrong(name, f"{reason}; --ignore_mismatched_sizes replaces its head")


def check_encoder(config: Mapping, name: str, max_length: int) -> None:
    """Refuse a length beyond the model's positions, and a model that is more than an encoder."""
    limit = folder.longest_input(config)
    if limit and max_length > limit:
        raise UserError(Fault("max_length", max_length, f"{name} has positions for at most {limit} tokens"))
    if config.get("is_encoder_decoder"):
        kind = config.get("model_type")
        raise folder.wrong(name, f"is an encoder-decoder model (type {kind!r}); give an encoder, such as roberta-base")
