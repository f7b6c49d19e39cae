"""Which panel a curve goes to, what it is called there, and its marks: the same in the figure and on the page."""

from __future__ import annotations

from junkdna.report.names import axis_words, place_order


def is_nm(kind: str) -> bool:
    """Whether a kind of pattern stands on the axis of N:M: 'N:M' or 'N:M, random'."""
    return kind.split(", ")[0] == "N:M"


def row_of(points, nm: bool):
    """The points of one row of panels: N:M, or everything else with the controls among the unstructured."""
    return points[points["kind"].map(is_nm).astype(bool) == nm]


def panels_of(points) -> list[tuple]:
    """Each point's panel: its family and its place on the family's first axis."""
    return [(family, *place[:1]) for family, place in zip(points["family"], points["place"])]


def panel_label(panel: tuple, several: bool) -> str:
    """A panel in words."""
    family, *axis = panel
    words = [value for _, value in axis] or [family]
    return ": ".join([family, *words] if several and axis else words)


def rests(points) -> list[tuple]:
    """Where each point stands on the axes that tell the lines of a panel apart."""
    return [place[1:] for place in points["place"]]


def line_names(points) -> list[str]:
    """What a curve is called in the legend, the same in both rows: the kind of its panel is left out."""
    names = []
    for curve, kind in zip(points["curve"], points["kind"]):
        panel = "N:M" if is_nm(kind) else "unstructured"
        names.append(curve.replace(f", {panel}", "", 1) if kind.startswith(panel) else curve)
    return names


LOOK = ["family", "model", "line", "rest"]
"""What has a mark, a colour and a dash of its own."""


def looks(points) -> list[dict]:
    """Give every curve numbers of a mark and a dash: by its name, and by the other axes than the first, if both vary.

    The page takes these too, so that a curve looks the same in both. By ``treatment`` a published curve finds its own.
    """
    made = points[[*LOOK, "treatment"]].drop_duplicates(LOOK).to_dict("records")
    curves = list(dict.fromkeys(tuple(look[name] for name in LOOK[:3]) for look in made))
    others = sorted({look["rest"] for look in made}, key=place_order)
    both = len(curves) > 1 and len(others) > 1
    for i, look in enumerate(made):
        place = (curves.index(tuple(look[name] for name in LOOK[:3])), others.index(look["rest"]))
        look["mark"], look["dash"] = place if both else (i, i)
    labels = legend(made)
    return [look | {"label": label} for look, label in zip(made, labels)]


def legend(made: list[dict]) -> list[str]:
    """The curves' names in the legend: other axes, model and family only where they vary."""
    varies = lambda name, of: len({look[name] for look in made if of(look)}) > 1  # noqa: E731
    labels = []
    for look in made:
        rest = axis_words(look["rest"]) if varies("rest", lambda o, f=look["family"]: o["family"] == f) else ""
        others = [look[name] for name in ("model", "family") if varies(name, lambda _: True)]
        labels.append(", ".join(filter(None, [look["line"], rest, *others])))
    return labels
