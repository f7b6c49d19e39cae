"""What the files of a translation model show before torch is imported."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from junkdna.models import folder
from junkdna.models.languages import KINDS, TYPES, Known, sides

WRITING = ("ForConditionalGeneration", "MTModel", "WithLMHeadModel")
"""How the names of the architectures end that read one text and write another."""

ONE_HALF = ("Encoder", "Decoder", "ForCausalLM")
"""What the names of architectures hold that are an encoder or a decoder alone."""

WANTED = "give a sequence-to-sequence model, such as facebook/mbart-large-50-many-to-many-mmt"

NO_LIMIT = ("t5", "mt5", "umt5")
"""Types whose positions are distances between tokens, so that no input is too long."""


def check(name: str) -> dict | None:
    """Refuse what local files show not to be a translation model; return config.json's content, or None without one.

    A Hub name passes unless it can only be a path. Raises UserError.
    """
    config = folder.check(name)
    if config is not None:
        check_config(config, name)
    return config


def check_config(config: Mapping, name: str) -> None:
    """Refuse a configuration of anything but an encoder-decoder model that can be told languages.

    Raises UserError that names what it is.
    """
    kind, made = config.get("model_type"), config.get("architectures")
    made = [str(one) for one in made] if isinstance(made, (list, tuple)) else []
    what = ", ".join(made) or f"type {kind!r}"
    if kind not in TYPES and not config.get("is_encoder_decoder"):
        raise folder.wrong(name, f"is not a translator ({what}); {WANTED}")
    if kind not in TYPES:
        reason = f"source and target languages cannot be set for model type {kind!r} ({what})"
        raise folder.wrong(name, f"{reason}; known types are {', '.join(TYPES)}")
    if made and not any(_translates(one) for one in made):
        raise folder.wrong(name, f"is not a translator ({what}); {WANTED}")


def _translates(architecture: str) -> bool:
    bare = architecture.endswith("Model") and not any(part in architecture for part in ONE_HALF)
    return architecture.endswith(WRITING) or bare


def known(name: str, config: Mapping) -> Known | None:
    """What a local model knows of languages, as far as its files show it; None where they do not."""
    try:
        called = _json(name, "tokenizer_config.json")
        tokens, words = _vocabulary(name), int(config["vocab_size"])
        written = str(called.get("tokenizer_class")).removesuffix("Fast")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # loading it says what is wrong
        return None
    for kind in KINDS:
        if config.get("model_type") not in kind.types or kind.tokenizer not in ("", written):
            continue
        codes = {token: n for token, n in tokens.items() if kind.codes and re.fullmatch(kind.codes, token)}
        if codes or kind.codes is None:
            usable = {code: n for code, n in codes.items() if n < words}
            return Known(kind, usable, sides(called.get), config.get("task_specific_params") or {})
    return None


def _vocabulary(name: str) -> dict[str, int]:
    """All tokens with their ids; of Marian, which has no tokenizer.json, the source's."""
    if os.path.exists(os.path.join(name, "vocab.json")) and not os.path.exists(os.path.join(name, "tokenizer.json")):
        return _json(name, "vocab.json")
    made = _json(name, "tokenizer.json")
    words = made["model"]["vocab"]
    numbers = dict(words) if isinstance(words, dict) else {word: i for i, (word, *_) in enumerate(words)}
    return numbers | {token["content"]: token["id"] for token in made["added_tokens"]}


def _json(name: str, file: str) -> dict:
    with open(os.path.join(name, file), encoding="utf-8") as opened:
        return json.load(opened)


def longest(config: Mapping) -> int | None:
    """Number of tokens that encoder and decoder have positions for; None where there is no limit, as in T5."""
    return None if config.get("model_type") in NO_LIMIT else folder.positions(config)
