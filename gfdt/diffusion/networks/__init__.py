"""The networks F(x, c_noise) by name, their hyperparameters and the bounds on them.

A network is any torch module with that call. ``x`` is (batch, d) for "mlp" and (batch, V, *grid) for "resnet" and
"unet", V the number of variables at every site; c_noise = ln(σ)/4 is (batch,). With ``inputs`` = 2 x has twice as many
channels, F as many as before. To add one: write its module with a
``reset(generator)`` that leaves F = 0, and a line in ``NETWORKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gfdt.diffusion.networks.mlp import MLP
from gfdt.diffusion.networks.resnet import ResNet
from gfdt.diffusion.networks.unet import UNet
from gfdt.errors import InputError

__all__ = ["NETWORKS", "NetworkKind", "make_network", "network_options"]

# Far beyond use; a stranger's file cannot ask for more.
_BOUNDS = {"width": (1, 1024), "depth": (1, 64), "levels": (1, 6), "blocks": (1, 64)}
_MOST_WEIGHTS = 10**8


@dataclass(frozen=True)
class NetworkKind:
    """One line of the registry: how to build it, and what suits it by default."""

    build: Callable[..., nn.Module]
    channel: bool  # takes fields (batch, V, *grid) rather than vectors (batch, d)
    options: Mapping[str, int]
    max_steps: int
    batch_size: int
    learning_rate: float


NETWORKS: dict[str, NetworkKind] = {
    "mlp": NetworkKind(MLP, False, {"width": 64, "depth": 2}, 1500, 4096, 5e-3),
    "resnet": NetworkKind(ResNet, True, {"width": 32, "depth": 4}, 2500, 8, 5e-3),
    "unet": NetworkKind(UNet, True, {"width": 32, "levels": 3, "blocks": 8}, 2500, 32, 5e-4),
}


def network_options(kind: str, options: Mapping[str, Any] | None) -> dict[str, int]:
    """Return all hyperparameters of a network, the given ones checked.

    Raises
    ------
    InputError
        For an unknown name, or a value that is not an integer within its bounds.
    """
    known = dict(NETWORKS[kind].options)
    if options is None:
        return known
    if not isinstance(options, Mapping):
        raise InputError(f'network_options={options!r} is not a dict: pass e.g. {{"width": 64, "depth": 3}}.')
    for name, value in options.items():
        if name not in known:
            raise InputError(f"network {kind!r} has no option {name!r}: choose among {', '.join(known)}.")
        low, high = _BOUNDS[name]
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"network option {name}={value!r} is not an integer from {low} to {high}.")
        known[name] = value
    return known


def make_network(
    kind: str,
    shape: tuple[int, ...],
    options: Mapping[str, int],
    generator: torch.Generator | None = None,
    *,
    channels: int = 1,
    inputs: int = 1,
) -> nn.Module:
    """Build a network without touching torch's global random generator.

    Parameters
    ----------
    kind : str
        A name in ``NETWORKS``.
    shape : tuple of int
        The grid's shape for networks that take fields, the state's for others.
    options : dict
        From :func:`network_options`.
    generator : Generator, optional
        Source of the initial weights. None: the module stays on the meta device, where it has names and
        shapes but neither values nor memory.
    channels : int
        V, the number of variables at every site of a field.
    inputs : int
        How many versions of the state the network is shown.

    Raises
    ------
    InputError
        If the options ask for more than 10⁸ weights.
    """
    build = NETWORKS[kind].build
    with torch.device("meta"):
        if NETWORKS[kind].channel:
            network = build(channels, shape, inputs=inputs, **options)
        else:
            network = build(torch.Size(shape).numel(), inputs=inputs, **options)
    weights = sum(parameter.numel() for parameter in network.parameters())
    if weights > _MOST_WEIGHTS:
        raise InputError(
            f"a {kind} with {dict(options)} has {weights:.2g} weights, more than {_MOST_WEIGHTS:.0g}: choose smaller "
            "network_options."
        )
    if generator is not None:
        network.to_empty(device="cpu")
        network.reset(generator)  # type: ignore[operator]
    return network
