"""A trained denoiser as the family of scores of its density at every noise level (:mod:`gfdt.density.family`).

    f(a; σ) = q F(a; σ) + g(a; σ) + (C + σ²)⁻¹ a,

where g is the linear part of the precondition: the last two terms cancel for the Gaussian one.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from gfdt.density.family import Diagonal, Family, highest_level
from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.fitted import Fitted

__all__ = ["make_family"]


def make_family(fitted: Fitted, device: str) -> Family:
    """Return the family of a trained denoiser, or of the Gaussian start if nothing was learned.

    Raises
    ------
    InputError
        If the network was trained about one noise level only.
    """
    linear = fitted.linear
    units = Diagonal(linear.units.mean, linear.units.scale)
    plain = Family(units, linear.covariance, linear.shape, linear.level)
    if fitted.denoiser is None and linear.precondition == "gaussian":
        return plain
    low, high = fitted.trained_range()
    if fitted.denoiser is not None and not fitted.trained_top:
        raise InputError(
            f"the network was trained at noise levels up to {high:.3g} standard deviations only, and its density needs "
            f"them up to {highest_level(plain.covariance):.3g}: fit with noise_range='all'."
        )

    def correction(a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        learned = np.zeros_like(a) if fitted.denoiser is None else fitted.correction(a, level, device)
        if linear.precondition == "gaussian":
            return learned
        return learned + linear.at(level, None).score(a) - plain.linear_score(a, level)

    def product(a: NDArray[np.float64], level: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
        learned = np.zeros_like(a) if fitted.denoiser is None else fitted.correction_jvp(a, level, u, device)
        if linear.precondition == "gaussian":
            return learned
        return learned + linear.at(level, None).score(u) - plain.linear_score(u, level)

    def pull_back(a: NDArray[np.float64], level: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
        learned = np.zeros_like(a) if fitted.denoiser is None else fitted.correction_vjp(a, level, u, device)
        if linear.precondition == "gaussian":
            return learned
        # Of the linear terms the derivatives are symmetric.
        return learned + linear.at(level, None).score(u) - plain.linear_score(u, level)

    highest = math.inf if fitted.denoiser is None else high
    return dataclasses.replace(
        plain, correction=correction, product=product, pull_back=pull_back, highest=highest, lowest=low
    )
