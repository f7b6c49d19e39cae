"""The tables of the report, once as rows for whoever shows them and once as Markdown."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from junkdna.report.claims import COVERAGE, EXACT, TOLERANCE, caution

MEANS = "model | task | data | transfer | pattern | metric | mean | std | seeds | {base} | std | n | above chance | std | remark"


@dataclass(frozen=True)
class Table:
    """Names of columns, rows of text, and the numbers of the columns whose cells stand to the right."""

    head: list[str]
    rows: list[list[str]]
    right: frozenset[int]

    def markdown(self) -> str:
        rule = "|".join("---:" if i in self.right else "---" for i in range(len(self.head)))
        lines = [f"| {' | '.join(self.head)} |", f"|{rule}|"]
        return "\n".join([*lines, *("| " + " | ".join(map(cell, row)) + " |" for row in self.rows)]) + "\n"


def table(head: str, rows: list[list], right=()) -> Table:
    return Table(head.split(" | "), [[str(text) for text in row] for row in rows], frozenset(right))


def means(points, first: bool = False) -> str:
    """The table of means over seeds; a point without a finished run has a row without numbers."""
    rows = []
    for p in points.itertuples():
        numbers = [number(p.mean, "{:.4f}"), number(p.std, "{:.4f}")]
        seeds = f"{p.seeds}" if p.seeds == p.expected else f"{p.seeds} of {p.expected}"
        shares = [
            number(share, "{:.1%}") for share in (p.normalised, p.normalised_std, p.above_chance, p.above_chance_std)
        ]
        rows.append([p.model, p.task, f"{p.percentage:g} %", p.curve, p.pattern, p.metric, *numbers, seeds,
                     *shares[:2], f"{p.normalised_seeds}", *shares[2:], p.note])  # fmt: skip
    return table(MEANS.format(base="of first point" if first else "of dense"), rows, {2, 4, *range(6, 14)}).markdown()


def problems(cells, holes: list[tuple], unreadable: list[str]) -> str:
    """Every cell that is not in the means: by folder, or by what it would have been."""
    rows = [
        [cell.status, cell.folder, cell.error]
        for cell in cells.loc[cells["status"] != "done", ["status", "folder", "error"]].itertuples()
    ]
    for (model, task, percentage, curve), pattern, seed in holes:
        what = f"{model}, {task}, {percentage:g} %, {curve}, {pattern}, seed {seed}"
        why = "a pruned run has no dense one" if pattern == "dense" else "other seeds or patterns of the curve have it"
        rows.append(["missing", what, why])
    rows += [["unreadable", folder, "its records hold no settings"] for folder in unreadable]
    return table("status | cell | reason", rows).markdown() if rows else ALL_DONE


ALL_DONE = """Every cell that has a folder is finished, and no curve lacks a seed or pattern that it has elsewhere.
"""


def difference_rows(differences) -> Table:
    """The settings, code, versions and machines in which cells differ."""
    rows = zip(differences["name"], differences["value"], differences["cells"], differences["where"])
    return table("setting | value | cells | where", list(rows), {2})


def differences(rows) -> str:
    """The same as Markdown, or a sentence if there are none."""
    made = difference_rows(rows)
    return made.markdown() if made.rows else "All cells agree in their settings, code, versions and machine.\n"


def inside(mixed: list[str]) -> str:
    """The differences that are inside one number."""
    if not mixed:
        return "No mean mixes code, versions, machines, weights or data, and neither does a ratio.\n"
    return "These are inside one number, averaged or divided all the same:\n\n" + "".join(
        f"- {cell(line)}\n" for line in mixed
    )


# --- claims ----------------------------------------------------------------------------------------------------------


def claims(table_of_claims, first: bool = False) -> str:
    """The claims as Markdown: of single curves and of pairs, for each measure."""
    text = explained(first) + "\n"
    for title, made in claim_tables(table_of_claims, first):
        text += f"\n### {title}\n\n" + "\n".join(one.markdown() for one in made)
        if len(made) < 2:
            text += "\nOnly one curve of each kind: no pair to compare.\n"
    return text if len(table_of_claims) else text + "\nNo curve has two points yet.\n"


def claim_tables(table_of_claims, first: bool) -> list[tuple[str, list[Table]]]:
    """For each measure its title, the table of curves and, if there is one, the table of pairs."""
    base = "its own first point" if first else "dense"
    titles = {
        "normalised": f"The metric as a share of {base}",
        "above_chance": f"The part above chance as a share of that of {base}",
    }
    made = []
    for measure, mine in table_of_claims.groupby("measure", sort=False):
        made.append((titles[measure], [one for one in (one_by_one(mine), two_by_two(mine)) if one.rows]))
    return made


def explained(first: bool) -> str:
    """What the claims' numbers mean."""
    return " ".join(
        EXPLAINED.format(
            base="its own first point" if first else "dense",
            tolerance=100 * TOLERANCE,
            exact=EXACT,
            coverage=100 * COVERAGE,
        ).split()
    )


