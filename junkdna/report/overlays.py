"""The paper's curves in the figure: which panel each goes to, and in which look."""

from __future__ import annotations

from junkdna.report import published, scales
from junkdna.report.looks import line_names, panels_of, rests
from junkdna.report.scales import across


def placed(overlay, points):
    """Published points with the panels and lines of the runs that they stand beside."""
    lines = published_lines(overlay, points)
    return overlay.assign(panel=published_panels(overlay, points), rest=rests(points, overlay), line=lines)


def published_panels(overlay, points) -> list[tuple]:
    """The same of published points, which stand beside the runs of equal places and kinds."""
    same = ("family", "place", "kind")
    known = dict(zip(zip(*(points[name] for name in same)), panels_of(points)))
    return [known[at] for at in zip(*(overlay[name] for name in same))]


def published_lines(overlay, points) -> list[str]:
    """What the lines of published points would be called if they were runs like these."""
    curve = [f"{treatment}, {kind}" for treatment, kind in zip(overlay["treatment"], overlay["kind"])]
    return line_names(points, overlay.assign(curve=curve))


def draw(panel, overlay, places: dict[str, int], sheet) -> None:
    """Draw the paper's curves: thin, in the look of the curve they stand beside, grey where there are several."""
    from matplotlib.lines import Line2D

    models = published_models(sheet.overlay)
    curves = ["family", *published.CURVE, "line", "rest"]
    for key, mine in overlay.groupby(curves, sort=False):
        curve = dict(zip(curves, key))
        style = beside(curve, sheet) or {"color": "0.4", "marker": "o"}
        dash = PUBLISHED_DASHES[models.index(curve["model"]) % len(PUBLISHED_DASHES)]
        look = {"linestyle": dash, "linewidth": 0.9, "markersize": 3, "alpha": 0.75, "zorder": 2}
        y = scales.on_axis(mine["value"] / 100, sheet.scale)
        panel.plot(across(mine, places), y, color=style["color"], marker=style["marker"], **look)
        name = published.short_label(curve["model"], curve["base"])
        sheet.handles.setdefault(name, Line2D([], [], color="0.3", marker="o", **look))


def beside(curve: dict, sheet) -> dict | None:
    """The look of the only curve that a published one stands beside: of its name, or else of its treatment."""
    there = [
        (line, style) for (family, _, line, rest), style in sheet.styles.items()
        if (family, rest) == (curve["family"], curve["rest"])
    ]  # fmt: skip
    for found in (
        [style for line, style in there if line == curve["line"]],
        [style for _, style in there if style["treatment"] == curve["treatment"]],
    ):
        if len(found) == 1:
            return found[0]
    return None


PUBLISHED_DASHES = ((0, (1, 1.2)), (0, (4, 1.5)))


def published_models(overlay) -> list[str]:
    """The models of the published curves; the first is dotted, the second dashed, and so on."""
    return sorted(set(overlay["model"]))
