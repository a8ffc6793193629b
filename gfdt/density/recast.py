"""One family in the coordinates of another, so that two scores can be compared at the same noise level."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from gfdt.density.family import Diagonal, Family, inverse
from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["recast"]


def recast(family: Family, target: Family) -> Family:
    """Return the scores of ``family`` as functions of the coordinates, and of the levels, of ``target``.

    With a = (x - m)/scale of the one, b = (x - n)/(k scale) of the other and δ = (n - m)/scale, so a = k b + δ, the
    covariance of b is C/k², σ_a = k σ_b and s_b = k s_a; in terms of f

        f_b(b; σ) = k f_a(k b + δ; k σ) - (C/k² + σ²)⁻¹ δ/k.

    Raises
    ------
    InputError
        If the states differ in shape, or noise that is white for the one is not for the other (k is not one number).
    """
    if family.shape != target.shape:
        raise InputError(f"the scores are of states of shape {family.shape} and {target.shape}: compare like states.")
    k, offset = _relation(family, target)
    covariance = family.covariance.rescaled(np.array([k]))

    def correction(b: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        shift = family.filtered(offset[None] / k, lambda c: k**2 * inverse(c + (k * level) ** 2))
        return k * family.remainder(k * b + offset, k * level) - shift

    def product(b: NDArray[np.float64], level: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros_like(u) if inner is None else k**2 * inner(k * b + offset, k * level, u)

    inner = family.product
    known = family.correction is None or inner is not None
    return dataclasses.replace(
        family,
        units=target.units,
        covariance=covariance,
        level=family.level / k,
        correction=None if family.correction is None and not offset.any() else correction,
        product=product if known else None,
        pull_back=None,
        highest=family.highest / k,
        lowest=family.lowest / k,
    )


def _relation(family: Family, target: Family) -> tuple[float, NDArray[np.float64]]:
    """Return k and δ (*state)."""
    mine, theirs = family.units, target.units
    if not (isinstance(mine, Diagonal) and isinstance(theirs, Diagonal)):
        raise InputError(
            "the noise of one of the scores has correlations between the components (that of a KDEScore, white in "
            "whitened coordinates), and the two have no noise level in common: compare their log_prob instead."
        )
    ratio = np.broadcast_to(theirs.scale / mine.scale, family.shape)
    k = float(ratio.flat[0])
    if not np.allclose(ratio, k, rtol=1e-6, atol=0.0):
        raise InputError(
            "the noise of the two scores is shared differently among the components, and they have no noise level in "
            f"common: one scale is {ratio.min():.4g} to {ratio.max():.4g} times the other. Give an AnalyticScore the "
            "other's proportions as noise=."
        )
    return k, np.broadcast_to((theirs.mean - mine.mean) / mine.scale, family.shape)
