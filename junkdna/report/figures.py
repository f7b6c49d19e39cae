"""The curves in the paper's layout: a panel per task, unstructured sparsity above N:M, as PNG and SVG.

Every curve has its own marker and dash, so that a print in grey is readable; the files are the same for the same points.
"""

from __future__ import annotations

import io
from pathlib import Path

from junkdna.errors import UserError
from junkdna.report import published
from junkdna.runs import records

FORMATS = ("png", "svg", "pdf")
MARKERS, DASHES = "os^DvP<>X", ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
COLOURS = ("#1b4f9c", "#d1600f", "#1f8a55", "#7a3f98", "#b01e3a", "#4d4d4d", "#0f8f9e", "#a07d00")
WIDTH, HEIGHT, LETTER = 3.4, 2.9, 0.064
"""Inches of one panel, and of a letter in the legend."""

LOW, HIGH = -20, 130
"""Per cent that the shared axis shows at most: one ratio to a tiny base would flatten every other panel."""

OUTSIDE, CHANCE = "outside the axis", "chance (of accuracy: the most frequent label)"


def check(path: str | None) -> None:
    """Raise UserError for a figure file of a kind that cannot be written."""
    if path and Path(path).suffix.lower().removeprefix(".") not in FORMATS:
        raise UserError(f"--figure {path}: must end in {', '.join('.' + name for name in FORMATS)}")


