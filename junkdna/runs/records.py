"""What a run leaves in its folder, and how the folder is claimed. ``keys`` says every key of it.

=====================  ================================================================================================
``run.json``           written when the run starts (``status`` "running") and again at its end ("done"); see ``RUN``
``history.jsonl``      one line per epoch, written as it happens; see ``HISTORY``
``mask.safetensors``   the mask, one bit per weight; ``junkdna.load_masks`` reads it (no mask: no file)
``predictions.jsonl``  what was answered, translated or chosen, one line each; see ``PREDICTIONS``
``all_results.json``   the final results, written last: a run that has it is finished; see ``RESULTS``
``error.json``         why the last attempt failed; gone when the next begins; see ``ERROR``
=====================  ================================================================================================

``.previous/`` holds a finished run that ``--overwrite_output_dir`` is replacing, until its successor is finished. With
``--save_model`` also what ``from_pretrained`` reads. Every file is written under a temporary name and then renamed.
``schema`` reads the records back, those of earlier versions too. ``run.json`` and ``error.json`` carry a seal;
``run.json`` holds the digests of the mask and the results, so that neither can be changed without a word.
"""

from __future__ import annotations

import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

from junkdna.errors import SECRET, Fault, UserError
from junkdna.runs import disk, schema, seals
from junkdna.runs.cell import Cell
from junkdna.runs.disk import write_bytes, write_json
from junkdna.runs.schema import ERROR, RUN
from junkdna.runs.settings import defaults, plain_path
from junkdna.runs.speech import in_one_line

HISTORY, MASK, RESULTS = "history.jsonl", "mask.safetensors", "all_results.json"
PREDICTIONS = "predictions.jsonl"
PREVIOUS = ".previous"
OTHERS = ("", ".", "..", RUN, ERROR, RESULTS)
"""What can be no file of a model."""
AGAIN = "to run it again, delete its folder, or give it alone with --overwrite_output_dir"
SAVED = ("*.safetensors", "*tokenizer*", "*tokens*.json", "*config.json", "vocab*", "merges.txt", "*.model")
"""Files of a saved model and its tokenizer."""


# --- writing ---------------------------------------------------------------------------------------------------------


def write_record(path: Path, content: dict) -> None:
    """Write a record with its seal, whole or not at all. Raises DiskError."""
    write_json(path, seals.sealed(content))


SECRETS = {"slurm_setup", "slurm_additional"}
"""Flags whose values may hold what nobody else should read: they set up a job, and people export tokens there."""


def command(argv: Iterable[str]) -> list[str]:
    """A command line's words as a record keeps them: without tokens, and without what is set up for a job."""
    kept, secret = [], False
    for word in argv:
        name, equals, _ = word.partition("=")
        if word.startswith("--"):
            secret = name.replace("-", "_").removeprefix("__") in SECRETS
            kept.append(f"{name}=..." if secret and equals else SECRET.sub("hf_...", word))
        else:
            kept.append("..." if secret else SECRET.sub("hf_...", word))
    return kept


def write_error(cell: Cell, argv: tuple[str, ...], error: Exception) -> None:
    """Leave a failed cell's error in its folder, if that can be written to and holds no finished and no other run."""
    content = {
        "schema": schema.SCHEMA,
        **cell.header(),
        "command": command(argv),
        "error": in_one_line(error),
        "traceback": None if isinstance(error, UserError) else "".join(traceback.format_exception(error)),
        "failed_at": datetime.now(timezone.utc).isoformat(),
    }
    folder = Path(cell.output_dir)
    try:
        stored = schema.read_run(folder) or {}
        if finished(folder) is None and not (stored and difference(stored, cell)):
            folder.mkdir(parents=True, exist_ok=True)
            write_record(folder / ERROR, content)
    except (OSError, UserError):  # what cannot be read is left alone
        return


