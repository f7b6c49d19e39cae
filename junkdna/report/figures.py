"""The curves in the paper's layout: a panel per value of the first axis, unstructured above N:M, as PNG and SVG.

Every curve has its own marker and dash, so that a print in grey is readable. The files are the same for
the same points.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from junkdna.errors import UserError
from junkdna.report import published
from junkdna.report.looks import LOOK, line_names, looks, panel_label, panels_of, rests, row_of

FORMATS = ("png", "svg", "pdf")
MARKERS, DASHES = "os^DvP<>X", ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
COLOURS = ("#1b4f9c", "#d1600f", "#1f8a55", "#7a3f98", "#b01e3a", "#4d4d4d", "#0f8f9e", "#a07d00")
WIDTH, HEIGHT, LETTER = 3.4, 2.9, 0.064
"""Inches of one panel, and of a letter in the legend."""

LOW, HIGH = -20, 130
"""Per cent that the shared axis shows at most: one ratio to a tiny base would flatten every other panel."""

OUTSIDE, CHANCE = "outside the axis", "chance: a model that has learned nothing"


def check(path: str | None) -> None:
    """Raise UserError for a figure file of a kind that cannot be written."""
    if path and Path(path).suffix.lower().removeprefix(".") not in FORMATS:
        raise UserError(f"--figure {path}: must end in {', '.join('.' + name for name in FORMATS)}")


def pictures(points, files: list[Path], overlay=None, first: bool = False) -> dict[Path, bytes]:
    """Draw the curves once and return the content of every file, in the format that its suffix says.

    ``overlay`` holds published points, or is None.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": "junkdna", "font.size": 9, "svg.fonttype": "path"}):
        figure = draw(points, overlay, first)
        made = {}
        for file in files:
            kind = file.suffix.lower().removeprefix(".")
            metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            made[file] = content.getvalue()
        plt.close(figure)
    return made


def draw(points, overlay, first: bool):
    """Return the figure. ``overlay`` holds published curves, or is None."""
    from matplotlib import pyplot as plt

    pruned = points[points["kind"] != "dense"].assign(line=line_names, rest=rests, panel=panels_of)
    panels = list(dict.fromkeys(panels_of(pruned if len(pruned) else points)))
    kinds = [nm for nm in (False, True) if len(row_of(pruned, nm))] or [False]
    columns = len(panels) if len(panels) <= 4 else 3
    blocks = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    rows = [(block, nm) for block in blocks for nm in kinds]
    if overlay is not None:
        overlay = overlay.assign(panel=published_panels(overlay, points), rest=rests)
    sheet = Sheet(pruned, overlay, line_styles(pruned), {}, first, base_name(points, first))
    figure, axes = plt.subplots(len(rows), columns, sharey=True, squeeze=False, layout="constrained")
    for (block, nm), row in zip(rows, axes):
        for name, panel in zip(block, row):
            fill_panel(panel, sheet, name, nm)
            panel.set_title(title(points, sheet, name), fontsize=9)
        for panel in row[len(block) :]:
            panel.set_axis_off()
        row[0].set_ylabel(f"% of {'own first point' if first else 'dense'}, {over_seeds(pruned)}")
    limit(axes, sheet.handles)
    finish(figure, points, sheet.handles, rows=len(rows), columns=columns)
    return figure


@dataclass(frozen=True)
class Sheet:
    """What all panels of a figure share: points, published points or None, looks, entries of the legend, the base."""

    pruned: object
    overlay: object
    styles: dict[tuple, dict]
    handles: dict[str, object]
    first: bool
    base: str


def fill_panel(panel, sheet: Sheet, name: tuple, nm: bool) -> None:
    """Draw one panel: its curves, chance and the published curves."""
    mine = row_of(of_panel(sheet.pruned, name), nm)
    theirs = None if sheet.overlay is None else row_of(of_panel(sheet.overlay, name), nm)
    places = axis_places(mine, theirs) if nm else {}
    draw_panel(panel, mine, places, sheet)
    draw_chance(panel, mine, sheet.handles)
    if theirs is not None:
        draw_published(panel, theirs, places, sheet)
    label_panel(panel, nm, places)


