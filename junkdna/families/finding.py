"""Finding a model on the Hub before the libraries are imported: they read then whether they may ask."""

from __future__ import annotations

from functools import partial

from junkdna.models import folder, hub
from junkdna.runs.cell import Cell
from junkdna.runs.shared import Shared


def find_model(cell: Cell, shared: Shared) -> None:
    """Ask the Hub once for a model that is called by its name there; raises UserError if it cannot be had."""
    key = (cell.model_name_or_path, cell.model_revision)
    if not folder.is_folder(cell.model_name_or_path):
        shared.keep("model's name", key, partial(hub.find_model, *key))