def write_model(folder: Path, save: Callable[[Path], None], note: Callable[[list[str]], None]) -> None:
    """Have ``save`` write a model's files and folders into a folder of its own, and move them beside the records, each
    file whole, once their names have been noted.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model.") as temporary:
        save(Path(temporary))
        files = sorted(Path(temporary).iterdir())
        note([file.name for file in files])
        for file in files:
            disk.move(file, folder / file.name)


# --- reading and claiming --------------------------------------------------------------------------------------------


def glance(path: Path) -> dict | None:
    """Return a JSON file's object, or None whatever hinders it; for what is only worth a try."""
    try:
        return schema.load(path)
    except UserError:
        return None


def saved_model(folder: str | Path) -> list[str] | None:
    """The names of a saved model's files and folders; [] if it could not be written whole; None if the record does not
    say, as those of before.
    """
    run = glance(Path(folder) / RUN)
    return [] if "model" in ((run or {}).get("unwritten") or {}) else _noted(run)


def started(cell: Cell) -> str | None:
    """When the run in a cell's folder started, as its record says."""
    return (glance(Path(cell.output_dir) / RUN) or {}).get("started")


def finished(folder: str | Path, beside: tuple[str, ...] = (MASK, PREDICTIONS)) -> dict | None:
    """Return the results of a finished run, or None.

    Raises DiskError if the disk does not give them, and Damaged if they, or the files ``beside`` them, are not what was
    written: a run that was finished is never taken for one that was not.
    """
    folder = Path(folder)
    run = schema.load(folder / RUN)
    content = disk.read_bytes(folder / RESULTS) if run and run.get("status") == "done" else None
    if content is None:
        return None
    written = run.get("files") or {}
    if RESULTS in written and seals.digest(content) != written[RESULTS]:
        raise _not_as_written(folder / RESULTS)
    for name in beside:
        if name in written and disk.digest_of(folder / name) not in (None, written[name]):
            raise _not_as_written(folder / name)
    try:
        results = json.loads(content)
    except (ValueError, RecursionError):
        results = None
    if not isinstance(results, dict):
        raise seals.Damaged(f"{folder / RESULTS}: is damaged, holds no JSON object; {AGAIN}")
    return results


def _not_as_written(path: Path) -> seals.Damaged:
    said = f"is damaged or was changed (its digest is not the one in {RUN})"
    return seals.Damaged(f"{path}: {said}; {AGAIN}")


def is_whole(folder: str | Path) -> bool:
    """Whether a folder holds a finished run, with nothing wrong about it."""
    try:
        return finished(folder) is not None
    except UserError:
        return False


def damage(folder: str | Path) -> str:
    """What is wrong with a finished run's files; "" if nothing is."""
    try:
        finished(folder)
    except seals.Damaged as error:
        return in_one_line(error)
    except UserError:  # of a disk that does not answer at the moment
        pass
    return ""


def check_mask(path: str | None, mask_hash: str | None) -> None:
    """Refuse a mask that is not the one of the run beside it; ``mask_hash`` is that of the mask as it was read."""
    run = glance(Path(path).parent / RUN) if path and Path(path).name == MASK else None
    pruning = (run or {}).get("pruning")
    stored = pruning.get("mask_hash") if isinstance(pruning, dict) and run.get("status") == "done" else None
    if stored is not None and stored != mask_hash:
        raise UserError(Fault("mask", path, f"is damaged or was changed: the {RUN} beside it has another mask_hash"))


def check_folder(cell: Cell, overwrite: bool) -> None:
    """Refuse a folder that cannot be written to or that holds something else, and say what differs.

    Raises Damaged if it holds this run, and its files are not what was written.
    """
    folder = Path(cell.output_dir)
    where = f"--output_dir {cell.output_dir}"
    damaged = None
    try:
        if overwrite or finished(folder) is None:  # a finished run may lie where nothing can be written
            _check_writable(folder, where)
    except seals.Damaged as error:  # said last: whether another run's folder is whole does not matter
        damaged = error
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
        if foreign := _foreign(folder, cell.save_model):
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
    if damaged:
        raise damaged


