"""The curves in the paper's layout: a panel per value of the first axis, unstructured above N:M, as PNG and SVG.

Every curve has its own marker and dash, so that a print in grey is readable. The files are the same for
the same points.
"""

from __future__ import annotations

import io
import itertools
import sys
import textwrap
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from junkdna.errors import UserError
from junkdna.report import collapsed, corpus_scores, overlays, published, scales
from junkdna.report.looks import LOOK, in_panel_order, line_names, looks, panel_label, panels_of, rests, row_of
from junkdna.report.names import NOTES, settled_words
from junkdna.report.scales import across, axis_places
from junkdna.runs.speech import say

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("png", "svg", "pdf")
MARKERS, DASHES = "os^DvP<>X", ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
COLOURS = ("#1b4f9c", "#d1600f", "#1f8a55", "#7a3f98", "#b01e3a", "#4d4d4d", "#0f8f9e", "#a07d00")
WIDTH, HEIGHT, LETTER = 3.4, 2.9, 0.064
"""Inches of one panel, and of a letter in the legend."""

OTHER_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei",
                 "Noto Sans Devanagari", "Noto Sans Gujarati", "Noto Sans Arabic")  # fmt: skip
"""Fonts of scripts that matplotlib's own lacks."""

INDENT, HEADING = 0.7, 0.085
"""Inches beside a name in the legend, and of a letter in the heading."""

LONGEST = 48
"""Letters of a panel's title that stand on one line."""

OUTSIDE, CHANCE, COPIED = "outside the axis", "chance: a model that has learned nothing", "chance: the source, copied"
OURS = " (of these runs)"
"""Published curves have bases of their own, so chance lies elsewhere for them."""


def check(path: str | None) -> None:
    """Raise UserError for a figure file of a kind that cannot be written."""
    if path and Path(path).suffix.lower().removeprefix(".") not in FORMATS:
        raise UserError(f"--figure {path}: must end in {', '.join('.' + name for name in FORMATS)}")


def pictures(
    points: DataFrame, files: list[Path], overlay: DataFrame | None = None, first: bool = False, *, scale="share"
) -> dict[Path, bytes]:
    """Draw the curves once and return the content of every file, in the format that its suffix says.

    ``overlay`` holds published points, or is None; ``scale`` is one of SCALES.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    settings = {"svg.hashsalt": "junkdna", "font.size": 9, "svg.fonttype": "path", "font.family": fonts()}
    with matplotlib.rc_context(settings), warnings.catch_warnings(record=True) as said:
        figure = draw(points, overlay, first, scale)
        made = {}
        for file in files:
            kind = file.suffix.lower().removeprefix(".")
            metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            made[file] = content.getvalue()
        plt.close(figure)
    for one in said:
        if "Glyph" not in str(one.message):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    if any("Glyph" in str(one.message) for one in said):
        say("note: no installed font has some characters of the figure's names; Noto Sans CJK has most", sys.stderr)
    return made


def fonts() -> list[str]:
    """matplotlib's own font, and behind it those of other scripts that are installed."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def draw(points: DataFrame, overlay: DataFrame | None, first: bool, scale: str = "share"):
    """Return the figure. ``overlay`` holds published curves, or is None; ``scale`` is one of SCALES."""
    from matplotlib import pyplot as plt

    pruned = points[points["kind"] != "dense"].assign(line=line_names, rest=rests, panel=panels_of)
    panels = in_panel_order(panels_of(pruned if len(pruned) else points))
    kinds = [nm for nm in (False, True) if len(row_of(pruned, nm))] or [False]
    columns = columns_of(panels)
    blocks = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    if overlay is not None:
        overlay = overlays.placed(overlay, points)
    rows = [(block, nm) for block in blocks for nm in kinds if any(holds(pruned, overlay, name, nm) for name in block)]
    rows = rows or [(blocks[0], kinds[0])]
    sheet = Sheet(pruned, overlay, line_styles(pruned), {}, first, base_name(points, first), scale)
    figure, axes = plt.subplots(len(rows), columns, squeeze=False, layout="constrained")
    used = [panels_in(sheet, block, nm, row) for (block, nm), row in zip(rows, axes)]
    zero = scales.shows_zero(pruned, scale)
    scales.share_axes(used, zero)
    scales.name_axes(used, scales.words(scale, "own first point" if first else "dense"), zero)
    for (_, nm), row in zip(rows, used):
        for panel in row:
            fill_panel(panel.axes, sheet, panel.name, nm)
            panel.axes.set_title(textwrap.fill(title(points, sheet, panel.name), LONGEST), fontsize=9)
    limit([panel.axes for row in used for panel in row if not panel.less], sheet)
    finish(figure, points, in_legend_order(sheet), rows=len(rows), columns=columns)
    return figure


