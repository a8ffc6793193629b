"""Covariance operators of the data, diagonal in a basis: the linear algebra behind every Gaussian answer.

C is the covariance of the state, m its mean. All classes offer the same calls: ``centre(x)`` is x - m and
``apply(x, f)`` is f(C) x for a function f of the eigenvalues, with x of shape (batch, *state). A direction without
any variance has the eigenvalue exactly 0: the density lives on the rest, and so do its score and its response.

Without symmetry C is a matrix (:class:`DenseCovariance`). For a homogeneous field it is a convolution, diagonal in
Fourier space (:class:`SpectralCovariance`); for several variables at every site, one small matrix per wavenumber
(:class:`CrossSpectralCovariance`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance.cross import CrossSpectralCovariance
from gfdt.covariance.dense import DenseCovariance
from gfdt.covariance.spectral import SpectralCovariance
from gfdt.covariance.storage import pack_covariance, unpack_covariance

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Covariance",
    "CrossSpectralCovariance",
    "DenseCovariance",
    "SpectralCovariance",
    "estimate_covariance",
    "pack_covariance",
    "unpack_covariance",
]

Covariance = DenseCovariance | SpectralCovariance | CrossSpectralCovariance


def estimate_covariance(
    states: NDArray[Any],
    n_homogeneous: int,
    shrinkage: float | str = 0.0,
    *,
    scale: NDArray[np.float64] | float = 1.0,
) -> DenseCovariance | SpectralCovariance | CrossSpectralCovariance:
    """Estimate mean and covariance of states of shape (n, *state), in the order they were recorded.

    Parameters
    ----------
    states : (n, *state)
    n_homogeneous : int
        How many of the last dims are homogeneous and periodic: 0, all of them, or all but the first (a dim of
        variables).
    shrinkage : float in [0, 1) or "ledoit-wolf"
        See :mod:`gfdt.covariance.shrinkage`.
    scale : float or ndarray with the dims of a state, of size 1 along homogeneous ones
        Units in which mean and covariance are wanted: those of states/scale. Default: of the states.
    """
    if n_homogeneous == 0:
        return DenseCovariance.estimate(states, shrinkage, scale)
    if n_homogeneous == states.ndim - 1:
        return SpectralCovariance.estimate(states, shrinkage).rescaled(np.asarray(scale))
    return CrossSpectralCovariance.estimate(states, shrinkage, scale)
