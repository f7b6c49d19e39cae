"""Runs of several seeds in which nothing is drawn: they are one run, and one dense run serves every seed.

Where nothing is trained, what a run is made of says whether another seed made another run: prompts, weights, mask and
calibration samples. Copies of one run have no spread, and would give intervals of width zero.
"""

from __future__ import annotations

from junkdna.report.reading import DONE, REPEATED

UNTRAINED = "one-shot"
"""The treatment of runs that train nothing."""

OF_PRUNING = ("mask", "calibration")
"""Parts of a run's identity that its dense run lacks."""

SAME = ["family", "model", "place", "curve", "pattern", "training", "scope", "made_of", "value"]
"""What two runs that are one agree in; the curve's name says what else is set."""

REASON = "the same run as seed {seed}: nothing is trained or drawn, so it counts once"

MadeOf = tuple[tuple[str, str], ...]


def made_of(run: dict) -> MadeOf:
    """What an untrained run is made of, as (part, digest) pairs without its settings, which the seed is one of.

    () where training makes more of it, or where the record does not say.
    """
    known = run.get("identity")
    if run["treatment"] != UNTRAINED or not isinstance(known, dict) or not known.get("model_weights"):
        return ()
    return tuple(sorted((name, str(digest)) for name, digest in known.items() if name != "settings"))


def mark(cells) -> None:
    """Give finished runs that repeat one of a lower seed the status REPEATED, and all cells ``base_seed``."""
    provable = cells[(cells["status"] == DONE) & cells["made_of"].map(bool)]
    for _, mine in provable.groupby(SAME, sort=False):
        first = mine["seed"].min()
        others = mine.index[mine["seed"] != first]
        cells.loc[others, ["status", "error"]] = [REPEATED, REASON.format(seed=first)]
    cells["base_seed"] = base_seeds(cells)


def base_seeds(cells) -> list[int]:
    """The seed of every cell's dense run: its own, or that of one which was asked the same, word for word."""
    where = list(zip(*(cells[name] for name in ("family", "model", "place", "training"))))
    asked = [tuple(part for part in parts if part[0] not in OF_PRUNING) for parts in cells["made_of"]]
    own, same = set(), {}
    for there, question, kind, status, seed in zip(where, asked, cells["kind"], cells["status"], cells["seed"]):
        if kind == "dense" and status == DONE:
            own.add((there, seed))
            same.setdefault((there, question), seed)
    return [
        seed if (there, seed) in own or not question else same.get((there, question), seed)
        for there, question, seed in zip(where, asked, cells["seed"])
    ]


def counted(cells):
    """The cells without those that repeat another one."""
    return cells[cells["status"] != REPEATED]
