"""Which job runs which cells: equal work for every job, and little loading within one.

The work of a cell is estimated as the training examples it sees. Nothing is read from the Hub for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from junkdna.families.glue import tasks as glue
from junkdna.runs.cell import Cell
from junkdna.families.glue.reading import prefix_size
from junkdna.errors import UserError
from junkdna.runs.grid import Shared, source


def work(cell: Cell, shared: Shared) -> int:
    """Estimate a cell's training examples, repetitions counted; ``shared`` reads the rows of local data."""
    if cell.max_train_steps:
        return cell.max_train_steps * cell.per_device_train_batch_size * cell.gradient_accumulation_steps
    if cell.task_name and not cell.glue_dir:
        rows = prefix_size(cell.validation_split_percentage, glue.TASKS[cell.task_name].train_rows)
        rows = min(rows, cell.max_train_samples or rows)
    else:
        try:
            rows = len(shared.data(cell).train)
        except UserError:  # it will fail in its job, and say why
            return 0
    return rows * cell.num_train_epochs


def deal(cells: Sequence[Cell], works: Sequence[int], jobs: int) -> list[list[int]]:
    """Give each of ``jobs`` jobs its cells, as positions in ``cells`` in the order in which they are to run.

    The longest cell goes first, each to the job that has the least to do so far (of equal ones the first): no job then
    has more than 4/3 of the work that the best division would give its busiest (Graham 1969). ``jobs`` is at most the
    number of cells, so that no job is empty.
    """
    shares: list[list[int]] = [[] for _ in range(jobs)]
    loads = [0] * jobs
    for i in sorted(range(len(cells)), key=lambda i: -works[i]):
        least = min(range(jobs), key=lambda job: (loads[job], len(shares[job])))
        shares[least].append(i)
        loads[least] += works[i]
    return [_in_warm_order(share, cells, works) for share in shares]


def _in_warm_order(share: list[int], cells: Sequence[Cell], works: Sequence[int]) -> list[int]:
    """Keep together what shares data and checkpoint, the group with the most work first, the longest cell first in it."""
    total: dict[tuple, int] = {}
    for i in share:
        total[_kept(cells[i])] = total.get(_kept(cells[i]), 0) + works[i]
    groups = list(total)  # so that groups of equal work do not mix
    return sorted(share, key=lambda i: (-total[_kept(cells[i])], groups.index(_kept(cells[i])), -works[i]))


def _kept(cell: Cell) -> tuple:
    """What a process loads anew when it changes; see grid.Shared."""
    return (*source(cell), cell.model_name_or_path, cell.model_revision)
