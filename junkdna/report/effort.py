"""What a report's runs took: how many there are, of which code, on which machine, for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.report.collect import axes_of
from junkdna.report.forms import Table, table
from junkdna.report.reading import SETTLED
from junkdna.report.tables import axis_values, numeric

if TYPE_CHECKING:
    from pandas import DataFrame

SHORT = 7
"""Digits of a commit that are shown."""

VERSION = "version_"
"""What the columns of libraries begin with."""


def effort(cells: DataFrame) -> Table:
    """The finished runs, a row for each model and place; hours are by the clock of each run's main process."""
    done, axes = cells[cells["status"].isin(SETTLED)], axes_of(cells)
    several = done["family"].nunique() > 1
    rows = []
    for (family, model, place), mine in done.groupby(["family", "model", "whole"], sort=False):
        seeds = " ".join(map(str, sorted(mine["seed"].unique())))
        said = [len(mine), seeds, _hours(mine["seconds"]), _listed(mine, _code), _listed(mine, _machine)]
        rows.append([*([family] if several else []), model, *axis_values(place, axes), *said])
    head = [*(["family"] if several else []), "model", *axes, "runs", "seeds", "hours", "code", "machine"]
    return table(head, rows, ["runs", "hours", *numeric(axes, done["whole"])])


def software(cells: DataFrame) -> str:
    """Lines that say with which Python and libraries the finished runs were made."""
    done = cells[cells["status"].isin(SETTLED)]
    if done.empty:
        return ""
    found = done.apply(_versions, axis=1).value_counts()
    return "".join(f"- {said} ({count} of {len(done)} runs)\n" for said, count in found.items())


def _versions(cell) -> str:
    names = [name for name in cell.index if name.startswith(VERSION) and isinstance(cell[name], str)]
    return ", ".join(f"{name.removeprefix(VERSION)} {cell[name]}" for name in names) or "unknown"


def _hours(seconds) -> str:
    known = seconds.dropna()
    if known.empty:
        return ""
    return f"{known.sum() / 3600:.1f}" + (f" (of {len(known)} runs)" if len(known) < len(seconds) else "")


def _listed(cells: DataFrame, text) -> str:
    """What is said of runs, each text once, with the number of runs where there are several."""
    found = cells.apply(text, axis=1).value_counts(sort=False)
    return (
        ", ".join(found.index) if len(found) == 1 else ", ".join(f"{said} ({count})" for said, count in found.items())
    )


def _code(cell) -> str:
    commit, version = cell.get("code_commit"), cell.get("code_version")
    if not isinstance(commit, str):
        return version if isinstance(version, str) else "unknown"
    return commit[:SHORT] + (" and changes" if str(cell.get("code_changed")) == "True" else "")


def _machine(cell) -> str:
    said = (cell.get("hardware_name"), cell.get("hardware_device"), "unknown")
    return next(name for name in said if isinstance(name, str) and name)
