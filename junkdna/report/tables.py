"""The tables of the report, once as rows for whoever shows them and once as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.report import collapsed, scales
from junkdna.report.claims import TOLERANCE
from junkdna.report.collect import axes_of
from junkdna.report.forms import NUMBER, Table, bounds, escape, number, table
from junkdna.report.lines import LEFT_OUT
from junkdna.report.names import NOTES, line_words, settled_words
from junkdna.report.resampling import COVERAGE, EXACT, caution

if TYPE_CHECKING:
    from pandas import DataFrame

MEANS = "curve | pattern | metric | mean | std | seeds | {base} | std | n | above chance | std | remark"
MEANS_ASKED = "interval of the metric | interval {base}"
"""Columns in front of the remark, where a point's uncertainty is that over questions."""


def means(points: DataFrame, first: bool = False, scale: str = "share") -> str:
    """The table of means over seeds; a point without a finished run has a row without numbers.

    Where a point is one run with scored questions, two more columns hold the intervals over them.
    """
    rows = []
    axes, several = axes_of(points), points["family"].nunique() > 1
    asked, less = bool((points["questions"] > 0).any()), 1 if scale == "change" else 0
    fell = bool((points["collapsed"] > 0).any())
    form = "{:+.1%}" if scale == "change" else "{:.1%}"
    for p in points.itertuples():
        numbers = [number(p.mean, "{:.4f}"), number(p.std, "{:.4f}")]
        counts = [f"{p.seeds}" if p.seeds == p.expected else f"{p.seeds} of {p.expected}"]
        counts += [f"{p.collapsed}"] if fell else []
        shares = [number(p.ratio - less, form)]
        shares += [number(share, "{:.1%}") for share in (p.ratio_std, p.above_chance, p.above_chance_std)]
        shares.insert(2, f"{p.normalised_seeds}")
        intervals = [bounds(p.value_low, p.value_high, "{:.4f}", none=""),
                     bounds(p.ratio_low - less, p.ratio_high - less, form, none="")] if asked else []  # fmt: skip
        rows.append([*([p.family] if several else []), p.model, *axis_values(p.place, axes), p.curve, p.pattern,
                     p.metric, *numbers, *counts, *shares, *intervals, p.note])  # fmt: skip
    base = ("change from " if scale == "change" else "of ") + ("first point" if first else "dense")
    names = MEANS.replace("| remark", f"| {MEANS_ASKED} | remark") if asked else MEANS
    names = names.replace("| seeds |", "| seeds | collapsed |") if fell else names
    head = [*(["family"] if several else []), "model", *axes, *names.format(base=base).split(" | ")]
    right = ["pattern", "mean", "std", "seeds", "collapsed", base, "n", "above chance", *numeric(axes, points["place"])]
    right += ["interval of the metric", f"interval {base}"]
    return table(head, rows, right).markdown() + "".join(f"\n{escape(line)}\n" for line in captions(points))


def captions(points: DataFrame) -> list[str]:
    """What must be said below the means: constant axes, questions, metrics; nothing where there is nothing."""
    several = points["family"].nunique() > 1
    settled = settled_words(points).items()
    lines = [f"Everywhere{f' in {family}' if several else ''}: {said}." for family, said in settled]
    if asked := scales.asked(points):
        lines.append(ASKED.format(coverage=100 * COVERAGE, asked=" or ".join(asked)).replace("\n", " "))
    lines += [f"{metric}: {NOTES[metric]}." for metric in dict.fromkeys(points["metric"]) if metric in NOTES]
    if (points[["collapsed", "base_collapsed"]] > 0).any(axis=None):
        lines.append(collapsed.CAPTION.replace("\n", " "))
    if (points["better"] == "lower").any():
        names = dict.fromkeys(points.loc[points["better"] == "lower", "metric"])
        lines.append(f"Less is better: {', '.join(filter(None, names))}. More than the base is worse.")
    return lines


ASKED = """The intervals of single runs are {coverage:g} % percentile bootstraps over {asked},
paired with those of the base."""


def axis_values(place, axes: list[str]) -> list[str]:
    """A place's values on these axes, empty where its family lacks one."""
    return [dict(place).get(axis, "") for axis in axes]


def numeric(axes: list[str], places) -> list[str]:
    """The axes whose values are all numbers or percentages."""
    values = {axis: [value for place in places for name, value in place if name == axis] for axis in axes}
    return [axis for axis, said in values.items() if said and all(map(NUMBER.fullmatch, said))]


def problems(cells: DataFrame, holes: list[tuple], unreadable: list) -> str:
    """Every cell that is not in the means: by folder, or by what it would have been; ``unreadable`` as of collect."""
    rows = [
        [cell.status, cell.folder, cell.error]
        for cell in cells.loc[cells["status"] != "done", ["status", "folder", "error"]].itertuples()
    ]
    several = cells["family"].nunique() > 1
    for line, pattern, seed in holes:
        what = f"{line_words(line, several)}, {pattern}, seed {seed}"
        why = "a pruned run has no dense one" if pattern == "dense" else "other seeds or patterns of the curve have it"
        rows.append(["missing", what, why])
    rows += [["unreadable", one.folder, one.reason] for one in unreadable]
    return table("status | cell | reason", rows).markdown() if rows else ALL_DONE