def panels_in(sheet: Sheet, block: list[tuple], nm: bool, row) -> list[scales.Panel]:
    """The panels of a row that have something to show; the others are left blank. ``row`` holds matplotlib's axes."""
    made = []
    bars = scales.over_runs(sheet.pruned)
    for name, axes in itertools.zip_longest(block, row):
        if name is None or (len(sheet.pruned) and not holds(sheet.pruned, sheet.overlay, name, nm)):
            axes.set_axis_off()
            continue
        mine = row_of(of_panel(sheet.pruned, name), nm)
        said = scales.over_runs(mine) if scales.BETWEEN in bars and len(mine) else bars
        made.append(scales.Panel(axes, name, worse_upwards(sheet.pruned, name), said))
    return made


def holds(pruned: DataFrame, overlay: DataFrame | None, name: tuple, nm: bool) -> bool:
    """Whether a panel has something to show in the rows of this kind."""
    return any(len(row_of(of_panel(frame, name), nm)) for frame in (pruned, overlay) if frame is not None)


def columns_of(panels: list[tuple]) -> int:
    """How many panels stand in a row: all if they are few; else the methods of one task, if there are equally many."""
    if len(panels) <= 4:
        return len(panels)
    methods = {sum(other[:2] == panel[:2] for other in panels) for panel in panels}
    return max(methods) if len(methods) == 1 and 1 < max(methods) <= 5 else 3


def worse_upwards(points: DataFrame, name: tuple) -> bool:
    """Whether a panel's metric is one of which less is better, as a perplexity."""
    mine = of_panel(points, name)
    known = mine.loc[mine["metric"].fillna("") != "", "better"]  # of a curve without a finished run it is not known
    return len(known) > 0 and bool((known == "lower").all())


@dataclass(frozen=True)
class Sheet:
    """What all panels of a figure share: points, published points or None, looks, entries of the legend, the base."""

    pruned: DataFrame
    overlay: DataFrame | None
    styles: dict[tuple, dict]
    handles: dict[str, object]
    first: bool
    base: str
    scale: str


def fill_panel(panel, sheet: Sheet, name: tuple, nm: bool) -> None:
    """Draw one panel: its curves, chance and the published curves."""
    mine = row_of(of_panel(sheet.pruned, name), nm)
    theirs = None if sheet.overlay is None else row_of(of_panel(sheet.overlay, name), nm)
    places = axis_places(mine, theirs) if nm else {}
    draw_panel(panel, mine, places, sheet)
    draw_chance(panel, mine, sheet)
    if theirs is not None:
        overlays.draw(panel, theirs, mine, sheet, places=places)
    label_panel(panel, nm, places)


def of_panel(frame: DataFrame, name: tuple) -> DataFrame:
    """The rows of one panel; pandas would take a tuple for several values to compare with."""
    return frame[frame["panel"].map(lambda panel: panel == name).astype(bool)]


def title(points: DataFrame, sheet: Sheet, name: tuple) -> str:
    """A panel's title: its family, where there are several, its value on the first axis, and the metric."""
    metrics = dict.fromkeys(said for said, at in zip(points["metric"], panels_of(points)) if said and at == name)
    notes = [] if sheet.overlay is None else of_panel(sheet.overlay, name)["note"]
    theirs = [f"published, {note}" for note in dict.fromkeys(notes) if note]
    said = "; ".join([*(metric.replace("_", " ") for metric in metrics), *theirs])
    label = panel_label(name, points["family"].nunique() > 1)
    return escape_math(f"{label} ({said})" if said else label)


