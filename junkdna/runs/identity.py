"""What a run is made of, as named digests: everything that enters its numbers.

A checkpoint is resumed by it, ``run.json`` records it, and the report compares it. A finished run is skipped by as much
of it as can be had before torch is imported: the digests of the files that were read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from junkdna.errors import UserError
from junkdna.models import folder
from junkdna.runs import disk, seals
from junkdna.runs.cell import Cell

TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "*.codes", "chat_template.jinja")
"""Names of files that a tokenizer may be read from."""


def of(cell: Cell, parts: Mapping[str, str | None]) -> dict[str, str | None]:
    """Return a run's identity, digests by name: its settings, and what its family read.

    An encoder's ``parts`` are the weights that were loaded, the resolved configuration, the tokenizer, the rows of
    every split as the model sees them, and the mask (None: dense).
    """
    return {"settings": seals.of(cell.settings()), **parts}


def differing(stored: Mapping, parts: Mapping) -> list[str]:
    """Name the parts in which two identities differ, in words; a part that the stored one lacks is not compared."""
    return [name.replace("_", " ") for name, value in parts.items() if name in stored and stored[name] != value]


# --- before torch ----------------------------------------------------------------------------------------------------


def files(cell: Cell) -> dict[str, str]:
    """Return the SHA-256 of every file of a local model that a run reads, and of those that its flags name."""
    found = {}
    if folder.is_folder(cell.model_name_or_path):
        home = Path(cell.model_name_or_path)
        found = {name: disk.digest_of(home / name) for name in _model_files(home, cell.also_read)}
    found |= {flag: disk.digest_of(Path(path)) for flag, path in cell.files_read.items()}
    return {name: value for name, value in found.items() if value is not None}


def _model_files(home: Path, also: tuple[str, ...]) -> list[str]:
    """Configuration, tokenizer, the weights that would be loaded, and what else a family reads."""
    names = sorted(name for name in os.listdir(home) if any(fnmatch(name, kind) for kind in TOKENIZER_FILES))
    weights = next((name for name in folder.WEIGHT_FILES if (home / name).is_file()), None)
    parts = folder.parts_of(home / weights) if weights and weights.endswith(".index.json") else []
    return ["config.json", *also, *names, *([weights] if weights else []), *parts]


def check_files(cell: Cell, run: Mapping) -> bool:
    """Whether a finished run says which files it read; raises UserError if one of them is not what it was."""
    stored = run.get("read")
    if not isinstance(stored, dict):
        return False
    try:
        now = files(cell)
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise disk.DiskError(cell.model_name_or_path, "cannot be read", error) from None
    names = [name for name in dict.fromkeys([*stored, *now]) if stored.get(name) != now.get(name)]
    if not names:
        return True
    model = [name for name in names if not name.startswith("--")]
    changed = [f"{', '.join(model)} of {cell.model_name_or_path}"] * bool(model)
    changed += [f"{name} {cell.files_read.get(name, '')}".rstrip() for name in names if name not in model]
    raise UserError(
        f"--output_dir {cell.output_dir}: holds this run made of other files ({' and '.join(changed)} changed since); "
        "choose another folder, or --overwrite_output_dir"
    )
