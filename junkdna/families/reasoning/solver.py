"""Word problems: a pre-trained encoder that reads, and a fresh decoder that writes an equation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from junkdna.families.encoder.checks import check_encoder
from junkdna.families.encoder.model import Encoder
from junkdna.families.reasoning.decoder import EquationDecoder, Output, labels_of
from junkdna.families.reasoning.vocabulary import END, Vocabulary
from junkdna.models.loading import of_encoder, refuse_left_over, refuse_mismatched, refuse_missing
from junkdna.training import tokens
from junkdna.training.bucketing import COARSE, Grain, divide
from junkdna.training.step import Batches
from junkdna.training.tokens import Features, OneLength

DECODER = "decoder."
"""How the names of the decoder's parameters begin."""

SAVED = "equation_decoder"
"""File of the decoder's weights (.safetensors) and of its symbols and sizes (.json), beside the encoder's own."""


@dataclass(frozen=True)
class Sizes:
    """Of a decoder: see ``EquationDecoder``."""

    layers: int
    heads: int
    inner: int
    dropout: float
    most: int


class Network(nn.Module):
    """An encoder and the decoder that reads its states."""

    def __init__(self, encoder: nn.Module, decoder: EquationDecoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, labels: Tensor | None = None, smoothing: float = 0.0, **inputs) -> Output:
        """Teacher forcing, as ``EquationDecoder.forward``; ``inputs`` are the encoder's, padded.

        Without labels the logits are those of the first symbol, (rows, vocabulary).
        """
        states, mask = self.read(inputs)
        if labels is not None:
            return self.decoder(states, mask, labels, smoothing)
        ends = torch.full((len(states), 1), END, device=states.device)
        return Output(self.decoder(states, mask, ends).logits[:, 0])

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's word embeddings."""
        return self.encoder.get_input_embeddings()

    def read(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The encoder's states, (rows, places, width), and the mask of padding, (rows, places)."""
        mask = inputs.get("attention_mask")
        mask = torch.ones_like(inputs["input_ids"]) if mask is None else mask
        return self.encoder(**inputs).last_hidden_state, mask


class Solver(Encoder):
    """A pre-trained encoder with a decoder for the symbols of a vocabulary.

    A pooler, which nothing reads here, is taken off, so that nobody prunes it.
    """

    def __init__(self, name: str, revision: str, vocabulary: Vocabulary, sizes: Sizes, max_length: int = 1):
        """Load. Raises UserError when the model cannot be had or does not fit."""
        self.vocabulary, self._sizes = vocabulary, sizes

        def prepare(config, raw) -> None:
            check_encoder(config.to_dict() | dict(raw), name, max_length)

        super().__init__(name, revision, "AutoModel", prepare)
        self._settle_batches(packable=False)

    def _load(self, auto_class: str) -> dict:
        info = super()._load(auto_class)
        encoder = self.model
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        decoder = EquationDecoder(len(self.vocabulary), self.config.hidden_size, **asdict(self._sizes))
        self.model = Network(encoder, decoder)
        return info | {"missing_keys": [f"encoder.{key}" for key in info["missing_keys"] if "pooler" not in key]}

    def _check_loaded(self, info: Mapping, ignore_mismatched: bool) -> None:
        """Refuse weights that are not all of the encoder's."""
        encoder, prefix = self.model.encoder, f"{self.model.encoder.base_model_prefix}."
        refuse_mismatched(info["mismatched_keys"], self.name)
        parameters = dict(self.model.named_parameters())
        refuse_missing([key for key in info["missing_keys"] if key in parameters], self.name, "the encoder")
        refuse_left_over(of_encoder(info["unexpected_keys"], encoder, prefix), self.name)

    def _to_draw(self, info: Mapping) -> set[str]:
        return {name for name, _ in self.model.named_parameters() if name.startswith(DECODER)}

    def _draw(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model.decoder.draw()

    @property
    def drawn_words(self) -> str:
        weights = sum(parameter.numel() for parameter in self.model.decoder.parameters())
        return f"the decoder, {weights:,} of them"

    @property
    def outputs(self) -> int:
        return len(self.vocabulary)

    def save(self, folder) -> None:
        """Write the encoder, as ``from_pretrained`` reads it, its tokenizer, and the decoder with its symbols."""
        from safetensors.torch import save_file

        self.model.encoder.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.decoder.state_dict().items()}
        save_file(weights, Path(folder) / f"{SAVED}.safetensors")
        about = {"symbols": self.vocabulary.symbols, **asdict(self._sizes)}
        (Path(folder) / f"{SAVED}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Equations(Batches):
    """Problems with the equations that are to be written; a step's loss is the mean over their symbols.

    ``targets``: encoded equations, ``END`` last. ``collate`` makes the encoder's inputs of texts. ``smoothing``: share
    of a symbol's probability that is spread over the vocabulary. ``grain``: how batches are divided by length.
    """

    features: Features
    targets: list[tuple[int, ...]]
    collate: Callable[[list[dict]], dict]
    smoothing: float = 0.0
    grain: Grain = COARSE

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of the text and symbols of the equation."""
        return self._tokens + self._symbols

    @cached_property
    def _tokens(self) -> np.ndarray:
        return self.features.lengths

    @cached_property
    def _symbols(self) -> np.ndarray:
        return np.array([len(target) for target in self.targets])

    def weight(self, indices: np.ndarray) -> int:
        return int(self._symbols[indices].sum())

    def parts(self, indices: np.ndarray) -> list[np.ndarray]:
        if isinstance(self.collate, OneLength):
            return tokens.parts(self.collate, self._tokens, indices)
        return divide(indices, (self._tokens, self._symbols), self.grain)

    def batch(self, indices: np.ndarray) -> dict:
        """The encoder's inputs, padded, and ``labels``."""
        labels = labels_of([self.targets[i] for i in indices])
        return self.collate(self.features.rows(indices)) | {"labels": labels}

    def loss(self, model: nn.Module, batch: dict) -> Tensor:
        """The mean over symbols of the cross-entropy with smoothed labels."""
        return model(**batch, smoothing=self.smoothing).loss
