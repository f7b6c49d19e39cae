"""The rows of a pair of languages from the files of a folder.

Files of a split, each also as ``.gz``: ``test.en-de.en`` and ``test.en-de.de``; or ``test.en`` and ``test.de``, aligned
over all languages; or ``test.en-de.jsonl``. A name may have the pair in either order. Those of the validation rows
may begin with validation, valid, val or dev.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from junkdna.errors import Fault, UserError
from junkdna.families import textfiles
from junkdna.families.translation.parallel import CODE, Parallel, gather, languages

SPELLINGS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What the names of a split's files begin with."""

NAME = re.compile(
    rf"(?P<spelling>{'|'.join(word for words in SPELLINGS.values() for word in words)})"
    rf"(?:\.(?P<pair>(?:{CODE.pattern})-(?:{CODE.pattern})))?\.(?P<side>jsonl|{CODE.pattern})(?:\.gz)?"
)
"""A file's name, taken apart."""

NO_LANGUAGES = {"bak", "csv", "gz", "idx", "log", "old", "tar", "tmp", "tsv", "txt", "xml", "xz", "zip"}
"""Ends of names that look like languages."""

LISTED = 12
"""Pairs that a message lists at most."""


@dataclass(frozen=True)
class Files:
    """What holds one split of a pair: a text file for each side, or one file of json lines, which is both."""

    source: Path
    target: Path
    pair: tuple[str, str]

    @property
    def origin(self) -> str:
        return " and ".join(dict.fromkeys(map(str, (self.source, self.target))))


@dataclass(frozen=True)
class _Form:
    """How the files of a split may be named, without ``.gz``; one name twice for json lines."""

    source: str
    target: str
    spelling: str
    aligned: bool = False
    """Whether the names leave the pair out: such a file may serve several pairs."""


# --- finding ---------------------------------------------------------------------------------------------------------


def find(folder: str, pair: str, split: str) -> Files | None:
    """Return the files of a split of a pair, None if the folder has none. No file is opened.

    Raises UserError: no such folder, one side missing, the same rows in several files, something that is not a file.
    """
    names = _names(folder)
    found, halves = [], []
    for form in _forms(pair, split):
        there = _there(form.source, names), _there(form.target, names)
        if all(there):
            found += zip(*there) if form.source == form.target else product(*there)
        elif any(there) and not (form.aligned and len(_aligned(form.spelling, names)) > 1):
            halves.append((*there[0], form.target) if there[0] else (*there[1], form.source))
    if len(found) > 1:
        listed = ", ".join(dict.fromkeys(name for both in found for name in both))
        raise _wrong(folder, f"has the {split} rows of {pair} more than once: {listed}; keep one form of them")
    if not found and halves:
        raise _wrong(folder, f"has {halves[0][0]} but not the other side, {halves[0][-1]}")
    return _checked(Files(*(Path(folder, name) for name in found[0]), languages(pair))) if found else None


def require(folder: str, pair: str, split: str) -> Files:
    """``find``, or a UserError that says what the folder has instead."""
    if (files := find(folder, pair, split)) is not None:
        return files
    source, target = languages(pair)
    known = available(folder)
    wanted = (
        f"wanted are {split}.{pair}.{source} and {split}.{pair}.{target}, or {split}.{source} and {split}.{target}, "
        f"or {split}.{pair}.jsonl, each also as .gz"
    )
    if splits := known.get(pair, set()) | known.get(f"{target}-{source}", set()):
        odd = min((name for name in _names(folder) if name.startswith(split) and not NAME.fullmatch(name)), default="")
        also = f" (and {odd})" if odd else ""
        raise _wrong(folder, f"has no {split} rows of {pair}, only {' and '.join(sorted(splits))}{also}; {wanted}")
    if known:
        near = sorted(known, key=lambda name: not {source, target} & set(languages(name)))
        listed = ", ".join([*near[:LISTED], *(["..."] if len(near) > LISTED else [])])
        raise _wrong(folder, f"has no rows of {pair}; its pairs: {listed}; {wanted}")
    raise _wrong(folder, f"has no parallel text; {wanted}")


