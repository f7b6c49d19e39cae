"""Which curves are compared, and how far apart they are.

Two curves of one family, model and kind are a pair if they differ in one axis only. At one place, two are that differ
in the treatment alone, in what is removed alone, or in one setting alone. Curves of two metrics are never compared at
one value of the first axis: there they would be measures of the same thing.
"""

from __future__ import annotations

from itertools import combinations

from junkdna.report import collapsed, questions
from junkdna.report.kinds import LAYER_WISE, PLAIN, is_nm, method_of
from junkdna.report.lines import Line, about, said_nothing, there
from junkdna.report.names import differing
from junkdna.report.resampling import average, complete, interval, resample_both, resamples, student, welch


def pairs(curves: list[Line]) -> list[tuple[Line, Line]]:
    """Pair the curves of one family, model, treatment and kind that differ in exactly one axis, and those at one place
    that differ in the treatment, in the method or in one setting.

    Two values of the first axis (two tasks, say) that share no place on the other axes are paired all the same; the
    remark names the axes on which they differ too. So are curves at two places that differ in settings, as learning
    rates, if neither has one of its own settings at the other place. Of two methods one is magnitude, or works layer by
    layer.
    """

    def comparable(a: Line, b: Line) -> bool:
        if kind(a) != kind(b) and not (set_apart(a, b) and not partner(a, b) and not partner(b, a)):
            return two_methods(a, b) or two_treatments(a, b) or two_settings(a, b)
        if len(differing(a.place, b.place)) <= 1:
            return True
        others = [{c.place[1:] for c in curves if (kind(c), c.place[0]) == (kind(x), x.place[0])} for x in (a, b)]
        return not others[0] & others[1]

    def partner(a: Line, b: Line) -> bool:
        return any(kind(c) == kind(a) and c.place == b.place for c in curves)

    return [(a, b) for a, b in combinations(curves, 2) if comparable(a, b)]


def kind(line: Line) -> tuple:
    """What two curves must share to be compared: the curve's name says treatment, what is removed, and settings."""
    return line.family, line.model, line.curve


def two_methods(a: Line, b: Line) -> bool:
    """Whether two curves differ in the method alone."""
    methods = {method_of(a.kind), method_of(b.kind)}
    known = not methods.isdisjoint(LAYER_WISE | {PLAIN})
    return len(methods) == 2 and known and beyond(a) == beyond(b) and a.treatment == b.treatment


def two_treatments(a: Line, b: Line) -> bool:
    """Whether two curves differ in the treatment alone."""
    return a.treatment != b.treatment and a.kind == b.kind and beyond(a) == beyond(b)


def two_settings(a: Line, b: Line) -> bool:
    """Whether two curves differ in one setting alone, such as the learning rate."""
    alike = all(getattr(a, name) == getattr(b, name) for name in ("family", "model", "place", "treatment", "kind"))
    return alike and a.curve != b.curve and len(differing(a.settings, b.settings)) == 1


def set_apart(a: Line, b: Line) -> bool:
    """Whether two curves stand at two places, and differ in settings beside."""
    alike = all(getattr(a, name) == getattr(b, name) for name in ("family", "model", "treatment", "kind"))
    return alike and a.place != b.place and a.curve != b.curve


def beyond(line: Line) -> tuple:
    """What two curves of different methods or treatments must share, beside the other of these."""
    return line.family, line.model, line.place, set_otherwise(line), is_nm(line.kind)


def set_otherwise(line: Line) -> str:
    """The settings in a curve's name."""
    return line.curve.removeprefix(f"{line.treatment}, ").removeprefix(line.kind)


def named(a: Line, b: Line) -> dict:
    """The two curves of a pair: by their places, or, where these are equal, by what the curves differ in."""
    said = about(a) | there(b, "b") | {"seeds_b": len(b.seeds)}
    if kind(a) == kind(b):
        return said
    shared, words = a.kind, (a.treatment, b.treatment)
    if two_settings(a, b) or set_apart(a, b):
        own, others = (line.curve.split(", ") for line in (a, b))
        if two_settings(a, b):
            (name,) = differing(a.settings, b.settings)
            words = [f"{name} {dict(line.settings)[name]}" for line in (a, b)]
        else:
            sides = (own, others), (others, own)
            words = [", ".join(word for word in mine if word not in theirs) for mine, theirs in sides]
        named_apart = {side: f"{said[side]}, {word}" for side, word in zip("ab", words) if word}
        return said | {"curve": ", ".join(word for word in own if word in others)} | named_apart
    if a.treatment == b.treatment:
        shared = f"{a.treatment}, {'N:M' if is_nm(a.kind) else 'unstructured'}"
        words = method_of(a.kind), method_of(b.kind)
    said["curve"] = shared + set_otherwise(a)
    return said | {side: f"{said[side]}, {word}" for side, word in zip("ab", words)}


# --- gaps ------------------------------------------------------------------------------------------------------------


