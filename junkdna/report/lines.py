"""The curves that claims speak of: their values by seed and pattern, and their resamples over questions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from junkdna.report import collapsed, questions, repeats
from junkdna.report.names import Place, place_words
from junkdna.report.reading import DONE
from junkdna.report.summary import LINE, SILENT

if TYPE_CHECKING:
    from pandas import DataFrame

LEFT_OUT = "left out"
"""What stands for a claim where a curve, or a pair, can make none."""


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: ``values`` is seeds x patterns, as fractions of the base, NaN where no run is.

    ``settings`` is what its runs share in training and scope, as (name, text) pairs: curves at two places can differ.
    ``treatment`` is what is done with removed weights, ``kind`` what is removed; both stand in the curve's name.
    ``draws`` are the values in resamples of ``asked`` questions (draws x patterns, NaN for a pattern that has none), of
    a curve of one seed; None where seeds are what is resampled. ``collapsed`` says which runs have collapsed, and which
    of their bases: bool (2, seeds, patterns), None where nobody asked. ``silent`` is why a curve says nothing about
    pruning, "" if it does. ``metric`` is what its runs are measured by.
    """

    family: str
    model: str
    place: Place
    curve: str
    patterns: tuple[str, ...]
    sparsities: np.ndarray
    seeds: tuple
    values: np.ndarray
    settings: tuple = ()
    treatment: str = ""
    kind: str = ""
    draws: np.ndarray | None = None
    questions: str = ""
    asked: int = 0
    unit: str = ""
    collapsed: np.ndarray | None = None
    silent: str = ""
    metric: str = ""

    def part(self, seeds, patterns) -> Line:
        """The curve of these seeds (positions) and patterns (positions) alone."""
        chosen = lambda names, at: tuple(names[i] for i in at)  # noqa: E731
        return replace(
            self,
            patterns=chosen(self.patterns, patterns),
            sparsities=self.sparsities[list(patterns)],
            seeds=chosen(self.seeds, seeds),
            values=self.values[np.ix_(seeds, patterns)],
            draws=None if self.draws is None else self.draws[:, list(patterns)],
            collapsed=None if self.collapsed is None else self.collapsed[:, list(seeds)][:, :, list(patterns)],
        )

    def by_level(self) -> Line:
        """The curve with patterns of equal sparsity, such as 2:4 and 4:8, averaged into one."""
        levels = self.sparsities.round(4)
        groups = [np.flatnonzero(levels == level) for level in np.unique(levels)]
        mean = lambda values: np.column_stack([values[:, group].mean(axis=1) for group in groups])  # noqa: E731
        return replace(
            self,
            patterns=tuple(", ".join(self.patterns[i] for i in group) for group in groups),
            sparsities=np.array([self.sparsities[group].mean() for group in groups]),
            values=mean(self.values),
            draws=None if self.draws is None else mean(self.draws),
            collapsed=None,
        )


def lines(cells: DataFrame, measure: str) -> list[Line]:
    """Return the curves that have at least two patterns with a value; what no run has reached is NaN.

    Also those that would have, were it not for their bases: they are ``silent``.
    """
    found = []
    for key, mine in repeats.counted(cells[cells["kind"] != "dense"]).groupby(LINE, sort=False):
        finished = mine[mine["status"] == DONE]
        done, why = finished[finished[measure].notna()], silent(finished)
        if (finished if why else done)["pattern"].nunique() < 2:
            continue
        sparsity = mine.groupby("pattern")["sparsity"].mean().sort_values(kind="stable")
        values = done.pivot_table(index="seed", columns="pattern", values=measure, aggfunc="mean")
        values = values.reindex(index=sorted(mine["seed"].unique()), columns=sparsity.index)
        settings = (*mine["training"].iloc[0], *mine["scope"].iloc[0])
        place = (tuple(sparsity.index), sparsity.to_numpy(), tuple(values.index), values.to_numpy(float))
        named = mine["treatment"].iloc[0], mine["kind"].iloc[0]
        shown = {"metric": finished["metric"].iloc[0], "collapsed": collapsed.table(done, values), "silent": why}
        line = Line(*key, *place, settings, *named, **shown)
        found.append(over_questions(line, done, measure))
    return found


def silent(finished: DataFrame) -> str:
    """Why no run of a curve can say what pruning costs: none of their bases is clearly better than chance."""
    known = finished[finished["base_value"].notna()]  # a seed without a dense run says nothing of the others
    if known.empty or not known["base_remark"].isin(SILENT).all():
        return ""
    bases = known.drop_duplicates("seed")
    chance = bases["chance"].mean()
    return f"its base is {bases['base_value'].mean():.4f}" + (f", chance {chance:.4f}" if chance == chance else "")


def over_questions(line: Line, done: DataFrame, measure: str) -> Line:
    """A curve with its resamples over questions, if it has one seed, and runs that were all asked the same ones."""
    if len(line.seeds) > 1 or done["pattern"].duplicated().any():
        return line
    columns, sets = [], {}
    for pattern in line.patterns:
        (cell,) = done[done["pattern"] == pattern].to_dict("records") or [None]
        drawn = None if cell is None else questions.compared(cell, measure)
        if drawn is not None:
            sets[cell["draws"].questions] = (cell["draws"].count, cell["draws"].unit)
        columns.append(drawn)
    if len(sets) != 1:
        return line
    ((name, (count, unit)),) = sets.items()
    empty = np.full(questions.DRAWS, np.nan)
    drawn = np.column_stack([empty if column is None else column for column in columns])
    return replace(line, draws=drawn, questions=name, asked=count, unit=unit)


def about(line: Line) -> dict:
    """Which curve a claim is about."""
    return {
        "family": line.family,
        "model": line.model,
        "curve": line.curve,
        **there(line, "a"),
        "seeds_a": len(line.seeds),
        "remark": "",
    }


def said_nothing(line: Line, why: str) -> dict:
    """A row for a curve that makes no claim."""
    return about(line) | {"claim": LEFT_OUT, "remark": why}


def there(line: Line, side: str) -> dict:
    """Where a curve stands, in words and on each axis, as columns of this side of a pair."""
    return {side: place_words(line.place), **{f"{axis}_{side}": value for axis, value in line.place}}
