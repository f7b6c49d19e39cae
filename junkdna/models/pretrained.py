"""Pre-trained weights, their tokenizer, and a freshly drawn head; loaded once, reset for every cell.

The checks of a local folder read its json files only, so that they come before torch is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

from junkdna.errors import UserError
from junkdna.models import hub

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


# --- before torch is imported ----------------------------------------------------------------------------------------


HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def is_folder(name: str) -> bool:
    """Whether a model is a local folder rather than a name on the Hub.

    A folder that holds no model and is called as a model on the Hub may be is taken for the Hub's name: the default output
    folder of a run of ``roberta-base`` lies in ``./roberta-base/``.
    """
    holds_model = any(os.path.isfile(os.path.join(name, file)) for file in ("config.json", *WEIGHT_FILES))
    return os.path.isdir(name) and (holds_model or not HUB_NAME.fullmatch(name))


def check_folder(name: str, num_labels: int | None, max_length: int, ignore_mismatched: bool) -> None:
    """Refuse what a local model folder's files show to be impossible; a Hub name passes unless it can only be a path."""
    path = Path(name)
    where = f"--model_name_or_path {name}"
    if not is_folder(name):
        if path.is_file():
            raise UserError(f"{where}: is a file; give the folder")
        if not HUB_NAME.fullmatch(name):
            raise UserError(f"{where}: no such folder, and no name that a model on the Hub can have")
        return
    if not (path / "config.json").is_file():
        raise UserError(f"{where}: the folder holds no config.json")
    weights = next((path / file for file in WEIGHT_FILES if (path / file).is_file()), None)
    if weights is None:
        raise UserError(f"{where}: the folder holds no weights ({', '.join(WEIGHT_FILES[::2])})")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{where}: config.json holds no object")
    _check_weights(weights, where)
    check_config(config, name, num_labels, max_length, ignore_mismatched)


def _check_weights(path: Path, where: str) -> None:
    """Refuse weights that are not all there: a missing part, a broken download, a pointer left by git without its LFS."""
    if path.name.endswith(".index.json"):
        try:
            parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{where}: {path.name} is damaged, or no index of weights") from None
    else:
        parts = [path.name]
    for part in parts:
        if not (path.parent / part).is_file():
            raise UserError(f"{where}: {part} is missing ({path.name} names it)")
        if part.endswith(".safetensors") and not _is_whole(path.parent / part):
            raise UserError(f"{where}: {part} is damaged, or no file of weights")


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


def check_config(config: Mapping, name: str, num_labels: int | None, max_length: int, ignore_mismatched: bool) -> None:
    """Refuse a length beyond the model's positions and a head made for another number of labels."""
    limit = longest_input(config)
    if limit and max_length > limit:
        raise UserError(f"--max_length {max_length}: {name} has positions for at most {limit} tokens")
    heads = config.get("architectures") or []
    if num_labels and any("ForSequenceClassification" in head for head in heads):
        own = len(config.get("id2label") or {}) or config.get("num_labels", 2)
        if own != num_labels and not ignore_mismatched:
            raise UserError(
                f"--model_name_or_path {name}: was trained for {own} label(s), this task has {num_labels}; "
                "--ignore_mismatched_sizes replaces its head"
            )


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


# --- loading ---------------------------------------------------------------------------------------------------------


