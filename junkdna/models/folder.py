"""A model's local folder, looked at without torch: its json files and the headers of its weights only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
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

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_folder(name: str) -> bool:
    """Whether a model is a local folder rather than a name on the Hub.

    A folder that holds no model and is called as a model on the Hub may be is taken for the Hub's name: the default
    output folder of a run of ``roberta-base`` lies in ``./roberta-base/``.
    """
    holds_model = any(os.path.isfile(os.path.join(name, file)) for file in ("config.json", *WEIGHT_FILES))
    return os.path.isdir(name) and (holds_model or not HUB_NAME.fullmatch(name))


def check(name: str) -> dict | None:
    """Refuse what a local model folder's files show to be impossible; return its configuration.

    A Hub name passes unless it can only be a path; of it None is returned. Raises UserError.
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
    except (OSError, ValueError) as error:
        raise wrong(name, f"config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise wrong(name, "config.json does not hold an object")
    _check_weights(weights, name)
    return config


def wrong(name: str, reason: str) -> UserError:
    """The error that says what is wrong with a model."""
    return UserError(Fault("model", name, reason))


def _check_weights(path: Path, name: str) -> None:
    """Refuse weights that are not all there: a missing part, a broken download, a pointer left by git without its
    LFS.
    """
    if path.name.endswith(".index.json"):
        try:
            parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise wrong(name, f"{path.name} is damaged, or not a valid index of weights") from None
    else:
        parts = [path.name]
    for part in parts:
        if not (path.parent / part).is_file():
            raise wrong(name, f"{part} is missing ({path.name} names it)")
        if part.endswith(".safetensors") and not _is_whole(path.parent / part):
            raise wrong(name, f"{part} is damaged, or not a safetensors file")


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; nothing but the header is read."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=-1)


def longest_input(config: Mapping) -> int | None:
    """Number of tokens that a model has positions for; None if its configuration does not say."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    return positions - first_position(config)


def first_position(config: Mapping) -> int:
    """The position id of an example's first token."""
    if config.get("model_type") not in OFFSET_POSITIONS:
        return 0
    pad = config.get("pad_token_id")
    return (1 if pad is None else pad) + 1
