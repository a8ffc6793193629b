"""A network that is a gradient: the score of a density, and the density up to its normalisation.

    Phi(x; c_noise) = sum_i x_i N_i(x; c_noise),            F = grad_x Phi = N + (dN/dx)^T x

with N any network of the registry. F then has a symmetric Jacobian whatever the weights, as every score has, and
since F enters the score as q F(c_in y), the blurred density is known up to a constant:

    ln rho_σ(y) = -1/2 y (C + σ²)⁻¹ y + (q/c_in) Phi(c_in y; c_noise) + const(σ).

The product with x (rather than the sum of N alone) leaves N itself in F: training moves F at first as it would move N,
so that what suits a network by itself suits its energy. Both terms vanish with the last layer of N, so that F = 0 at
the start, with a gradient that is not. See Salimans & Ho, "Should EBMs model the energy or the score?" (2021), for the
comparison of such forms.

The derivative is taken by ``torch.func``, which works under ``torch.no_grad`` and composes with the further
derivatives of training and of sliced score matching. It does not under ``torch.inference_mode``, which no code can
undo from inside: evaluate energies under ``torch.no_grad``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gfdt.diffusion.optimizers import hidden_matrices
from gfdt.diffusion.preconditioning import Denoiser
from gfdt.errors import InputError

__all__ = ["EnergyNetwork", "log_density"]


class EnergyNetwork(nn.Module):
    """F = grad Phi of the module docstring.

    Parameters
    ----------
    backbone : Module
        N(x, c_noise), from the registry or the user's own; twice differentiable (silu rather than relu).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return F, of the shape of x."""
        gradient: Tensor = torch.func.grad(lambda point: self.potential(point, c_noise).sum())(x)
        return gradient

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return those of the backbone, if it names any."""
        return hidden_matrices(self.backbone)

    def potential(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return Phi, shape (batch,)."""
        return (x * self.backbone(x, c_noise)).flatten(1).sum(dim=1)


def log_density(denoiser: Denoiser, a: Tensor, level: Tensor) -> Tensor:
    """Return ln rho_σ(y) up to a constant that depends on σ, shape (batch,).

    Parameters
    ----------
    denoiser : Denoiser
        Around an :class:`EnergyNetwork`; evaluate it in ``eval`` mode if it has symmetries.
    a : Tensor of shape (batch, *state)
        y, normalised.
    level : Tensor of shape (batch,)
        σ.

    Raises
    ------
    InputError
        If the network is not a gradient: only then is there a density.
    """
    network = denoiser.network
    if not isinstance(network, EnergyNetwork):
        raise InputError(
            f"the network is a {type(network).__name__}, whose score need not be the gradient of any density: train "
            "with energy=True to get one."
        )
    seen = denoiser.project(a)
    potential = torch.zeros_like(level)
    for number in range(len(denoiser.group)):
        element = torch.full((len(a),), number, device=a.device)
        moved = denoiser.group.act(seen, element)
        potential = potential + network.potential(*denoiser.network_input(moved, level)) / len(denoiser.group)
    quadratic = (a * denoiser.linear_score(a, level)).flatten(1).sum(dim=1) / 2
    return quadratic + denoiser.output_scale(level) / denoiser.input_scale(level) * potential
