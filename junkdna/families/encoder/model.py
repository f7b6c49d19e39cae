"""An encoder with a head, and the ways in which it can take its batches."""

from __future__ import annotations

from collections.abc import Mapping

from junkdna.families.encoder.checks import check_config, unclear_labels
from junkdna.models import folder, labels
from junkdna.models.pretrained import Pretrained


class Encoder(Pretrained):
    """A model that gives every sequence ``outputs`` numbers, from its first token or from all.

    ``label_order`` is the model's index of each of the task's labels, None where the two agree; ``unpacked`` the reason
    why the model takes padded batches only, or None; ``first_position`` as for packed ones. ``layouts``: how examples
    are laid out, by what they are of.
    """

    label_order: tuple[int, ...] | None = None

    def _settle_batches(self, packable: bool = True) -> None:
        """Put faster layers into the model, and see whether it takes packed rows."""
        from junkdna.training.fast import cpu_layers, packing

        self.layouts: dict = {}
        self.first_position = folder.first_position(self.config.to_dict())
        cpu_layers.replace(self.model)
        self.unpacked: str | None = "all tokens are read"
        if packable:
            self.unpacked = packing.pack(self.model, self.tokenizer, self.first_position, self.arrange)

    @property
    def outputs(self) -> int:
        """Numbers that the model gives for a sequence."""
        return self.config.num_labels

    def arrange(self, inputs: dict) -> dict:
        """The inputs of some sequences, as a tokenizer pads them, in the shape that the model takes."""
        return inputs


class Classifier(Encoder):
    """An AutoModelForSequenceClassification with a head for a task."""

    def __init__(
        self,
        name: str,
        revision: str,
        label_names: tuple[str, ...],
        ignore_mismatched: bool = False,
        max_length: int = 1,
    ):
        """Load; no ``label_names`` mean a regression. Raises UserError when the model cannot be had or does not fit."""
        num_labels = len(label_names) or 1

        def prepare(config, raw: Mapping) -> None:
            check_config(config.to_dict() | dict(raw), name, num_labels, max_length, ignore_mismatched)
            self.label_order = self._label_order(raw, label_names)
            order = self.label_order or range(num_labels)
            config.id2label = {i: label for i, label in sorted(zip(order, label_names or ("LABEL_0",)))}
            config.label2id = {label: i for i, label in config.id2label.items()}
            config.problem_type = "single_label_classification" if label_names else "regression"

        self._unclear: str | None = None
        super().__init__(name, revision, "AutoModelForSequenceClassification", prepare, ignore_mismatched)
        if self._unclear and self.head <= self._pristine.keys() - set(self.drawn):
            raise unclear_labels(name, self._unclear)
        self._settle_batches()

    @property
    def head(self) -> set[str]:
        """Names of the head's parameters."""
        encoder = f"{self.model.base_model_prefix}."
        return {key for key, _ in self.model.named_parameters() if not key.startswith(encoder)}

    def _label_order(self, raw: Mapping, label_names: tuple[str, ...]) -> tuple[int, ...] | None:
        """Return the model's index of each label if its head was trained on labels of these names, else None."""
        try:
            theirs = labels.named(raw)
        except ValueError as error:
            self._unclear = str(error)
            self.notes.append(f"config.json: {error}; the task's classes take their place")
            return None
        return labels.order_of(theirs, label_names)