def _foreign(folder: Path, save_model: bool) -> list[str]:
    """What a run of this program would replace in a folder that holds none, and checkpoints of other programs."""
    names = [RUN, RESULTS, HISTORY, MASK, PREDICTIONS, "config.json"]
    found = [name for name in names if os.path.lexists(folder / name)]
    if save_model:
        found += sorted(path.name for kind in SAVED for path in folder.glob(kind))
    theirs = (path for path in folder.glob("checkpoint-*") if not (path / schema.CHECKPOINT).is_file())
    return found + sorted(path.name for path in theirs if path.is_dir())


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

    A setting that the record does not know had its default: the flag did not exist yet. One that means nothing for the
    run may be anything. Paths were once recorded as they were typed.
    """
    if stored.get("family") != cell.family:
        return [f"experiment: {stored.get('family')}, now {cell.family}"]
    before, now = defaults(type(cell)) | stored["settings"], cell.settings()
    compared = [name for name in now if name not in cell.unused]
    return [f"{name}: {before[name]}, now {now[name]}" for name in compared if not same(before[name], now[name])]


def same(one, other) -> bool:
    """Whether two values of a setting mean the same."""
    return one == other or plain_path(one) == plain_path(other)


def open_folder(cell: Cell, run: dict) -> Path:
    """Make the folder ready for a new run and return it: set aside what an earlier run left, write ``run.json``.

    The earlier run's files stay in ``.previous/`` until this one is finished, in case it never is.
    """
    folder = Path(cell.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = glance(folder / RUN)
        if earlier is not None and isinstance(earlier.get("settings"), dict):
            done = earlier.get("status") == "done" and (folder / RESULTS).is_file()
            _set_aside(folder, keep=done)  # damaged or not: what the report counts is not deleted
        else:  # what lies there is not known to be a run's: only what would be mixed with this one goes
            for name in (RESULTS, HISTORY, MASK, PREDICTIONS):
                disk.remove(folder / name)
        (folder / ERROR).unlink(missing_ok=True)
        write_record(folder / RUN, run)
    except OSError as error:
        raise disk.DiskError(f"--output_dir {cell.output_dir}", "cannot be written to", error) from None
    return folder


def _products(folder: Path) -> list[str]:
    """What the run in a folder has written beside its records and its results."""
    names = [HISTORY, MASK, PREDICTIONS, "model.safetensors", "model.safetensors.index.json"]
    names += [path.name for path in folder.glob("model-*-of-*.safetensors")]
    return list(dict.fromkeys(names + (_noted(glance(folder / RUN)) or [])))


def _noted(run: dict | None) -> list[str] | None:
    """The names of the saved model's files and folders as a record gives them; those of before give none: None."""
    saved = (run or {}).get("model_files")
    if not isinstance(saved, list):
        return None
    return [name for name in saved if isinstance(name, str) and name not in OTHERS and name == os.path.basename(name)]


def _delete(folder: Path) -> None:
    for name in (RESULTS, *_products(folder)):
        disk.remove(folder / name)


def _set_aside(folder: Path, keep: bool) -> None:
    """Move a finished run's files to ``.previous/``; delete those of an unfinished one.

    ``run.json`` stays for its successor to replace, so that the folder is a run's at every moment. The results go
    first: from then on the folder does not count as finished. A move that is cut off is undone by ``restore``.
    """
    if not keep:
        return _delete(folder)
    previous = folder / PREVIOUS
    drop_previous(folder)
    previous.mkdir()
    write_bytes(previous / RUN, (folder / RUN).read_bytes())
    for name in (RESULTS, *_products(folder)):
        if os.path.lexists(folder / name):
            os.replace(folder / name, previous / name)


def restore(folder: Path) -> None:
    """Bring back a finished run whose files were being set aside when the process was killed."""
    previous = folder / PREVIOUS
    run = glance(previous / RUN)
    cut_off = run is not None and run == glance(folder / RUN) and (previous / RESULTS).is_file()
    if not cut_off or os.path.lexists(folder / RESULTS):
        return
    others = [path for path in previous.iterdir() if path.name not in (RUN, RESULTS) and not path.name.startswith(".")]
    for path in [*others, previous / RESULTS]:
        os.replace(path, folder / path.name)
    drop_previous(folder)


def drop_previous(folder: Path) -> None:
    """Delete what was set aside."""
    disk.remove(folder / PREVIOUS)
