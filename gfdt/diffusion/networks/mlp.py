"""Residual multilayer perceptron for vectors x in R^d.

    h_0 = W x,    h_{i+1} = h_i + W₂ silu((1 + a_i(c)) ∘ (W₁ silu(h_i)) + b_i(c)),    F = W_out silu(h_depth)

a_i, b_i are linear in the noise features; W_out = 0 at the start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gfdt.diffusion.networks.conditioning import ConditionedBlock, NoiseEmbedding, initialise

__all__ = ["MLP"]


class MLP(nn.Module):
    """The network of the module docstring.

    Parameters
    ----------
    size : int
        d, the number of components.
    width : int
        Hidden units. Default 64: enough for a score in a few dimensions, and a step of 4096 samples takes about
        12 ms on two cores.
    depth : int
        Residual blocks. Default 2.
    inputs : int
        Vectors shown, see :meth:`gfdt.diffusion.preconditioning.Denoiser.network_input`.
    """

    def __init__(self, size: int, *, width: int = 64, depth: int = 2, inputs: int = 1) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(width)
        self.first = nn.Linear(inputs * size, width)
        self.blocks = nn.ModuleList(
            ConditionedBlock(nn.Linear(width, width), nn.Linear(width, width), features=width, width=width)
            for _ in range(depth)
        )
        self.last = nn.Linear(width, size)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return F, (batch, d), for x (batch, inputs d)."""
        features = self.embedding(c_noise)
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, features)
        return self.last(silu(hidden))

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices of the residual blocks."""
        return [weight for block in self.blocks for weight in block.hidden_weights()]  # type: ignore[operator]

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights; the last layer is zero, so that F = 0."""
        initialise(self, generator)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
