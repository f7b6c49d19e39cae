"""Which panel a curve goes to, what it is called there, and its marks: the same in the figure and on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.report.kinds import LAYER_WISE, METHODS, is_nm, method_of
from junkdna.report.names import axis_words, place_order, place_words

if TYPE_CHECKING:
    from pandas import DataFrame


def row_of(points: DataFrame, nm: bool) -> DataFrame:
    """The points of one row of panels: N:M, or everything else with the controls among the unstructured."""
    return points[points["kind"].map(is_nm).astype(bool) == nm]


def apart(points: DataFrame) -> set[str]:
    """The families in whose figures every method has panels of its own.

    Those of which several methods were run, one of them layer by layer, at more than one place within a panel. Where
    the other axes do not vary, the methods are the lines of one panel.
    """
    found = set()
    pruned = points[points["kind"] != "dense"]
    for family, mine in pruned.groupby("family", sort=False):
        methods = set(map(method_of, mine["kind"].unique()))
        if len(methods) > 1 and methods & LAYER_WISE and len({place[1:] for place in mine["place"]}) > 1:
            found.add(family)
    return found


def gridded(points: DataFrame) -> set[str]:
    """The families whose panels are a grid over all axes, instead of one panel for each value of the first.

    Either no panel would hold more than one place, as where each task has its own share of the data: the titles say
    it then. Or a panel would hold several transfers at several places, and more lines than can be told apart.
    """
    found = set()
    pruned = points[points["kind"] != "dense"]
    for family, mine in pruned.groupby("family", sort=False):
        inside: dict[tuple, tuple[set, set]] = {}
        for place, treatment in zip(mine["place"], mine["treatment"]):
            others, treatments = inside.setdefault(place[:1], (set(), set()))
            others.add(place[1:])
            treatments.add(treatment)
        alone = all(len(others) == 1 for others, _ in inside.values())
        varied = len(set().union(*(others for others, _ in inside.values()))) > 1
        if (alone and varied) or any(min(map(len, sets)) > 1 for sets in inside.values()):
            found.add(family)
    return found - apart(points)


def panels_of(points: DataFrame) -> list[tuple]:
    """Each point's panel: its family, its place on the axes that panels are made of, and its method where methods are
    apart.
    """
    split, grid = apart(points), gridded(points)
    return [
        (
            family,
            *(place if family in grid else place[:1]),
            *([(METHOD, method_of(kind))] if family in split and kind != "dense" else []),
        )
        for family, place, kind in zip(points["family"], points["place"], points["kind"])
    ]


METHOD = "method"


def without_method(panel: tuple) -> tuple:
    """The panel in which a dense run stands that panels of several methods share."""
    return panel[:-1] if panel[-1][0] == METHOD else panel


def in_panel_order(panels) -> list[tuple]:
    """The panels, each once, in their order, methods in that of METHODS."""
    once = list(dict.fromkeys(panels))
    first = list(dict.fromkeys(panel[:2] for panel in once))
    rank = {method: i for i, method in enumerate(METHODS)}

    def key(panel: tuple) -> tuple:
        place = without_method(panel)
        return first.index(panel[:2]), place_order(place[2:]), rank.get(panel[-1][-1], len(METHODS))

    return sorted(once, key=key)


def panel_label(panel: tuple, several: bool) -> str:
    """A panel in words."""
    family, *axis = panel
    words = place_words(tuple(axis), ", ") or family
    return f"{family}: {words}" if several and axis else words


def rests(points: DataFrame, asked: DataFrame | None = None) -> list[tuple]:
    """Where each point stands on the axes that tell the lines of a panel apart.

    ``asked`` holds the points that are asked about, if they are not these.
    """
    grid = gridded(points)
    asked = points if asked is None else asked
    return [() if family in grid else place[1:] for family, place in zip(asked["family"], asked["place"])]


def line_names(points: DataFrame, named: DataFrame | None = None) -> list[str]:
    """What a curve is called in the legend, the same in both rows: what its panel says is left out.

    ``named`` holds the curves to be named, if they are not those of ``points``.
    """
    split = apart(points)
    names = []
    named = points if named is None else named
    for family, curve, kind in zip(named["family"], named["curve"], named["kind"]):
        panel = kind if family in split else "N:M" if is_nm(kind) else "unstructured"
        names.append(curve.replace(f", {panel}", "", 1) if kind.startswith(panel) else curve)
    return names


DASH_COUNT = 5
"""Dashes that can be told apart, in the figure and on the page."""

LOOK = ["family", "model", "line", "rest"]
"""What has a mark, a colour and a dash of its own."""


def looks(points: DataFrame) -> list[dict]:
    """Give every curve numbers of a mark and a dash: by its name, and by the other axes than the first, if both vary.

    Where there are more places than dashes, every curve has a mark of its own again. Both vary or not in each family by
    itself. The page takes these too, so that a curve looks the same in both. By
    ``line`` or ``treatment`` a published curve finds its own.
    """
    made = points[[*LOOK, "treatment"]].drop_duplicates(LOOK).to_dict("records")
    start = 0
    for family in dict.fromkeys(look["family"] for look in made):
        mine = [look for look in made if look["family"] == family]
        curves = list(dict.fromkeys(tuple(look[name] for name in LOOK[:3]) for look in mine))
        others = sorted({look["rest"] for look in mine}, key=place_order)
        both = len(curves) > 1 and 1 < len(others) <= DASH_COUNT
        for i, look in enumerate(mine):
            place = (curves.index(tuple(look[name] for name in LOOK[:3])), others.index(look["rest"]))
            look["mark"], look["dash"] = (start + place[0], place[1]) if both else (start + i, start + i)
        start += len(curves) if both else len(mine)
    labels = legend(made)
    return [look | {"label": label} for look, label in zip(made, labels)]


def legend(made: list[dict]) -> list[str]:
    """The curves' names in the legend: other axes, model and family only where they vary."""
    others = [name for name in ("model", "family") if len({look[name] for look in made}) > 1]
    axes: dict[str, dict[str, set]] = {}
    for look in made:
        for axis, value in look["rest"]:
            axes.setdefault(look["family"], {}).setdefault(axis, set()).add(value)
    labels = []
    for look in made:
        rest = axis_words(tuple(at for at in look["rest"] if len(axes[look["family"]][at[0]]) > 1))
        labels.append(", ".join(filter(None, [look["line"], rest, *(look[name] for name in others)])))
    return labels
