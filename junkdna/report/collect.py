"""A tree of runs as one table: a row per cell, finished or not, with every setting and metric.

What a cell is comes from its record alone: its family, axes, treatment, the roles of its settings and its metrics.
Runs of several families may lie in one tree; an axis or setting that a family lacks is empty in its rows.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.errors import UserError, visible
from junkdna.report import answers, folds, names, questions, reading, repeats
from junkdna.report.kinds import is_nm, kind_of, name_magnitude, name_masks, pattern_of
from junkdna.report.reading import DONE, FAILED, MASK_FILE, MODEL, NO_VALUE, UNFINISHED, Odd
from junkdna.runs import collapse
from junkdna.runs.records import RESULTS
from junkdna.runs.settings import plain_path
from junkdna.runs.speech import in_one_line

if TYPE_CHECKING:
    from pandas import DataFrame

HIDDEN = re.compile(r"\.(?!\d)")
"""What the names of hidden folders begin with; ``.5`` is a number."""

BASE_ROLES = ("training", "data", "model")
"""Roles of settings in which the runs of one curve, and the dense run they are normalised by, must agree."""

STRICT = (*BASE_ROLES, "scope", "layout")
"""Roles that matter to the report, the strictest first: it wins where two records disagree on a setting's role."""

COMPARED = ("model_config", "tokenizer", "training_rows", "validation_rows", "prompts", "windows")
"""Parts of a run's identity that are compared beside weights and data."""

FIXED = [
    *("path", "folder", "status", "error", "family", "model", "place", "treatment", "score", "kind", "curve"),
    *("pattern", "sparsity", "seed", "metric", "value", "chance", "better", "normalised", "above_chance"),
    *("collapsed", "base_value", "base_path", "base_remark", "training", "scope", "layout", "source", "settled"),
    *("whole", "collapsed_folds", "base_collapsed", "made_of", "seal", "base_seed"),
    *("predictions_digest", "draws", "draws_remark", "base_draws", "base_draws_remark"),
    *("questions", "unit", "value_low", "value_high", "ratio", "ratio_low", "ratio_high", "seconds"),
]
"""Columns that are the report's own; an axis, setting or result of the same name is renamed."""

OTHERS = ("base_values", "lowest", "line", "rest", "panel", "expected", "seeds", "mean", "std", "note")
OWN = {*FIXED, *OTHERS}
TAKEN = {*OWN, names.FOLD}
"""Names that an axis or a result cannot have in a table; ``OWN`` are those that a setting cannot have."""


class Unreadable(str):
    """A folder without a usable record, and the reason, as one line: 'FOLDER: REASON'."""

    def __new__(cls, folder: str, reason: str):
        made = super().__new__(cls, f"{folder}: {reason}")
        made.folder, made.reason = folder, reason
        return made


def collect(roots: list[str], metric: str | None = None):
    """Return (one row per cell as a DataFrame, the folders whose records cannot be read as ``Unreadable``).

    ``metric`` takes the place of a run's main one wherever it has it. Raises UserError if a folder is missing, if no
    run is finished, or if no run has the metric.
    """
    import pandas as pd

    rows, unreadable = read_all(roots, metric)
    if not any(row["status"] == DONE for row in rows):
        others = f"; {len(unreadable)} unreadable, such as {unreadable[0]}" if unreadable else ""
        raise UserError(f"RUNS {' '.join(roots)}: no finished run in there{others}")
    known = {name for row in rows for name in row.pop("known")}
    if metric and metric not in known:
        raise UserError(f"--metric {metric}: no run has it; allowed: {' '.join(sorted(known))}")
    one_metric(rows, metric)
    name_masks(rows)
    compared(rows)
    folds.complete(rows)
    flatten(rows)
    cells = pd.DataFrame(rows)
    for axis in axes_of(cells):
        cells[axis] = cells[axis].fillna("")
    cells["model"] = names.shortened(cells["model"], names.telling)
    names.move_constant_axes(cells)
    folds.number(cells)
    name_magnitude(cells)
    names.tell_apart(cells)
    cells[MODEL] = cells["model"]
    names.name_files(cells)
    cells = cells.loc[names.in_order(cells)].reset_index(drop=True)
    repeats.mark(cells)
    questions.add(cells, asked_once(cells))
    return cells, unreadable


