r"""Whether recorded increments are the white noise that drove this record: four identities that cost nothing.

    <x_n Delta_n> = 0 (the state does not know the noise to come),      <Delta_n Delta_n^T> = Q h,
    <Delta_{n+1} Delta_n^T> = 0 (white),                                boxes that start at R(0) = I.

An identity fails if some entry, as a pure number, departs from it by more than a tolerance beyond what
sampling noise may do to the largest of all entries (:func:`gfdt.responses.sums.significance_threshold`).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.sums import UnitSums, significance_threshold, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["refuse_foreign_noise", "warn_of_a_bad_start"]

_TOLERANCE = 0.1
_COARSE = 0.2  # of the extrapolated R(0), which falls short by 0.03, 0.08 and 0.12 at h = 0.6, 1 and 1.2 decay times


def _certain(departure: NDArray[np.float64], errors: NDArray[np.float64], scale: NDArray[np.float64]) -> float:
    """Largest departure from an identity beyond what sampling noise may do to the largest of all entries."""
    threshold = significance_threshold(departure.size, errors.shape[0])
    return float(((np.abs(departure) - threshold * standard_error(errors)) * scale).max())


def refuse_foreign_noise(
    boxes: UnitSums, white: UnitSums, scale: NDArray[np.float64], sizes: NDArray[np.float64], *, stated: bool
) -> None:
    """Test the independences that the method rests on."""
    if (off := _certain(boxes.mean()[0], boxes.influence()[:, 0], scale)) > _TOLERANCE:
        raise InputError(
            f"the noise of sample n is correlated with the state at sample n (<x_n Delta_n> Q^-1/h departs from 0 by "
            f"more than {off:.2g}): store at sample n the increments between samples n and n + 1, not those before it."
        )
    whites, own = white.influence(), sizes[None, :] / sizes[:, None]
    if stated and (off := _certain(white.mean()[0] - np.eye(sizes.size), whites[:, 0], own)) > _TOLERANCE:
        ratio = np.diagonal(white.mean()[0])
        raise InputError(
            f"the increments have {ratio.min():.3g} to {ratio.max():.3g} times the variance per unit time that "
            "noise_covariance states: pass Q = G G^T of dx = F dt + G dW (not G, not the covariance over h), or None."
        )
    if (off := _certain(white.mean()[1], whites[:, 1], own)) > _TOLERANCE:
        warnings.warn(
            f"the noise is correlated from one sample to the next (by more than {off:.2g}): the estimate holds for "
            "white noise only; record the increments of the white noise that drives it.",
            ReliabilityWarning,
            stacklevel=3,
        )


def warn_of_a_bad_start(boxes: NDArray[np.float64], errors: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
    """Compare R(0) = I with the boxes extrapolated to t = 0 by a parabola."""

    def extrapolated(b: NDArray[np.float64]) -> NDArray[np.float64]:
        return (11 * b[..., 1, :, :] - 7 * b[..., 2, :, :] + 2 * b[..., 3, :, :]) / 6

    start = extrapolated(boxes)
    if (off := _certain(start - np.eye(scale.shape[0]), extrapolated(errors), scale)) > _COARSE:
        diagonal = np.diagonal(start)
        warnings.warn(
            f"the response does not start at R(0) = I (its boxes extrapolate to {diagonal.min():.3g} .. "
            f"{diagonal.max():.3g} on the diagonal, off by more than {off:.2g} somewhere): the sample interval is too "
            "long for the response, or the increments are not in the units of x (they must be G dW, not dW).",
            ReliabilityWarning,
            stacklevel=3,
        )
