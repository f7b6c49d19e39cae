"""What an encoder is fine-tuned to do: what is loaded for it, how it learns from a batch, and how it is judged.

``tuning`` is the run around it. ``classifying`` is the objective of texts with labels; other families bring their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from junkdna.families.encoder.model import Encoder
    from junkdna.families.encoder.tuning import Inputs
    from junkdna.training.finetune import Evaluate
    from junkdna.training.step import Batches
    from junkdna.training.tokens import Features


class Objective(Protocol):
    """One cell's objective; made of the cell and its rows. A class that names it as its base inherits what is defined
    here.
    """

    each: int = 1
    """Sequences that an example is made of: one for each choice of a question."""

    excluded: tuple[str, ...] = ()
    """Regular expressions of the names of parameters that are not in scope."""

    @property
    def loads(self) -> Hashable:
        """Cells of equal keys share the model."""

    def load(self) -> Encoder:
        """Load the model. Raises UserError when it cannot be had or does not fit."""

    def tokenise(self, rows, tokenizer) -> Features:
        """Tokenise examples. Raises UserError, and ``NoTokens`` for a sequence that becomes none."""

    @property
    def reads(self) -> Hashable:
        """What, beside the rows, the tokenizer and the longest length, decides about the tokens."""
        return ()

    def batches(self, inputs: Inputs) -> Batches:
        """The training rows as the model learns from them."""

    def make_step(self, inputs: Inputs) -> Callable | None:
        """Another way to take steps than operation by operation, if there is one (see ``FineTuning``)."""
        return None

    def rates(self) -> tuple[tuple[str, float], ...]:
        """Learning rates of their own for parameters whose names begin so."""
        return ()

    def evaluator(self, inputs: Inputs) -> Evaluate:
        """Return a function that gives a model's metrics on all evaluation splits: {"eval_accuracy": ...}."""

    def predictions(self) -> Iterator[dict] | None:
        """The lines of ``predictions.jsonl`` for the last evaluation; None: nothing is written."""
        return None

    def measures(self) -> list[dict]:
        """What is measured on every split, the first metric on the first split being the main one."""

    def floor(self) -> float | None:
        """The main metric of a model that gives every example the same answer; None where that is not known."""

    def about(self, inputs: Inputs) -> dict:
        """What the record's section on data says beside the rows."""
        return {}

    def about_split(self, rows) -> dict:
        """What that section says of one split beside its size and digest."""
        return {}

    def words(self) -> str:
        """What the rows are, in words."""

    def parts(self) -> dict[str, str]:
        """Digests of what the numbers depend on beside rows, weights, tokenizer and mask."""
        return {}

    def lines(self) -> Iterable[str]:
        """What is printed of the last evaluation beside its metrics."""
        return ()
