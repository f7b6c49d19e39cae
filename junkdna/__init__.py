"""Prune a pre-trained model once, train it with the mask held, and prove that it was.

    import junkdna as jd

    scope = jd.find_scope(model, embeddings=False)
    masks = jd.make_masks(scope, jd.Unstructured(0.5))
    held = jd.hold(model, masks, "sparse").attach(optimizer)
    ...                                       # any training loop
    held.verify()

The names below are loaded on first use, so that ``import junkdna`` is quick and does not import torch. docs/api.md has
complete examples. The rooms, of which each imports only from lower floors and never from its neighbour:

* ``families``, ``report`` -- the experiments of the paper; a tree of runs as tables, figures and a page
* ``runs``, ``training``   -- from a command line to finished folders; the one training loop
* ``sparsity``, ``models`` -- what is removed and how it stays so; where weights come from
* ``errors``               -- mistakes of the user
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from junkdna.errors import Fault, UserError
    from junkdna.sparsity.callback import HoldMasks
    from junkdna.sparsity.census import Census, census, choose_masks
    from junkdna.sparsity.decoder import decoder_scope, find_decoder
    from junkdna.sparsity.files import load_masks, save_masks
    from junkdna.sparsity.hold import Held, MaskBroken, hold, verify
    from junkdna.sparsity.layerwise import Layerwise, prune_layerwise
    from junkdna.sparsity.masks import compare, make_masks
    from junkdna.sparsity.patterns import NM, Pattern, PerBlock, PerMatrix, PerRow, Unstructured
    from junkdna.sparsity.scope import Scope, find_scope
    from junkdna.sparsity.scores import Score, largest, magnitude, random

__version__ = "0.1.0"

__all__ = [
    "NM",
    "Census",
    "Fault",
    "Held",
    "HoldMasks",
    "Layerwise",
    "MaskBroken",
    "Pattern",
    "PerBlock",
    "PerMatrix",
    "PerRow",
    "Scope",
    "Score",
    "Unstructured",
    "UserError",
    "census",
    "choose_masks",
    "compare",
    "decoder_scope",
    "find_decoder",
    "find_scope",
    "hold",
    "largest",
    "load_masks",
    "magnitude",
    "make_masks",
    "prune_layerwise",
    "random",
    "save_masks",
    "verify",
]

_ROOMS = {
    "errors": ["Fault", "UserError"],
    "sparsity.callback": ["HoldMasks"],
    "sparsity.census": ["Census", "census", "choose_masks"],
    "sparsity.decoder": ["decoder_scope", "find_decoder"],
    "sparsity.files": ["load_masks", "save_masks"],
    "sparsity.hold": ["Held", "MaskBroken", "hold", "verify"],
    "sparsity.layerwise": ["Layerwise", "prune_layerwise"],
    "sparsity.masks": ["compare", "make_masks"],
    "sparsity.patterns": ["NM", "Pattern", "PerBlock", "PerMatrix", "PerRow", "Unstructured"],
    "sparsity.scope": ["Scope", "find_scope"],
    "sparsity.scores": ["Score", "largest", "magnitude", "random"],
}
_HOMES = {name: f"{__name__}.{room}" for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str):
    """Load a name of the public API from its room, once."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
