"""One self-contained HTML page: curves to hover over, all cells, what a mask removed, claims and differences.

plotly.js, style, scripts and data stand in the file; a policy in its head forbids it to load anything. Data goes in as
JSON that cannot end its script element, and the scripts show it as text only: a folder's name is never taken for
markup.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from junkdna.report import collapsed, published, reading, scales, summary, tables
from junkdna.report.collect import axes_of
from junkdna.report.forms import Table
from junkdna.report.kinds import is_nm
from junkdna.report.looks import LOOK, line_names, looks, panel_label, panels_of, rests, without_method
from junkdna.report.matrix_names import parts
from junkdna.report.names import axis_words, place_words
from junkdna.report.overlays import beside, dashes_of, placed
from junkdna.report.scales import axis_places

if TYPE_CHECKING:
    from pandas import DataFrame

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "page_curves.js", "page_cells.js", "page_parts.js", "page_start.js")


@dataclass(frozen=True)
class Findings:
    """Everything that a report shows; the frames are those of ``summary`` and ``claims``.

    ``cells`` has a row per run. ``seeds`` is the same frame, or has a row per seed where folds are averaged: points and
    claims are made of it.
    ``holes`` are the missing cells, ``unreadable`` the folders without readable records and why, ``overlay`` the
    published points to be laid over (None: not wanted). ``first``: the base is each curve's own first point; ``scale``
    is one of SCALES.
    """

    cells: DataFrame
    seeds: DataFrame
    points: DataFrame
    claims: DataFrame
    differences: DataFrame
    mixed: list[str]
    holes: list[tuple]
    unreadable: list[str]
    overlay: DataFrame | None
    first: bool
    scale: str = "share"


def page(found: Findings) -> str:
    """Return the page's text."""
    from plotly.offline import get_plotlyjs

    inside = {
        "style": (HERE / "page.css").read_text(),
        "plotly": get_plotlyjs(),
        "data": safe(json.dumps(data(found), allow_nan=False, separators=(",", ":"))),
        "script": "\n".join((HERE / name).read_text() for name in SCRIPTS),
    }
    text = (HERE / "page.html").read_text()
    for name, part in inside.items():
        before, after = text.split(f"<!-- {name} -->")  # once each: what was put in is not searched for the next
        text = before + part + after
    return text


def safe(text: str) -> str:
    """JSON that is the same value and holds nothing that HTML could read."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def data(found: Findings) -> dict:
    """Everything that the page shows, as JSON values."""
    found = by_seed(found)
    table = summary.tidy(found.cells)
    shown = shown_columns(found.cells)
    columns = [*shown, *(name for name in table.columns if name not in shown)]
    points = found.points
    made = looks(points[points["kind"] != "dense"].assign(line=line_names, rest=rests))
    return {
        "columns": columns,
        "shown": len(shown),
        "selects": selects(found.cells),
        "rows": rows(found, table[columns]),
        "where": where(found),
        "looks": [look_of(look) for look in made],
        "limits": scales.limits(found.scale),
        "base": scales.base(found.scale),
        "scale": scales.words(found.scale, "own first point" if found.first else "dense"),
        "captions": tables.captions(found.points),
        **published_data(found, made),
        "matrices": matrices(found.cells),
        "claims": [
            {"title": title, "tables": [form(made) for made in made_tables]}
            for title, made_tables in tables.claim_tables(found.claims, found.first)
        ],
        "explained": tables.explained(found.first),
        "differences": form(tables.difference_rows(found.differences)),
        "mixed": found.mixed,
        "unreadable": found.unreadable,
    }


def by_seed(found: Findings) -> Findings:
    """The findings with the means over folds in place of the runs on each: the page draws its curves from the rows."""
    if found.seeds is found.cells:
        return found
    return replace(found, cells=found.seeds, holes=summary.missing(found.seeds, found.first))


# --- cells -----------------------------------------------------------------------------------------------------------


def shown_columns(cells: DataFrame) -> list[str]:
    """The columns of the table at first, those that say which cell it is in front; the others come with a check box."""
    several = ["family"] if cells["family"].nunique() > 1 else []
    panels = list(dict.fromkeys(place[0][0] for place in cells["place"] if place))
    which = [*several, *panels, "pattern", "seed", *(axis for axis in axes_of(cells) if axis not in panels), "curve"]
    fell = ["collapsed"] if collapsed.fallen(cells).any() else []
    value = ["metric", "value", "normalised", "above_chance", *fell]
    return [*which, "status", "model", *value, "sparsity", "folder", "error"]


def selects(cells: DataFrame) -> list[str]:
    """The columns by whose values the table can be filtered."""
    return [*(["family"] if cells["family"].nunique() > 1 else []), *axes_of(cells), "curve"]


def rows(found: Findings, table) -> list[list]:
    """The table's rows, the missing cells after those that there are."""
    made = [[as_json_value(value) for value in row] for row in table.itertuples(index=False)]
    for line, pattern, seed in found.holes:
        family, model, place, curve = line
        hole = {"family": family, "model": model, "curve": curve, **dict(place)}
        hole |= {"status": "missing", "pattern": pattern, "seed": as_json_value(seed)}
        made.append([hole.get(name) for name in table.columns])
    return made


