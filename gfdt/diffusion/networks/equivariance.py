"""How far a network is from commuting with shifts, as the score of a homogeneous field does exactly."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["equivariance_defect"]


def equivariance_defect(
    network: nn.Module, shape: tuple[int, ...], *, shift: int = 1, channels: int = 1, seed: int = 0
) -> float:
    """Return the relative change of F if the field is shifted, rms of F(roll x) - roll F(x) over rms of F(x).

    Parameters
    ----------
    network : Module
        F(x, c_noise); one whose last layer is still zero has no defect to measure.
    shape : tuple of int
        The grid's shape.
    shift : int
        Sites, along every dim of the grid at once. Default 1.
    channels : int
        V, the number of variables at every site.
    seed : int
        Of the 16 fields of white noise it is measured on, each at another noise level.

    Returns
    -------
    float
        0 for an equivariant network, up to rounding (1e-6).
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((16, channels, *shape), generator=generator)
    c_noise = torch.linspace(-1.0, 0.0, 16)
    axes = tuple(range(2, x.ndim))
    shifts = (shift,) * len(axes)
    with torch.no_grad():
        expected = torch.roll(network(x, c_noise), shifts, dims=axes)
        found = network(torch.roll(x, shifts, dims=axes), c_noise)
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
