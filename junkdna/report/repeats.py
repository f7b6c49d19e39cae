"""Runs that count once: copies of a folder, and runs of several seeds in which nothing is drawn, whose one dense run
serves every seed.

Where nothing is trained, what a run is made of says whether another seed made another run: prompts, weights, mask and
calibration samples. Copies of one run have no spread, and would give intervals of width zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.report.reading import DONE, REPEATED

if TYPE_CHECKING:
    from pandas import DataFrame

UNTRAINED = "one-shot"
"""The treatment of runs that train nothing."""

OF_PRUNING = ("mask", "calibration")
"""Parts of a run's identity that its dense run lacks."""

SAME_SETTINGS = ["family", "model", "place", "curve", "training", "scope"]
"""What the runs of one curve at one place agree in; the curve's name says what else is set."""

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


def mark(cells: DataFrame) -> None:
    """Give runs that repeat one of a lower or the same seed the status REPEATED, and all cells ``base_seed``."""
    sealed = cells[(cells["status"] == DONE) & cells["seal"].notna()]
    first = dict(zip(sealed["seal"][::-1], sealed["folder"][::-1]))
    for row, seal in sealed.loc[sealed["seal"].duplicated(), "seal"].items():  # one record: somebody copied the folder
        cells.loc[row, ["status", "error"]] = [REPEATED, f"a copy of {first[seal]}, so it counts once"]
    for _, mine in cells.groupby(SAME_SETTINGS, sort=False):
        for row, seed in repeated(mine).items():
            cells.loc[row, ["status", "error"]] = [REPEATED, REASON.format(seed=seed)]
    cells["base_seed"] = base_seeds(cells)


def repeated(mine: DataFrame) -> dict[int, int]:
    """Of a curve's runs those that repeat others, as row -> the seed of these.

    A seed repeats a lower one as a whole: if each of its finished runs is made of what the lower one's is. (Masks drawn
    at random are all the same at a sparsity of 0.)
    """
    runs, found = {}, {}
    for row in mine[mine["status"] == DONE].sort_values("seed", kind="stable").itertuples():
        own = runs.setdefault(row.seed, {})
        if row.made_of and own.get(row.pattern) == row.made_of:
            found[row.Index] = row.seed
        own.setdefault(row.pattern, row.made_of)
    kept = []
    for seed, own in runs.items():
        lower = next((one for one in kept if all(own.values()) and own.items() <= runs[one].items()), None)
        if lower is None:
            kept.append(seed)
            continue
        again = mine[(mine["seed"] == seed) & mine["pattern"].isin(runs[lower])]
        found |= dict.fromkeys(again.index, lower)
    return found


def base_seeds(cells: DataFrame) -> list[int]:
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


def counted(cells: DataFrame) -> DataFrame:
    """The cells without those that repeat another one."""
    return cells[cells["status"] != REPEATED]
