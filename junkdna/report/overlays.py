"""The paper's curves in the figure: which panel each goes to, and in which look."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from junkdna.report import published, scales
from junkdna.report.looks import LOOK, line_names, panels_of, rests
from junkdna.report.names import axis_words
from junkdna.report.scales import across

if TYPE_CHECKING:
    from pandas import DataFrame


def placed(overlay: DataFrame, points: DataFrame) -> DataFrame:
    """Published points with the panels and lines of the runs that they stand beside."""
    lines = published_lines(overlay, points)
    return overlay.assign(panel=published_panels(overlay, points), rest=rests(points, overlay), line=lines)


def published_panels(overlay: DataFrame, points: DataFrame) -> list[tuple]:
    """The same of published points, which stand beside the runs of equal places and kinds."""
    same = ("family", "place", "kind")
    known = dict(zip(zip(*(points[name] for name in same)), panels_of(points)))
    return [known[at] for at in zip(*(overlay[name] for name in same))]


def published_lines(overlay: DataFrame, points: DataFrame) -> list[str]:
    """What the lines of published points would be called if they were runs like these."""
    curve = [f"{treatment}, {kind}" for treatment, kind in zip(overlay["treatment"], overlay["kind"])]
    return line_names(points, overlay.assign(curve=curve))


def draw(panel, overlay: DataFrame, ours: DataFrame, sheet, *, places: dict[str, int]) -> None:
    """Draw the paper's curves: thin, in the look of the curve of ``ours``, the panel's points, that they stand beside;
    grey where there are several, or none.
    """
    from matplotlib.lines import Line2D

    dashes = dashes_of(sheet.overlay)
    here = set(zip(*(ours[name] for name in LOOK)))
    styles = [dict(zip(LOOK, key)) | style for key, style in sheet.styles.items() if key in here]
    curves = ["family", *published.CURVE, "line", "rest"]
    for key, mine in overlay.groupby(curves, sort=False):
        curve = dict(zip(curves, key))
        found = beside(curve, styles)
        style = styles[found[0]] if len(found) == 1 else {"color": "0.4", "marker": "o"}
        dash = PUBLISHED_DASHES[dashes[curve["model"], curve["base"]] % len(PUBLISHED_DASHES)]
        look = {"linestyle": dash, "linewidth": 0.9, "markersize": 3, "alpha": 0.75, "zorder": 2}
        y = scales.on_axis(mine["value"] / 100, sheet.scale)
        panel.plot(across(mine, places), y, color=style["color"], marker=style["marker"], **look)
        name = published.short_label(curve["model"], curve["base"])
        if len(found) != 1 and curve["rest"]:
            name += f", {axis_words(curve['rest'])}"  # its look does not say it
        sheet.handles.setdefault(name, Line2D([], [], color="0.3", marker="o", **look))


def beside(curve: dict, looks: list[dict]) -> list[int]:
    """Which of the runs' curves a published one stands beside: that of its name, or else those of its treatment.

    Of several of its treatment it is the one whose settings most curves share, as a learning rate that only a control
    does not have. All of them are returned where that does not decide, and none where there is none.
    """
    there = [i for i, look in enumerate(looks) if all(look[name] == curve[name] for name in ("family", "rest"))]
    named = [i for i in there if looks[i]["line"] == curve["line"]]
    if len(named) == 1:
        return named
    settings = {i: looks[i]["line"].removeprefix(looks[i]["treatment"]) for i in there}
    shared = Counter(settings.values())
    alike = [i for i in there if looks[i]["treatment"] == curve["treatment"]]
    most = [i for i in alike if shared[settings[i]] == max(shared[settings[other]] for other in alike)]
    return most if len(most) == 1 else alike


PUBLISHED_DASHES = ((0, (1, 1.2)), (0, (4, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (9, 2)))


def dashes_of(overlay: DataFrame) -> dict[tuple[str, str], int]:
    """The number of the dash of every published model and base: 0 is dotted, 1 dashed, 2 both, 3 long."""
    return {kind: i for i, kind in enumerate(sorted(set(zip(overlay["model"], overlay["base"]))))}
