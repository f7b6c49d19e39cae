"""What a run has removed from its model, as it goes from the method to the records."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from junkdna.sparsity.census import Census, zero_count
from junkdna.sparsity.hold import Held
from junkdna.sparsity.masks import Masks


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed from a model, and how that is held; of a dense model nothing."""

    masks: Masks = field(default_factory=dict)
    census: Census | None = None
    held: Held | None = None

    def zeros(self, model: nn.Module) -> tuple[dict[str, float], list[str]]:
        """What was removed and what is 0 in the model as it is now: as results, and as lines that say it."""
        size = self.census.size if self.census else 0
        found = zero_count(dict(model.named_parameters()), self.masks)
        removed = self.census.removed / size if size else 0.0
        shares = {"sparsity": removed, "zero_fraction": found / size if size else 0.0}
        said = f"zeros     {found:,} of {size:,} weights in scope are exactly 0 ({shares['zero_fraction']:.4%})"
        return shares, [said] if size else []