def in_legend_order(sheet: Sheet) -> dict[str, object]:
    """The legend's entries: the base, our curves, the published ones, and what the other marks mean."""
    ours = [escape_math(style["label"]) for style in sheet.styles.values()]
    theirs = [name for name in sheet.handles if name.startswith(published.OF)]
    return {name: sheet.handles[name] for name in [sheet.base, *ours, *theirs, *sheet.handles] if name in sheet.handles}


def finish(figure, points: DataFrame, handles: dict, *, rows: int, columns: int) -> None:
    """Add the model's name and the legend, and give the figure its size."""
    said = heading(points)
    if said:
        figure.suptitle(escape_math("\n".join(said)), fontsize=10)
    names = (INDENT + LETTER * len(name) for name in handles)
    width = max(WIDTH * columns, 5, *names, *(INDENT + HEADING * len(line) for line in said))
    entries = 2 if 2 * (0.5 + LETTER * max(map(len, handles))) < width else 1
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=entries, fontsize=8)
    height = HEIGHT * rows + 0.2 * (1 + len(said)) + 0.18 * -(-len(handles) // entries)
    figure.set_size_inches(width, height)


def heading(points: DataFrame) -> list[str]:
    """What holds for all panels: the model, axes of one value, and what must be said of the metrics."""
    models = list(dict.fromkeys(points["model"]))
    several = points["family"].nunique() > 1
    settled = [f"{family}: {said}" if several else said for family, said in settled_words(points).items()]
    words = [models[0]] if len(models) == 1 else []  # several are in the legend
    words += ["; ".join(settled)] if settled else []
    metrics = [metric for metric in dict.fromkeys(points["metric"]) if metric in NOTES]
    return words + [f"{metric.replace('_', ' ')}: {NOTES[metric]}" for metric in metrics]


def base_name(points: DataFrame, first: bool) -> str:
    """What the line at 100 % is: the dense runs' treatment, if it is theirs alone, or each curve's own first point."""
    dense = points["kind"] == "dense"
    own = dict.fromkeys(points.loc[dense, "treatment"])
    shared = set(own) & set(points.loc[~dense, "treatment"])  # as in 'one-shot', which dense and pruned models both are
    return "own first point" if first else "dense" if shared or not own else ", ".join(own)


def line_styles(points: DataFrame) -> dict[tuple, dict]:
    """The same as matplotlib's words, by family, model, line and other axes."""
    return {
        tuple(look[name] for name in LOOK): {
            "marker": MARKERS[look["mark"] % len(MARKERS)],
            "color": COLOURS[look["mark"] % len(COLOURS)],
            "linestyle": DASHES[look["dash"] % len(DASHES)],
            "treatment": look["treatment"],
            "label": look["label"],
        }
        for look in looks(points)
    }


def draw_panel(panel, points: DataFrame, places: dict[str, int], sheet: Sheet) -> None:
    """Draw a panel's curves; a point with no finished run leaves a gap, one that lacks seeds is hollow."""
    base = panel.axhline(scales.base(sheet.scale), color="0.4", linewidth=1, linestyle=(0, (6, 3)), zorder=1)
    sheet.handles.setdefault(sheet.base, base)
    for key, mine in points.groupby(LOOK, sort=False):
        style = {name: sheet.styles[key][name] for name in ("marker", "color", "linestyle")}
        x, y = across(mine, places), scales.on_axis(mine["ratio"].to_numpy(), sheet.scale)
        long = bars(mine)
        drawn = panel.errorbar(x, y, yerr=long, markersize=5, capsize=2.5, linewidth=1.4, zorder=3, **style)
        entry = drawn if np.isfinite(long).any() else drawn.lines[0]
        sheet.handles.setdefault(escape_math(sheet.styles[key]["label"]), entry)
        seeds = mine["normalised_seeds"].to_numpy()
        short = (seeds < mine["expected"].to_numpy()) & (seeds > 0)
        if short.any():
            hollow = panel.plot(
                [at for at, few in zip(x, short) if few], y[short], linestyle="", marker=style["marker"], markersize=5,
                markerfacecolor="white", markeredgecolor=style["color"], zorder=4,
            )  # fmt: skip
            sheet.handles.setdefault("hollow: fewer seeds than elsewhere", hollow[0])
        collapsed.ring(panel, mine, (x, y), sheet.handles)


def bars(points: DataFrame):
    """The bars' lengths (2 x points) below and above, in per cent: deviation over seeds, or interval over questions.

    NaN for one seed without questions: no bar, rather than one of length 0.
    """
    ratio, spread = points["ratio"], points["ratio_std"]
    ends = (ratio - points["ratio_low"], points["ratio_high"] - ratio)
    return np.array([100 * end.where(points["questions"] > 0, spread).clip(lower=0) for end in ends])


def draw_chance(panel, points: DataFrame, sheet: Sheet) -> None:
    """Draw where a model that has learned nothing lies, if that is known: on the mean over the panel's points.

    Curves of which it lies far apart, since their bases do, have lines of their own; one that a single curve has is in
    its colour.
    """
    from matplotlib.lines import Line2D

    own = {
        key: scales.on_axis(mine["chance_ratio"].mean(), sheet.scale) for key, mine in points.groupby(LOOK, sort=False)
    }
    own = {key: level for key, level in own.items() if level == level}
    if own and max(own.values()) - min(own.values()) < FAR:
        own = {None: scales.on_axis(points["chance_ratio"].mean(), sheet.scale)}
    shared = Counter(map(round, own.values()))
    for key, level in own.items():
        colour = "0.35" if key is None or shared[round(level)] > 1 else sheet.styles[key]["color"]
        panel.axhline(level, color=colour, linewidth=1, linestyle=":", zorder=1)
    if own:
        name = COPIED if points["metric"].isin(corpus_scores.SCORES).all() else CHANCE
        name += OURS if sheet.overlay is not None and len(sheet.overlay) else ""
        sheet.handles.setdefault(name, Line2D([], [], color="0.35", linewidth=1, linestyle=":"))


FAR = 5
"""Per cent of the base from which on two levels of chance are told apart."""


def limit(panels: list, sheet: Sheet) -> None:
    """Cut the shared axis to its limits where it reaches further; mark at its edge what lies outside of it."""
    if not panels:
        return
    least, most = scales.limits(sheet.scale)
    low, high = panels[0].get_ylim()
    low, high = max(low, least), min(high, most)
    panels[0].set_ylim(low, high)
    for panel in panels:
        collapsed.keep_inside(panel, low, high)
        for curve in panel.containers:
            for x, y in outside(curve, low, high):
                edge, marker = (high, "^") if y > high else (low, "v")
                colour = curve.lines[0].get_color()
                mark = panel.plot([x], [edge], marker=marker, color=colour, linestyle="", markersize=7, clip_on=False)
                place = (6, -8 if y > high else 4)
                panel.annotate(f"{y:.0f}", (x, edge), textcoords="offset points", fontsize=7, xytext=place)
                sheet.handles.setdefault(OUTSIDE, mark[0])


def outside(curve, low: float, high: float) -> list[tuple[float, float]]:
    """The points of a curve that lie outside the axis, and of the others the ends of bars that do."""
    points = {x: y for x, y in zip(*curve.lines[0].get_data()) if y == y}
    ends = [end for bars in curve.lines[2] for bar in bars.get_segments() for end in bar]
    inside = {x for x, y in points.items() if low <= y <= high}
    return [
        (x, y)
        for x, y in [*points.items(), *((x, y) for x, y in ends if x in inside)]
        if y == y and not low <= y <= high
    ]


def label_panel(panel, nm: bool, places: dict[str, int]) -> None:
    """Name the axis of sparsity."""
    if nm:
        panel.set_xticks(list(places.values()), list(places), fontsize=8)
        panel.set_xlabel("N:M, N kept of every M")
    else:
        panel.set_xlabel("sparsity, % of the weights in scope removed")
        panel.set_xlim(0, 100)
    panel.grid(alpha=0.3)


def escape_math(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