def of_panel(frame, name: tuple):
    """The rows of one panel; pandas would take a tuple for several values to compare with."""
    return frame[frame["panel"].map(lambda panel: panel == name).astype(bool)]


def title(points, sheet: Sheet, name: tuple) -> str:
    """A panel's title: its family, where there are several, its value on the first axis, and the metric."""
    metric = next((said for said, at in zip(points["metric"], panels_of(points)) if said and at == name), "")
    notes = [] if sheet.overlay is None else of_panel(sheet.overlay, name)["note"]
    words = [metric.replace("_", " "), *(f"published, {note}" for note in dict.fromkeys(notes) if note)]
    said = "; ".join(filter(None, words))
    label = panel_label(name, points["family"].nunique() > 1)
    return escape_math(f"{label} ({said})" if said else label)


def finish(figure, points, handles: dict, *, rows: int, columns: int) -> None:
    """Add the model's name and the legend, and give the figure its size."""
    models = list(dict.fromkeys(points["model"]))
    if len(models) == 1:  # several are in the legend
        figure.suptitle(escape_math(models[0]), fontsize=10)
    width = max(WIDTH * columns, 5)
    entries = 2 if 2 * (0.5 + LETTER * max(map(len, handles))) < width else 1
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=entries, fontsize=8)
    height = HEIGHT * rows + 0.2 * (1 + (len(models) == 1)) + 0.18 * -(-len(handles) // entries)
    figure.set_size_inches(width, height)


def base_name(points, first: bool) -> str:
    """What the line at 100 % is: the dense runs' treatment, if it is theirs alone, or each curve's own first point."""
    dense = points["kind"] == "dense"
    own = dict.fromkeys(points.loc[dense, "treatment"])
    shared = set(own) & set(points.loc[~dense, "treatment"])  # as in 'one-shot', which dense and pruned models both are
    return "own first point" if first else "dense" if shared or not own else ", ".join(own)


def published_panels(overlay, points) -> list[tuple]:
    """The same of published points, which stand beside the runs of equal places."""
    known = dict(zip(points["place"], panels_of(points)))
    return [known[place] for place in overlay["place"]]


def line_styles(points) -> dict[tuple, dict]:
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


def over_seeds(points) -> str:
    """What a point and its bar are: mean and deviation, with the number of seeds."""
    counts = points.loc[points["normalised_seeds"] > 0, "normalised_seeds"]
    if not len(counts) or counts.max() == 1:
        return "one seed"
    low, high = counts.min(), counts.max()
    return f"mean ± std, {high} seeds" if low == high else f"mean ± std, {low} to {high} seeds"


def draw_panel(panel, points, places: dict[str, int], sheet: Sheet) -> None:
    """Draw a panel's curves; a point with no finished run leaves a gap, one that lacks seeds is hollow."""
    base = panel.axhline(100, color="0.4", linewidth=1, linestyle=(0, (6, 3)), zorder=1)
    sheet.handles.setdefault(sheet.base, base)
    for key, mine in points.groupby(LOOK, sort=False):
        style = {name: sheet.styles[key][name] for name in ("marker", "color", "linestyle")}
        x, y = across(mine, places), 100 * mine["normalised"].to_numpy()
        spread = 100 * mine["normalised_std"].to_numpy()  # NaN for one seed: no bar, rather than one of length 0
        drawn = panel.errorbar(x, y, yerr=spread, markersize=5, capsize=2.5, linewidth=1.4, zorder=3, **style)
        sheet.handles.setdefault(escape_math(sheet.styles[key]["label"]), drawn)
        seeds = mine["normalised_seeds"].to_numpy()
        short = (seeds < mine["expected"].to_numpy()) & (seeds > 0)
        if short.any():
            hollow = panel.plot(
                [at for at, few in zip(x, short) if few], y[short], linestyle="", marker=style["marker"], markersize=5,
                markerfacecolor="white", markeredgecolor=style["color"], zorder=4,
            )  # fmt: skip
            sheet.handles.setdefault("hollow: fewer seeds than elsewhere", hollow[0])


def draw_chance(panel, points, handles: dict) -> None:
    """Draw where a model that has learned nothing lies, on the mean over the panel's points, if that is known."""
    level = 100 * points["floor"].mean()
    if level == level:
        line = panel.axhline(level, color="0.35", linewidth=1, linestyle=":", zorder=1)
        handles.setdefault(CHANCE, line)


def limit(axes, handles: dict) -> None:
    """Cut the shared axis to LOW and HIGH where it reaches further; mark at its edge the points that lie outside."""
    low, high = axes[0, 0].get_ylim()
    low, high = max(low, LOW), min(high, HIGH)
    axes[0, 0].set_ylim(low, high)
    for panel in axes.flat:
        for curve in panel.containers:
            line = curve.lines[0]
            for x, y in zip(*line.get_data()):
                if not low <= y <= high and y == y:
                    edge, marker = (high, "^") if y > high else (low, "v")
                    mark = panel.plot(
                        [x], [edge], marker=marker, color=line.get_color(), linestyle="", markersize=7, clip_on=False
                    )
                    panel.annotate(
                        f"{y:.0f}", (x, edge), textcoords="offset points", fontsize=7, xytext=(6, -8 if y > high else 4)
                    )
                    handles.setdefault(OUTSIDE, mark[0])


def draw_published(panel, overlay, places: dict[str, int], sheet: Sheet) -> None:
    """Draw the paper's curves: thin, in the look of the curve they stand beside, grey where there are several."""
    from matplotlib.lines import Line2D

    models = published_models(sheet.overlay)
    for key, mine in overlay.groupby(published.CURVE, sort=False):
        curve = dict(zip(published.CURVE, key))
        wanted = (curve["treatment"], curve["place"][1:])
        beside = [style for (*_, rest), style in sheet.styles.items() if (style["treatment"], rest) == wanted]
        style = beside[0] if len(beside) == 1 else {"color": "0.4", "marker": "o"}
        dash = PUBLISHED_DASHES[models.index(curve["model"]) % len(PUBLISHED_DASHES)]
        look = {"linestyle": dash, "linewidth": 0.9, "markersize": 3, "alpha": 0.75, "zorder": 2}
        panel.plot(across(mine, places), mine["value"], color=style["color"], marker=style["marker"], **look)
        name = published.short_label(curve["model"], curve["base"])
        sheet.handles.setdefault(name, Line2D([], [], color="0.3", marker="o", **look))


PUBLISHED_DASHES = ((0, (1, 1.2)), (0, (4, 1.5)))


def published_models(overlay) -> list[str]:
    """The models of the published curves; the first is dotted, the second dashed, and so on."""
    return sorted(set(overlay["model"]))


def across(points, places: dict[str, int]) -> list[float]:
    """Where points stand on the axis: by sparsity in percent, or at their pattern's place."""
    if places:
        return [places[pattern] for pattern in points["pattern"]]
    return [100 * value for value in points["sparsity"]]


def label_panel(panel, nm: bool, places: dict[str, int]) -> None:
    """Name the axis of sparsity."""
    if nm:
        panel.set_xticks(list(places.values()), list(places), fontsize=8)
        panel.set_xlabel("N:M, N kept of every M")
    else:
        panel.set_xlabel("sparsity, % of the weights in scope removed")
        panel.set_xlim(0, 100)
    panel.grid(alpha=0.3)


def axis_places(points, overlay) -> dict[str, int]:
    """Where each N:M pattern stands on its axis: side by side, the densest first."""
    known = dict(zip(points["pattern"], points["sparsity"]))
    if overlay is not None:
        known |= dict(zip(overlay["pattern"], overlay["sparsity"]))
    order = sorted(known, key=lambda pattern: (round(known[pattern], 6), -int(pattern.split(":")[1])))
    return {pattern: place for place, pattern in enumerate(order)}


def escape_math(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
