"""The Gaussian-preconditioned denoiser: a network that starts at the exact Gaussian answer.

Notation, used throughout :mod:`gfdt.diffusion`: y = x + σ z is a state x blurred by white noise z ~ N(0, I) of
level σ; m and C are the mean and covariance of the data, d the number of components. The denoiser
D(y; σ) = E[x | y] is modelled as

    D(y; σ) = m + C (C + σ²)⁻¹ (y - m) + c_out(σ) F(c_in (y - m), ln(σ)/4)
    c_in = 1/sqrt(tr C/d + σ²),        c_out² = tr[C σ² (C + σ²)⁻¹]/d,

F a network. The first two terms are E[x | y] of Gaussian data, so F = 0 *is* the Gaussian answer and F has only
the rest to learn; c_out² is the mean posterior variance, so that the target of F has unit variance at every σ.
By Tweedie's formula the score of the blurred density is (D(y) - y)/σ², which is computed as

    s(y; σ) = -(C + σ²)⁻¹ (y - m) + (c_out/σ²) F :

the same number without subtracting two nearly equal ones. With C = tr C/d · I this is the preconditioning of
Karras et al. 2022 (arXiv:2206.00364, table 1): c_skip = C/(C + σ²).

Inside, states are anomalies in units of ``scale`` = sqrt(tr C/d): float32 then works for data of any unit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from gfdt.covariance import DenseCovariance, SpectralCovariance

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Denoiser", "DenseBasis", "SpectralBasis", "make_basis", "mean_over_modes"]


class DenseBasis(nn.Module):
    """f(C) x by eigendecomposition, C = V diag(eigenvalues) Vᵀ, for states of any shape with d components."""

    def __init__(self, covariance: DenseCovariance, scale: float) -> None:
        super().__init__()
        self.register_buffer("eigenvalues", _float32(covariance.eigenvalues / scale**2))
        self.register_buffer("eigenvectors", _float32(covariance.eigenvectors))
        self.eigenvalues: Tensor
        self.eigenvectors: Tensor

    def apply_gain(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return V gain Vᵀ x for x (batch, *state) and a gain (batch, d) per eigenvalue."""
        flat = x.reshape(x.shape[0], -1)
        return ((flat @ self.eigenvectors * gain) @ self.eigenvectors.T).reshape(x.shape)

    def average(self, values: Tensor) -> Tensor:
        """Return the trace divided by d of values (batch, d) on the eigenvalues."""
        return values.mean(dim=1)


class SpectralBasis(nn.Module):
    """f(C) x of a homogeneous periodic field: one gain per wavenumber, between rfftn and irfftn."""

    def __init__(self, covariance: SpectralCovariance, scale: float) -> None:
        super().__init__()
        self.shape = covariance.shape
        self.register_buffer("eigenvalues", _float32(covariance.eigenvalues / scale**2))
        self.register_buffer("weights", _float32(_half_plane_weights(covariance.shape)))
        self.eigenvalues: Tensor
        self.weights: Tensor

    def apply_gain(self, x: Tensor, gain: Tensor) -> Tensor:
        """Return the field whose Fourier transform is gain times that of x (batch, *shape)."""
        axes = tuple(range(1, x.ndim))
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * gain, s=self.shape, dim=axes)

    def average(self, values: Tensor) -> Tensor:
        """Return the mean over all wavenumbers of values (batch, *half plane)."""
        return (values * self.weights).reshape(len(values), -1).sum(dim=1)


