"""A causal language model: its tokenizer at once, its pre-trained weights as often as they are wanted."""

from __future__ import annotations

import io
import os
from contextlib import nullcontext, redirect_stderr

from junkdna.errors import Fault, UserError
from junkdna.models import causal_files, digests, folder, memory
from junkdna.models.folder import wrong
from junkdna.models.loading import check_finite, loading_errors, refuse_left_over, refuse_mismatched, refuse_missing
from junkdna.models.source import Source

DTYPES = ("auto", "fp32", "bf16", "fp16")

SPARE = 3
"""The pre-trained weights are kept aside where the memory that is left holds so many copies of them."""


class Causal(Source):
    """A pre-trained causal language model by name: a folder, a GGUF file in a folder, or a name on the Hub.

    What a ``Source`` has is there at once; ``fresh`` loads the weights. ``weight_hash`` is the SHA-256 of the weights
    in the dtype in which they are used, once they have been loaded.
    """

    def __init__(self, name: str, revision: str = "main", gguf_file: str | None = None, dtype: str = "auto"):
        """Load configuration and tokenizer. ``dtype``: of ``DTYPES``; "auto" is the checkpoint's own, but fp32 in place
        of fp16 where there is no GPU. Raises UserError when they cannot be had or are not of a causal model.
        """
        self.gguf_file = gguf_file
        super().__init__(
            name,
            revision,
            lambda config, raw: causal_files.check_config(config.to_dict() | raw, name),
            least_pad=-1,
            here=folder.is_folder(name) or causal_files.gguf_path(name, gguf_file) is not None,
            quiet=self._quiet,
            **({"gguf_file": gguf_file} if gguf_file else {}),
        )
        self.dtype = self._dtype(dtype)
        self.weight_hash: str | None = None
        self.parameters: int | None = None
        self._model, self._pristine = None, None

    def _dtype(self, wanted: str):
        import torch

        named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        has_gpu = torch.cuda.is_available()
        if wanted == "fp16" and not has_gpu:
            raise UserError(Fault("dtype", "fp16", "needs a GPU; on a CPU use bf16 or fp32"))
        if wanted in named:
            return named[wanted]
        own = getattr(self.config, "dtype", None)
        if own == torch.float16 and not has_gpu:
            self.notes.append("stored in fp16, which CPUs do not compute in; fp32 takes its place")
            return torch.float32
        return own if own in named.values() else torch.float32

    @property
    def positions(self) -> int | None:
        """Number of tokens that the model has positions for; None if its configuration does not say."""
        return causal_files.longest(self.config.to_dict())

    def fresh(self):
        """Return the model with its pre-trained weights, on the CPU, in evaluation mode.

        The same object each time: what was made of the one before is gone. Raises UserError for weights that are
        missing, left over, of another shape, NaN or infinite.
        """
        import torch

        if self._pristine is not None:
            self._model.to("cpu")
            with torch.no_grad():
                for name, value in self._model.state_dict().items():
                    value.copy_(self._pristine[name])
            return self._model
        self._model = None  # free it before its successor is loaded
        self._model = self._load()
        state = self._model.state_dict()
        check_finite(state, self.name)
        found = digests.of_tensors(state)
        # loaded again, hours later: runs would be compared with others' weights
        if self.weight_hash not in (None, found):
            raise wrong(self.name, "its weights are not those that were loaded before; the files have changed")
        self.weight_hash, self.parameters = found, self._model.num_parameters()
        if memory.available() > SPARE * memory.size_of(state.values()):
            self._pristine = {name: value.clone() for name, value in state.items()}
        return self._model

    def _load(self):
        import transformers

        self._check_memory()
        with loading_errors(self.name, here=self.revision is None), self._quiet():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                self._path,
                trust_remote_code=False,
                **self._from,
                **_as_floats(self.gguf_file),
                config=self.config,
                dtype=self.dtype,
                ignore_mismatched_sizes=True,  # looked at below, to say it in one line
                output_loading_info=True,
            )
        refuse_mismatched(info["mismatched_keys"], self.name)
        refuse_missing(info["missing_keys"], self.name)
        refuse_left_over(info["unexpected_keys"], self.name)
        if self.gguf_file:
            _forget_packing(model)
        model.config.return_dict = True
        return model.eval().requires_grad_(True)

    def _check_memory(self) -> None:
        """Refuse weights for which there is no room: the system would end the process without a word."""
        if self.gguf_file or not os.path.isdir(self._path):
            return
        size, free = memory.size_of_files(self._path, self.dtype.itemsize), memory.available()
        if size > free:
            raise wrong(self.name, f"its weights need {size / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory is free")

    def _quiet(self):
        """Keep the bar off the screen that loading a GGUF file draws whatever it is told."""
        return redirect_stderr(io.StringIO()) if self.gguf_file else nullcontext()

    def about(self) -> dict:
        """What a run's record says of the model."""
        return {
            "name": self.name,
            "revision": self.revision,
            "weight_hash": self.weight_hash,
            "drawn": [],
            "parameters": self.parameters,
            "dtype": str(self.dtype).removeprefix("torch."),
            "notes": list(self.notes),
        }

    def save(self, path) -> None:
        """Write the model as it is now, and its tokenizer, as ``from_pretrained`` reads them."""
        self._model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)


def _as_floats(gguf_file: str | None) -> dict:
    """How to have the weights of a GGUF file as ordinary ones.

    Where the package kernels is installed, the libraries would leave them packed, in layers that cannot be pruned, and
    compute with code that they fetch from the Hub.
    """
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": kind(dequantize=True)} if gguf_file and kind else {}


def _forget_packing(model) -> None:
    """Have the libraries take a model from a GGUF file for what it is: they refuse to save a quantized one."""
    model.hf_quantizer = None
    for owner, name in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(owner, name):
            delattr(owner, name)
