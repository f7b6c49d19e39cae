"""What an encoder's run is made of, as digests of what was loaded: the names under ``identity`` in its record."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from junkdna.runs import seals

if TYPE_CHECKING:
    from junkdna.families.encoder.model import Classifier
    from junkdna.families.encoder.tuning import Inputs
    from junkdna.sparsity.census import Census
    from junkdna.training.tokens import Features

NOT_OF_THE_MODEL = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
"""Entries of a configuration that say where it was found, by which version, and in which precision it was stored."""


def parts(inputs: Inputs, census: Census | None) -> dict[str, str | None]:
    """Everything that a run's numbers are made of, beside its settings."""
    features, pretrained = inputs.features, inputs.pretrained
    evals = {name: rows(split) for name, split in features.items() if name != "train"}
    return {
        "training_data": inputs.data.task.train.fingerprint,
        "training_rows": rows(features["train"]),
        "validation_rows": seals.of(evals),
        "model_weights": pretrained.weight_hash,
        "model_config": configuration(pretrained),
        "tokenizer": tokenizer(pretrained.tokenizer),
        "mask": census.mask_hash if census else None,
    }


def rows(features: Features) -> str:
    """SHA-256 of examples as the model sees them: token ids and all that goes with them, lengths, labels."""
    made = hashlib.sha256()
    for name in sorted(features.columns):
        made.update(name.encode())
        made.update(features.columns[name])
    made.update(features.starts.astype("int64"))
    made.update(json.dumps(features.labels).encode())
    return made.hexdigest()


def configuration(pretrained: Classifier) -> str:
    """SHA-256 of a model's configuration as it was resolved: defaults, labels and all."""
    resolved = pretrained.config.to_dict() | {"label_order": pretrained.label_order}
    kept = {name: value for name, value in resolved.items() if name not in NOT_OF_THE_MODEL}
    return seals.digest(json.dumps(kept, sort_keys=True, default=str).encode())


def tokenizer(made) -> str:
    """SHA-256 of a tokenizer: how it cuts texts, its vocabulary, its special tokens and their numbers."""
    backend = getattr(made, "backend_tokenizer", None)
    cutting = json.loads(backend.to_str()) if backend is not None else made.get_vocab()
    for name in ("truncation", "padding"):  # as the last call left them
        cutting.pop(name, None)
    special = {name: str(token) for name, token in made.special_tokens_map.items()}
    return seals.of({"cutting": cutting, "special": special, "ids": list(map(int, made.all_special_ids))})
