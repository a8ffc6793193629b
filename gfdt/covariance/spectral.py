"""C of a homogeneous periodic field: a convolution, diagonal in Fourier space.

Its eigenvalue at wavenumber k is C_k = <|x_k|^2>/n_sites (x_k the unnormalised FFT of x - m).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.fft

from gfdt.covariance.dense import RELATIVE_FLOOR
from gfdt.covariance.shrinkage import BlockMean, blocks
from gfdt.errors import ReliabilityWarning
from gfdt.record import moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SpectralCovariance", "half_plane_weights", "warn_unequal_sites"]

_UNEQUAL = 10.0  # ratio of site variances that sampling noise does not explain in any usable record


@dataclass(frozen=True)
class SpectralCovariance:
    """C of a homogeneous periodic field: eigenvalues C_k on the half-plane grid of ``rfftn``.

    Attributes
    ----------
    mean : float, the same at every site
    eigenvalues : (..., n//2 + 1), in the layout of ``scipy.fft.rfftn`` over the state dims; exactly 0 where the
        field has no variance
    shape : the field's shape
    shrinkage : the weight a that was used
    """

    mean: float
    eigenvalues: NDArray[np.float64]
    shape: tuple[int, ...]
    shrinkage: float = 0.0

    @classmethod
    def estimate(cls, states: NDArray[Any], shrinkage: float | str) -> Self:
        """Estimate from fields of shape (n, *shape), C_k <- (1 - a) C_k + a mean_k(C_k)."""
        shape = states.shape[1:]
        mean = float(states.mean(dtype=np.float64))
        warn_unequal_sites(states)
        axes = tuple(range(1, states.ndim))
        sums = BlockMean()
        for batches in blocks(states.shape):
            total, count = np.zeros((*shape[:-1], shape[-1] // 2 + 1)), 0
            for part in batches:
                spectrum = scipy.fft.rfftn(states[part].astype(np.float64) - mean, axes=axes)
                total += (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
                count += len(spectrum)
            sums.add(total / np.prod(shape), count)
        variance = float((sums.mean() * half_plane_weights(shape)).sum())
        power, a = sums.shrunk(np.full_like(sums.mean(), variance), shrinkage, half_plane_weights(shape))
        return cls(mean, np.where(power <= RELATIVE_FLOOR * power.max(), 0.0, power), tuple(shape), a)

    def centre(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return x - m for x of shape (batch, *shape)."""
        return x - self.mean

    def apply(self, x: NDArray[Any], f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return f(C) x for x of shape (batch, *shape): one forward and one inverse transform."""
        axes = tuple(range(1, x.ndim))
        spectrum = scipy.fft.rfftn(x, axes=axes)
        spectrum *= f(self.eigenvalues)
        return scipy.fft.irfftn(spectrum, s=self.shape, axes=axes, overwrite_x=True)

    def trace(self, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """Return tr f(C), every wavenumber counted once."""
        return float((f(self.eigenvalues) * half_plane_weights(self.shape)).sum() * np.prod(self.shape))

    def rescaled(self, scale: NDArray[np.float64]) -> Self:
        """Return mean and covariance of x/scale, for one scale of all sites."""
        factor = float(np.ravel(scale)[0])
        return type(self)(self.mean / factor, self.eigenvalues / factor**2, self.shape, self.shrinkage)


def half_plane_weights(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the share of all wavenumbers each entry of ``rfftn``'s half plane stands for; they sum to one."""
    n = shape[-1]
    last = np.full(n // 2 + 1, 2.0)
    last[0] = 1.0
    if n % 2 == 0:
        last[-1] = 1.0
    return np.broadcast_to(last, (*shape[:-1], last.size)) / np.prod(shape)


def warn_unequal_sites(states: NDArray[Any]) -> None:
    """Warn if fields (n, *shape) declared homogeneous have sites of very unequal variance."""
    sites = moments(states)[1] ** 2
    if sites.max() > _UNEQUAL * sites.min():
        warnings.warn(
            f"the field is treated as the same everywhere, but the variance of its sites goes from "
            f"{sites.min():.3g} to {sites.max():.3g}: if it is not, pass homogeneous=None (False for DSMScore).",
            ReliabilityWarning,
            stacklevel=6,
        )
