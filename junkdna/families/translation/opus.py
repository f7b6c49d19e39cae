"""OPUS-100 from the Hub: English and 99 languages, up to a million pairs of sentences each (Zhang et al. 2020)."""

from __future__ import annotations

from itertools import combinations

from junkdna.errors import Fault, UserError, did_you_mean
from junkdna.families.translation.parallel import Parallel, gather, languages
from junkdna.models import hub

NAME = "Helsinki-NLP/opus-100"

CODES = """
af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id ig is
it ja ka kk km kn ko ku ky li lt lv mg mk ml mn mr ms mt my nb ne nl nn no oc or pa pl ps pt ro ru rw se sh si sk sl sq
sr sv ta te tg th tk tr tt ug uk ur uz vi wa xh yi yo zh zu
"""
LANGUAGES = frozenset(CODES.split())

WITHOUT_ENGLISH = frozenset(combinations(("ar", "de", "fr", "nl", "ru", "zh"), 2))
"""Pairs of other languages, which have test rows only."""

TOGETHER = 10_000
"""Rows that are read at once."""


def read(pair: str, split: str, most: int | None = None) -> Parallel:
    """Read a split ("train", "validation" or "test") of a pair, in either order, or the first ``most`` rows of it that
    have text on both sides. Raises UserError for a pair that OPUS-100 does not have, or that cannot be had now.
    """
    name, (source, target) = config(pair), languages(pair)
    pattern = f"{name}/{split}-*"
    try:
        files, commit = hub.fetch_files(NAME, pattern)
    except UserError as error:
        reason = f"{error.faults[0].reason}; give --data_dir with files of your own"
        raise UserError(Fault("pair", pair, reason)) from None
    texts = (row["translation"] for row in hub.rows(files, ["translation"], TOGETHER))
    origin = f"{NAME} at {commit}, {pattern}"
    found = gather(((text[source] or "", text[target] or "") for text in texts), origin, most)
    if not found:
        raise UserError(Fault("pair", pair, f"{origin} has no row with text on both sides"))
    return found


def config(pair: str) -> str:
    """What OPUS-100 calls a pair: "de-en" for en-de and de-en. Raises UserError if it does not have it."""
    codes = languages(pair)
    for code in codes:
        if code not in LANGUAGES:
            near = did_you_mean(code.partition("_")[0], LANGUAGES)
            reason = f"OPUS-100 has no language {code!r}{near}; it knows two-letter codes: {' '.join(CODES.split())}"
            raise UserError(Fault("pair", pair, reason))
    both = tuple(sorted(codes))
    if "en" not in codes and both not in WITHOUT_ENGLISH:
        without = ", ".join("-".join(known) for known in sorted(WITHOUT_ENGLISH))
        reason = f"OPUS-100 has pairs with English, and for testing {without}; give --data_dir with files of your own"
        raise UserError(Fault("pair", pair, reason))
    return "-".join(both)
