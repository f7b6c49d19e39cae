"""What is removed, as settings: a score, a pattern, or both in one of the historical words of ``--sparse_init``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

from junkdna.errors import Faults
from junkdna.runs.settings import flag, one_of, path, regex
from junkdna.sparsity import patterns
from junkdna.sparsity.patterns import NM, Pattern, decimal_text, nm_from_sparsity, parse_nm, parse_sparsity

SCORES = {
    "magnitude": "the smallest weights are removed",
    "largest": "control, the LARGEST are removed",
    "random": "control, drawn with --seed",
}
PATTERNS = {
    "unstructured": "one ranking over all matrices",
    "per_matrix": "the same fraction of every matrix",
    "per_row": "the same fraction of the weights of every output",
    "nm": "N of every M neighbouring inputs are kept",
    "dense": "nothing is removed",
}
SPELLINGS = {
    "sparse_unstructured": ("magnitude", "unstructured"),
    "sparse_nm": ("magnitude", "nm"),
    "dense": (None, "dense"),
    "random": ("random", "unstructured"),
    "one_shot_smallgm": ("largest", "unstructured"),
    "uniform_weight": ("magnitude", "per_matrix"),
}
"""Score and pattern that each value of ``--sparse_init`` stands for."""

ALIASES = {"sparse_unstuctured": "sparse_unstructured"}
DEFAULT_SPARSITY = Decimal("0.2")
NOTHING = {"score": None, "sparsity_pattern": "dense", "sparsity": None, "nm_ratio": None}
"""The pattern's settings of a dense run."""

CLASSES = {"unstructured": patterns.Unstructured, "per_matrix": patterns.PerMatrix, "per_row": patterns.PerRow}
SLUGS = {"largest": "smallgm-", "random": "random-", "per_matrix": "uniform-", "per_row": "row-"}
"""What the name of a run's folder says beside the sparsity."""


def ratio(text: str) -> str:
    """Read an N:M ratio in either spelling; return it as N:M, N kept."""
    made = parse_nm(text)
    return made.ratio


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """What is removed, and from where."""

    title = "pruning"

    score: str | None = flag(
        one_of(SCORES),
        role="pattern",
        metavar="SCORE",
        help="what ranks the weights; default magnitude. " + "; ".join(f"{k}: {v}" for k, v in SCORES.items()),
    )
    sparsity_pattern: str | None = flag(
        one_of(PATTERNS),
        role="pattern",
        metavar="PATTERN",
        help="what is ranked together; default unstructured, or nm with --nm_ratio. "
        + "; ".join(f"{k}: {v}" for k, v in PATTERNS.items()),
    )
    sparsity: Decimal | None = flag(
        parse_sparsity,
        role="pattern",
        metavar="S",
        many=True,
        help="fraction of the weights in scope that is REMOVED, [0, 1); 0 removes nothing; default 0.2",
    )
    nm_ratio: str | None = flag(
        ratio,
        role="pattern",
        metavar="N:M",
        many=True,
        help="2:8 KEEPS 2 of every 8 neighbouring inputs; the two digits 68 (prune 6 of 8) mean the same; "
        "1 <= N <= M <= 64; default none",
    )
    noembed: bool = flag(
        role="scope", default=False, help="leave the embeddings out of scope; default off: they are pruned too"
    )
    prune_exclude: tuple[str, ...] = flag(
        regex,
        role="scope",
        metavar="REGEX",
        extend=True,
        default=(),
        help="leave matrices out of scope whose name matches; default none. '^classifier' is the head of a classifier, "
        "which is in scope otherwise",
    )
    mask_file: str | None = flag(
        path,
        role="scope",
        metavar="FILE",
        help="use the mask.safetensors of an earlier run instead of making a mask; default none",
    )

    @property
    def dense(self) -> bool:
        return self.sparsity_pattern == "dense"

    @property
    def pattern(self) -> Pattern | None:
        """What is removed; None where nothing is (dense) or where a mask file says it."""
        if self.sparsity_pattern == "nm":
            return parse_nm(self.nm_ratio)
        made = CLASSES.get(self.sparsity_pattern)
        return None if made is None else made(self.sparsity)

    @property
    def pattern_slug(self) -> str:
        """The pattern as a folder name: 0.5, 2of8, dense, random-0.5, uniform-0.5, mask-NAME."""
        if self.dense:
            return "dense"
        if self.mask_file:
            return f"mask-{Path(self.mask_file).stem}"
        amount = self.pattern.slug if isinstance(self.pattern, NM) else decimal_text(self.sparsity)
        return SLUGS.get(self.score, "") + SLUGS.get(self.sparsity_pattern, "") + amount


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """Flags of pruning that are not settings of a single run."""

    title = "pruning"

    sparse_init: str | None = flag(
        one_of(SPELLINGS, ALIASES),
        role="option",
        metavar="MODE",
        help="historical spelling of --score and --sparsity_pattern in one word: "
        + "; ".join(f"{word}: {' '.join(filter(None, pair))}" for word, pair in SPELLINGS.items())
        + ". sparse_unstuctured (the spelling of the paper's code) means sparse_unstructured",
    )


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Whether dense runs stand beside the pruned ones."""

    title = "pruning"

    with_dense: bool = flag(
        role="option",
        default=False,
        help="also run the dense model for every other combination; the report normalises by it; default off",
    )


def settings(given: dict, faults: Faults) -> list[dict]:
    """Return the pattern's settings of every run that is asked for, checking that the flags agree.

    This is the ``patterns`` of a family whose cell ranks by a score.
    """
    if given["mask_file"]:
        made = [from_file(given, faults)]
    else:
        _check_spelling(given, faults)
        made = _from_pattern(given, faults)
    return beside_dense(given, made)


def beside_dense(given: dict, made: list[dict]) -> list[dict]:
    """Put the dense run in front of the others if that is asked for."""
    return [NOTHING, *made] if given["with_dense"] and NOTHING not in made else made


def from_file(given: dict, faults: Faults) -> dict:
    """Return the pattern's settings where a mask file says what is removed."""
    path = given["mask_file"]
    for name in ("sparse_init", "score", "sparsity_pattern", "sparsity", "nm_ratio"):
        if given.get(name):
            faults.append(f"--mask_file {path}: already says what is removed; leave out --{name}")
    if not os.path.isfile(path):
        faults.append(f"--mask_file {path}: no such file")
    return NOTHING | {"sparsity_pattern": "mask_file"}


