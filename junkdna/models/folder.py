"""A model's local folder, looked at without torch: its json files and the headers of its weights only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from junkdna.errors import Fault, UserError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where weights may be; the first that exists is loaded."""

OFFSET_POSITIONS = (
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "lilt",
    "longformer",
    "luke",
    "mpnet",
    "xmod",
)
"""Model types whose first position is ``pad_token_id + 1``, so that 514 positions hold 512 tokens."""

ATTENTION = (None, "eager", "sdpa")
"""Ways to compute attention that are part of torch and transformers; all others may fetch code from the Hub."""

EXPERTS = (*ATTENTION, "grouped_mm", "batched_mm")
"""The same for mixtures of experts."""

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_folder(name: str) -> bool:
    """Whether a model is a local folder rather than a name on the Hub.

    A folder that holds no model and is called as a model on the Hub may be is taken for the Hub's name: the default
    output folder of a run of ``roberta-base`` lies in ``./roberta-base/``.
    """
    holds_model = any(os.path.isfile(os.path.join(name, file)) for file in ("config.json", *WEIGHT_FILES))
    return os.path.isdir(name) and (holds_model or not HUB_NAME.fullmatch(name))


def check(name: str, least_pad: int = 0) -> dict | None:
    """Refuse what a local model folder's files show to be impossible; return its configuration.

    A Hub name passes unless it can only be a path; of it None is returned. ``least_pad``: see ``check_config``. Raises
    UserError.
    """
    path = Path(name)
    if not is_folder(name):
        if path.is_file():
            raise wrong(name, "is a file; give the folder")
        if not HUB_NAME.fullmatch(name):
            raise wrong(name, "no such folder, and not a name that a model on the Hub can have")
        return None
    if not (path / "config.json").is_file():
        raise wrong(name, "the folder holds no config.json")
    weights = next((path / file for file in WEIGHT_FILES if (path / file).is_file()), None)
    if weights is None:
        raise wrong(name, f"the folder holds no weights ({', '.join(WEIGHT_FILES[::2])})")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise wrong(name, f"config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise wrong(name, "config.json does not hold an object")
    check_config(config, name, least_pad)
    _check_weights(weights, name)
    return config


def check_config(config: Mapping, name: str, least_pad: int = 0) -> None:
    """Refuse a configuration that asks for foreign code, for quantized weights, or for an impossible pad token.

    ``config`` is what config.json holds, before any library has read it. ``least_pad`` is the lowest number that the
    pad token may have: early checkpoints of Llama say -1 for none. Raises UserError.
    """
    for key, value in _implementations(config):
        known = EXPERTS if "experts" in key else ATTENTION
        for one in value.values() if isinstance(value, Mapping) else (value,):
            if one not in known:
                reason = f"config.json asks for {key!r} {one!r}, which may be code from elsewhere and is never executed"
                raise wrong(name, f"{reason}; leave it out")
    if config.get("quantization_config"):
        raise wrong(name, "its weights are quantized (quantization_config); give them in floating point")
    pad, words = config.get("pad_token_id"), config.get("vocab_size")
    if pad is None:
        return
    most = words - 1 if _is_count(words) else None
    if not (_is_count(pad) or (pad == -1 and least_pad == -1)) or (most is not None and pad > most):
        allowed = "0 or more" if most is None else f"0 to {most}"
        raise wrong(name, f"config.json says pad_token_id {pad!r}; it must be a token's number, {allowed}, or null")


def _implementations(config: Mapping) -> Iterator[tuple[str, object]]:
    """Yield what a configuration and those inside it ask for as the implementation of a part.

    What is true or false names none: ``_attn_implementation_autoset`` is a note of the library's.
    """
    for key, value in config.items():
        if "_implementation" in key and not isinstance(value, bool):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _implementations(value)


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def wrong(name: str, reason: str) -> UserError:
    """The error that says what is wrong with a model."""
    return UserError(Fault("model", name, reason))


def _check_weights(path: Path, name: str) -> None:
    """Refuse weights that are not all there: a missing part, a broken download, a pointer left by git without its
    LFS.
    """
    if path.name.endswith(".index.json"):
        try:
            parts = parts_of(path)
        except (OSError, ValueError):
            raise wrong(name, f"{path.name} is damaged, or not a valid index of weights") from None
    else:
        parts = [path.name]
    for part in parts:
        if not (path.parent / part).is_file():
            raise wrong(name, f"{part} is missing ({path.name} names it)")
        if part.endswith(".safetensors") and not _is_whole(path.parent / part):
            raise wrong(name, f"{part} is damaged, or not a safetensors file")


def parts_of(index: Path) -> list[str]:
    """Return the names of the files that an index of weights lists, all beside it.

    Raises OSError if it cannot be read, and ValueError if it is not an index.
    """
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        inside = all(part == os.path.basename(part) for part in parts)
    except (TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{index.name} is not an index of weights") from None
    if not inside:
        raise ValueError(f"{index.name} names files elsewhere")
    return parts


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; nothing but the header is read."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return size == 8 + length + max(ends, default=-1)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return False


def longest_input(config: Mapping) -> int | None:
    """Number of tokens that a model has positions for; None if its configuration does not say."""
    count = positions(config)
    return None if count is None else count - first_position(config)


def positions(config: Mapping, key: str = "max_position_embeddings") -> int | None:
    """Number of positions that a configuration has under a key; None if it does not say."""
    count = config.get(key)
    return count if isinstance(count, int) and count > 0 else None


def first_position(config: Mapping) -> int:
    """The position id of an example's first token."""
    if config.get("model_type") not in OFFSET_POSITIONS:
        return 0
    pad = config.get("pad_token_id")
    return (1 if pad is None else pad) + 1
