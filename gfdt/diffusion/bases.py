"""Torch twins of the covariances: functions of C applied to batches of states on any device.

    f(C) x = U diag(f(eigenvalues)) U^T x

with U the eigenvectors of :class:`DenseCovariance`, the Fourier transform (:class:`SpectralCovariance`), or the
Fourier transform followed by a small unitary matrix per wavenumber (:class:`CrossSpectralCovariance`). What varies
between the states of a batch is the gain f, since each has its own noise level. Eigenvalues may be 0: nothing here
divides by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance
from gfdt.covariance.spectral import half_plane_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.covariance import Covariance, SpectralCovariance

__all__ = ["CrossSpectralBasis", "DenseBasis", "SpectralBasis", "make_basis"]


class DenseBasis(nn.Module):
    """C = V diag(eigenvalues) V^T, for states of any shape with d components; eigenvalues (d,)."""

    def __init__(self, covariance: DenseCovariance) -> None:
        super().__init__()
        self.register_buffer("eigenvalues", _single(covariance.eigenvalues))
        self.register_buffer("eigenvectors", _single(covariance.eigenvectors))
        self.eigenvalues: Tensor
        self.eigenvectors: Tensor

    def apply_gain(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return V gain V^T x for x (batch, *state) and a gain (batch, d) per eigenvalue."""
        flat = x.reshape(x.shape[0], -1)
        return ((flat @ self.eigenvectors * gain) @ self.eigenvectors.T).reshape(x.shape)

    def average(self, values: Tensor) -> Tensor:
        """Return the trace divided by d, shape (batch,), of values (batch, d) on the eigenvalues."""
        return values.mean(dim=1)


class SpectralBasis(nn.Module):
    """C of a homogeneous periodic field, for states (*shape); eigenvalues (*half), the half plane of ``rfftn``."""

    def __init__(self, covariance: SpectralCovariance) -> None:
        super().__init__()
        self.shape = covariance.shape
        self.register_buffer("eigenvalues", _single(covariance.eigenvalues))
        self.register_buffer("weights", _single(half_plane_weights(covariance.shape)))
        self.eigenvalues: Tensor
        self.weights: Tensor

    def apply_gain(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return the field whose Fourier transform is gain (batch, *half) times that of x (batch, *shape)."""
        axes = tuple(range(1, x.ndim))
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * gain, s=self.shape, dim=axes)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over all wavenumbers, shape (batch,), of values (batch, *half)."""
        return (values * self.weights).flatten(1).sum(dim=1)


class CrossSpectralBasis(nn.Module):
    """C of V homogeneous fields, for states (V, *shape); eigenvalues (V, *half), V for every wavenumber."""

    def __init__(self, covariance: CrossSpectralCovariance) -> None:
        super().__init__()
        self.shape = covariance.shape
        weights = half_plane_weights(covariance.shape) / covariance.mean.size
        self.register_buffer("eigenvalues", _single(covariance.eigenvalues))
        # As pairs of real numbers: a change of precision of the module leaves complex buffers as they are.
        parts = np.stack([covariance.eigenvectors.real, covariance.eigenvectors.imag], axis=-1)
        self.register_buffer("eigenvector_parts", _single(parts))
        self.register_buffer("weights", _single(weights))
        self.eigenvalues: Tensor
        self.eigenvector_parts: Tensor
        self.weights: Tensor

    def apply_gain(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return F^-1 U_k gain U_k^H F x for x (batch, V, *shape) and a gain (batch, V, *half)."""
        axes = tuple(range(2, x.ndim))
        vectors = torch.view_as_complex(self.eigenvector_parts)
        spectrum = torch.fft.rfftn(x, dim=axes)
        modes = torch.einsum("aj...,na...->nj...", vectors.conj(), spectrum) * gain
        spectrum = torch.einsum("aj...,nj...->na...", vectors, modes)
        return torch.fft.irfftn(spectrum, s=self.shape, dim=axes)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over variables and wavenumbers, shape (batch,), of values (batch, V, *half)."""
        return (values * self.weights).flatten(1).sum(dim=1)


def make_basis(covariance: Covariance) -> DenseBasis | SpectralBasis | CrossSpectralBasis:
    """Return the torch twin of a covariance, in single precision."""
    if isinstance(covariance, DenseCovariance):
        return DenseBasis(covariance)
    if isinstance(covariance, CrossSpectralCovariance):
        return CrossSpectralBasis(covariance)
    return SpectralBasis(covariance)


def _single(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))
