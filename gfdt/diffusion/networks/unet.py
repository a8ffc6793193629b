"""U-Net for periodic fields in one or two dimensions: the family of network that the PRL used.

    lift        h_0 = K * x                                                    width channels, full grid
    down        h_{l+1} = silu((1 + a_l(c)) (K ↓ h_l) + b_l(c))                channels doubled, grid halved
    bottom      ``blocks`` residual blocks as in the resnet                    width 2^levels channels
    up          u_l = silu((1 + a_l(c)) (K * [↑ u_{l+1}, h_l]) + b_l(c))       grid doubled, beside what was there
    project     F = K_out * u_0

K ↓ keeps every second site of a periodic 3-point convolution, ↑ repeats every site. With the defaults the channels are
32-64-128-256 and nearly all of the 10.6 million weights (3.7 million in one dimension) are in the eight blocks at the
bottom, which see a 4 x 4 grid of a 32 x 32 field. There is no normalisation layer: it would divide by the amplitude of
the field, on which the score depends.

A grid whose length is no multiple of the total stride 2^levels is first refined to the next one in Fourier space, and
F is cut back to the wavenumbers of the grid: nothing is lost, there is no seam as padding would make one, and odd
lengths are no exception.

The price of the stride: F commutes with shifts by 2^levels sites only (of a grid that was not refined), not with every
one as the score of a homogeneous field does. Measured on random weights at 32 x 32: F changes by 7 to 10 % (rms) if the
field is shifted by 1 site, 0.8 % by 2, 0.3 % by 4 and not at all by 8; on 31 x 31 by 3 to 13 % whatever the shift
(:func:`gfdt.diffusion.networks.equivariance.equivariance_defect`). Where that matters, use the resnet.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gfdt.diffusion.networks.conditioning import ConditionedBlock, NoiseEmbedding, initialise, weights_of
from gfdt.diffusion.networks.convolution import PeriodicConvolution

__all__ = ["UNet"]


class UNet(nn.Module):
    """The network of the module docstring.

    Parameters
    ----------
    channels : int
        V, the number of variables at every site.
    shape : tuple of int
        The grid's shape, (n,) or (ny, nx), of any length.
    width : int
        Channels of the full grid, doubled at every halving. Default 32, as in the PRL.
    levels : int
        How often the grid is halved. Default 3: widths 32-64-128-256, as in the PRL.
    blocks : int
        Residual blocks at the bottom. Default 8: about 10 million weights.
    inputs : int
        Fields shown of every variable, see :meth:`gfdt.diffusion.preconditioning.Denoiser.network_input`.
    """

    def __init__(
        self,
        channels: int,
        shape: tuple[int, ...],
        *,
        width: int = 32,
        levels: int = 3,
        blocks: int = 8,
        inputs: int = 1,
    ) -> None:
        super().__init__()
        n = len(shape)
        stride = 2**levels
        widths = [width * 2**level for level in range(levels + 1)]
        features = width
        self.shape = shape
        self.refined = tuple(stride * math.ceil(length / stride) for length in shape)
        self.embedding = NoiseEmbedding(features)
        self.first = PeriodicConvolution(n, inputs * channels, width)
        self.down = nn.ModuleList(
            _Layer(PeriodicConvolution(n, wide, 2 * wide, stride=2), features, 2 * wide) for wide in widths[:-1]
        )
        wide = widths[-1]
        self.bottom = nn.ModuleList(
            ConditionedBlock(
                PeriodicConvolution(n, wide, wide), PeriodicConvolution(n, wide, wide), features=features, width=wide
            )
            for _ in range(blocks)
        )
        self.up = nn.ModuleList(
            _Layer(PeriodicConvolution(n, 3 * wide, wide), features, wide) for wide in reversed(widths[:-1])
        )
        self.last = PeriodicConvolution(n, width, channels)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        """Return F, (batch, V, *shape), for x (batch, inputs V, *shape)."""
        features = self.embedding(c_noise)
        hidden = self.first(_resample(x, self.refined))
        passed = []
        for layer in self.down:
            passed.append(hidden)
            hidden = layer(hidden, features)
        for block in self.bottom:
            hidden = block(hidden, features)
        for layer in self.up:
            hidden = layer(torch.cat([_repeat(hidden), passed.pop()], dim=1), features)
        return _resample(self.last(hidden), self.shape)

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices of all layers but the first and the last."""
        layers = weights_of(*(layer.convolution for layer in (*self.down, *self.up)))
        return layers + [weight for block in self.bottom for weight in block.hidden_weights()]  # type: ignore[operator]

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights; the last layer is zero, so that F = 0."""
        initialise(self, generator)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)


class _Layer(nn.Module):
    """silu((1 + a) (W x) + b) with a, b linear in the noise features."""

    def __init__(self, convolution: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.condition = nn.Linear(features, 2 * width)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        condition = self.condition(features)
        gain, shift = condition.reshape(*condition.shape, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        return silu((1 + gain) * self.convolution(x) + shift)


def _repeat(x: Tensor) -> Tensor:
    """Return x (batch, channels, *grid) with every site repeated once along each dim of the grid."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(2, dim=axis)
    return x


def _resample(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the field with the same Fourier coefficients on another grid; finer and back is the identity."""
    for axis, length in enumerate(shape, start=2):
        if x.shape[axis] != length:
            spectrum = torch.fft.rfft(x, dim=axis, norm="forward")
            x = torch.fft.irfft(spectrum, n=length, dim=axis, norm="forward")
    return x
