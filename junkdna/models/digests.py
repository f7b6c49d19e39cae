"""Digests of what a model is made of: its weights, its configuration as it was resolved, its tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
"""Entries of a configuration that say where it was found, by which version, and in which precision it was stored."""


def of_tensors(tensors: Mapping) -> str:
    """SHA-256 of tensors' names and bytes; equal for equal weights in whatever order they stand."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def of_config(config, **others) -> str:
    """SHA-256 of a model's configuration as it was resolved, defaults and all; ``others`` count as entries of it."""
    resolved = config.to_dict() | others
    kept = {name: value for name, value in resolved.items() if name not in NOT_OF_THE_MODEL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def of_tokenizer(tokenizer) -> str:
    """SHA-256 of a tokenizer: how it cuts texts, its vocabulary, its special tokens and their numbers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    cutting = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    for name in ("truncation", "padding"):  # as the last call left them
        cutting.pop(name, None)
    cutting |= _of_sentencepiece(tokenizer)
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    said = {"cutting": cutting, "special": special, "ids": list(map(int, tokenizer.all_special_ids))}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _of_sentencepiece(tokenizer) -> dict:
    """What decides how a tokenizer cuts texts that is not in its first vocabulary: its models, and a second one."""
    found = {}
    for name in ("sp_model", "spm_source", "spm_target"):
        if hasattr(getattr(tokenizer, name, None), "serialized_model_proto"):
            found[name] = hashlib.sha256(getattr(tokenizer, name).serialized_model_proto()).hexdigest()
    if getattr(tokenizer, "target_encoder", None):
        found["target_encoder"] = tokenizer.target_encoder
    return found