def one_metric(rows: list[dict], wanted: str | None) -> None:
    """Let runs at one place of a model have one metric: the wanted one, if any of them has it, or else that of most.

    Runs without it count as finished without a value: two metrics can neither be averaged nor divided. The folds of a
    task are one place.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["status"] == DONE:
            groups.setdefault((row["family"], row["model"], names.without_fold(row["place"])), []).append(row)
    for mine in groups.values():
        counts = Counter(row["metric"] for row in mine)
        one = wanted if wanted in counts else counts.most_common(1)[0][0]
        better = next(row["better"] for row in mine if row["metric"] == one)
        for row in mine:
            if row["metric"] != one:
                row |= measured_by(row, one) or {"status": NO_VALUE, "error": f"has no {one}", "value": float("nan")}
                row |= {"metric": one, "better": better}


def measured_by(row: dict, name: str) -> dict:
    """What changes in a finished run's row if this metric is its value; {} if it has none of it."""
    metric = next((one for one in row["measured"] if one["name"] == name), None)
    value = row["results"].get(metric["key"]) if metric else None
    if not reading.is_number(value):
        return {}
    return {"value": float(value), "chance": or_nan(metric.get("chance"))}


def or_nan(number: float | None) -> float:
    return float("nan") if number is None else float(number)


def asked_once(cells: DataFrame):
    """The finished runs whose uncertainty can be that over questions: a curve's, if it has one seed, and the dense ones
    of its place.
    """
    place = ["family", "model", "whole"]
    seeds = repeats.counted(cells).groupby([*place, "curve"])["seed"].transform("nunique")
    alone = seeds.reindex(cells.index) == 1
    beside = alone.groupby([cells[name] for name in place]).transform("any")
    return (cells["status"] == DONE) & (alone | (beside & (cells["kind"] == "dense")))


def read_all(roots: list[str], metric: str | None) -> tuple[list[dict], list[Unreadable]]:
    """Return every readable cell below the roots, each folder once, and those that cannot be read."""
    rows, unreadable, seen = [], [], set()
    for root, called in zip(roots, told_apart(roots)):
        if not os.path.isdir(root):
            raise UserError(f"RUNS {root}: no such folder")
        closed: list[OSError] = []
        for folder in folders(root, closed):
            real = os.path.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            name = visible(place(folder, root, called))
            try:
                rows.append({"folder": name} | read_cell(folder, metric))
            except Odd as reason:
                unreadable.append(Unreadable(name, str(reason)))
        for error in closed:
            name = visible(place(Path(error.filename), root, called))
            unreadable.append(Unreadable(name, f"cannot be looked into: {error.strerror}"))
    return rows, unreadable


def folders(root: str, closed: list[OSError]) -> list[Path]:
    """Every folder below ``root`` that holds a record of a run; what is hidden (``.previous``) is left out.

    Links are followed, each real folder once: a link to a folder above it would go round for ever. The errors of
    folders that cannot be listed go to ``closed``.
    """
    found, seen = [], set()
    for folder, inner, files in os.walk(root, followlinks=True, onerror=closed.append):
        held = {*inner, *files}
        real = os.path.realpath(folder)
        inner[:] = [] if real in seen else sorted(name for name in inner if not HIDDEN.match(name))
        if real in seen:
            continue
        seen.add(real)
        if not held.isdisjoint(reading.RECORDS):
            found.append(Path(folder))
    return found


def told_apart(roots: list[str]) -> list[str]:
    """What each root is called: what is left of its path behind the folder that holds all of them; "" if it is alone.

    The last part alone would not do: ``sparse-100/cola`` and ``more-100/cola`` are two roots.
    """
    if len(roots) == 1:
        return [""]
    given = [os.path.abspath(root) for root in roots]
    shared = os.path.commonpath([os.path.dirname(path) for path in given])
    return [os.path.relpath(path, shared) for path in given]


def place(folder: Path, root: str, called: str) -> str:
    """A run's folder as the report calls it: below its root, which is named where ``told_apart`` gives it a name, or
    where it is the run's folder itself.
    """
    inside = folder.relative_to(root)
    return str(Path(called or ("" if inside.parts else Path(root).resolve().name)) / inside)