class Denoiser(nn.Module):
    """D(y; σ) of the module docstring, around a network F.

    Parameters
    ----------
    network : Module
        F(x, c_noise): x of shape (batch, d) if ``channel`` is False, else (batch, 1, *state); c_noise = ln(σ/scale)/4
        of shape (batch,). Returns the shape of x.
    covariance : DenseCovariance or SpectralCovariance
        Mean and covariance of the data (flat eigenvalues: EDM preconditioning).
    state_shape : tuple of int
        The shape of one state.
    channel : bool
        Whether F takes fields with a channel axis, or flat vectors.
    """

    def __init__(
        self,
        network: nn.Module,
        covariance: DenseCovariance | SpectralCovariance,
        state_shape: tuple[int, ...],
        *,
        channel: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.state_shape = state_shape
        self.channel = channel
        self.scale = mean_over_modes(covariance, lambda c: c) ** 0.5
        self.basis = make_basis(covariance, self.scale)
        mean = np.broadcast_to(np.asarray(covariance.mean), (int(np.prod(state_shape)),)).reshape(state_shape)
        self.register_buffer("mean", _float32(mean))
        self.mean: Tensor

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Return D(y; σ) for y (batch, *state) and σ (batch,), both in the units of the data."""
        anomaly, level = (y - self.mean) / self.scale, sigma / self.scale
        skip = self._gain(lambda c, s2: c / (c + s2), level)
        c_out = self._expand(self.output_scale(level))
        denoised = self.basis.apply_gain(anomaly, skip) + c_out * self.residual(anomaly, level)
        return self.mean + self.scale * denoised

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Return s(y; σ), the score of the blurred density, in the units 1/data."""
        anomaly, level = (y - self.mean) / self.scale, sigma / self.scale
        gaussian = self.basis.apply_gain(anomaly, self._gain(lambda c, s2: -1 / (c + s2), level))
        return (gaussian + self.score_correction(anomaly, level)) / self.scale

    def score_correction(self, anomaly: Tensor, level: Tensor) -> Tensor:
        """Return (c_out/σ²) F, what the network adds to the Gaussian score; everything in units of ``scale``."""
        return self._expand(self.output_scale(level) / level**2) * self.residual(anomaly, level)

    def residual(self, anomaly: Tensor, level: Tensor) -> Tensor:
        """Return F at anomalies (batch, *state) and noise levels (batch,), both in units of ``scale``."""
        scaled = anomaly / self._expand((1 + level**2).sqrt())
        network_input = scaled.unsqueeze(1) if self.channel else scaled.reshape(len(scaled), -1)
        value: Tensor = self.network(network_input, level.log() / 4)
        return value.reshape(anomaly.shape)

    def target(self, anomaly: Tensor, z: Tensor, level: Tensor) -> Tensor:
        """Return what F should be at anomaly + level z: (x - m - C (C + σ²)⁻¹ (y - m))/c_out, free of cancellation."""
        from_state = self._gain(lambda c, s2: s2 / (c + s2), level)
        from_noise = self._gain(lambda c, s2: c * s2.sqrt() / (c + s2), level)
        c_out = self.output_scale(level)
        difference = self.basis.apply_gain(anomaly, from_state) - self.basis.apply_gain(z, from_noise)
        return difference / self._expand(c_out)

    def output_scale(self, level: Tensor) -> Tensor:
        """Return c_out(σ), shape (batch,), in units of ``scale``."""
        return self.basis.average(self._gain(lambda c, s2: c * s2 / (c + s2), level)).sqrt()

    def with_network(self, network: nn.Module) -> Denoiser:
        """Return a denoiser with another network and the same (shared) buffers."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "network": network}
        return twin

    def _gain(self, f: Callable[[Tensor, Tensor], Tensor], level: Tensor) -> Tensor:
        eigenvalues = self.basis.eigenvalues
        return f(eigenvalues, (level**2).reshape(-1, *[1] * eigenvalues.ndim))

    def _expand(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * len(self.state_shape))


def make_basis(covariance: DenseCovariance | SpectralCovariance, scale: float) -> DenseBasis | SpectralBasis:
    """Return the torch twin of a covariance, with eigenvalues in units of scale²."""
    if isinstance(covariance, DenseCovariance):
        return DenseBasis(covariance, scale)
    return SpectralBasis(covariance, scale)


def mean_over_modes(
    covariance: DenseCovariance | SpectralCovariance, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    """Return tr f(C)/d: the mean of f over all d eigenvalues of C."""
    if isinstance(covariance, DenseCovariance):
        return float(f(covariance.eigenvalues).mean())
    return float((f(covariance.eigenvalues) * _half_plane_weights(covariance.shape)).sum())


def _half_plane_weights(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Share of all wavenumbers that each entry of rfftn's half plane stands for; they sum to one."""
    n = shape[-1]
    last = np.full(n // 2 + 1, 2.0)
    last[0] = 1.0
    if n % 2 == 0:
        last[-1] = 1.0
    return np.broadcast_to(last, (*shape[:-1], last.size)) / np.prod(shape)


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(np.ascontiguousarray(values), dtype=torch.float32)
