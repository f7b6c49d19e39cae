"""The methods that prune a language model layer by layer, and what a pattern means to each. Imports no torch."""

from __future__ import annotations

from junkdna.errors import Fault, Faults, UserError, did_you_mean
from junkdna.sparsity.patterns import NM, Pattern, PerBlock, PerMatrix, PerRow, Unstructured

METHODS = ("magnitude", "magnitude_row", "random", "wanda", "sparsegpt")
CALIBRATED = ("wanda", "sparsegpt")
"""Methods that look at the inputs of the linear layers."""

UNITS = {
    "magnitude": PerMatrix,
    "magnitude_row": PerRow,
    "random": PerMatrix,
    "wanda": PerRow,
    "sparsegpt": PerBlock,
}
"""What ``Unstructured`` means to each method: where the fraction is removed, by one ranking each."""


def with_own_unit(pattern: Pattern, method: str, variant: bool = False) -> Pattern:
    """Return the pattern with the method's own unit in the place of ``Unstructured``; raises UserError for misfits."""
    if method not in METHODS:
        reason = f"must be one of {', '.join(METHODS)}{did_you_mean(str(method), METHODS)}"
        raise UserError(Fault("method", method, reason))
    faults = Faults()
    if variant and method != "wanda":
        faults.append(Fault("variant", variant, "only wanda has a variant"))
    if variant and not isinstance(pattern, (Unstructured, PerMatrix)):
        faults.append(Fault("variant", variant, f"needs Unstructured or PerMatrix, got {pattern}"))
    if method == "sparsegpt" and not isinstance(pattern, (Unstructured, PerBlock, NM)):
        faults.append(Fault("pattern", "", f"sparsegpt removes in blocks of columns or N:M, not {pattern}"))
    faults.raise_any()
    if not isinstance(pattern, Unstructured):
        return pattern
    return PerMatrix(pattern.sparsity) if variant else UNITS[method](pattern.sparsity)
