"""How a network is told the noise level: smooth features of c_noise = ln(σ)/4.

    e(c) = W [c, sin(π 2^j c), cos(π 2^j c)],  j = 0 ... 3

σ spans about a decade in training, c then about 0.6, so that the highest frequency still varies slowly
enough for neighbouring levels to share what they learn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ConditionedBlock", "NoiseEmbedding", "initialise", "weights_of"]

_FREQUENCIES = 4


class NoiseEmbedding(nn.Module):
    """Map c_noise of shape (batch,) to features of shape (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1 + 2 * _FREQUENCIES, width)

    def forward(self, c_noise: Tensor) -> Tensor:
        """Return the features e(c), after one nonlinearity."""
        octaves = 2.0 ** torch.arange(_FREQUENCIES, device=c_noise.device, dtype=c_noise.dtype)
        phase = math.pi * c_noise[:, None] * octaves
        features = torch.cat([c_noise[:, None], phase.sin(), phase.cos()], dim=1)
        return nn.functional.silu(self.linear(features))


class ConditionedBlock(nn.Module):
    """A residual block whose middle is scaled and shifted by the noise features e.

        h -> h + W₂ silu((1 + a) (W₁ silu(h)) + b),      (a, b) linear in e, one pair per channel

    Parameters
    ----------
    inner, outer : Module
        W₁ and W₂, on (batch, width) or (batch, width, *grid).
    features : int
        The length of e.
    width : int
        Channels after W₁.
    """

    def __init__(self, inner: nn.Module, outer: nn.Module, *, features: int, width: int) -> None:
        super().__init__()
        self.condition = nn.Linear(features, 2 * width)
        self.inner = inner
        self.outer = outer

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Return the new hidden state, of the shape of the old one."""
        condition = self.condition(features)
        gain, shift = condition.reshape(*condition.shape, *[1] * (hidden.ndim - 2)).chunk(2, dim=1)
        inner = self.inner(nn.functional.silu(hidden))
        step: Tensor = self.outer(nn.functional.silu((1 + gain) * inner + shift))
        return hidden + step

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices W₁ and W₂."""
        return weights_of(self.inner, self.outer)


def weights_of(*layers: nn.Module) -> list[nn.Parameter]:
    """Return the weights of some layers without their biases: what :mod:`gfdt.diffusion.optimizers` calls matrices."""
    return [p for layer in layers for p in layer.parameters() if p.ndim >= 2]


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from ``generator``: uniform with variance 1/(3 fan_in), as torch's layers do by default.

    Torch's layers draw from the global generator when they are made; networks here are made on the meta
    device, without values, and get them from this function, so that the seed is an argument.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            fan_in = layer.weight[0].numel()
            bound = fan_in**-0.5
            with torch.no_grad():
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
