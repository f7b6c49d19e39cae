"""Whether a run has collapsed: it is no better than a model that always gives the same answer.

Fine-tuning fails now and then, also without any pruning, and the model then answers with the most frequent label. Such
a run says nothing about how much a weight matters, so it is marked: the key ``collapsed`` of a finished ``run.json`` is
true or false where a run was fine-tuned on classes, correlations or equations.
"""

from __future__ import annotations

import math

MARGIN = 0.02
"""A run has collapsed up to this far above the floor: two points of a metric that goes up to 1."""

ROUNDING = 1e-9
"""0.52 is within two points of 0.5, although 0.5 + 0.02 is less than 0.52 in some roundings."""

EARLIER = "glue"
"""The family whose records were written before ``collapsed`` was."""

METRICS = ("accuracy", "matthews_correlation", "pearson", "spearmanr")
"""Its main metrics with a floor; more is better of each."""


def collapsed(value: float, floor: float | None) -> bool:
    """Return whether a metric of which more is better lies at most MARGIN above its floor, or below it.

    ``floor`` is what one answer to all examples reaches: the share of the most frequent label, 0 for correlations, what
    the best single training equation solves. Where it is unknown (None), and where the value is NaN, nothing has
    collapsed.
    """
    return floor is not None and value <= floor + MARGIN + ROUNDING


def of(run: dict, results: dict | None) -> bool | None:
    """Return whether a finished run has collapsed, in its main metric; None if that is not known.

    The record says it. Of an earlier record of GLUE, which does not, it is worked out from the results.
    """
    if results is None:
        return None
    if isinstance(run.get("collapsed"), bool):
        return run["collapsed"]
    main = next((metric for metric in run.get("metrics") or [] if metric.get("main")), None)
    if run.get("family") != EARLIER or main is None or main["name"] not in METRICS:
        return None
    value, floor = results.get(main["key"]), main.get("chance")
    if value is None or floor is None or not math.isfinite(value):
        return None
    return collapsed(value, floor)