class Checkpoint:
    """A model with its pre-trained weights kept aside, so that every cell starts from the same bits.

    ``model`` is an AutoModelForSequenceClassification in float32 on the CPU; ``tokenizer`` its tokenizer; ``drawn`` the
    names of the parameters that the checkpoint lacks (the head, as a rule); ``weight_hash`` a SHA-256 of all others;
    ``unpacked`` the reason why the model takes padded batches only, or None; ``first_position`` as for packed ones.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        num_labels: int,
        regression: bool,
        label_names: tuple[str, ...],
        ignore_mismatched: bool = False,
        max_length: int = 1,
    ):
        """Load; raises UserError when the model cannot be had or does not fit. Needs no network for a folder."""
        if not is_folder(name):
            hub.settle()
        import torch
        import transformers

        from junkdna.training.fast import cpu_layers as layers
        from junkdna.training.fast import packing

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.name = name
        with _loading_errors(name):
            if os.path.isdir(name) and not is_folder(name):
                name = hub.download(name, revision)  # the libraries would look into the folder of that name
            config = transformers.AutoConfig.from_pretrained(name, revision=revision)
        self.revision = None if is_folder(self.name) else hub.commit_of(self.name, revision)
        revision = self.revision or revision  # the rest comes from the same commit, even if the branch moves
        check_config(config.to_dict(), name, num_labels, max_length, ignore_mismatched)
        self.label_order = _label_order(config, label_names)
        if self.label_order is None:
            config.num_labels = num_labels
            if label_names:
                config.id2label = dict(enumerate(label_names))
                config.label2id = {label: i for i, label in enumerate(label_names)}
        config.problem_type = "regression" if regression else "single_label_classification"
        torch.manual_seed(0)  # whatever the model's own rule for fresh weights leaves out is the same in every process
        with _loading_errors(name, "its tokenizer "):
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(name, revision=revision)
        _check_tokenizer(self.tokenizer, config, name)
        with _loading_errors(name):
            self.model, info = transformers.AutoModelForSequenceClassification.from_pretrained(
                name,
                revision=revision,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # looked at below, where encoder and head can be told apart
                output_loading_info=True,
            )
        _check_loaded(self.model, info, name, ignore_mismatched)
        self.drawn = sorted(set(info["missing_keys"]) | {key for key, *_ in info["mismatched_keys"]})
        self._pristine = {key: value.clone() for key, value in self.model.state_dict().items()}
        _check_finite({key: value for key, value in self._pristine.items() if key not in self.drawn}, name)
        self.weight_hash = _hash({key: value for key, value in self._pristine.items() if key not in self.drawn})
        self.first_position = first_position(config.to_dict())
        layers.replace(self.model)
        self.unpacked = packing.pack(self.model, self.tokenizer, self.first_position)

    def reset(self, seed: int):
        """Return the model in its pre-trained state, on the CPU, with the head drawn anew from ``seed``.

        The result depends on the checkpoint and the seed alone, not on what was trained before.
        """
        import torch

        self.model.to("cpu")
        state = self.model.state_dict()
        drawn = [key for key in state if key in self.drawn]
        with torch.no_grad():
            for key in drawn:
                state[key].copy_(self._pristine[key])
            self._draw(seed)
            for key in state.keys() - set(drawn):
                state[key].copy_(self._pristine[key])
        self.model.zero_grad(set_to_none=True)
        return self.model

    def _draw(self, seed: int) -> None:
        """Draw the parameters that the checkpoint lacks by the model's own rule for the modules that hold them."""
        import torch

        torch.manual_seed(seed)
        for prefix, module in self.model.named_modules():
            if any(f"{prefix}.{name}" in self.drawn for name in module.state_dict() if "." not in name):
                self.model._init_weights(module)


def _label_order(config, label_names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return the model's index of each label if its head was trained on labels of these names, else None."""
    theirs = {str(label).lower(): int(i) for label, i in (config.label2id or {}).items()}
    ours = [label.lower() for label in label_names]
    return tuple(theirs[label] for label in ours) if ours and sorted(theirs) == sorted(ours) else None


def _hash(tensors: Mapping) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy())
    return digest.hexdigest()


def _check_tokenizer(tokenizer, config, name: str) -> None:
    """Refuse a tokenizer that knows no words (made up where the files are missing) or more than the model does."""
    vocabulary = tokenizer.get_vocab()
    where = f"--model_name_or_path {name}"
    if not vocabulary.keys() - set(tokenizer.all_special_tokens):
        raise UserError(f"{where}: has no tokenizer files (such as tokenizer.json, vocab.json or vocab.txt)")
    known = getattr(config, "vocab_size", None)
    if known and max(vocabulary.values()) >= known:
        raise UserError(
            f"{where}: its tokenizer numbers words up to {max(vocabulary.values())}, its model knows {known}"
        )
    if tokenizer.pad_token_id is None:
        raise UserError(f"{where}: its tokenizer has no padding token, so that no batch can be made")


def _check_loaded(model, info: Mapping, name: str, ignore_mismatched: bool) -> None:
    """Refuse weights that leave more than the head to be drawn: a pooler may be missing, nothing else of the encoder."""
    where = f"--model_name_or_path {name}"
    encoder = f"{model.base_model_prefix}."
    for key, found, wanted in sorted(info["mismatched_keys"]):
        if key.startswith(encoder):
            raise UserError(f"{where}: {key} is {tuple(found)} in the weights and {tuple(wanted)} by config.json")
        if not ignore_mismatched:
            raise UserError(
                f"{where}: its head does not fit the task's labels ({key} is {tuple(found)}, "
                f"not {tuple(wanted)}); --ignore_mismatched_sizes replaces it"
            )
    missing = sorted(key for key in info["missing_keys"] if key.startswith(encoder) and ".pooler." not in key)
    if missing:
        raise UserError(f"{where}: the weights lack {len(missing)} parameter(s) of the encoder, such as {missing[0]}")


def _check_finite(tensors: Mapping, name: str) -> None:
    """Refuse NaN and infinite weights, naming the first."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not all(end.isfinite() for end in tensor.aminmax()):
            raise UserError(f"--model_name_or_path {name}: the weight {key} holds NaN or infinite values")


@contextmanager
def _loading_errors(name: str, part: str = ""):
    """Turn what the libraries raise for a model that cannot be had into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        where = f"--model_name_or_path {name}"
        if not is_folder(name) and not hub.settle():
            raise UserError(
                f"{where}: is no folder, {hub.endpoint()} cannot be reached, and the local cache does not hold all of it; "
                "give a folder"
            ) from None
        reason = hub.first_line(error)
        if isinstance(error, pickle.UnpicklingError):
            reason = "the file of weights is damaged, or none"
        raise UserError(f"{where}: {part}cannot be loaded: {reason}") from None
