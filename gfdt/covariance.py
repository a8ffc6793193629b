"""Covariance operators of the data, diagonal in a basis: the linear algebra behind every Gaussian answer.

C is the covariance of the state, m its mean. Both classes offer the same call: ``apply(x, f)`` is
f(C) x for a function f of the eigenvalues. For a homogeneous field C is a convolution, diagonal in Fourier
space, and its eigenvalue at wavenumber k is C_k = <|x_k|^2>/n_sites (x_k the unnormalised FFT of x - m).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.fft

from gfdt.errors import CheckpointError, InputError, ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DenseCovariance", "SpectralCovariance", "pack_covariance", "unpack_covariance"]

_RELATIVE_FLOOR = 1e-12  # eigenvalues below this times the largest are rounding, in float64
_UNEQUAL = 10.0  # ratio of site variances that sampling noise does not explain in any usable record
_BATCH = 4096  # states transformed at once: bounds memory to a few times this many states


@dataclass(frozen=True)
class DenseCovariance:
    """C = V diag(eigenvalues) V^T of a general state, flattened to d components.

    Attributes
    ----------
    mean : (d,)
    eigenvalues : (d,), ascending, positive
    eigenvectors : (d, d), columns
    """

    mean: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]

    @classmethod
    def estimate(cls, states: NDArray[Any], shrinkage: float) -> Self:
        """Estimate from states of shape (n, *state), C <- (1 - a) C + a diag(C) for shrinkage a."""
        flat = states.reshape(states.shape[0], -1)
        n, d = flat.shape
        mean = flat.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((d, d))
        for start in range(0, n, _BATCH):
            centred = flat[start : start + _BATCH].astype(np.float64) - mean
            covariance += centred.T @ centred
        covariance /= n
        covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(np.diagonal(covariance))
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        if eigenvalues[0] <= _RELATIVE_FLOOR * eigenvalues[-1]:
            raise InputError(
                f"the covariance of the {d} state components is singular from {n} samples (eigenvalues "
                f"{eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g}): drop dependent components, pass more samples, "
                "shrinkage=0.01, or homogeneous=(...) for a field that looks the same everywhere."
            )
        return cls(mean, eigenvalues, eigenvectors)

    def centre(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return x - m for x of shape (batch, *state)."""
        return x - self.mean.reshape(x.shape[1:])

    def apply(self, x: NDArray[Any], f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return f(C) x for x of shape (batch, *state)."""
        matrix = (self.eigenvectors * f(self.eigenvalues)) @ self.eigenvectors.T
        return (x.reshape(x.shape[0], -1) @ matrix).reshape(x.shape)


@dataclass(frozen=True)
class SpectralCovariance:
    """C of a homogeneous periodic field: eigenvalues C_k on the half-plane grid of ``rfftn``.

    Attributes
    ----------
    mean : float, the same at every site
    eigenvalues : (..., n//2 + 1), in the layout of ``scipy.fft.rfftn`` over the state dims
    shape : the field's shape
    """

    mean: float
    eigenvalues: NDArray[np.float64]
    shape: tuple[int, ...]

    @classmethod
    def estimate(cls, states: NDArray[Any], shrinkage: float) -> Self:
        """Estimate from fields of shape (n, *shape), C_k <- (1 - a) C_k + a mean_k(C_k) for shrinkage a."""
        n, shape = states.shape[0], states.shape[1:]
        mean = float(states.mean(dtype=np.float64))
        sites = states.var(axis=0, dtype=np.float64)
        if sites.max() > _UNEQUAL * sites.min():
            warnings.warn(
                f"the field is treated as the same everywhere, but the variance of its sites goes from "
                f"{sites.min():.3g} to {sites.max():.3g}: if it is not, pass homogeneous=None (False for "
                "DSMScore).",
                ReliabilityWarning,
                stacklevel=5,
            )
        axes = tuple(range(1, states.ndim))
        power = np.zeros((*shape[:-1], shape[-1] // 2 + 1))
        for start in range(0, n, _BATCH):
            spectrum = scipy.fft.rfftn(states[start : start + _BATCH].astype(np.float64) - mean, axes=axes)
            power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
        power /= n * np.prod(shape)
        full = np.prod(shape)
        total = float(states.var(dtype=np.float64) * full)  # trace of C, every wavenumber counted once
        power = (1 - shrinkage) * power + shrinkage * total / full
        if power.min() <= _RELATIVE_FLOOR * power.max():
            raise InputError(
                f"{int((power <= _RELATIVE_FLOOR * power.max()).sum())} wavenumbers carry no variance (spectrum from "
                f"{power.min():.3g} to {power.max():.3g}): coarsen the field to the scales it resolves, or pass "
                "shrinkage=1e-6 to give them a floor."
            )
        return cls(mean, power, tuple(shape))

    def centre(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return x - m for x of shape (batch, *shape)."""
        return x - self.mean

    def apply(self, x: NDArray[Any], f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return f(C) x for x of shape (batch, *shape): one forward and one inverse transform."""
        axes = tuple(range(1, x.ndim))
        spectrum = scipy.fft.rfftn(x, axes=axes)
        spectrum *= f(self.eigenvalues)
        return scipy.fft.irfftn(spectrum, s=self.shape, axes=axes, overwrite_x=True)


def pack_covariance(covariance: DenseCovariance | SpectralCovariance) -> dict[str, NDArray[Any]]:
    """Return the arrays a score file keeps of a covariance."""
    arrays = {"mean": np.atleast_1d(np.asarray(covariance.mean)), "eigenvalues": covariance.eigenvalues}
    if isinstance(covariance, DenseCovariance):
        arrays["eigenvectors"] = covariance.eigenvectors
    return arrays


def unpack_covariance(arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> DenseCovariance | SpectralCovariance:
    """Rebuild a covariance from saved arrays, refusing any that do not belong to a state of this shape."""
    size = int(np.prod(shape))
    dense = "eigenvectors" in arrays
    half = (*shape[:-1], shape[-1] // 2 + 1) if shape else ()
    expected = {"mean": (size,), "eigenvalues": (size,), "eigenvectors": (size, size)}
    if not dense:
        expected = {"mean": (1,), "eigenvalues": half}
    for name, wanted in expected.items():
        if name not in arrays or arrays[name].shape != wanted:
            found = arrays[name].shape if name in arrays else "nothing"
            raise CheckpointError(
                f"the score file holds {found} for {name!r}, expected shape {wanted} for a state of shape {shape}: "
                "it was altered or cut; fit the score anew."
            )
    if not arrays["eigenvalues"].min() > 1e-15 * arrays["eigenvalues"].max() > 0:
        raise CheckpointError(
            "the score file holds a covariance that is not positive: it was altered; fit the score anew."
        )
    eigenvalues = arrays["eigenvalues"].astype(np.float64)
    if dense:
        return DenseCovariance(
            arrays["mean"].astype(np.float64), eigenvalues, arrays["eigenvectors"].astype(np.float64)
        )
    return SpectralCovariance(float(arrays["mean"][0]), eigenvalues, shape)