# --- one cell --------------------------------------------------------------------------------------------------------


def read_cell(folder: Path, metric: str | None = None) -> dict:
    """Return one cell as a row; raises Odd if its record cannot be used."""
    run, results, error = reading.read(folder)
    status = DONE if results is not None else UNFINISHED if error is None else FAILED
    message = error["error"] if error else ""
    try:
        cell = row(folder, run, results or {}, metric)
    except UserError as mistake:  # of an N:M ratio
        raise Odd(str(mistake)) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise error if isinstance(error, Odd) else Odd(f"cannot be used: {in_one_line(error)}") from None
    if is_nm(cell["kind"]) and ":" not in cell["pattern"]:
        raise Odd("settings.nm_ratio is missing")
    if status == DONE and not reading.is_number(cell["value"]):
        status, message = NO_VALUE, f"{cell['key']} is {results.get(cell['key'])}"
    return cell | {"status": status, "error": message}


def row(folder: Path, run: dict, results: dict, metric: str | None) -> dict:
    """Return a readable cell as a row; the metrics of a cell that is not done are empty."""
    settings, pruning = run["settings"], run.get("pruning") or {}
    kind = kind_of(settings)
    pattern, asked = pattern_of(settings, pruning)
    measured = [one for one in run.get("metrics") or [] if not results or one["key"] in results]
    chosen = choose(measured, metric)
    if results and not chosen:
        raise Odd(f"{RESULTS} holds none of the run's metrics")
    value = results[chosen["key"]] if results else None
    return {
        "path": folder,  # as it is: its name may hold what no text can
        "family": run["family"],
        "model": plain_path(settings[MODEL]),
        "place": place_of(run),
        "treatment": run["treatment"],
        "score": settings.get("score") or "",
        "kind": kind,
        "curve": run["treatment"] if kind == "dense" else f"{run['treatment']}, {kind}",
        "pattern": pattern,
        "sparsity": asked if results.get("sparsity") is None else results["sparsity"],
        "seed": settings["seed"],
        "metric": chosen.get("name"),
        "value": or_nan(value),
        "chance": or_nan(chosen.get("chance")),
        "better": chosen.get("better", "higher"),
        "collapsed": collapse.of(run, results or None),
        "key": chosen.get("key"),
        "predictions_digest": digest_of(run, answers.FILE),
        "measured": measured,
        "made_of": repeats.made_of(run),
        "seal": run.get("seal"),
        "known": [one["name"] for one in measured] if results else [],
        "results": {name: value for name, value in results.items() if name != "sparsity"},
        "settings": settings,
        "roles": run["roles"],
        "provenance": provenance(run),
    }


def place_of(run: dict) -> names.Place:
    """Where a run stands on its family's axes, and on that of the folds, if it is on one."""
    axes = ((f"axis_{name}" if name in TAKEN else name, str(at)) for name, at in run["axes"].items())
    return (*axes, *folds.fold_of(run["settings"], run["roles"]))


def choose(metrics: list[dict], wanted: str | None) -> dict:
    """The metric that is wanted, or else the main one, or else the first; {} if there are none."""
    order = [*(one for one in metrics if one["name"] == wanted), *(one for one in metrics if one.get("main")), *metrics]
    return order[0] if order else {}


def digest_of(run: dict, name: str) -> str | None:
    """The digest that a record keeps of a file, if it does."""
    files = run.get("files")
    kept = files.get(name) if isinstance(files, dict) else None
    return kept if isinstance(kept, str) else None


def provenance(run: dict) -> dict:
    """With which code, libraries, machine, weights and data a run was made, and in how many seconds, under names that
    say so.
    """
    made = run.get("identity") if isinstance(run.get("identity"), dict) else {}
    splits = {name: split for name, split in (run.get("data") or {}).items() if isinstance(split, dict)}
    return {
        **{f"code_{name}": value for name, value in (run.get("code") or {}).items()},
        **{f"version_{name}": value for name, value in (run.get("versions") or {}).items()},
        **{f"hardware_{name}": value for name, value in (run.get("hardware") or {}).items() if name != "platform"},
        "weight_hash": (run.get("model") or {}).get("weight_hash"),
        **{f"data_{name}_sha256": split["sha256"] for name, split in splits.items() if "sha256" in split},
        **{f"identity_{name}": made[name] for name in COMPARED if name in made},
        "seconds": seconds(run.get("timings")),
    }


