"""The axis on which runs stand beside their base: as a share of it, or as the change from it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

SCALES = ("share", "change")
"""value / base, or (value - base) / base."""

LOW, HIGH = -20, 130
"""Per cent of the base that the shared axis shows at most: one ratio to a tiny base would flatten every other panel."""

LINEAR = 10
"""Up to this many per cent a logarithmic axis that must show 0 is linear."""

LONG = 42
"""Letters of an axis's name that fit beside a panel."""


BETWEEN = "; "
"""What stands between two kinds of bars in the axis's name."""


@dataclass(frozen=True)
class Panel:
    """A panel that shows something: matplotlib's axes, its name, whether less is better, what points and bars are."""

    axes: object
    name: tuple
    less: bool
    bars: str


def base(scale: str) -> int:
    """Where the base itself lies, in per cent."""
    return 0 if scale == "change" else 100


def on_axis(ratio, scale: str):
    """Ratios to the base (a number or an array) in per cent of the scale."""
    return 100 * ratio - (100 - base(scale))


def limits(scale: str) -> tuple[int, int]:
    """The lowest and the highest value that the axis shows."""
    return LOW - (100 - base(scale)), HIGH - (100 - base(scale))


def words(scale: str, of: str) -> str:
    """What the axis shows; ``of`` names the base."""
    return f"(value - {of}) / {of}, %" if scale == "change" else f"% of {of}"


def over_runs(points: DataFrame) -> str:
    """What a point and its bar are: mean and deviation over seeds, or one run and its interval over questions."""
    found = []
    seeds = points.loc[(points["normalised_seeds"] > 0) & (points["questions"] == 0), "normalised_seeds"]
    if len(seeds) and seeds.max() > 1:
        found.append(f"mean ± std, {span(seeds)} seeds")
    found += [f"95 % interval over {said}" for said in asked(points)]
    return BETWEEN.join(found) or "one seed"


def asked(points: DataFrame) -> list[str]:
    """How many questions, or sentences, the points' intervals are over: '384 questions'; a text per kind."""
    over = points[points["questions"] > 0]
    return [f"{span(mine)} {unit}" for unit, mine in over.groupby("unit", sort=False)["questions"]]


def span(counts) -> str:
    """'3', or '2 to 3'."""
    low, high = int(counts.min()), int(counts.max())
    return f"{high}" if low == high else f"{low} to {high}"


def shows_zero(points: DataFrame, scale: str) -> bool:
    """Whether the logarithmic axis must show 0: changes always, and shares of a rate that has fallen to 0."""
    return scale == "change" or bool((points.loc[points["better"] == "lower", "ratio"] <= 0).any())


def share_axes(rows: list[list[Panel]], zero: bool) -> None:
    """Let panels share their axis.

    Where less is better the axis is logarithmic, and shared by such panels alone; with ``zero`` it is linear around 0.
    Call it before anything is drawn.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    first: dict[bool, object] = {}
    for row in rows:
        for i, panel in enumerate(row):
            if panel.less in first:
                panel.axes.sharey(first[panel.less])
            first.setdefault(panel.less, panel.axes)
            if i and row[i - 1].less == panel.less:
                panel.axes.tick_params(labelleft=False)
    if True in first:
        kind = {"value": "symlog", "linthresh": LINEAR} if zero else {"value": "log"}
        first[True].set_yscale(**kind)  # of all that share it
        if not zero:  # values within one decade need more than its end
            first[True].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        first[True].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        first[True].yaxis.set_minor_formatter(NullFormatter())


def name_axes(rows: list[list[Panel]], said: str, zero: bool) -> None:
    """Name the axis of every row's first panel, and of one whose axis or bars are others than its neighbour's.

    ``said`` is what the axis shows, ``zero`` as in ``share_axes``.
    """
    for row in rows:
        for i, panel in enumerate(row):
            if i == 0 or (row[i - 1].less, row[i - 1].bars) != (panel.less, panel.bars):
                shown = said + (f" ({f'log beyond {LINEAR}' if zero else 'log'}, more is worse)" if panel.less else "")
                text = f"{shown}, {panel.bars}"
                broken = f"{shown},\n{panel.bars}".replace(BETWEEN, f"{BETWEEN.strip()}\n").split("\n")
                lines = [text] if len(text) <= LONG else [part for line in broken for part in textwrap.wrap(line, LONG)]
                panel.axes.set_ylabel("\n".join(lines))


# --- the axis of sparsity --------------------------------------------------------------------------------------------


def across(points: DataFrame, places: dict[str, int]) -> list[float]:
    """Where points stand on the axis: by sparsity in percent, or at their pattern's place."""
    if places:
        return [places[pattern] for pattern in points["pattern"]]
    return [100 * value for value in points["sparsity"]]


def axis_places(points: DataFrame, overlay: DataFrame | None) -> dict[str, int]:
    """Where each N:M pattern stands on its axis: side by side, the densest first."""
    known = dict(zip(points["pattern"], points["sparsity"]))
    if overlay is not None:
        known |= dict(zip(overlay["pattern"], overlay["sparsity"]))
    order = sorted(known, key=lambda pattern: (round(known[pattern], 6), -int(pattern.split(":")[1])))
    return {pattern: place for place, pattern in enumerate(order)}
