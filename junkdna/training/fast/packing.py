"""Batches without padding: all tokens of a batch in one row, each example attending to itself alone.

GLUE's batches of 32, padded to their longest example, are half padding. The same examples in one row (1, tokens) give
the same outputs (to rounding) from half the work in every linear layer; attention alone, a few percent of it, still
sees a padded grid. Of the last layer only what leaves it is computed: the first token of each example, which is all
that the classification heads read.

A model is packed only if it belongs to FAMILIES and was seen to give what it gives each example alone; see ``pack``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.errors import one_line
from junkdna.training.fast import mpnet
from junkdna.training.fast.attention import Layout, attention, layout
from junkdna.training.fast.rows import Current
from junkdna.training.predict import collator as padded_collator
from junkdna.training.probe import TOLERANCE, outputs, relative

LIKE_BERT = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
"""Model types whose layers are built like BERT's, normalisation after the residual."""

ON_CPU = ("mpnet",)
"""Model types that are packed on a CPU only: torch's fused kernels do not compute their attention."""

FAMILIES = LIKE_BERT + ON_CPU

PROBE = (
    "a",
    "the same words",
    "and a third example of some more words than the others, so that each has its own length and not all share a grid",
)


def collator(
    first_position: int, heads: int, fused: bool = False, multiple: int = 1, padding_id: int = 0
) -> Callable[[list[dict]], dict]:
    """Return a function that makes one row of a list of inputs; positions of every example count from
    ``first_position``.

    ``heads`` is the model's number of attention heads; on a CPU attention is faster not ``fused``, see ``attention``.
    The row is filled up to a multiple of ``multiple`` tokens, so that rows have few lengths. The filling, of the token
    ``padding_id``, attends to itself alone, and nothing reads it.
    """

    def collate(inputs: list[dict[str, np.ndarray]]) -> dict:
        count, missing = len(inputs), -sum(len(example["input_ids"]) for example in inputs) % multiple
        if missing:
            filling = {name: np.full(missing, padding_id * (name == "input_ids")) for name in inputs[0]}
            inputs = [*inputs, filling]
        lengths = np.array([len(example["input_ids"]) for example in inputs])
        arranged = layout(lengths, heads, fused)
        arranged = replace(arranged, first=arranged.first[:count])
        row = {name: np.concatenate([example[name] for example in inputs]) for name in inputs[0]}
        row["position_ids"] = positions(row["input_ids"], lengths, first_position)
        row["position_ids"][len(row["position_ids"]) - missing :] = first_position  # the model may have few positions
        return {name: torch.from_numpy(ids)[None].long() for name, ids in row.items()} | {"packing": arranged}

    return collate


def positions(ids: np.ndarray, lengths: np.ndarray, first_position: int) -> np.ndarray:
    """Return every token's position within its example, int64 (T,), as the model itself would number them.

    RoBERTa and its kin start at ``pad + 1`` and count tokens other than the pad token, which itself has the position
    ``pad``: a text may hold it literally.
    """
    first = np.cumsum(lengths) - lengths
    column = np.arange(len(ids)) - np.repeat(first, lengths)
    if first_position == 0:
        return column
    pad = first_position - 1
    real = ids != pad
    if real.all():
        return column + first_position
    counted = np.cumsum(real)
    before = np.repeat(counted[first] - real[first], lengths)
    return np.where(real, counted - before, 0) + pad


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask,
    packing: Layout | None = None,
    **kwargs,
):
    """Attention as transformers calls it: packed rows within each example, padded input as its sdpa does.

    ``query``, ``key``, ``value`` are (1, heads, T, width); returns ((1, T, heads, width), None).
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if packing is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    heads, tokens, width = query.shape[1:]
    rows = (x.squeeze(0).transpose(0, 1).reshape(tokens * heads, width) for x in (query, key, value))  # all of it views
    scale = width**-0.5 if kwargs.get("scaling") is None else kwargs["scaling"]
    out = attention(*rows, packing, scale, kwargs.get("dropout", 0.0) if module.training else 0.0)
    return out.view(1, tokens, heads, width), None


def pack(
    model: nn.Module, tokenizer, first_position: int, arrange: Callable[[dict], dict] = lambda inputs: inputs
) -> str | None:
    """Teach a model (with a head for sequences or for multiple choice, CPU) to take packed rows as well.

    Padded batches work as before. ``arrange`` brings inputs into the shape that the model takes. Returns None, or the
    reason why it cannot be done; the model is then unchanged but for its attention's name.
    """
    if model.config.model_type not in FAMILIES:
        return f"models of type {model.config.model_type} are run padded"
    undo = None
    try:
        undo = (mpnet.teach if model.config.model_type == "mpnet" else _teach)(model)
        difference = _difference(model, tokenizer, first_position, arrange)
        reason = f"packed and single examples differ by {difference:.1g}"
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        difference, reason = float("inf"), f"packed examples fail: {one_line(error)}"
    if difference <= TOLERANCE:
        return None
    if undo is not None:
        undo()
    return reason


def _teach(model: nn.Module) -> Callable[[], None]:
    """Make a model that is built like BERT attend within examples, and its last layer hand on first tokens alone,
    whenever a packed row comes in. Returns what undoes it.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("packed", _attend)
    AttentionMaskInterface.register("packed", sdpa_mask)
    output = getattr(model, model.base_model_prefix).encoder.layer[-1].attention.output
    current = Current(model)
    before = model.config._attn_implementation
    model.set_attn_implementation("packed")

    def keep_first(module, args):
        return tuple(map(current.first_of, args))  # attention's output and the residual

    hook = output.register_forward_pre_hook(keep_first)

    def undo() -> None:
        current.forget()
        hook.remove()
        model.set_attn_implementation(before)

    return undo


def _difference(model: nn.Module, tokenizer, first_position: int, arrange: Callable[[dict], dict]) -> float:
    """Return the largest difference between the outputs of packed examples and of each alone on a few words, relative
    to the largest output.
    """
    cut = {"truncation": True, "max_length": 24}
    encoded = tokenizer(list(PROBE), return_attention_mask=False, **cut)
    inputs = [dict(zip(encoded.keys(), map(np.array, values))) for values in zip(*encoded.values())]
    inputs = [example for example in inputs if len(example["input_ids"])]
    single = padded_collator(tokenizer)
    alone = outputs(model, [arrange(single([example])) for example in inputs], "cpu")
    heads = model.config.num_attention_heads
    rows = [arrange(collator(first_position, heads, fused)(inputs)) for fused in (False, True)]
    return max(relative(outputs(model, [row], "cpu"), alone) for row in rows)
