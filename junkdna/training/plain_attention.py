"""Attention as a few matrix products, where a CPU is to learn in bf16.

There the backward pass of torch's fused kernel takes nine times as long as the products do at 32 tokens, and two and a
half times at 256 (docs/speed-log.md). Without a gradient and in fp32 the fused kernel is as fast, and stays; so it does
on other devices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from junkdna.training.dropout import dropout

NAME = "plain_in_bf16"


def teach(model: nn.Module) -> None:
    """Have every library model in ``model`` that would use torch's fused attention call this module's."""
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            module.set_attn_implementation(NAME)


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs):
    """Attention as transformers calls it: (B, H, Lq, D) and twice (B, H, Lk, D) give ((B, Lq, H, D), None).

    ``attention_mask``: (B or 1, H or 1, Lq, Lk), true at what is seen or a number to be added; None: everything, or
    what is not to the right in a causal layer.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not torch.is_grad_enabled() or query.dtype != torch.bfloat16 or key.shape[1] != query.shape[1]:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scale, causal = kwargs.get("scaling"), kwargs.get("is_causal")
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scale is None else scale), key.transpose(2, 3))
    if attention_mask is None and (getattr(module, "is_causal", True) if causal is None else causal):
        attention_mask = torch.ones(scores.shape[2:], dtype=torch.bool).tril() if scores.shape[2] > 1 else None
    if attention_mask is not None:
        scores = scores + _bias(attention_mask, scores.dtype)
    weights = dropout(scores.softmax(-1).to(value.dtype), kwargs.get("dropout", 0.0), module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What a mask adds to scores."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
