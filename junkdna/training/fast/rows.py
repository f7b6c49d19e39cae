"""The packed row that a model is computing, which its modules are not all told of."""

from __future__ import annotations

from torch import Tensor, nn

from junkdna.training.fast.attention import Layout


class Current:
    """``layout``: that of the row which the model was last called with; None for a padded batch.

    What leaves the model's encoder is the first token of each example, as if each were a sequence of one.
    """

    def __init__(self, model: nn.Module):
        self.layout: Layout | None = None
        encoder = getattr(model, model.base_model_prefix).encoder
        self._hooks = [
            model.register_forward_pre_hook(self._note, with_kwargs=True),
            encoder.register_forward_hook(self._as_examples),
        ]

    def first_of(self, states: Tensor) -> Tensor:
        """Of a packed row (1, T, hidden) the first token of each example, (1, B, hidden); of a padded batch all."""
        return states if self.layout is None else states.index_select(1, self.layout.first)

    def forget(self) -> None:
        """Let go of the model."""
        for hook in self._hooks:
            hook.remove()

    def _note(self, module, args, kwargs) -> None:
        self.layout = kwargs.get("packing")

    def _as_examples(self, module, args, output) -> None:
        """(1, B, hidden) becomes (B, 1, hidden)."""
        if self.layout is not None:
            output.last_hidden_state = output.last_hidden_state.transpose(0, 1)
