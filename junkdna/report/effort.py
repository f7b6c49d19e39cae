"""What a report's runs took: how many there are, of which code, on which machine, for how long."""

from __future__ import annotations

from junkdna.report.collect import DONE, axes_of
from junkdna.report.forms import Table, table
from junkdna.report.tables import at, numeric

SHORT = 7
"""Digits of a commit that are shown."""


def effort(cells) -> Table:
    """The finished runs, a row for each model and place; hours are those of their processes, added up."""
    done, axes = cells[cells["status"] == DONE], axes_of(cells)
    several = done["family"].nunique() > 1
    rows = []
    for (family, model, place), mine in done.groupby(["family", "model", "whole"], sort=False):
        seeds = " ".join(map(str, sorted(mine["seed"].unique())))
        hours = f"{mine['seconds'].sum() / 3600:.1f}" if mine["seconds"].notna().all() else ""
        said = [len(mine), seeds, hours, _listed(mine, _code), _listed(mine, _machine)]
        rows.append([*([family] if several else []), model, *at(place, axes), *said])
    head = [*(["family"] if several else []), "model", *axes, "runs", "seeds", "hours", "code", "machine"]
    return table(" | ".join(head), rows, ["runs", "hours", *numeric(axes, done["whole"])])


def _listed(cells, text) -> str:
    """What is said of runs, each text once, with the number of runs where there are several."""
    found = cells.apply(text, axis=1).value_counts(sort=False)
    return (
        ", ".join(found.index) if len(found) == 1 else ", ".join(f"{said} ({count})" for said, count in found.items())
    )


def _code(cell) -> str:
    commit = cell.get("code_commit")
    if not isinstance(commit, str):
        return str(cell.get("code_version") or "unknown")
    return commit[:SHORT] + (" and changes" if str(cell.get("code_changed")) == "True" else "")


def _machine(cell) -> str:
    return str(cell.get("hardware_name") or cell.get("hardware_device") or "unknown")