def available(folder: str) -> dict[str, set[str]]:
    """Return the splits that a folder has of each pair, by name; where files leave it out, English stands first."""
    names = _names(folder)
    found: dict[str, set[str]] = {}
    for split, spellings in SPELLINGS.items():
        for spelling in spellings:
            english_first = sorted(_aligned(spelling, names), key=lambda code: (not code.startswith("en"), code))
            for both in combinations(english_first, 2):
                found.setdefault("-".join(both), set()).add(split)
        for taken in filter(None, map(NAME.fullmatch, names)):
            sides = set((taken["pair"] or "").split("-"))
            if taken["spelling"] in spellings and len(sides) == 2 and taken["side"] in {"jsonl", *sides}:
                found.setdefault(taken["pair"], set()).add(split)
    return dict(sorted(found.items()))


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (OSError, ValueError) as error:
        raise _wrong(folder, textfiles.reason_of(error)) from None


def _forms(pair: str, split: str) -> list[_Form]:
    source, target = languages(pair)
    made = []
    for spelling in SPELLINGS[split]:
        for name in (f"{source}-{target}", f"{target}-{source}"):
            stem = f"{spelling}.{name}."
            made.append(_Form(stem + source, stem + target, spelling))
            made.append(_Form(stem + "jsonl", stem + "jsonl", spelling))
        made.append(_Form(f"{spelling}.{source}", f"{spelling}.{target}", spelling, aligned=True))
    return made


def _there(name: str, names: set[str]) -> list[str]:
    return [spelt for spelt in (name, f"{name}.gz") if spelt in names]


def _aligned(spelling: str, names: set[str]) -> set[str]:
    """The languages of the files that leave the pair out."""
    taken = filter(None, map(NAME.fullmatch, names))
    sides = {parts["side"] for parts in taken if parts["spelling"] == spelling and not parts["pair"]}
    return sides - NO_LANGUAGES


def _checked(files: Files) -> Files:
    for path in (files.source, files.target):
        if not path.is_file():
            raise _wrong(path, "is not a file")
    return files


# --- reading ---------------------------------------------------------------------------------------------------------


def read(files: Files) -> Parallel:
    """Read the rows of a split.

    Raises UserError: a file that is not UTF-8 or not JSON (with its line), sides of different length (with both
    counts), a row without a side (with its number), no row with text on both sides.
    """
    rows = _json_rows(files) if files.source == files.target else _text_rows(files)
    found = gather(rows, files.origin)
    if not found:
        reason = f"has no row with text on both sides ({found.lines:,} rows)" if found.lines else "has no rows"
        raise _wrong(files.origin, reason)
    return found


def _text_rows(files: Files) -> list[tuple[str, str]]:
    sources, targets = _lines(files.source), _lines(files.target)
    if len(sources) != len(targets):
        counts = f"have {len(sources):,} and {len(targets):,} lines"
        raise _wrong(files.origin, f"{counts}; line n of one must be the translation of line n of the other")
    return list(zip(sources, targets))


def _lines(path: Path) -> list[str]:
    r"""The lines of a file. Only ``\n`` and ``\r\n`` end one: U+2028, ``\x0b`` or ``\x85`` may stand within a text."""
    lines = _text(path).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _text(path: Path) -> str:
    try:
        return textfiles.read(path)
    except (OSError, ValueError) as error:
        raise _wrong(path, f"cannot be read: {textfiles.reason_of(error)}") from None


def _json_rows(files: Files) -> list[tuple[str, str]]:
    path, text = files.source, _text(files.source)
    try:
        rows = textfiles.json_rows(text)
    except ValueError as error:
        raise _wrong(path, f"cannot be read: {error}") from None
    made = []
    for number, (line, row) in enumerate(rows, start=1):
        try:
            made.append(tuple(_side(row, code) for code in files.pair))
        except ValueError as error:
            raise _wrong(path, f"row {number} {error} (line {line})") from None
    return made


def _side(row: dict, code: str) -> str:
    """A row's text in a language: of ``{"translation": {"en": ..., "de": ...}}``, or without the outer object."""
    texts = row["translation"] if isinstance(row.get("translation"), dict) else row
    if code not in texts:
        raise ValueError(f"has no {code!r} (its keys: {', '.join(list(texts)[:20]) or 'none'})")
    if not isinstance(texts[code], str):
        raise ValueError(f"has in {code!r} {textfiles.kind_of(texts[code])} where a text should be")
    textfiles.check_whole(texts[code])
    return texts[code]


def _wrong(where: Path | str, reason: str) -> UserError:
    return UserError(Fault("data_dir", where, reason))
