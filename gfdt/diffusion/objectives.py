"""What training minimises: the denoising objective, at equal weight for every noise level.

In the notation of :mod:`gfdt.diffusion.preconditioning`, with ln σ ~ N(ln σ_mean, spread²),

    L = E |F(y; σ) - F_target|²/d,      F_target = (x - m - C (C + σ²)⁻¹ (y - m))/c_out(σ),

which is the denoising loss |D(y) - x|² with the weight 1/c_out² of Karras et al. 2022 (arXiv:2206.00364,
section 5): the target has unit variance at every σ. Its minimum over all F is the score of the blurred density
(Vincent 2011).

Almost all of F_target is the noise z itself, which no network can predict. Every x is therefore used with +z and
with -z: what the two have in common is left, and the noise of the gradient falls by a factor of order σ.
The levels are stratified over the batch for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfdt.diffusion.preconditioning import Denoiser

__all__ = ["DenoisingObjective"]


@dataclass(frozen=True)
class DenoisingObjective:
    """Denoising score matching with antithetic noise.

    Parameters
    ----------
    level : float
        Median of σ in training, in units of the data's rms.
    spread : float
        Standard deviation of ln σ.
    """

    level: float
    spread: float

    def __call__(self, denoiser: Denoiser, anomalies: Tensor, generator: torch.Generator) -> Tensor:
        """Return L over anomalies of shape (n, *state), in units of ``denoiser.scale``; F is called on 2 n states."""
        level = self.draw_levels(anomalies.shape[0], generator)
        z = torch.randn(anomalies.shape, generator=generator, device=anomalies.device, dtype=anomalies.dtype)
        return squared_errors(denoiser, anomalies, z, level)[0].mean()

    def draw_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Return ``count`` noise levels, one from each of as many equally likely intervals."""
        device = generator.device
        jitter = torch.rand(count, generator=generator, device=device)
        uniform = (torch.arange(count, device=device) + jitter) / count
        normal = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        return self.level * torch.exp(self.spread * normal)


def squared_errors(denoiser: Denoiser, anomalies: Tensor, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    """Return |F - F_target|²/d and |F_target|²/d (that of F = 0), shape (n,), averaged over +z and -z."""
    anomalies, z, level = torch.cat([anomalies, anomalies]), torch.cat([z, -z]), torch.cat([level, level])
    target = denoiser.target(anomalies, z, level)
    shifted = anomalies + level.reshape(-1, *[1] * (anomalies.ndim - 1)) * z
    error = target - denoiser.residual(shifted, level)
    learned, gaussian = (value.square().reshape(2, len(z) // 2, -1).mean(dim=(0, 2)) for value in (error, target))
    return learned, gaussian