def write(points, files: list[Path], overlay: bool = False, first: bool = False) -> None:
    """Draw the curves once and write them to every file, in the format that its suffix says."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": "junkdna", "font.size": 9, "svg.fonttype": "path"}):
        figure = draw(points, published.beside(points) if overlay else None, first)
        for file in files:
            kind = file.suffix.lower().removeprefix(".")
            metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            records.write_bytes(file, content.getvalue())
        plt.close(figure)


def draw(points, overlay, first: bool):
    """Return the figure. ``overlay`` holds published curves, or is None."""
    from matplotlib import pyplot as plt

    pruned = points[points["kind"] != "dense"].assign(line=line_names)
    tasks = list(dict.fromkeys((pruned if len(pruned) else points)["task"]))
    kinds = [kind for kind in ("unstructured", "N:M") if len(panel_of(pruned, kind))] or ["unstructured"]
    columns = len(tasks) if len(tasks) <= 4 else 3
    blocks = [tasks[i : i + columns] for i in range(0, len(tasks), columns)]
    rows = [(block, kind) for block in blocks for kind in kinds]
    styles = line_styles(pruned)
    figure, axes = plt.subplots(len(rows), columns, sharey=True, squeeze=False, layout="constrained")
    handles: dict[str, object] = {}
    for (block, kind), panels in zip(rows, axes):
        for task, panel in zip(block, panels):
            mine = panel_of(pruned[pruned["task"] == task], kind)
            places = {}
            if kind == "N:M":
                theirs = overlay[(overlay["task"] == task) & (overlay["kind"] == kind)] if overlay is not None else None
                places = axis_places(mine, theirs)
            draw_panel(panel, mine, places, styles, handles, first)
            draw_chance(panel, mine, handles)
            if overlay is not None:
                draw_published(panel, panel_of(overlay[overlay["task"] == task], kind), places, styles, handles)
            label_panel(panel, kind, places)
            metric = next((name for name in points.loc[points["task"] == task, "metric"] if name), "").replace("_", " ")
            remark = f"; published{published.caveat(task)}" if overlay is not None and published.caveat(task) else ""
            panel.set_title(plain(f"{task} ({metric}{remark})" if metric else task), fontsize=9)
        for panel in panels[len(block) :]:
            panel.set_axis_off()
        panels[0].set_ylabel(f"% of {'own first point' if first else 'dense'}, {over_seeds(pruned)}")
    limit(axes, handles)
    models = list(dict.fromkeys(points["model"]))
    if len(models) == 1:  # several are in the legend
        figure.suptitle(plain(models[0]), fontsize=10)
    width = max(WIDTH * columns, 5)
    entries = 2 if 2 * (0.5 + LETTER * max(map(len, handles))) < width else 1
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=entries, fontsize=8)
    height = HEIGHT * len(rows) + 0.2 * (1 + (len(models) == 1)) + 0.18 * -(-len(handles) // entries)
    figure.set_size_inches(width, height)
    return figure


def line_names(points) -> list[str]:
    """What a curve is called in the legend, the same in both rows: the kind of its panel is left out."""
    return [
        curve.replace(f", {kind}", "", 1) if kind in ("unstructured", "N:M") else curve
        for curve, kind in zip(points["curve"], points["kind"])
    ]


def panel_of(points, kind: str):
    """The points of one row of panels: N:M, or everything else with the controls among the unstructured."""
    return points[(points["kind"] == "N:M") == (kind == "N:M")]


def looks(points) -> list[dict]:
    """Give every (model, curve, share of data) numbers of a mark and a dash: by curve and by share, if both vary.

    The page takes these too, so that a curve looks the same in both. By ``transfer`` a published curve finds its own.
    """
    names = ["model", "line", "percentage", "transfer"]
    made = points[names].drop_duplicates(names[:3]).to_dict("records")
    curves = list(dict.fromkeys((look["model"], look["line"]) for look in made))
    shares = sorted({look["percentage"] for look in made})
    both = len(curves) > 1 and len(shares) > 1
    for i, look in enumerate(made):
        place = (curves.index((look["model"], look["line"])), shares.index(look["percentage"]))
        look["mark"], look["dash"] = place if both else (i, i)
    return made


def line_styles(points) -> dict[tuple, dict]:
    """The same as matplotlib's words, by (model, curve, share of data)."""
    return {
        (look["model"], look["line"], look["percentage"]): {
            "marker": MARKERS[look["mark"] % len(MARKERS)],
            "color": COLOURS[look["mark"] % len(COLOURS)],
            "linestyle": DASHES[look["dash"] % len(DASHES)],
            "transfer": look["transfer"],
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


def draw_panel(panel, points, places: dict[str, int], styles: dict, handles: dict, first: bool) -> None:
    """Draw one task's curves; a point with no finished run leaves a gap, one that lacks seeds is hollow."""
    base = panel.axhline(100, color="0.4", linewidth=1, linestyle=(0, (6, 3)), zorder=1)
    handles.setdefault("own first point" if first else "dense transfer", base)
    for key, mine in points.groupby(["model", "line", "percentage"], sort=False):
        style = {name: value for name, value in styles[key].items() if name != "transfer"}
        x, y = across(mine, places), 100 * mine["normalised"].to_numpy()
        spread = 100 * mine["normalised_std"].to_numpy()  # NaN for one seed: no bar, rather than one of length 0
        drawn = panel.errorbar(x, y, yerr=spread, markersize=5, capsize=2.5, linewidth=1.4, zorder=3, **style)
        handles.setdefault(line_label(key, styles), drawn)
        seeds = mine["normalised_seeds"].to_numpy()
        short = (seeds < mine["expected"].to_numpy()) & (seeds > 0)
        if short.any():
            hollow = panel.plot(
                [at for at, few in zip(x, short) if few], y[short], linestyle="", marker=style["marker"], markersize=5,
                markerfacecolor="white", markeredgecolor=style["color"], zorder=4,
            )  # fmt: skip
            handles.setdefault("hollow: fewer seeds than elsewhere", hollow[0])


def draw_chance(panel, points, handles: dict) -> None:
    """Draw where a model that has learned nothing lies, on the mean over the panel's points, if that is known."""
    level = 100 * points["floor"].mean()
    if level == level:
        line = panel.axhline(level, color="0.35", linewidth=1, linestyle=":", zorder=1)
        handles.setdefault(CHANCE, line)


def limit(axes, handles: dict) -> None:
    """Cut the shared axis to LOW and HIGH where it reaches further, and mark at its edge the points that lie outside."""
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


def line_label(key: tuple, styles: dict) -> str:
    """A curve's name in the legend: share of data and model only where they vary."""
    model, line, share = key
    shares, models = {other[2] for other in styles}, {other[0] for other in styles}
    return plain(
        line + (f", {share:g} % of data" if len(shares) > 1 else "") + (f", {model}" if len(models) > 1 else "")
    )


def draw_published(panel, overlay, places: dict[str, int], styles: dict, handles: dict) -> None:
    """Draw the paper's curves: thin, in the look of the curve they stand beside, grey where there are several."""
    from matplotlib.lines import Line2D

    for key, mine in overlay.groupby(published.CURVE, sort=False):
        curve = dict(zip(published.CURVE, key))
        share = curve["percentage"]
        beside = [s for (_, _, own), s in styles.items() if (s["transfer"], own) == (curve["transfer"], share)]
        style = beside[0] if len(beside) == 1 else {"color": "0.4", "marker": "o"}
        dash = PUBLISHED_DASHES[curve["model"] == "roberta-large"]
        look = {"linestyle": dash, "linewidth": 0.9, "markersize": 3, "alpha": 0.75, "zorder": 2}
        panel.plot(across(mine, places), mine["value"], color=style["color"], marker=style["marker"], **look)
        name = published.short_label(curve["model"], curve["base"])
        handles.setdefault(name, Line2D([], [], color="0.3", marker="o", **look))


PUBLISHED_DASHES = ((0, (1, 1.2)), (0, (4, 1.5)))


def across(points, places: dict[str, int]) -> list[float]:
    """Where points stand on the axis: by sparsity in percent, or at their pattern's place."""
    if places:
        return [places[pattern] for pattern in points["pattern"]]
    return [100 * value for value in points["sparsity"]]


def label_panel(panel, kind: str, places: dict[str, int]) -> None:
    """Name the axis of sparsity."""
    if kind == "N:M":
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


def plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