def _check_spelling(given: dict, faults: Faults) -> None:
    """Refuse a word beside the flags that it stands for, unless they say the same."""
    word = given.get("sparse_init")
    for name, meant in zip(("score", "sparsity_pattern"), SPELLINGS.get(word, ())):
        if given[name] not in (None, meant):
            faults.append(f"--sparse_init {word}: means --{name} {meant}, not {given[name]}; give one of them")


def _from_pattern(given: dict, faults: Faults) -> list[dict]:
    score, pattern = SPELLINGS.get(given.get("sparse_init"), (given["score"], given["sparsity_pattern"]))
    sparsities, ratios = given["sparsity"], given["nm_ratio"]
    pattern = pattern or ("nm" if ratios else "unstructured")
    if ratios and pattern != "nm":
        other = given.get("sparse_init") or pattern
        faults.append(f"--nm_ratio: goes with --sparsity_pattern nm (--sparse_init sparse_nm), not with {other}")
    if pattern == "dense":
        if any(sparsities or []) or score:
            other = "--sparsity " + " ".join(map(decimal_text, sparsities)) if sparsities else f"--score {score}"
            word = "--sparse_init" if given.get("sparse_init") else "--sparsity_pattern"
            faults.append(f"{other}: {word} dense does not prune anything; leave one of them out")
        return [NOTHING]
    common = NOTHING | {"score": score or "magnitude", "sparsity_pattern": pattern}
    if pattern == "nm":
        return [common | {"nm_ratio": one} for one in ratios_meant(sparsities, ratios, faults)]
    return [common | {"sparsity": one} for one in sparsities or [DEFAULT_SPARSITY]]


def ratios_meant(sparsities: list[Decimal] | None, ratios: list[str] | None, faults: Faults) -> list[str]:
    """Return the N:M ratios meant by --nm_ratio, or by --sparsity as N of 8."""
    if not ratios:
        found = [faults.collect(nm_from_sparsity, one) for one in sparsities or [DEFAULT_SPARSITY]]
        return [nm.ratio for nm in found if nm]
    for one in filter(None, ratios):
        for sparsity in sparsities or []:
            if parse_nm(one).sparsity != Fraction(sparsity):
                faults.append(
                    f"--sparsity {decimal_text(sparsity)}: contradicts --nm_ratio {one}, which removes "
                    f"{float(parse_nm(one).sparsity):g}; leave --sparsity out"
                )
    return ratios
