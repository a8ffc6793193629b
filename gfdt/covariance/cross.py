"""C of several homogeneous fields on one periodic grid: a small Hermitian matrix for every wavenumber.

    C_k[a, b] = <x_a,k conj(x_b,k)>/n_sites = (U_k diag(eigenvalues_k) U_k^H)[a, b]

with a, b the variables and x_a,k the unnormalised FFT of x_a - m_a.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.fft

from gfdt.covariance.dense import RELATIVE_FLOOR
from gfdt.covariance.shrinkage import BlockMean, blocks
from gfdt.covariance.spectral import half_plane_weights, warn_unequal_sites

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CrossSpectralCovariance"]


@dataclass(frozen=True)
class CrossSpectralCovariance:
    """C of V homogeneous fields, for states of shape (V, *shape).

    Attributes
    ----------
    mean : (V,), the same at every site
    eigenvalues : (V, *half), ascending along the first axis, half the half-plane of ``rfftn``; exactly 0 where there
        is no variance
    eigenvectors : (V, V, *half) complex; column j belongs to eigenvalue j
    shape : the fields' shape
    shrinkage : the weight a that was used
    """

    mean: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    eigenvectors: NDArray[np.complex128]
    shape: tuple[int, ...]
    shrinkage: float = 0.0

    @classmethod
    def estimate(cls, states: NDArray[Any], shrinkage: float | str, scale: NDArray[np.float64] | float = 1.0) -> Self:
        """Estimate from fields/scale of shape (n, V, *shape), scale (V, 1, ...).

        The target of shrinkage is white and without cross terms.
        """
        _, n_variables, *shape = states.shape
        half = (*shape[:-1], shape[-1] // 2 + 1)
        axes = tuple(range(2, states.ndim))
        mean = states.mean(axis=(0, *axes), dtype=np.float64)
        for variable in range(n_variables):
            warn_unequal_sites(states[:, variable])
        sums = BlockMean()
        for batches in blocks(states.shape):
            total, count = np.zeros((n_variables, n_variables, *half), dtype=np.complex128), 0
            for part in batches:
                centred = (states[part].astype(np.float64) - mean.reshape(-1, *[1] * len(shape))) / scale
                spectrum = scipy.fft.rfftn(centred, axes=axes)
                total += np.einsum("na...,nb...->ab...", spectrum, spectrum.conj())
                count += len(spectrum)
            sums.add(total / np.prod(shape), count)
        matrix = sums.mean()
        weights = half_plane_weights(tuple(shape))
        target = np.zeros_like(matrix)
        for variable in range(n_variables):
            target[variable, variable] = (matrix[variable, variable].real * weights).sum()
        matrix, a = sums.shrunk(target, shrinkage, weights)
        mean = mean / np.broadcast_to(np.ravel(scale), mean.shape)
        return cls._from_matrix(mean, matrix, tuple(shape), a)

    @classmethod
    def _from_matrix(
        cls, mean: NDArray[np.float64], matrix: NDArray[np.complex128], shape: tuple[int, ...], a: float
    ) -> Self:
        eigenvalues, eigenvectors = np.linalg.eigh(np.moveaxis(matrix, (0, 1), (-2, -1)))
        # Variables may differ in unit: what counts as none is measured in units of each one's own variance.
        spread = np.sqrt(np.einsum("aa...->a...", matrix.real).reshape(len(mean), -1).max(axis=1))
        relative = np.einsum("...aj,a->...j", np.abs(eigenvectors) ** 2, 1 / spread**2) * eigenvalues
        eigenvalues = np.where(relative <= RELATIVE_FLOOR, 0.0, eigenvalues)
        return cls(mean, np.moveaxis(eigenvalues, -1, 0), np.moveaxis(eigenvectors, (-2, -1), (0, 1)), shape, a)

    def centre(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return x - m for x of shape (batch, V, *shape)."""
        return x - self.mean.reshape(-1, *[1] * len(self.shape))

    def apply(self, x: NDArray[Any], f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return f(C) x for x of shape (batch, V, *shape)."""
        axes = tuple(range(2, x.ndim))
        spectrum = scipy.fft.rfftn(x, axes=axes)
        modes = np.einsum("aj...,na...->nj...", self.eigenvectors.conj(), spectrum) * f(self.eigenvalues)
        spectrum = np.einsum("aj...,nj...->na...", self.eigenvectors, modes)
        return scipy.fft.irfftn(spectrum, s=self.shape, axes=axes, overwrite_x=True)

    def trace(self, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """Return tr f(C), every wavenumber counted once."""
        return float((f(self.eigenvalues) * half_plane_weights(self.shape)).sum() * np.prod(self.shape))

    def rescaled(self, scale: NDArray[np.float64]) -> Self:
        """Return mean and covariance of x/scale, for a scale (V, 1, ...) of the variables."""
        factor = np.broadcast_to(np.ravel(scale), self.mean.shape)
        matrix = np.einsum("aj...,j...,bj...->ab...", self.eigenvectors, self.eigenvalues, self.eigenvectors.conj())
        ratio = (factor[:, None] * factor[None, :]).reshape(len(factor), len(factor), *[1] * len(self.shape))
        return self._from_matrix(self.mean / factor, matrix / ratio, self.shape, self.shrinkage)