EXPLAINED = """
Monotone: Spearman's rank correlation of the mean curve with sparsity (-1: it only falls), and the share of resamples over seeds in
which no step rises by more than {tolerance:g} point. Loses 5 %: between which measured sparsities the mean curve first falls below 95 % of {base}; "line" is
where a straight line between the two does, as does the interval. Gap: the first curve minus the second, in points, at equal patterns;
negative: the first ended lower. "Lost more" is said only if Student's t (of unpaired seeds: the bootstrap) excludes 0. Every number rests
on seeds that have all its sparsities; what is left out for that is counted. Intervals are {coverage:g} % percentile bootstraps over seeds (up to {exact} seeds every resample is counted exactly) and, for mean
gaps of paired seeds, Student's t. A bootstrap of few seeds is too narrow: with three it is the range of the three. A metric that
cannot fall below chance makes a task look easier than one that can fall to 0; the part above chance has no such floor.
"""


def one_by_one(claims) -> Table:
    """Monotone fall and loss of 5 %, a row per curve."""
    falls = claims[claims["claim"] == "monotone fall"]
    loses = claims[claims["claim"] == "loses 5 %"]
    rows = []
    for fall, loss in zip(falls.itertuples(), loses.itertuples()):
        share = number(fall.share, "{:.0%}") or "one seed: none"
        rows.append([fall.model, fall.task_a, f"{fall.percentage_a:g} %", fall.curve, number(fall.estimate, "{:.2f}"), share,
                     fall.remark, loss.remark, bounds(loss.low, loss.high, "{:.3f}"), caution(int(fall.seeds_a))])  # fmt: skip
    head = "model | task | data | curve | Spearman | resamples monotone | steps | loses 5 % at sparsity | interval | certainty"
    return table(head, rows, {2, 4, 5, 8})


def two_by_two(claims) -> Table:
    """Mean gap and the largest gap of each pair."""
    rows = []
    names = ["curve", "model", "task_a", "task_b", "percentage_a", "percentage_b"]
    single = dict(list(claims[claims["claim"] == "gap"].groupby(names, sort=False)))
    for mean in claims[claims["claim"] == "mean gap"].itertuples():
        mine = single[tuple(getattr(mean, name) for name in names)]
        top = mine.loc[mine["estimate"].abs().idxmax()]
        largest = f"{100 * top['estimate']:+.1f} {bounds(top['low'], top['high'], '{:+.1f}', 100)} at {top['pattern']}"
        a, b = f"{mean.task_a} {mean.percentage_a:g} %", f"{mean.task_b} {mean.percentage_b:g} %"
        says = verdict(mean, a, b)
        seeds = caution(int(min(mean.seeds_a, mean.seeds_b))) + ("" if mean.paired else "; seeds not paired")
        rows.append([mean.model, f"{a} - {b}", mean.curve, f"{100 * mean.estimate:+.1f}", bounds(mean.low, mean.high, "{:+.1f}", 100),
                     bounds(mean.t_low, mean.t_high, "{:+.1f}", 100), mean.remark, says, largest, seeds])  # fmt: skip
    head = "model | pair | curve | mean gap | bootstrap | Student's t | of | says | largest gap, picked afterwards (uncorrected) | certainty"
    return table(head, rows, {3, 4, 5})


def verdict(mean, a: str, b: str) -> str:
    """Which of two lost more, if the interval of the mean gap excludes 0: Student's, or the bootstrap of unpaired seeds."""
    low, high = (mean.t_low, mean.t_high) if mean.paired else (mean.low, mean.high)
    if low is None or not (low > 0 or high < 0):  # an interval that is none is NaN: not decided either
        return "not decided"
    return f"{a if high < 0 else b} lost more"


def bounds(low: float | None, high: float | None, form: str, scale: float = 1) -> str:
    """An interval, or nothing where there is none; an open end is 'never'."""
    if low is None or low != low:
        return "none"
    return "[" + ", ".join("never" if math.isinf(end) else form.format(scale * end) for end in (low, high)) + "]"


# --- form ------------------------------------------------------------------------------------------------------------


def cell(text: object) -> str:
    """Text that stays inside its table cell and is shown as it is."""
    return html.escape(" ".join(str(text).split()), quote=False).replace("|", "\\|")


def number(value: float | None, form: str) -> str:
    """A number, or nothing where there is none (one seed has no deviation)."""
    return "" if value is None or value != value else form.format(value)
