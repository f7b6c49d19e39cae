"""Which job runs which cells: equal work for every job, and little loading within one.

The work of a cell is estimated by its family, as the examples that it will see.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def deal(works: Sequence[int], loads: Sequence[Hashable], jobs: int) -> list[list[int]]:
    """Give each of ``jobs`` jobs its cells, as positions in ``works`` in the order in which they are to run.

    ``works`` is the work of each cell; cells of equal ``loads`` share data and weights.

    The longest cell goes first, each to the job that has the least to do so far (of equal ones the first): no job then
    has more than 4/3 of the work that the best division would give its busiest (Graham 1969). ``jobs`` is at most the
    number of cells, so that no job is empty.
    """
    dealt: list[list[int]] = [[] for _ in range(jobs)]
    totals = [0] * jobs
    for i in sorted(range(len(works)), key=lambda i: -works[i]):
        least = min(range(jobs), key=lambda job: (totals[job], len(dealt[job])))
        dealt[least].append(i)
        totals[least] += works[i]
    return [_in_warm_order(own, works, loads) for own in dealt]


def _in_warm_order(own: list[int], works: Sequence[int], loads: Sequence[Hashable]) -> list[int]:
    """Keep together what loads the same, the group with the most work first, the longest cell first in it."""
    total: dict[Hashable, int] = {}
    for i in own:
        total[loads[i]] = total.get(loads[i], 0) + works[i]
    groups = list(total)  # so that groups of equal work do not mix
    return sorted(own, key=lambda i: (-total[loads[i]], groups.index(loads[i]), -works[i]))
