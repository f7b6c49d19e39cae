"""What an encoder's run is made of, as digests of what was loaded: the names under ``identity`` in its record."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from junkdna.models import digests
from junkdna.runs import seals

if TYPE_CHECKING:
    from junkdna.families.encoder.tuning import Inputs
    from junkdna.sparsity.census import Census
    from junkdna.training.tokens import Features


def parts(inputs: Inputs, census: Census | None) -> dict[str, str | None]:
    """Everything that a run's numbers are made of, beside its settings."""
    features, pretrained = inputs.features, inputs.pretrained
    evals = {name: rows(split) for name, split in features.items() if name != "train"}
    return {
        "training_data": inputs.data.task.train.fingerprint,
        "training_rows": rows(features["train"]),
        "validation_rows": seals.of(evals),
        "model_weights": pretrained.weight_hash,
        "model_config": digests.of_config(pretrained.config, label_order=pretrained.label_order),
        "tokenizer": digests.of_tokenizer(pretrained.tokenizer),
        "mask": census.mask_hash if census else None,
        **inputs.objective.parts(),
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
