"""In what runs differ: between them, and inside one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.report.names import belongs_to_method, column_of, line_words, place_words, without_fold
from junkdna.report.reading import DONE, MASK_FILE
from junkdna.report.summary import LINE

if TYPE_CHECKING:
    from pandas import DataFrame

PROVENANCE = ("code_", "version_", "hardware_", "weight_hash", "identity_")
OF_DATA = ("identity_training_rows", "identity_validation_rows", "identity_prompts")
"""Of these, what is another in every fold, beside the digests of the splits."""

SETTINGS = ("training", "scope", "layout")
"""Columns of settings that are compared."""

UNIDENTIFIED = "True: code not identified"
"""Runs of code that was changed after its commit may have run different code, even if they all say so."""


def differences(cells: DataFrame) -> DataFrame:
    """Return a row per value of every setting, version and machine in which the cells differ, with how many have it."""
    import pandas as pd

    few = cells[["model", "kind", "source"]]  # a hundred columns would make this slow
    few = few.assign(place=cells["place"].map(without_fold), **{column: cells[column].map(dict) for column in SETTINGS})
    rows = []
    for name in cells.columns:
        known = comparable(cells, few, name)
        if known is None:
            continue
        where, values = known
        if name == "code_changed":
            values = values.replace("True", UNIDENTIFIED)
        if values.nunique() > 1 or UNIDENTIFIED in set(values):
            for value, mine in where.groupby(values):
                places = ", ".join(sorted({place_words(place) for place in mine}))
                rows.append({"name": name, "value": value, "cells": len(mine), "where": places})
    return pd.DataFrame(rows, columns=["name", "value", "cells", "where"])


def comparable(cells: DataFrame, few, name: str):
    """(Places, values as text) of the cells that can differ in a column, or None.

    Those are the cells whose family has the setting, or whose record says with which code, library or machine they ran.
    ``few`` has their settings by name.
    """
    if name.startswith(PROVENANCE[:3]):
        known = cells[name].notna()
        return few.loc[known, "place"], cells.loc[known, name].map(str)
    for column in SETTINGS:
        mine = few[few[column].map(lambda said: name in said)]
        if mine.empty:
            continue
        mine = mine if column != "scope" else mine[mine["kind"] != "dense"]
        values = mine[column].map(lambda said: said[name])
        if column == "scope" and name != MASK_FILE and belongs_to_method(mine, values):
            mine, values = mine[values != "None"], values[values != "None"]  # others need not have it
        if any(name in some for some in mine["source"]):  # a path: by its short name
            values = cells.loc[mine.index, column_of(cells, name)].map(str)
        return mine["place"], values
    return None


def mixed(cells: DataFrame) -> list[str]:
    """Name every difference that is inside one number: within a point's mean, or between a run and its base.

    The data of two folds differ, and are compared within each.
    Settings cannot be: they are part of a curve's name. Code, versions, machine, weights, data and settings that change
    rounding at most can, and are averaged.
    """
    done = cells[cells["status"] == DONE]
    layout = {name for pairs in done["layout"] for name, _ in pairs}
    names = [name for name in cells.columns if name.startswith(PROVENANCE) or of_split(name) or name in layout]
    several = cells["family"].nunique() > 1
    points = [*LINE, "pattern"]
    whole = done.assign(place=done["whole"])
    based = whole.loc[done["base_path"].notna() & (done["base_path"] != done["path"]), [*points, "base_path"]]
    lines = []
    for name in names:
        text = done[name].map(str)
        where = done if name.startswith(OF_DATA) or of_split(name) else whole
        counts = text.groupby([where[key] for key in points], sort=False).nunique()
        within = [key for key, count in counts.items() if count > 1]
        lines += describe(name, "differs within a mean", within, several)
        other = based["base_path"].map(dict(zip(done["path"], text))) != text[based.index]
        between = list(dict.fromkeys(based.loc[other, points].itertuples(index=False, name=None)))
        lines += describe(name, "is not that of the run it is normalised by", between, several)
    return lines


def of_split(name: str) -> bool:
    """Whether a column holds the digest of a split; ``data_dir`` is a setting."""
    return name.startswith("data_") and name.endswith("_sha256")


def describe(name: str, what: str, keys: list[tuple], several: bool) -> list[str]:
    """One line per curve: the patterns at which something is so."""
    patterns: dict[tuple, list[str]] = {}
    for *line, pattern in keys:
        patterns.setdefault(tuple(line), []).append(str(pattern))
    return [f"{name} {what}: {line_words(line, several)}: {' '.join(at)}" for line, at in patterns.items()]
