"""What loading any model has in common: errors in one line, no foreign code, sound tokenizers, whole weights."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import contextmanager

from junkdna.errors import UserError
from junkdna.models import hub
from junkdna.models.folder import is_folder, wrong

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's sign for a space: a made-up tokenizer of its family knows it and no other word."""

OLD_BUFFERS = re.compile(
    r"(position_ids|token_type_ids|inv_freq|masked_bias|(attn|attention)\.(bias|causal_mask)|\.n_averaged)$"
)
"""Names of constants that earlier versions of the libraries saved among the weights."""


@contextmanager
def loading_errors(name: str, part: str = "", here: bool | None = None):
    """Turn what the libraries raise for a model that cannot be had into one line.

    ``here``: whether the model lies on this machine (default: whether its name is that of a model's folder).
    """
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
        if not (is_folder(name) if here is None else here) and not hub.reach():
            reason = (
                f"{hub.no_folder(name)}, {hub.endpoint()} cannot be reached, and the local cache does not hold all of "
                "it; give a folder"
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
        raise wrong(name, f"its tokenizer has ids up to {max(vocabulary.values())}, its model's vocabulary is {known}")


def check_finite(tensors: Mapping, name: str) -> None:
    """Refuse NaN and infinite weights, naming the first."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
            raise wrong(name, f"the weight {key} holds NaN or infinite values")


def refuse_mismatched(mismatched: Collection[tuple], name: str) -> None:
    """Refuse weights of another shape than config.json gives them: (key, shape found, shape wanted) each."""
    if mismatched:
        key, found, wanted = min(mismatched)
        raise wrong(name, f"{key} is {tuple(found)} in the weights and {tuple(wanted)} by config.json")


def refuse_missing(missing: Iterable[str], name: str, of: str = "") -> None:
    """Refuse weights that lack a parameter of the model, or of the part of it that ``of`` names."""
    keys = sorted(missing)
    if keys:
        raise wrong(name, f"the weights lack {len(keys)} parameter(s){of and f' of {of}'}, such as {keys[0]}")


def refuse_left_over(unexpected: Iterable[str], name: str) -> None:
    """Refuse weights that config.json has no place for, such as layers beyond its number.

    Buffers that earlier versions of the libraries saved may be left over.
    """
    keys = sorted(key for key in unexpected if not OLD_BUFFERS.search(key))
    if keys:
        reason = f"the weights have {len(keys)} parameter(s) that config.json has no place for, such as {keys[0]}"
        raise wrong(name, reason)


def of_encoder(keys: Iterable[str], encoder, prefix: str) -> list[str]:
    """Return the keys of an encoder's weights, less its pooler's, which some classifiers do without.

    The others are of other tasks' heads. ``encoder`` is None if the model has none of its own; ``prefix`` is how its
    parameters' names begin, which may be missing in the keys.
    """
    parts = {part for part, _ in encoder.named_children()} if encoder is not None else set()
    found = []
    for key in keys:
        inner = key.removeprefix(prefix)
        if (inner != key or inner.split(".")[0] in parts) and "pooler" not in inner.split("."):
            found.append(key)
    return found
