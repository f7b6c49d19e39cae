"""Finding what comes from the Hub before the libraries are imported: they read then whether they may ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from junkdna.errors import Faults
from junkdna.models import folder, hub
from junkdna.runs.cell import Cell
from junkdna.runs.shared import Shared

Look = Callable[[Cell, Shared], object]


def find(cell: Cell, shared: Shared, *looks: Look) -> None:
    """Look for what a cell needs, all of it: model, rows. Raises UserError with every fault."""
    faults = Faults()
    for look in looks:
        faults.collect(look, cell, shared)
    faults.raise_any()


def find_model(cell: Cell, shared: Shared, file: str | None = None) -> None:
    """Ask the Hub once for a model that is called by its name there; raises UserError if it cannot be had.

    ``file`` is the one to look for in its repository (None: config.json).
    """
    key = (cell.model_name_or_path, cell.model_revision)
    if not folder.is_folder(cell.model_name_or_path):
        shared.keep("model's name", key, partial(hub.find_model, *key, file))