ALL_DONE = """Every cell that has a folder is finished, and no curve lacks a seed or pattern that it has elsewhere.
"""


def difference_rows(differences: DataFrame) -> Table:
    """The settings, code, versions and machines in which cells differ."""
    rows = zip(differences["name"], differences["value"], differences["cells"], differences["where"])
    return table("setting | value | cells | where", list(rows), ["cells"])


def differences(rows: DataFrame) -> str:
    """The same as Markdown, or a sentence if there are none."""
    made = difference_rows(rows)
    return made.markdown() if made.rows else "All cells agree in their settings, code, versions and machine.\n"


def inside(mixed: list[str]) -> str:
    """The differences that are inside one number."""
    if not mixed:
        return "No mean mixes code, versions, machines, weights or data, and neither does a ratio.\n"
    return "These are inside one number, averaged or divided all the same:\n\n" + "".join(
        f"- {escape(line)}\n" for line in mixed
    )


# --- claims ----------------------------------------------------------------------------------------------------------


def claims(table_of_claims: DataFrame, first: bool = False) -> str:
    """The claims as Markdown: of single curves and of pairs, for each measure."""
    text = explained(first) + "\n"
    for title, made in claim_tables(table_of_claims, first):
        text += f"\n### {title}\n\n" + "\n".join(one.markdown() for one in made)
        if not any("pair" in one.head for one in made):
            text += "\nOnly one curve of each kind: no pair to compare.\n"
    return text if len(table_of_claims) else text + "\nNo curve has two points yet.\n"


def claim_tables(table_of_claims: DataFrame, first: bool) -> list[tuple[str, list[Table]]]:
    """For each measure its title, the table of curves and, if there is one, the table of pairs."""
    base = "its own first point" if first else "dense"
    titles = {
        "normalised": f"The metric as a share of {base}",
        "above_chance": f"The part above chance as a share of that of {base}",
    }
    made = []
    for measure, mine in table_of_claims.groupby("measure", sort=False):
        made.append(
            (titles[measure], [one for one in (one_by_one(mine), two_by_two(mine), left_out(mine)) if one.rows])
        )
    return made


def explained(first: bool) -> str:
    """What the claims' numbers mean."""
    return " ".join(
        EXPLAINED.format(
            base="its own first point" if first else "dense",
            own="own first point" if first else "dense",
            tolerance=100 * TOLERANCE,
            exact=EXACT,
            coverage=100 * COVERAGE,
        ).split()
    )


EXPLAINED = """
Monotone: Spearman's rank correlation of the mean curve with sparsity (-1: it only falls), and the share of resamples
over seeds in which no step rises by more than {tolerance:g} point. Loses 5 %: between which measured sparsities the
mean curve first falls below 95 % of {base}; "line" is where a straight line between the two does, as does the interval.
Gap: the first curve minus the second, in points, at equal patterns; negative: the first ended lower. "Lost more" is
said only if Student's t (of unpaired seeds: Welch's) excludes 0, and "ended lower" where that curve has lost nothing.
That is not corrected for the number of pairs: where nothing differs, one in twenty is decided all the same. Every
number rests on seeds that have all its sparsities; what is left out for that is counted. Where less is better the share
is base / value, so that less is always worse. Curves of one seed whose runs scored every question are resampled over
questions instead of seeds (of translations: over sentences), the same ones together; "lost more" then rests on that
interval. Intervals are {coverage:g} % percentile bootstraps, over seeds (up to {exact} seeds every resample is counted
exactly) and, for mean gaps, Student's t, or Welch's of unpaired seeds. A bootstrap of few seeds is too narrow: with
three it is the range of the three. A curve whose {own} is not clearly better than chance is left out, and so is a seed
beside others whose {own} is. A metric that cannot fall below chance makes a task look easier than one that can fall to
0; the part above chance has no such floor.
"""


def one_by_one(claims: DataFrame) -> Table:
    """Monotone fall and loss of 5 %, a row per curve."""
    falls = claims[claims["claim"] == "monotone fall"]
    loses = claims[claims["claim"] == "loses 5 %"]
    axes, family = axes_of_claims(claims), families(claims)
    places = [
        [(axis, fall[f"{axis}_a"]) for axis in axes if isinstance(fall[f"{axis}_a"], str)] for fall in dicts(falls)
    ]
    rows = []
    for fall, loss, place in zip(dicts(falls), dicts(loses), places):
        share = number(fall["share"], "{:.0%}") or "one seed: none"
        interval = bounds(loss["low"], loss["high"], "{:.3f}")
        rows.append([*(fall[name] for name in family), fall["model"], *axis_values(place, axes), fall["curve"],
                     number(fall["estimate"], "{:.2f}"), share, fall["remark"], loss["remark"], interval,
                     certainty(fall["questions"], fall["unit"], int(fall["seeds_a"]))])  # fmt: skip
    head = ["curve", "Spearman", "resamples monotone", "steps", "loses 5 % at sparsity", "interval", "certainty"]
    right = ["Spearman", "resamples monotone", "interval", *numeric(axes, places)]
    return table([*family, "model", *axes, *head], rows, right)