def where(found: Findings) -> list[dict]:
    """For every row its panel, its place on the other axes and its line's name, as the curves need them."""
    cells = found.cells
    several = cells["family"].nunique() > 1
    made = []
    drawn = {name: list(cells[name] - (found.scale == "change")) for name in ("ratio", "ratio_low", "ratio_high")}
    for i, (panel, rest, line, place, kind) in enumerate(
        zip(panels_of(cells), rests(cells), line_names(cells), cells["place"], cells["kind"])
    ):
        shown = {name: as_json_value(values[i]) for name, values in drawn.items()}
        less = cells["better"].iloc[i] == "lower"
        made.append(spot(panel, rest, place, several) | {"line": line, "nm": is_nm(kind), "less": less} | shown)
    for spotted, own, base in zip(made, collapsed.fallen(cells), collapsed.fallen_bases(cells)):
        spotted |= {"fell": bool(own), "base_fell": bool(base)}
    known = cells[["family", "place", "curve"]].itertuples(index=False, name=None)
    spots = dict(zip(known, zip(panels_of(cells), rests(cells))))
    for (family, _, place, curve), *_ in found.holes:
        panel, rest = spots.get((family, place, curve), ((family, *place[:1]), place[1:]))
        made.append(spot(panel, rest, place, several))
    return made


def spot(panel: tuple, rest: tuple, place: tuple, several: bool) -> dict:
    """Where a row stands in words; ``wide`` is the panel without the method, where a dense run stands."""
    return {
        "panel": panel_label(panel, several),
        "wide": panel_label(without_method(panel), several),
        "rest": axis_words(rest),
        "place": place_words(place),
    }


def look_of(look: dict) -> dict:
    return {name: as_json_value(value) for name, value in (look | {"rest": axis_words(look["rest"])}).items()}


# --- published curves ------------------------------------------------------------------------------------------------


def published_data(found: Findings, styles: list[dict]) -> dict:
    """The order of N:M patterns on their axis, and the published points with their names and looks.

    ``beside`` numbers the curves of ``styles`` that a published one stands beside.
    """
    nm = found.points[found.points["kind"].map(is_nm).astype(bool)]
    theirs = found.overlay
    if theirs is None:
        return {"nm": list(axis_places(nm, None)), "published": []}
    several = found.cells["family"].nunique() > 1
    dashes = dashes_of(theirs)
    ours = found.points.assign(panel=panels_of, line=line_names, rest=rests)
    here = set(zip(ours["panel"], ours["kind"].map(is_nm), *(ours[name] for name in LOOK)))
    made = []
    for row in placed(theirs, found.points).to_dict("records"):
        panel = (row["panel"], is_nm(row["kind"]))
        present = [i for i, style in enumerate(styles) if (*panel, *(style[name] for name in LOOK)) in here]
        said = {"panel": panel_label(row["panel"], several), "rest": axis_words(row["rest"]), "line": row["line"]}
        said |= {"label": published.label(row), "short": published.short_label(row["model"], row["base"])}
        said |= {
            name: as_json_value(row[name]) for name in ("family", "treatment", "kind", "pattern", "sparsity", "figure")
        }
        said |= {"value": as_json_value(scales.on_axis(row["value"] / 100, found.scale)), "nm": is_nm(row["kind"])}
        found_beside = [present[i] for i in beside(row, [styles[i] for i in present])]
        made.append(said | {"beside": found_beside, "dash": dashes[row["model"], row["base"]]})
    return {"nm": list(axis_places(nm, theirs[theirs["kind"].map(is_nm).astype(bool)])), "published": made}


# --- what a mask removed ---------------------------------------------------------------------------------------------


def matrices(cells: DataFrame) -> dict:
    """The masks' counts per matrix, each mask once: ``of`` maps a row's number to one of ``masks``.

    A matrix is [name, shape, removed, kept, whether it is of a fresh head, kind of matrix, layer or null].
    """
    masks, of, known = [], {}, {}
    for row, (path, status) in enumerate(zip(cells["path"], cells["status"])):
        counts = reading.matrices_of(path) if status == reading.DONE else None
        if counts:
            where = parts(str(m["name"]) for m in counts)
            mask = [
                [str(m["name"]), "x".join(map(str, m["shape"])), m["removed"], m["kept"], bool(m.get("head")),
                 *where[str(m["name"])]] for m in counts
            ]  # fmt: skip
            of[row] = known.setdefault(json.dumps(mask), len(masks))
            if of[row] == len(masks):
                masks.append(mask)
    return {"masks": masks, "of": of}


# --- form ------------------------------------------------------------------------------------------------------------


def form(table: Table) -> dict:
    return {"head": table.head, "rows": table.rows, "right": sorted(table.right)}


def as_json_value(value):
    """A value that JSON knows: NaN becomes null, a list its text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
