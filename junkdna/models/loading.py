"""What loading any model has in common: errors in one line, no foreign code, sound tokenizers and weights."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from contextlib import contextmanager

from junkdna.errors import UserError
from junkdna.models import hub
from junkdna.models.folder import is_folder, wrong

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's sign for a space: a made-up tokenizer of its family knows it and no other word."""


@contextmanager
def loading_errors(name: str, part: str = ""):
    """Turn what the libraries raise for a model that cannot be had into one line."""
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of the tokenizers' Rust
            raise
        reason = f"{part}cannot be loaded: {hub.first_line(error)}"
        if isinstance(error, pickle.UnpicklingError):
            reason = f"{part}cannot be loaded: the file of weights is damaged, or not a file of weights"
        if not is_folder(name) and not hub.settle():
            reason = (
                f"is not a folder, {hub.endpoint()} cannot be reached, and the local cache does not hold all of it; "
                "give a folder"
            )
        raise wrong(name, reason) from None


def own_code(raw: Mapping, load: Callable, name: str, **how):
    """Load a configuration; of one that only code of its own could load, say so."""
    try:
        return load(name, **how)
    except (ValueError, KeyError):
        if not raw.get("auto_map"):
            raise
        reason = "needs code of its own (auto_map in config.json), which is never executed"
        raise wrong(name, f"{reason}; transformers has no type {raw.get('model_type')!r}") from None


def check_tokenizer(tokenizer, config, name: str) -> None:
    """Refuse a tokenizer that knows no words (made up where the files are missing) or more than the model does."""
    vocabulary = tokenizer.get_vocab()
    if not vocabulary.keys() - {*tokenizer.all_special_tokens, SPACE}:
        raise wrong(name, "has no tokenizer files (such as tokenizer.json, vocab.json or vocab.txt)")
    known = getattr(config, "vocab_size", None)
    if known and max(vocabulary.values()) >= known:
        raise wrong(name, f"its tokenizer numbers words up to {max(vocabulary.values())}, its model knows {known}")


def check_finite(tensors: Mapping, name: str) -> None:
    """Refuse NaN and infinite weights, naming the first."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
            raise wrong(name, f"the weight {key} holds NaN or infinite values")
