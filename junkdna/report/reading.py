"""The record of one run, read whatever lies there: what the report relies on is checked, and what is wrong is said.

An odd record (cut off, of wrong types, a folder or a fifo in place of a file) costs the report that run alone: ``Odd``
carries the reason. Text comes out without control characters, since it goes to terminals, tables and pages.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path

from junkdna.errors import UserError, one_line, visible
from junkdna.runs import records, schema
from junkdna.runs.speech import in_one_line

RECORDS = (schema.RUN, schema.ERROR, records.RESULTS, records.HISTORY)
"""Files by which a folder is known to be a run's."""

DONE, UNFINISHED, FAILED = "done", "running (unfinished)", "failed"
NO_VALUE = "finished without a value"
"""The run went through and its metric is null or not a number, as where a loss diverged."""

REPEATED = "repeated"
"""A second record of the same run, as that of another seed in which nothing is drawn."""

SETTLED = (DONE, REPEATED)
"""What a run is of which nothing is missing."""

INCOMPLETE = "no mean over folds"
"""Of a seed whose folds are to be averaged: one is missing, has no value, or has two."""

MODEL, MASK_FILE = "model_name_or_path", "mask_file"
TEXT, NUMBER, WHOLE, OBJECT, LIST, NONE = (str,), (int, float), (int,), (dict,), (list,), (type(None),)
BOOLEAN = (bool,)
WORDS = {
    str: "text",
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


class Odd(ValueError):
    """Why a folder's record cannot be used, in one line."""


def read(folder: Path) -> tuple[dict, dict | None, dict | None]:
    """Return (run, results or None, error or None) of a folder; the run has what the report needs, of the right types.

    A failed run that left no ``run.json`` is told by its error. Raises Odd.
    """
    found, odd = {}, {}
    for name in (schema.RUN, schema.ERROR, records.RESULTS):
        try:
            found[name] = _object(folder / name)
        except Odd as reason:
            odd[name] = str(reason)
    try:
        run = _clean(schema.read_run(folder)) if found.get(schema.RUN) else None
        error = schema.read_error(folder) if found.get(schema.ERROR) else None
        error = error and _clean(error | {"error": one_line(error.get("error", ""))})
        there = found.get(schema.RUN) and found.get(records.RESULTS)
        results = _clean(records.finished(folder, (records.MASK,))) if there else None  # damaged predictions cost less
    except (OSError, UserError) as problem:
        raise Odd(in_one_line(problem)) from None
    except RecursionError:
        raise Odd("its records are nested too deeply") from None
    if results is not None:
        error = None
    elif error is not None:
        told = ("family", "axes", "treatment", "roles", "settings")
        run = (run or {}) | {name: error[name] for name in told if name in error}
    if run and run.get("status") == "done" and records.RESULTS in odd:
        raise Odd(odd[records.RESULTS])
    message = error["error"] if error else ""
    if not run or "settings" not in run:
        raise Odd(message or next(iter(odd.values()), "") or _lacking(found))
    try:
        _check(run, results or {})
    except Odd as reason:
        where = "" if str(reason).startswith(records.RESULTS) else f"{schema.RUN}: "
        raise Odd("; ".join(filter(None, [f"{where}{reason}", message]))) from None
    return run, results, error


def _lacking(found: dict) -> str:
    """Why there is no record although every file could be read."""
    if found.get(schema.RUN) is None:
        return f"{schema.RUN} is missing"
    return f"{schema.RUN}: holds no settings that a version of the program has written"


def _object(path: Path) -> dict | None:
    """A JSON file's object, or None if there is no such file; raises Odd if it cannot be read."""
    content = _content(path)
    if content is None:
        return None
    try:
        content = json.loads(content.decode())
    except UnicodeDecodeError:
        raise Odd(f"{path.name} is not UTF-8") from None
    except RecursionError:
        raise Odd(f"{path.name} is nested too deeply") from None
    except ValueError as error:
        raise Odd(f"{path.name} is not JSON: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise Odd(f"{path.name} holds no object")
    return content


def regular_file(path: Path) -> bytes:
    """A file's content; raises Odd if there is none, or if it cannot be read."""
    content = _content(path)
    if content is None:
        raise Odd(f"{path.name} is missing")
    return content


def _content(path: Path) -> bytes | None:
    """A file's content, or None if there is no such file; raises Odd if it is not a regular file or is unreadable."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Odd(f"{path.name} is not a file")
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise Odd(f"{path.name} is a link to nothing") from None
        return None
    except OSError as error:
        raise Odd(f"{path.name} cannot be read: {error.strerror}") from None


def _clean(value):
    """JSON whose text has no control characters."""
    if isinstance(value, dict):
        return {visible(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return visible(value) if isinstance(value, str) else value


# --- what the report relies on ---------------------------------------------------------------------------------------


def _check(run: dict, results: dict) -> None:
    """Raise Odd for the first key that is missing or of another type than the report takes it for."""
    for name, types in (
        ("settings", OBJECT),
        ("family", TEXT),
        ("treatment", TEXT),
        ("axes", OBJECT),
        ("roles", OBJECT),
    ):
        need(run, name, types)
    for name in ("code", "versions", "hardware", "model", "data", "pruning"):
        need(run, name, OBJECT + NONE)
    settings = run["settings"]
    for name, types in ((MODEL, TEXT), ("sparsity_pattern", TEXT), ("seed", WHOLE)):
        need(settings, name, types, "settings.")
    for name, types in (("score", TEXT), ("nm_ratio", TEXT), ("sparsity", NUMBER), (MASK_FILE, TEXT)):
        need(settings, name, types + NONE, "settings.")
    told = (settings["sparsity_pattern"] in ("dense", "mask_file"), settings.get("nm_ratio"))
    if settings.get("sparsity") is None and not any(told):
        raise Odd("settings.sparsity is missing")
    if not run["axes"]:
        raise Odd("axes is empty")
    for name in run["axes"]:
        need(run["axes"], name, TEXT + NUMBER, "axes.")
    for name in run["roles"]:
        if need(run["roles"], name, TEXT, "roles.") == "fold":
            need(settings, name, WHOLE + NONE, "settings.")
    if "collapsed" in run:
        need(run, "collapsed", BOOLEAN)
    _check_metrics(run, results)
    pruning = run.get("pruning") or {}
    for where, holder in (("settings.", settings), ("pruning.", pruning), (f"{records.RESULTS}: ", results)):
        share = need(holder, "sparsity", NUMBER + NONE, where)
        if share is not None and not 0 <= share <= 1:
            raise Odd(f"{where}sparsity is {share}, not a fraction")
    matrices(run)


def _check_metrics(run: dict, results: dict) -> None:
    for metric in need(run, "metrics", LIST + NONE) or []:
        if not isinstance(metric, dict):
            raise Odd("metrics: holds something other than objects")
        for name in ("name", "key"):
            need(metric, name, TEXT, "metrics.")
        need(metric, "chance", NUMBER + NONE, "metrics.")
        if metric.get("better", "higher") not in ("higher", "lower"):
            raise Odd(f"metrics.better is {one_line(metric['better'])}; known: higher lower")
        need(results, metric["key"], NUMBER + NONE, f"{records.RESULTS}: ")
    if results and not run.get("metrics"):
        raise Odd("metrics is missing")
    need(results, "eval_samples", NUMBER + NONE, f"{records.RESULTS}: ")


def need(holder: dict, name: str, types: tuple, where: str = ""):
    """Return a key's value if it is of one of the types (a boolean is not a number); raises Odd otherwise."""
    value = holder.get(name)
    if isinstance(value, types) and not (isinstance(value, bool) and bool not in types):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise Odd(f"{where}{name} is a number of {len(str(abs(value)))} digits")
        return value
    if name not in holder:
        if NONE[0] in types:
            return None
        raise Odd(f"{where}{name} is missing")
    wanted = [word for kind, word in WORDS.items() if kind in types and not (kind is int and float in types)]
    raise Odd(f"{where}{name} is {one_line(json.dumps(value)[:100])}, not {' or '.join(wanted)}")


def matrices(run: dict) -> list[dict]:
    """The counts of every matrix of a mask; raises Odd if they are not as the program writes them."""
    found = need(run.get("pruning") or {}, "matrices", LIST + NONE, "pruning.") or []
    for matrix in found:
        if not isinstance(matrix, dict):
            raise Odd("pruning.matrices: holds something other than objects")
        need(matrix, "name", TEXT, "pruning.matrices.")
        for name in ("removed", "kept"):
            need(matrix, name, WHOLE, "pruning.matrices.")
        for size in need(matrix, "shape", LIST, "pruning.matrices."):
            need({"shape": size}, "shape", WHOLE, "pruning.matrices.")
    return found


def matrices_of(folder: Path) -> list[dict]:
    """The same, of a run that has been read before; nothing if it has become odd since."""
    try:
        return matrices(_clean(schema.read_run(folder) or {}))
    except (Odd, OSError, UserError, AttributeError):
        return []


def is_number(value) -> bool:
    """Whether a result is a number that counts."""
    return value is not None and math.isfinite(value)
