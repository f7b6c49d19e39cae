"""What the files of a causal language model show before torch is imported."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping

from junkdna.errors import Fault, UserError, one_line
from junkdna.models import folder

CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How the names of the architectures end that write on, word by word."""

ENCODERS = (
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""Model types that read a text in both directions unless their configuration says ``is_decoder``."""

WIDTHS = ("hidden_size", "intermediate_size", "n_embd", "n_inner", "ffn_dim", "word_embed_proj_dim")
"""Entries of configurations that are the number of inputs of some linear layer in a block."""

MAGIC = b"GGUF"

GENERATION = "generation_config.json"
"""Which tokens end a text, where a model has several, stands here."""


def check(name: str, gguf_file: str | None) -> dict | None:
    """Refuse what local files show to be no causal language model; return config.json's content, or None without one.

    A Hub name passes unless it can only be a path. Raises UserError.
    """
    if gguf_file:
        _check_gguf(name, gguf_file)
        return None
    config = folder.check(name, least_pad=-1)
    if config is not None:
        check_config(config, name)
        _check_generation(name)
    return config


def _check_generation(name: str) -> None:
    """Refuse settings of generation that cannot be read: the library goes on without them, and texts end elsewhere."""
    try:
        with open(os.path.join(name, GENERATION), encoding="utf-8") as file:
            made = json.load(file)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise folder.wrong(name, f"its {GENERATION} cannot be read: {one_line(str(error))}") from None
    if not isinstance(made, dict):
        raise folder.wrong(name, f"its {GENERATION} holds no object")


def check_config(config: Mapping, name: str) -> None:
    """Refuse a configuration of an encoder, or of an encoder-decoder model. Raises UserError."""
    kind, made = config.get("model_type"), config.get("architectures")
    made = [str(one) for one in made] if isinstance(made, (list, tuple)) else []
    wanted = "give a causal language model, such as lmsys/vicuna-7b-v1.3"
    if config.get("is_encoder_decoder"):
        raise folder.wrong(name, f"is an encoder-decoder model (type {kind!r}); {wanted}")
    of_encoder = kind in ENCODERS and not config.get("is_decoder")
    if of_encoder or (made and not any(one.endswith(CAUSAL) or one.endswith("Model") for one in made)):
        raise folder.wrong(name, f"is not a causal language model ({', '.join(made) or f'type {kind!r}'}); {wanted}")


def widths(config: Mapping) -> Iterator[tuple[str, int]]:
    """Yield the numbers of inputs of the linear layers that a configuration tells, each with its entry's name."""
    for key in WIDTHS:
        if isinstance(config.get(key), int) and config[key] > 0:
            yield key, config[key]


def longest(config: Mapping) -> int | None:
    """Number of tokens that a model has positions for; None if its configuration does not say."""
    return folder.positions(config) or folder.positions(config, "n_positions")


def gguf_path(name: str, gguf_file: str | None) -> str | None:
    """Where a GGUF file lies on this machine; None if it is to come from the Hub, or if there is none."""
    path = os.path.join(name, gguf_file) if gguf_file else None
    return path if path and (os.path.isdir(name) or os.path.isfile(path)) else None


def _check_gguf(name: str, gguf_file: str) -> None:
    if os.path.isabs(gguf_file) or ".." in gguf_file.split("/"):
        raise UserError(Fault("gguf_file", gguf_file, "must be the name of a file inside the model's folder"))
    if importlib.util.find_spec("gguf") is None:
        raise UserError(Fault("gguf_file", gguf_file, "needs the package gguf (pip install gguf)"))
    path = gguf_path(name, gguf_file)
    if path is None:
        if not folder.HUB_NAME.fullmatch(name):
            raise folder.wrong(name, "no such folder, and not a name that a model on the Hub can have")
        return
    try:
        with open(path, "rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise UserError(
            Fault("gguf_file", gguf_file, f"{path}: {(error.strerror or 'cannot be read').lower()}")
        ) from None
    if start != MAGIC:
        raise UserError(Fault("gguf_file", gguf_file, f"{path} is not a GGUF file (it does not begin with GGUF)"))
