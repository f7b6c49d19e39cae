"""Pre-trained weights with their tokenizer, loaded once and reset for every cell; what they lack is drawn from a
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from junkdna.models import digests
from junkdna.models.folder import wrong
from junkdna.models.loading import (
    check_finite,
    loading_errors,
    of_encoder,
    refuse_left_over,
    refuse_mismatched,
    refuse_missing,
)
from junkdna.models.source import Source


class Pretrained(Source):
    """A model with its pre-trained weights kept aside, so that every cell starts from the same bits.

    ``model`` is of the transformers class asked for, in float32 on the CPU; ``drawn`` holds the names of the parameters
    that the checkpoint lacks (the head, as a rule); ``weight_hash`` is a SHA-256 of all others. Kinds of models differ
    in how they ``_load``, what they refuse (``_check_loaded``), which parameters are fresh (``_to_draw``) and by which
    rule those are drawn (``_draw``).
    """

    def __init__(
        self,
        name: str,
        revision: str,
        auto_class: str,
        prepare: Callable[[object, Mapping], None] = lambda config, raw: None,
        ignore_mismatched: bool = False,
    ):
        """Load; raises UserError when the model cannot be had or does not fit. Needs no network for a folder.

        ``auto_class`` is a transformers class, such as "AutoModelForSequenceClassification". ``prepare`` may check and
        change the configuration before the model is made; it also gets what config.json holds. With
        ``ignore_mismatched`` a head of another size is replaced.
        """
        super().__init__(name, revision, prepare)
        if self.tokenizer.pad_token_id is None:
            raise wrong(name, "its tokenizer has no padding token, so that no batch can be made")
        self.notes += _normalise_config(self.config, self.tokenizer)
        info = self._load(auto_class)
        self._check_loaded(info, ignore_mismatched)
        self.drawn = sorted(self._to_draw(info))
        self._pristine = _copies(self.model.state_dict())
        loaded = {key: value for key, value in self._pristine.items() if key not in self.drawn}
        check_finite(loaded, name)
        self.weight_hash = digests.of_tensors(loaded)

    def _load(self, auto_class: str) -> dict:
        """Load the weights; return what the library says of them."""
        import torch
        import transformers

        torch.manual_seed(0)  # whatever the model's own rule for fresh weights leaves out is the same in every process
        with loading_errors(self.name, here=self.revision is None):
            self.model, info = getattr(transformers, auto_class).from_pretrained(
                self._path,
                **self._from,
                config=self.config,
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # looked at by _check_loaded, where encoder and head can be told apart
                output_loading_info=True,
            )
        return info

    def _check_loaded(self, info: Mapping, ignore_mismatched: bool) -> None:
        """Refuse weights that leave more than the head to be drawn; of the encoder, a pooler may be missing."""
        prefix, name = f"{self.model.base_model_prefix}.", self.name
        encoder = getattr(self.model, self.model.base_model_prefix, None)
        refuse_mismatched([one for one in info["mismatched_keys"] if one[0].startswith(prefix)], name)
        if info["mismatched_keys"] and not ignore_mismatched:
            key, found, wanted = min(info["mismatched_keys"])
            reason = f"its head does not fit the task ({key} is {tuple(found)}, not {tuple(wanted)})"
            raise wrong(name, f"{reason}; ignore_mismatched_sizes replaces it")
        refuse_left_over(of_encoder(info["unexpected_keys"], encoder, prefix), name)
        missing = [key for key in info["missing_keys"] if key.startswith(prefix) and ".pooler." not in key]
        refuse_missing(missing, name, "the encoder")

    def _to_draw(self, info: Mapping) -> set[str]:
        """Names of the parameters that the checkpoint lacks, or has in another shape."""
        return {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}

    @property
    def drawn_words(self) -> str:
        """The parameters that the checkpoint lacks, in words."""
        return ", ".join(self.drawn) or "none"

    @property
    def size(self) -> int:
        """Number of parameters; tied ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def about(self) -> dict:
        """What a run's record says of the model."""
        return {
            "name": self.name,
            "revision": self.revision,
            "weight_hash": self.weight_hash,
            "drawn": self.drawn,
            "parameters": self.size,
            "notes": list(self.notes),
        }

    def save(self, folder) -> None:
        """Write the model as it is now, and its tokenizer, as ``from_pretrained`` reads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

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


def _copies(state: Mapping) -> dict:
    """Copies of a model's tensors; those that share their memory, as tied weights do, share one copy."""
    places = {key: (value.data_ptr(), value.shape, value.stride()) for key, value in state.items()}
    copies = {place: state[key].clone() for place, key in {place: key for key, place in places.items()}.items()}
    return {key: copies[place] for key, place in places.items()}


def _normalise_config(config, tokenizer) -> list[str]:
    """Set what decides in which form outputs are returned, and the pad token where the configuration names none.

    Returns what the user should know of it.
    """
    config.return_dict = True
    config.output_hidden_states = config.output_attentions = False
    if getattr(config, "chunk_size_feed_forward", 0):
        config.chunk_size_feed_forward = 0  # the same values in pieces, for lengths that the size divides
    if getattr(config, "pad_token_id", None) is None:  # a configuration of several models has none
        config.pad_token_id = tokenizer.pad_token_id
    if getattr(config, "attention_type", None) != "block_sparse":
        return []
    config.attention_type = "original_full"  # BigBird takes it for good once it sees a short batch
    return ["attention_type block_sparse depends on the batches seen before; original_full takes its place"]
