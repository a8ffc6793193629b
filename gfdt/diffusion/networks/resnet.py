"""Circular residual convolutional network for periodic fields in one or two dimensions.

    h_0 = K * x,    h_{i+1} = h_i + K₂ * silu((1 + a_i(e)) (K₁ * silu(h_i)) + b_i(e)),    F = K_out * silu(h_depth)
    e = e(c) + P_i tanh <h_i>

with periodic convolutions of 3 points per dimension, c the noise level and <.> the mean over the grid: every block sees
the whole field as well as the neighbourhood. (In strong noise only the largest scales are left, which convolutions
would have to add up from far away. The tanh bounds what multiplies h_i: without it one field in a thousand made F as
large as 10⁵.) There is no stride and no position anywhere, so F commutes with every integer
shift, exactly (a strided U-Net does so only for shifts by its total stride). Dilations 1, 2, 4 ... of K₁ widen the
view: each is limited to a quarter of the field, where the three points are still distinct neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gfdt.diffusion.networks.conditioning import ConditionedBlock, NoiseEmbedding, initialise
from gfdt.diffusion.networks.convolution import PeriodicConvolution

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """The network of the module docstring.

    Parameters
    ----------
    channels : int
        V, the number of variables at every site.
    shape : tuple of int
        The grid's shape, (n,) or (ny, nx).
    width : int
        Hidden channels. Default 32.
    depth : int
        Residual blocks. Default 4: with the dilations 1, 2, 4, 8 and 3-point kernels a point sees
        21 cells to every side, all of a 32 x 32 field, with about 90,000 weights.
    inputs : int
        Fields shown of every variable, see :meth:`gfdt.diffusion.preconditioning.Denoiser.network_input`.
    """

    def __init__(
        self, channels: int, shape: tuple[int, ...], *, width: int = 32, depth: int = 4, inputs: int = 1
    ) -> None:
        super().__init__()
        n = len(shape)
        widest = max(1, min(shape) // 4)
        self.embedding = NoiseEmbedding(width)
        self.first = PeriodicConvolution(n, inputs * channels, width)
        self.pools = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.blocks = nn.ModuleList(
            ConditionedBlock(
                PeriodicConvolution(n, width, width, dilation=min(2**i, widest)),
                PeriodicConvolution(n, width, width),
                features=width,
                width=width,
            )
            for i in range(depth)
        )
        self.last = PeriodicConvolution(n, width, channels)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return F, (batch, V, *shape), for x (batch, inputs V, *shape)."""
        features = self.embedding(c_noise)
        hidden = self.first(x)
        for block, pool in zip(self.blocks, self.pools, strict=True):
            hidden = block(hidden, features + pool(hidden.flatten(2).mean(dim=2).tanh()))
        return self.last(silu(hidden))

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices of the residual blocks."""
        return [weight for block in self.blocks for weight in block.hidden_weights()]  # type: ignore[operator]

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights; the last layer is zero, so that F = 0."""
        initialise(self, generator)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
