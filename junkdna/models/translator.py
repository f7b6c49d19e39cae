"""A translation model: pre-trained weights, tokenizer, and how it is told source and target language."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

from junkdna.errors import Fault, UserError
from junkdna.models import languages, translator_files
from junkdna.models.folder import wrong
from junkdna.models.languages import Direction
from junkdna.models.loading import refuse_left_over, refuse_mismatched, refuse_missing
from junkdna.models.pretrained import Pretrained

DROPOUTS = {"dropout": ("dropout", "dropout_rate"), "attention_dropout": ("attention_dropout",)}
"""Setting -> its name in the configuration; the first that a configuration has."""

HEAD = "lm_head.weight"
"""The output layer, which is tied to the embedding but in some models of T5's family, whatever config.json says."""


class Translator(Pretrained):
    """A pre-trained sequence-to-sequence model that can be told a source and a target language.

    ``model`` is in float32 on the CPU; ``reset`` gives it back as it was loaded, the ties of its embeddings included.
    ``kind`` is one of ``languages.KINDS`` by name, ``positions`` the longest input and output in tokens (None: no
    limit), ``end`` and ``padding`` are the decoder's tokens for the end of a text and for padding.
    """

    def __init__(
        self,
        name: str,
        revision: str = "main",
        dropout: float | None = None,
        attention_dropout: float | None = None,
    ):
        """Load; raises UserError when the model cannot be had, is not a translator, or lacks a setting that is given.

        ``dropout`` and ``attention_dropout``, in [0, 1), take the place of the checkpoint's own.
        """
        self._dropouts = {"dropout": dropout, "attention_dropout": attention_dropout}
        with _no_advice():
            super().__init__(name, revision, "AutoModelForSeq2SeqLM", self._prepare)
        self._kind = languages.kind_of(self.config.model_type, self.tokenizer)
        if self._kind is None:
            told = f"type {self.config.model_type!r} with a {type(self.tokenizer).__name__}"
            raise wrong(name, f"source and target languages cannot be set for model {told}")
        self.kind = self._kind.name
        self.positions = translator_files.longest(self.config.to_dict())
        self.end = languages.special(self.tokenizer, "eos", target=True)
        self.padding = languages.special(self.tokenizer, "pad", target=True)
        self.codes = languages.codes_of(self._kind, self.tokenizer, self.config.vocab_size)
        unknown = self.tokenizer.unk_token_id
        self._left_out = {*self.tokenizer.all_special_ids, *self.codes.values()} - {unknown}
        self._unwritten = self._left_out if self._second is None else self._special_of(self._second)
        self._readable = {*(self._second or self.tokenizer.get_vocab()).values()} - self._unwritten
        if getattr(self.tokenizer, "legacy_behaviour", False):
            self.notes.append("legacy_behaviour of its tokenizer is left out; the source language's code comes first")

    def _prepare(self, config, raw: Mapping) -> None:
        """Check the configuration and put the dropouts that were asked for into it."""
        translator_files.check_config(config.to_dict() | dict(raw), self.name)
        for setting, value in self._dropouts.items():
            own = next((own for own in DROPOUTS[setting] if hasattr(config, own)), None)
            if value is not None and own is None:
                reason = f"models of type {config.model_type} have no such dropout; leave it out"
                raise UserError(Fault(setting, value, reason))
            if value is not None:
                setattr(config, own, value)

    def _check_loaded(self, info: Mapping, ignore_mismatched: bool) -> None:
        """Refuse weights that are not all of the model, and tied ones that differ."""
        refuse_mismatched(info["mismatched_keys"], self.name)
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        refuse_missing([key for key in info["missing_keys"] if key in parameters], self.name)
        refuse_left_over(info["unexpected_keys"], self.name)
        self._ties = self._tied(parameters)
        _fix_positions(self.model)

    def _tied(self, parameters: Mapping) -> dict[str, str]:
        """Name -> the name whose weights it shares; raises UserError where the checkpoint's copies differ."""
        ties = {}
        for key, source in self.model.get_expanded_tied_weights_keys(all_submodels=True).items():
            if parameters[key] is parameters[source]:
                ties[key] = source
            elif key == HEAD and self.config.model_type in translator_files.NO_LIMIT:
                self.notes.append("its output layer is not tied to its embedding")
            else:
                raise wrong(self.name, f"{key} and {source} are tied by config.json, but differ in the weights")
        return ties

    def check_ties(self) -> None:
        """Assert that what was tied when the model was loaded still is; raises RuntimeError."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        lost = [key for key, source in self._ties.items() if parameters[key] is not parameters[source]]
        if lost:
            raise RuntimeError(f"{lost[0]} is no longer tied to {self._ties[lost[0]]}")

    def direction(self, source: str, target: str, trained: bool = False) -> Direction:
        """How the model is told to translate from ``source`` to ``target``, such as "en" and "de".

        ``trained``: the model will be fine-tuned on this pair. Raises UserError for a language that it cannot be told.
        """
        return languages.direction(self._kind, self.tokenizer, self.config, source, target, trained)

    @property
    def _second(self) -> dict[str, int] | None:
        """The target's vocabulary where it is not the source's: a number means another word in each."""
        return getattr(self.tokenizer, "target_encoder", None) or None

    def _special_of(self, words: Mapping[str, int]) -> set[int]:
        """The special tokens' numbers in a vocabulary, but that of the unknown word."""
        special = {*self.tokenizer.all_special_tokens} - {self.tokenizer.unk_token}
        return {words[token] for token in special if token in words}

    def encode(self, texts: Sequence[str], target: bool = False) -> list[list[int]]:
        """Token ids of texts, without special tokens and language codes; ``target``: as the decoder knows them.

        What looks like a special token or a language code within a text is left out.
        """
        if not texts:
            return []
        apart = target and self.kind.startswith("marian")  # its two sides cut texts differently
        given = {"text_target" if apart else "text": list(texts)}
        if apart and self._second is not None:  # the library numbers special tokens within a text as the source does
            given["split_special_tokens"] = True
        rows = self.tokenizer(**given, add_special_tokens=False, verbose=False)["input_ids"]
        left_out = self._unwritten if target else self._left_out
        return [[number for number in row if number not in left_out] for row in rows]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of what the decoder wrote, without special tokens, codes of languages, and unknown numbers.

        The embedding of many a model has rows beyond its tokenizer's vocabulary.
        """
        kept = [int(number) for number in ids if int(number) in self._readable]
        if self._second is not None:  # the library takes the source's special tokens out of the target's words
            words = [self.tokenizer.decoder[number] for number in kept]
            known = [word for word in words if word != self.tokenizer.unk_token]
            return self.tokenizer.spm_target.decode_pieces(known).strip()
        return self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def about(self) -> dict:
        """What a run's record says of the model."""
        return super().about() | {"kind": self.kind, "positions": self.positions, "ties": sorted(self._ties)}

    def save(self, folder) -> None:
        """Write the model as it is now, and its tokenizer, as ``from_pretrained`` reads them."""
        self.check_ties()
        super().save(folder)


def _fix_positions(model) -> None:
    """Have Marian's positions be what they are computed to be: they are never saved, so that nothing may change them.

    The library makes them parameters like any other, which an optimizer would train and a mask remove.
    """
    import torch

    for module in model.modules():
        if hasattr(module, "create_weight") and isinstance(module, torch.nn.Embedding):
            module.weight.requires_grad_(False)
            module.weight.copy_(module.create_weight())


@contextmanager
def _no_advice():
    """Keep Marian's tokenizer from recommending a package whose work it never calls for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        yield
