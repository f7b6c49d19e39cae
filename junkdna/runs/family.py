"""What an experiment must bring. Everything else in ``runs`` and ``report`` is the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Protocol

from junkdna.errors import Faults

if TYPE_CHECKING:
    from junkdna.runs.cell import Cell, Command
    from junkdna.runs.journal import Journal
    from junkdna.runs.shared import Shared


class Family(Protocol):
    """An experiment: GLUE, translation, questions.

    ``given`` below is the command line's values by field name, as ``commandline.read`` returns them. Nothing but
    ``run`` may import torch.
    """

    entry: str
    """Module that holds ``FAMILY``, this object, by which a job in another process finds it."""

    description: str
    """What ``--help`` says first."""

    cell: type[Cell]
    """Frozen dataclass of one run; its fields are its flags."""

    command: type[Command]
    """Dataclass of flags that say how to go about the runs."""

    gone: dict[str, str]
    """Historical flags that cannot be honoured, with the reason that the user is told."""

    def check(self, given: dict, faults: Faults) -> None:
        """Check what the family's flags say together, and the files that they name."""

    def patterns(self, given: dict, faults: Faults) -> list[dict]:
        """Return what is removed in the runs that are asked for: the settings of role "pattern", a dict for each.

        ``runs.pruning.settings`` does it for families that rank by a score.
        """

    def variants(self, given: dict) -> Iterable[dict[str, object]]:
        """Yield the family's own part of the grid: values of its cell's fields (a task and a percentage)."""

    def preflight(self, cell: Cell, shared: Shared, faults: Faults) -> None:
        """Look at a cell's data and model as far as that needs neither torch nor the Hub."""

    def check_done(self, cell: Cell, shared: Shared) -> None:
        """Raise UserError if the finished run in a cell's folder was made of other data than the cell would use."""

    def work(self, cell: Cell, shared: Shared) -> int:
        """Estimate how many examples a cell will see, to deal cells to jobs."""

    def loads(self, cell: Cell) -> Hashable:
        """Cells of equal keys share data and weights."""

    run: Callable[[Cell, Shared, Journal], None]
    """The method, from data to results."""