def left_out(claims: DataFrame) -> Table:
    """The curves that make no claim, and why."""
    axes, family = axes_of_claims(claims), families(claims)
    rows, places = [], []
    for one in dicts(claims[claims["claim"] == LEFT_OUT]):
        places.append([(axis, one[f"{axis}_a"]) for axis in axes if isinstance(one[f"{axis}_a"], str)])
        rows.append(
            [*(one[name] for name in family), one["model"], *axis_values(places[-1], axes), one["curve"], one["remark"]]
        )
    head = ["curve", "left out: no claim"]
    return table([*family, "model", *axes, *head], rows, numeric(axes, places))


def dicts(frame: DataFrame) -> list[dict]:
    return frame.to_dict("records")


def certainty(asked: float, unit: str, seeds: int) -> str:
    """What an interval is over, and what its size means."""
    return f"over {int(asked)} {unit}, one run" if asked == asked else caution(seeds)


def two_by_two(claims: DataFrame) -> Table:
    """Mean gap and the largest gap of each pair; of gaps over questions also those that are decided by themselves."""
    rows = []
    names, family = ["family", "curve", "model", "a", "b"], families(claims)
    single = dict(list(claims[claims["claim"] == "gap"].groupby(names, sort=False)))
    asked = bool(claims.loc[claims["claim"] == "mean gap", "questions"].notna().any())
    for mean in claims[claims["claim"] == "mean gap"].itertuples():
        mine = single[tuple(getattr(mean, name) for name in names)]
        top = mine.loc[mine["estimate"].abs().idxmax()]
        largest = f"{100 * top['estimate']:+.1f} {bounds(top['low'], top['high'], '{:+.1f}', 100)} at {top['pattern']}"
        unpaired = "" if mean.paired else f"; {'seeds' if mean.questions != mean.questions else mean.unit} not paired"
        sure = certainty(mean.questions, mean.unit, int(min(mean.seeds_a, mean.seeds_b))) + unpaired
        intervals = [bounds(*ends, "{:+.1f}", 100) for ends in ((mean.low, mean.high), (mean.t_low, mean.t_high))]
        rows.append([*([mean.family] if family else []), mean.model, f"{mean.a} - {mean.b}", mean.curve,
                     f"{100 * mean.estimate:+.1f}", *intervals, mean.remark, verdict(mean), largest,
                     *([decided(mine)] if asked else []), sure])  # fmt: skip
    head = ["model", "pair", "curve", "mean gap", "bootstrap", "Student's t", "of", "says (uncorrected)"]
    head += ["largest gap, picked afterwards (uncorrected)", *([DECIDED] if asked else []), "certainty"]
    return table([*family, *head], rows, ["mean gap", "bootstrap", "Student's t"])


ROUNDING = 1e-12
"""An end this close to 0 is 0: sums of shares round."""

DECIDED = "gaps whose interval excludes 0 (uncorrected)"


def decided(gaps: DataFrame) -> str:
    """The patterns at which a gap's interval over questions excludes 0, with gap and interval."""
    clear = gaps[gaps["questions"].notna() & excludes_0(gaps["low"], gaps["high"])]
    return "; ".join(
        f"{gap.pattern}: {100 * gap.estimate:+.1f} {bounds(gap.low, gap.high, '{:+.1f}', 100)}"
        for gap in clear.itertuples()
    )


def excludes_0(low, high):
    """Whether an interval, or each of some, excludes 0 by more than rounding."""
    return (low > ROUNDING) | (high < -ROUNDING)


def axes_of_claims(claims: DataFrame) -> list[str]:
    """The axes that a table of claims has columns for."""
    own = ("seeds_a", "kept_a")
    return [name.removesuffix("_a") for name in claims.columns if name.endswith("_a") and name not in own]


def families(claims: DataFrame) -> list[str]:
    """The column of the family, where there are several."""
    return ["family"] if claims["family"].nunique() > 1 else []


def verdict(mean) -> str:
    """Which of two lost more, if the mean gap's interval excludes 0: Student's t, or Welch's of unpaired seeds.

    Over questions the bootstrap decides, paired or not.
    """
    by_seeds = mean.questions != mean.questions
    low, high = (mean.t_low, mean.t_high) if by_seeds else (mean.low, mean.high)
    if low is None or not excludes_0(low, high):  # an interval that is none is NaN: not decided either
        return "not decided"
    name, kept = (mean.a, mean.kept_a) if high < 0 else (mean.b, mean.kept_b)
    return f"{name} {'lost more' if kept < 1 else 'ended lower'}"
