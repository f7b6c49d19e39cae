"""Seals: a record carries the SHA-256 of its content, and one that does not fit its seal is refused.

What is sealed is the content, not the bytes of the file: a record may be laid out anew, but not changed.
"""

from __future__ import annotations

import hashlib
import json
import os

from junkdna.errors import UserError

SEAL = "seal"
SIGNS = (SEAL, "identity", "files")
"""Keys that only sealed records have: one that has lost its seal is told from one of the time before seals."""


class Damaged(UserError):
    """A file is not what was written into it."""


def digest(content: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def of(record: object) -> str:
    """SHA-256 of plain JSON values, however they are laid out."""
    return digest(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def sealed(record: dict) -> dict:
    """Return a record with its seal, in place of an earlier one."""
    bare = {name: value for name, value in record.items() if name != SEAL}
    return bare | {SEAL: of(json.loads(json.dumps(bare)))}


def check(record: dict, path: str | os.PathLike) -> None:
    """Raise Damaged if a record does not fit its seal. One of the time before seals passes."""
    if not any(name in record for name in SIGNS):
        return
    bare = {name: value for name, value in record.items() if name != SEAL}
    if record.get(SEAL) != of(bare):
        raise Damaged(f"{os.fspath(path)}: is damaged or was changed (its content does not fit its seal)")
