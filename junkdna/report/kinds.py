"""What was removed, in the words of a curve's name: the pattern, and the method that chose the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junkdna.sparsity.patterns import parse_nm

if TYPE_CHECKING:
    from pandas import DataFrame

SCORES = {"magnitude": "", "largest": "largest first", "magnitude_row": "magnitude by row"}
PATTERNS = {"unstructured": "", "nm": "N:M", "per_matrix": "uniform", "per_row": "per row", "mask_file": "mask file"}
"""What is removed, in the words of a curve's name; a score or pattern that is not listed stands for itself."""

PLAIN = "magnitude"
"""The method of a kind that names none."""

METHODS = (PLAIN, "magnitude by row", "wanda", "wanda variant", "sparsegpt")
"""Methods in the order of their panels, the others behind them."""

UNKNOWN = "not pruned yet"
"""The pattern of a run of a mask file that has ended, or not come, before its mask was counted."""

LAYER_WISE = frozenset(METHODS[1:])
"""Methods that prune layer by layer; magnitude is one of them only beside another."""


def kind_of(settings: dict) -> str:
    """What is removed, in words: 'unstructured', 'N:M', 'random', 'N:M, random', 'wanda variant', or 'dense'."""
    pattern, score = settings["sparsity_pattern"], settings.get("score")
    if pattern in ("dense", "mask_file"):
        return PATTERNS.get(pattern, pattern)
    method = SCORES.get(score, score)
    if settings.get("use_variant") is True:
        method = f"{method or score} variant"
    words = [PATTERNS.get(pattern, pattern.replace("_", " ")), method]
    return ", ".join(filter(None, words)) or "unstructured"


def pattern_of(settings: dict, pruning: dict) -> tuple[str, float]:
    """Return the pattern's label on the axis and the sparsity that was asked for."""
    if settings["sparsity_pattern"] == "dense":
        return "dense", 0.0
    if settings.get("nm_ratio"):
        pattern = parse_nm(settings["nm_ratio"])
        return pattern.ratio, float(pattern.sparsity)
    if settings.get("sparsity") is not None:
        return f"{settings['sparsity']:.12g}", float(settings["sparsity"])  # as many decimals as can be asked for
    removed = pruning.get("sparsity")  # of a mask file: any fraction
    return (UNKNOWN, float("nan")) if removed is None else (f"{removed:.4g}", float(removed))


def name_masks(rows: list[dict]) -> None:
    """Give runs of a mask file that have not pruned yet the pattern of a run that has, if there is one: at the same
    place, or else at another, where the scope may differ a little.
    """
    known: dict[tuple, dict] = {}
    for row in rows:
        if row["pattern"] != UNKNOWN:
            for key in _masked(row):
                known.setdefault(key, row)
    for row in rows:
        one = next((known[key] for key in _masked(row) if key in known), None)
        if row["pattern"] == UNKNOWN and one:
            row |= {name: one[name] for name in ("pattern", "sparsity")}


def _masked(row: dict) -> list[tuple]:
    file = row["family"], row["model"], row["settings"].get("mask_file")
    return [(*file, row["place"]), file]


def is_nm(kind: str) -> bool:
    """Whether a kind of pattern stands on the axis of N:M: 'N:M' or 'N:M, random'."""
    return kind.split(", ")[0] == "N:M"


def method_of(kind: str) -> str:
    """The method that a kind names: 'wanda' of 'N:M, wanda', magnitude of 'N:M' and 'unstructured'."""
    pattern, _, rest = kind.partition(", ")
    return (rest if pattern == "N:M" else "" if kind == "unstructured" else kind) or PLAIN


def rank(kind: str) -> tuple[bool, int]:
    """A key that orders kinds: N:M last, and methods as in METHODS, the others behind them."""
    method = method_of(kind)
    return is_nm(kind), METHODS.index(method) if method in METHODS else len(METHODS)


def name_magnitude(cells: DataFrame) -> None:
    """Say 'magnitude' in the names of a family's curves where methods that work layer by layer stand beside it.

    Elsewhere a pattern alone, 'unstructured' or 'N:M', is magnitude's.
    """
    for _, mine in cells.groupby("family", sort=False):
        if LAYER_WISE.isdisjoint(map(method_of, mine["kind"])):
            continue
        plain = mine[mine["kind"].isin(("unstructured", "N:M"))]
        kinds = plain["kind"].map({"unstructured": "magnitude", "N:M": "N:M, magnitude"})
        cells.loc[plain.index, "kind"] = kinds
        cells.loc[plain.index, "curve"] = plain["treatment"] + ", " + kinds
