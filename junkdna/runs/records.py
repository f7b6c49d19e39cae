"""What a run leaves in its folder, and how the folder is claimed.

=====================  ================================================================================================
``run.json``           written when the run starts (``status`` "running") and again at its end ("done"); see RUN_SCHEMA
``history.jsonl``      one line per epoch, written as it happens; see HISTORY_SCHEMA
``mask.safetensors``   the mask, one bit per weight; ``junkdna.load_masks`` reads it (no mask: no file)
``all_results.json``   the final results, written last: a run that has it is finished; see RESULTS_SCHEMA
``error.json``         why the last attempt failed; gone when the next begins; see ERROR_SCHEMA
=====================  ================================================================================================

``.previous/`` holds a finished run that ``--overwrite_output_dir`` is replacing, until its successor is finished. With
``--save_model`` also what ``from_pretrained`` reads. Every file is written under a temporary name and then renamed.
``schema`` reads the records back, those of earlier versions too.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import UserError
from junkdna.runs import schema
from junkdna.runs.cell import Cell
from junkdna.runs.schema import ERROR, RUN
from junkdna.runs.settings import defaults
from junkdna.runs.speech import in_one_line

HISTORY, MASK, RESULTS = "history.jsonl", "mask.safetensors", "all_results.json"
PREVIOUS = ".previous"

RESULTS_SCHEMA = {
    "eval_<metric>": "the metric on the validation split after the last epoch; a fraction, not a percentage",
    "eval_mm_<metric>": "the same on MNLI's mismatched validation split",
    "eval_samples": "validation rows that were counted",
    "train_loss": "mean loss over the training examples of the last epoch",
    "train_samples": "training rows used",
    "epoch": "number of the last epoch",
    "step": "optimiser steps taken",
    "sparsity": "fraction of the weights in scope that the mask removes",
    "zero_fraction": "fraction of the weights in scope that are exactly 0 in the evaluated model, counted",
}
HISTORY_SCHEMA = {
    "epoch, step": "as above, at this epoch's end",
    "train_loss, eval_*": "as above, of this epoch",
    "learning_rate": "of the epoch's last step",
    "train_seconds, eval_seconds": "wall time",
    "tokens": "tokens trained on in this epoch, padding not counted",
}
RUN_SCHEMA = {
    "schema": "version of this layout, 2; schema.upgrade reads version 1",
    "status": "'running', then 'done'",
    "started, ended": "UTC, ISO 8601",
    "command": "the arguments as typed",
    "family": "which experiment: glue",
    "axes": "what the run is of, in words, the panel of a figure first: task, data (percentage of the training set)",
    "treatment": "the paper's name of what is done with the removed weights",
    "roles": "of every setting what it means for a result; see junkdna.runs.settings",
    "metrics": "of every metric its name, key in the results, which way is better, chance (null: unknown), and which "
    "one is "
    "the main one",
    "settings": "the resolved configuration: everything that may change the result",
    "options": "the settings that change no result",
    "code": "version, git commit of the program's folder, and whether files were changed since",
    "versions": "of Python and the libraries",
    "hardware": "device, its name, processes, threads, float32 matmul precision",
    "model": "name, revision (the commit, from the Hub), weight_hash (SHA-256 of what was loaded), drawn (fresh "
    "parameters), "
    "parameters",
    "data": "source; per split: rows available and used, SHA-256 of the rows used, examples at the maximum length, "
    "rows "
    "skipped, share of the most frequent label; columns read (texts, label); kind (classification or regression); "
    "label names (none: a regression); metrics, the first is the main one",
    "plan": "examples per step, steps in all and per epoch, warm-up steps, batches (packed, or padded and why), "
    "taken (how, since the last checkpoint: operation by operation, or as CUDA graphs, and why no more of them)",
    "pruning": "score and pattern in words, scope (weights and matrices), asked and removed and kept counts, sparsity, "
    "threshold (largest magnitude removed), mask_hash, head (weights and removed), matrices (the same for each), "
    "left_out "
    "(name: reason)",
    "timings": "seconds: data, load, prune, train, evaluate, total",
    "resumed": "checkpoints from which the run went on: step, when, and code, versions and hardware up to there",
    "best": "epoch with the best main metric, and its metrics; the last epoch is the one that counts",
}
ERROR_SCHEMA = {
    "schema": "version of this layout, 2",
    "family, axes, treatment, roles, settings, command": "as in run.json",
    "error": "what went wrong, one line",
    "traceback": "where in the program; null for a mistake of the user's",
    "failed_at": "UTC, ISO 8601",
}


# --- writing ---------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: dict) -> None:
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def append_line(path: Path, content: dict) -> None:
    """Add one JSON line and have it on disk before going on."""
    with open(path, "a") as file:
        file.write(json.dumps(content) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_error(cell: Cell, argv: tuple[str, ...], error: Exception) -> None:
    """Leave a failed cell's error in its folder, if that can be written to and holds no finished and no other run."""
    content = {
        "schema": schema.SCHEMA,
        **cell.identity(),
        "command": list(argv),
        "error": in_one_line(error),
        "traceback": None if isinstance(error, UserError) else "".join(traceback.format_exception(error)),
        "failed_at": datetime.now(timezone.utc).isoformat(),
    }
    folder = Path(cell.output_dir)
    stored = schema.read_run(folder) or {}
    if finished(folder) is not None or (stored and difference(stored, cell)):
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ERROR, content)


