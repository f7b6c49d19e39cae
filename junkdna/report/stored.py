"""The points of a report's figure as a file: what the figure shows, and all that is needed to draw it again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.errors import UserError
from junkdna.report.summary import LINE

if TYPE_CHECKING:
    from pandas import DataFrame

NAME = "points.json"
KIND = "points of a figure"
"""How the file says what it is."""

NEEDED = (*LINE, "kind", "treatment", "pattern", "sparsity", "metric", "better", "ratio", "ratio_std", "ratio_low")
NEEDED += ("ratio_high", "chance_ratio", "normalised_seeds", "expected", "questions", "unit", "ringed", "settled")
"""Columns that the figure is drawn from."""

PLACES = ("place", "settled")
"""Columns that hold (axis, value) pairs."""


@dataclass(frozen=True)
class Stored:
    """``points``: a table, one row per point; ``first``, ``scale`` and ``published``: how they were drawn."""

    points: DataFrame
    first: bool
    scale: str
    published: bool


def text(stored: Stored) -> str:
    """The file's text: the points one to a line, the same for the same points."""
    points = stored.points
    numbers = [name for name in points if points[name].dtype.kind == "f"]
    rows = [json.dumps(_plain(row), ensure_ascii=False) for row in points.to_dict("records")]
    how = {"kind": KIND, "first": stored.first, "scale": stored.scale, "published": stored.published}
    head = json.dumps(how | {"numbers": numbers})
    return f'{head[:-1]}, "points": [\n' + ",\n".join(rows) + "\n]}\n"


def read(path: Path) -> Stored:
    """Read such a file; raises UserError if it is another."""
    import pandas as pd

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["kind"] != KIND:
            raise ValueError("it says that it is something else")
        points = pd.DataFrame(found["points"]).astype(dict.fromkeys(found["numbers"], float))
        if lacking := [name for name in NEEDED if name not in points]:
            raise ValueError(f"its points lack {', '.join(lacking)}")
        for name in PLACES:
            points[name] = [tuple(map(tuple, pairs)) for pairs in points[name]]
        return Stored(points, found["first"], found["scale"], found["published"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the {NAME} of a report: {type(error).__name__}: {error}") from None


def _plain(row: dict) -> dict:
    """A row without NaN, which JSON has not."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
