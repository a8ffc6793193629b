r"""States in the eigenbasis of C, where functions of C are numbers.

â are the coefficients of a state a, c ``values`` the eigenvalue that belongs to each, and with the ``counts`` n

    a·g(C) b = Σ n g(c) â b̂ ,

so that a product needs one transform of each factor and none back. Without symmetry â = Vᵀa and n = 1. For a
homogeneous field â is its Fourier transform (unitary) on the half plane of ``rfftn``, real and imaginary parts side by
side, and n = 2 where a wavenumber stands for its opposite too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.fft

from gfdt.covariance import Covariance, CrossSpectralCovariance, DenseCovariance
from gfdt.covariance.spectral import half_plane_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Modes"]


@dataclass(frozen=True)
class Modes:
    """The eigenbasis of a covariance.

    Attributes
    ----------
    covariance : Covariance
    shape : tuple of int
        Of a state.
    values, counts : (m,)
        Eigenvalue of every coefficient, and n. For fields m is a little more than the number of components, and n is
        for products only: real and imaginary parts both have that of their wavenumber (traces are the covariance's).
    """

    covariance: Covariance
    shape: tuple[int, ...]
    values: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, covariance: Covariance, shape: tuple[int, ...]) -> Self:
        """Return the eigenbasis of C for states of this shape."""
        values = covariance.eigenvalues
        if isinstance(covariance, DenseCovariance):
            return cls(covariance, shape, values, np.ones(values.size))
        weights = half_plane_weights(covariance.shape) * np.prod(covariance.shape)
        counts = np.broadcast_to(weights, values.shape)
        return cls(covariance, shape, *(np.repeat(array.ravel(), 2) for array in (values, counts)))

    def forward(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return â, (batch, m), of states (batch, *state)."""
        if isinstance(self.covariance, DenseCovariance):
            return np.asarray(a.reshape(len(a), -1) @ self.covariance.eigenvectors)
        spectrum = scipy.fft.rfftn(a, axes=self._axes, norm="ortho")
        if isinstance(self.covariance, CrossSpectralCovariance):
            spectrum = np.einsum("aj...,na...->nj...", self.covariance.eigenvectors.conj(), spectrum, order="C")
        return spectrum.reshape(len(a), -1).view(np.float64)

    def back(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return states (batch, *state) from â (batch, m)."""
        n = len(coefficients)
        if isinstance(self.covariance, DenseCovariance):
            return np.asarray(coefficients @ self.covariance.eigenvectors.T).reshape(n, *self.shape)
        spectrum = coefficients.view(np.complex128).reshape(n, *self.covariance.eigenvalues.shape)
        if isinstance(self.covariance, CrossSpectralCovariance):
            spectrum = np.einsum("aj...,nj...->na...", self.covariance.eigenvectors, spectrum)
        return scipy.fft.irfftn(spectrum, s=self.covariance.shape, axes=self._axes, norm="ortho")

    def dot(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a·b from â and b̂ (batch, m): (batch,)."""
        return np.asarray((first * second) @ self.counts)

    @property
    def _axes(self) -> tuple[int, ...]:
        """The axes of the grid in a batch of fields."""
        assert not isinstance(self.covariance, DenseCovariance)
        return tuple(range(-len(self.covariance.shape), 0))