def gaps(a: Line, b: Line, first: bool = False) -> list[dict]:
    """The difference of two curves (a - b) at every pattern they share, and its mean over them, of complete cases.

    With ``first`` each curve's first point is left out: it is 100 % by definition, and would only dilute the mean.
    Curves with different first points are shares of different things, and are not compared.
    Where the two share seeds, only those count and are resampled together; otherwise each curve is resampled by itself,
    as where they share one of several.
    Two curves of one seed each are resampled over their questions, if they have such; the same questions together.
    """
    if a.metric != b.metric and a.place[:1] == b.place[:1]:
        words = f"not compared with {named(a, b)['b']}, whose metric is {b.metric}, and this one's {a.metric}"
        return [said_nothing(a, words)]
    if first:
        if a.patterns[0] != b.patterns[0]:
            words = f"not compared with {named(a, b)['b']}, whose first point is at {b.patterns[0]}"
            return [said_nothing(a, f"{words}, and this one's at {a.patterns[0]}")]
        a, b = (x.part(range(len(x.seeds)), range(1, len(x.patterns))) for x in (a, b))
    one, other, paired = matched(a, b)
    if not one.patterns:
        return []
    remark = basis(a, b, one, other)
    centre = one.values.mean(axis=0) - other.values.mean(axis=0)
    if len(a.seeds) == len(b.seeds) == 1 and one.draws is not None and other.draws is not None:
        return over_questions(named(one, other), one, other, remark)
    n_a, n_b = len(one.seeds), len(other.seeds)
    if paired:
        weights, chances = resamples(n_a)
        spread = average(one.values - other.values, weights)
    else:
        left, right, chances = resample_both(n_a, n_b)
        spread = average(one.values, left) - average(other.values, right)
    said = named(one, other) | {"paired": paired}
    seeds = min(n_a, n_b)
    low, high = interval(spread.mean(axis=1), chances, seeds)
    means = one.values.mean(axis=1), other.values.mean(axis=1)
    t_low, t_high = student(means[0] - means[1]) if paired else welch(*means)
    mean = {"claim": "mean gap", "estimate": float(centre.mean()), "low": low, "high": high} | kept(one, other)
    rows = [said | mean | {"t_low": t_low, "t_high": t_high, "remark": remark}]
    for i in range(len(one.patterns)):
        low, high = interval(spread[:, i], chances, seeds)
        rows.append(said | gap(one, other, i) | {"estimate": float(centre[i]), "low": low, "high": high})
    return rows


def over_questions(said: dict, one: Line, other: Line, remark: str) -> list[dict]:
    """The same of two curves of one seed each, with intervals over questions."""
    centre = (one.values - other.values)[0]
    spread = one.draws - other.draws
    said |= {"paired": one.questions == other.questions, "questions": min(one.asked, other.asked), "unit": one.unit}
    low, high = questions.bounds(spread.mean(axis=1))
    mean = {"claim": "mean gap", "estimate": float(centre.mean()), "low": low, "high": high, "remark": remark}
    rows = [said | mean | kept(one, other)]
    for i in range(len(one.patterns)):
        low, high = questions.bounds(spread[:, i])
        rows.append(said | gap(one, other, i) | {"estimate": float(centre[i]), "low": low, "high": high})
    return rows


def kept(one: Line, other: Line) -> dict:
    """What the two curves of a gap keep of their bases, each on the mean over its patterns."""
    return {"kept_a": float(one.values.mean()), "kept_b": float(other.values.mean())}


def gap(line: Line, other: Line, i: int) -> dict:
    """What a gap at one pattern is of."""
    fallen = collapsed.words(*(x.part(range(len(x.seeds)), [i]) for x in (line, other)))
    at = {"pattern": line.patterns[i], "sparsity": float(line.sparsities[i])}
    return {"claim": "gap", **at, "remark": "; ".join(fallen)}


def matched(a: Line, b: Line) -> tuple[Line, Line, bool]:
    """Cut two curves to the patterns and seeds that are complete in both; True if the seeds are the same ones.

    A single seed that two curves of several share is no reason to leave out the others: they are not paired then.
    """
    shared = [pattern for pattern in a.patterns if pattern in b.patterns]
    one, other = (x.part(range(len(x.seeds)), [x.patterns.index(pattern) for pattern in shared]) for x in (a, b))
    common = [seed for seed in a.seeds if seed in b.seeds]
    left, right = (x.part([x.seeds.index(seed) for seed in common], range(len(shared))) for x in (one, other))
    rows, columns = complete(left.values - right.values)
    together = left.part(rows, columns), right.part(rows, columns), True
    if len(rows) > 1:
        return together
    rows, columns = complete(one.values)
    one, other = one.part(rows, columns), other.part(range(len(other.seeds)), columns)
    rows, columns = complete(other.values)
    apart = one.part(range(len(one.seeds)), columns), other.part(rows, columns), False
    fewest = min(len(x.seeds) if x.patterns else 0 for x in apart[:2])
    return together if together[0].seeds and fewest < 2 else apart


def basis(a: Line, b: Line, one: Line, other: Line) -> str:
    """What a gap rests on: sparsities and seeds, and in what the two curves differ besides their names."""
    patterns, seeds = len(set(a.patterns) | set(b.patterns)), len(set(a.seeds) | set(b.seeds))
    most = max(len(one.seeds), len(other.seeds))
    n = len(one.patterns)
    words = [f"{n if n == patterns else f'{n} of {patterns}'} {'sparsity' if patterns == 1 else 'sparsities'}"]
    if one.seeds == other.seeds and most < seeds:
        words.append(f"{most} of {seeds} seeds")
    elif one.seeds != other.seeds and (len(one.seeds), len(other.seeds)) != (len(a.seeds), len(b.seeds)):
        words.append(f"{len(one.seeds)} of {len(a.seeds)} and {len(other.seeds)} of {len(b.seeds)} seeds")
    remarks = [", ".join(words)]
    also = differing(a.place, b.place)[1:]
    if also:
        remarks.append(f"{', '.join(also)} differ{'s' if len(also) == 1 else ''} too")
    differ = differing(a.settings, b.settings)
    if kind(a) != kind(b) and not set_apart(
        a, b
    ):  # at one place: a setting that only one of them has does not make them differ
        known = dict(a.settings), dict(b.settings)
        differ = [name for name in differ if "None" not in (known[0].get(name), known[1].get(name))]
        differ = [] if two_settings(a, b) else differ  # the names say it
    remarks += [f"settings differ: {', '.join(differ)}"] if differ else []
    return "; ".join(remarks + collapsed.words(one, other))
