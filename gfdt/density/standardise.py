"""Mean and covariance of data as the coordinates of a family: a = (x - m)/scale, in which the noise is white.

By default scale is the standard deviation of each component, or of each variable of a homogeneous field: what is said
in a then does not depend on the units of the data. Otherwise it has the proportions of a given noise, and the size that
makes the mean variance of a one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from gfdt.covariance import Covariance, DenseCovariance, SpectralCovariance
from gfdt.covariance.spectral import half_plane_weights
from gfdt.density.family import Diagonal
from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["standardised"]


def standardised(
    covariance: Covariance, shape: tuple[int, ...], noise: ArrayLike | None = None
) -> tuple[Diagonal, Covariance]:
    """Return the coordinates a, and the covariance of a, from mean and covariance of the data.

    Parameters
    ----------
    covariance : Covariance
        In the units of the data squared.
    shape : tuple of int
        Of a state.
    noise : array broadcastable to a state, optional
        Standard deviations of the noise up to a factor; 1: the noise is white in the data. Default: proportional to
        those of the components.

    Raises
    ------
    InputError
        If ``noise`` is not positive or of another shape, or differs between sites of a homogeneous field.
    """
    scale = _deviations(covariance, shape)
    if noise is not None:
        given = _proportions(np.asarray(noise, dtype=np.float64), shape, scale.shape)
        scale = given * np.sqrt(np.mean(np.broadcast_to(scale / given, shape) ** 2))
    mean = np.asarray(covariance.mean, dtype=np.float64)
    if isinstance(covariance, DenseCovariance):
        rescaled: Covariance = covariance.rescaled(scale.ravel())
        mean = mean.reshape(shape)
    else:
        rescaled = covariance.rescaled(scale)
        mean = mean.reshape(*mean.shape, *[1] * len(covariance.shape))
    return Diagonal(mean, scale), dataclasses.replace(rescaled, mean=0 * rescaled.mean)  # type: ignore[arg-type]


def _deviations(covariance: Covariance, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard deviations, with the dims of a state and size 1 along homogeneous ones; 1 where they are 0."""
    if isinstance(covariance, DenseCovariance):
        variance = (np.square(covariance.eigenvectors) @ covariance.eigenvalues).reshape(shape)
    else:
        spectrum = covariance.eigenvalues
        if not isinstance(covariance, SpectralCovariance):
            spectrum = np.einsum("aj...,j...->a...", np.abs(covariance.eigenvectors) ** 2, spectrum)
        grid = tuple(range(-len(covariance.shape), 0))
        variance = (spectrum * half_plane_weights(covariance.shape)).sum(axis=grid, keepdims=True)
    return np.sqrt(np.where(variance > 0, variance, 1.0))


def _proportions(noise: NDArray[np.float64], shape: tuple[int, ...], wanted: tuple[int, ...]) -> NDArray[np.float64]:
    """Noise with the dims of a state, and of size 1 along homogeneous ones."""
    try:
        full = np.broadcast_to(noise, shape)
    except ValueError:
        raise InputError(
            f"noise of shape {noise.shape} does not fit states of shape {shape}: one level each."
        ) from None
    if not (np.isfinite(full).all() and (full > 0).all()):
        raise InputError(f"the noise is {full.min():.4g} to {full.max():.4g}: pass positive standard deviations.")
    one = full[tuple(slice(size) for size in wanted)]
    if not np.array_equal(np.broadcast_to(one, shape), full):
        raise InputError(
            f"the noise is not the same at all sites ({full.min():.4g} to {full.max():.4g}), but the covariance is "
            "that of a homogeneous field: pass one level for each variable."
        )
    return one.copy()
