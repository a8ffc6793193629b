"""Circular residual convolutional network for periodic fields in one or two dimensions.

    h_0 = K * x,    h_{i+1} = h_i + K₂ * silu((1 + a_i(c)) (K₁ * silu(h_i)) + b_i(c)),    F = K_out * silu(h_depth)

with periodic convolutions of 3 points per dimension. There is no stride, no pooling and no position
anywhere, so F commutes with every integer shift, exactly (a strided U-Net does so only for shifts by its total
stride). Dilations 1, 2, 4 ... of K₁ widen the view: each is limited to a quarter of the field, where the
three points are still distinct neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gfdt.diffusion.networks.conditioning import NoiseEmbedding, initialise

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """The network of the module docstring.

    Parameters
    ----------
    shape : tuple of int
        The field's shape, (n,) or (ny, nx).
    width : int
        Channels. Default 32.
    depth : int
        Residual blocks. Default 4: with the dilations 1, 2, 4, 8 and 3-point kernels a point sees
        21 cells to every side, all of a 32 x 32 field, with about 80,000 weights.
    """

    def __init__(self, shape: tuple[int, ...], *, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(width)
        self.first = _PeriodicConvolution(shape, 1, width)
        widest = max(1, min(shape) // 4)
        self.blocks = nn.ModuleList(_Block(shape, width, min(2**i, widest)) for i in range(depth))
        self.last = _PeriodicConvolution(shape, width, 1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return F, of the shape (batch, 1, *shape) of x."""
        features = self.embedding(c_noise)
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden, features)
        return self.last(silu(hidden))

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights; the last layer is zero, so that F = 0."""
        initialise(self, generator)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)


class _PeriodicConvolution(nn.Module):
    """Convolution with 3 points per dimension; the rim is copied from the other side."""

    convolution: nn.Conv1d | nn.Conv2d

    def __init__(self, shape: tuple[int, ...], inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        layer = nn.Conv1d if len(shape) == 1 else nn.Conv2d
        self.convolution = layer(inputs, outputs, 3, dilation=dilation)
        self.padding = (dilation, dilation) * len(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(nn.functional.pad(x, self.padding, mode="circular"))


class _Block(nn.Module):
    def __init__(self, shape: tuple[int, ...], width: int, dilation: int) -> None:
        super().__init__()
        self.condition = nn.Linear(width, 2 * width)
        self.inner = _PeriodicConvolution(shape, width, width, dilation)
        self.outer = _PeriodicConvolution(shape, width, width)

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        condition = self.condition(features)
        gain, shift = condition.reshape(*condition.shape, *[1] * (hidden.ndim - 2)).chunk(2, dim=1)
        inner = self.inner(silu(hidden))
        return hidden + self.outer(silu((1 + gain) * inner + shift))