def write_model(folder: Path, save: Callable[[Path], None]) -> None:
    """Have ``save`` write a model's files into a folder of its own, and move them beside the records, each whole."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as temporary:
        save(Path(temporary))
        for file in sorted(Path(temporary).iterdir()):
            os.chmod(file, 0o666 & ~_umask())
            os.replace(file, folder / file.name)


# --- reading and claiming --------------------------------------------------------------------------------------------


def read(path: Path) -> dict | None:
    """Return a JSON file's object, or None if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def finished(folder: str | Path) -> dict | None:
    """Return the results of a finished run, or None."""
    run = read(Path(folder) / RUN)
    return read(Path(folder) / RESULTS) if run and run.get("status") == "done" else None


def check_folder(cell: Cell, overwrite: bool) -> None:
    """Refuse a folder that cannot be written to or that holds something else, and say what differs."""
    folder = Path(cell.output_dir)
    where = f"--output_dir {cell.output_dir}"
    try:
        _check_writable(folder, where)
    except OSError as error:  # a name that is too long, say
        raise UserError(f"{where}: cannot be a folder: {error.strerror}") from None
    if os.path.isdir(cell.model_name_or_path) and folder.resolve() == Path(cell.model_name_or_path).resolve():
        raise UserError(f"{where}: is the folder of --model_name_or_path, which a run never writes to; choose another")
    if cell.mask_file and (folder / MASK).exists() and os.path.samefile(cell.mask_file, folder / MASK):
        raise UserError(f"{where}: holds the mask of --mask_file, which the run would replace; choose another folder")
    if overwrite or not folder.is_dir():
        return
    stored = schema.read_run(folder)
    if stored is None or not isinstance(stored.get("settings"), dict):
        foreign = [name for name in (RUN, RESULTS, HISTORY, MASK, "config.json") if (folder / name).exists()]
        if foreign:
            raise UserError(
                f"{where}: holds {foreign[0]} but no readable {RUN}, so it is not a run of this program; choose "
                "another folder, or --overwrite_output_dir"
            )
        return
    differences = difference(stored, cell)
    if differences:
        raise UserError(
            f"{where}: holds a different run ({'; '.join(differences)}); choose another folder, or "
            "--overwrite_output_dir"
        )


def _check_writable(folder: Path, where: str) -> None:
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError(f"{where}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{where}: {nearest} cannot be written to")


def difference(stored: dict, cell: Cell) -> list[str]:
    """Describe the settings in which a stored record and a wanted cell differ, as 'name: stored, now wanted'.

    A setting that the record does not know had its default: the flag did not exist yet.
    """
    if stored.get("family") != cell.family:
        return [f"experiment: {stored.get('family')}, now {cell.family}"]
    before = defaults(type(cell)) | stored["settings"]
    return [f"{name}: {before[name]}, now {value}" for name, value in cell.settings().items() if before[name] != value]


def open_folder(cell: Cell, run: dict) -> Path:
    """Make the folder ready for a new run and return it: set aside what an earlier run left, write ``run.json``.

    The earlier run's files stay in ``.previous/`` until this one is finished, in case it never is.
    """
    folder = Path(cell.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = read(folder / RUN)
        if earlier is not None and isinstance(earlier.get("settings"), dict):
            _set_aside(folder, keep=finished(folder) is not None)
        (folder / ERROR).unlink(missing_ok=True)
        write_json(folder / RUN, run)
    except OSError as error:
        raise UserError(f"--output_dir {cell.output_dir}: cannot be written to: {error.strerror}") from None
    return folder


def _set_aside(folder: Path, keep: bool) -> None:
    """Move a finished run's files to ``.previous/``; delete those of an unfinished one.

    ``run.json`` stays for its successor to replace, so that the folder is a run's at every moment, and the results go
    last: cut off in the middle, the move goes on when it is repeated.
    """
    names = [HISTORY, MASK, "model.safetensors", "model.safetensors.index.json"]
    names += [path.name for path in folder.glob("model-*-of-*.safetensors")]
    previous = folder / PREVIOUS
    if keep and read(previous / RUN) != read(folder / RUN):
        drop_previous(folder)
        previous.mkdir()
        shutil.copy2(folder / RUN, previous / RUN)
    for name in [*names, RESULTS]:
        if not keep:
            (folder / name).unlink(missing_ok=True)
        elif (folder / name).exists():
            os.replace(folder / name, previous / name)


def drop_previous(folder: Path) -> None:
    """Delete what was set aside."""
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)