def seconds(timings) -> float | None:
    """What a run took, by the clock of its main process; the ``total`` of earlier versions leaves out what lay before a
    checkpoint.
    """
    known = timings if isinstance(timings, dict) else {}
    taken = {name: known[name] for name in ("total", "train", "evaluate") if isinstance(known.get(name), (int, float))}
    return max(taken["total"], taken.get("train", 0) + taken.get("evaluate", 0)) if "total" in taken else None


# --- settings by their roles -----------------------------------------------------------------------------------------


def compared(rows: list[dict]) -> None:
    """Give every row what it must agree in with others, as (name, text) pairs: ``training``, ``scope``, ``layout``.

    ``training`` is that of a curve's runs and their dense run, ``scope`` that of pruned runs. A setting that one of a
    family's records lacks, since the flag did not exist yet, counts as None there, as False if it is a switch, and as
    an empty list if it takes several values. ``source`` names the settings that may hold paths.
    """
    families = {family: roles_of(rows, family) for family in dict.fromkeys(row["family"] for row in rows)}
    files = {family: may_hold_paths(rows, family, roles) for family, roles in families.items()}
    given = ((row["family"], *setting) for row in rows for setting in row["settings"].items())
    unset = {bool: False, list: []}
    before = {(family, name): unset[type(value)] for family, name, value in given if type(value) in unset}
    for row in rows:
        roles = families[row["family"]]
        for column, wanted in (("training", BASE_ROLES), ("scope", ("scope",)), ("layout", ("layout",))):
            chosen = [name for role in wanted for name, said in roles.items() if said == role and name != MODEL]
            known = {name: row["settings"].get(name, before.get((row["family"], name))) for name in chosen}
            row[column] = tuple((name, str(plain_path(value))) for name, value in known.items())
        row["source"] = tuple(name for name in roles if name in files[row["family"]])


def may_hold_paths(rows: list[dict], family: str, roles: dict[str, str]) -> set[str]:
    """The settings that are files or folders: all sources, masks, and those of which some run gives a path, as it may
    of a text to calibrate with. The model has a name already.
    """
    found = {MASK_FILE, *(name for name, said in roles.items() if said == "source")}
    for row in rows:
        if row["family"] == family:
            given = {name for name, value in row["settings"].items() if isinstance(value, str) and "/" in value}
            found |= {name for name in given if roles[name] in STRICT}
    return found - {MODEL}


def roles_of(rows: list[dict], family: str) -> dict[str, str]:
    """The roles of a family's settings; a mask file says what is removed, so it is part of the scope."""
    order = lambda role: STRICT.index(role) if role in STRICT else len(STRICT)  # noqa: E731
    merged: dict[str, str] = {}
    for row in rows:
        if row["family"] == family:
            for name in row["settings"]:
                role = "scope" if name == MASK_FILE else row["roles"].get(name, "training")
                merged[name] = min(merged.get(name, role), role, key=order)
    ranked = [name for said in rows if said["family"] == family for name in said["roles"]]
    return {name: merged[name] for name in dict.fromkeys([*ranked, *merged]) if name in merged}


def flatten(rows: list[dict]) -> None:
    """Turn axes, results, settings and provenance into columns; one that is named like another is renamed."""
    axes = {name for row in rows for name, _ in row["place"]}
    measured = {"eval_samples", *(name for row in rows for name in row["results"])}
    for row in rows:
        settings, results, known = row.pop("settings"), row.pop("results"), row.pop("provenance")
        roles = row.pop("roles")
        del row["key"], row["measured"]
        own = {f"{name}_result" if name in TAKEN or name in axes else name: value for name, value in results.items()}
        row |= dict(row["place"]) | own
        for name, value in settings.items():
            said_already = name in ("seed", "score") or (name in axes and roles.get(name) in ("axis", "fold"))
            if not said_already:
                row[f"{name}_asked" if name in OWN or name in axes or name in measured else name] = value
        row |= known


def axes_of(frame: DataFrame) -> list[str]:
    """The names of the axes, in the order in which the families have them."""
    return list(dict.fromkeys(name for place in frame["place"] for name, _ in place))
