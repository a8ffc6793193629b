"""From a short description to a denoiser: which network, around which linear part, with which structure built in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from gfdt.covariance import Covariance
from gfdt.diffusion.energy import EnergyNetwork
from gfdt.diffusion.networks import NETWORKS, make_network, network_options
from gfdt.diffusion.preconditioning import PRECONDITIONS, Denoiser, count_grid_dims
from gfdt.errors import InputError
from gfdt.validation import one_of, shown

__all__ = ["Architecture", "make_denoiser"]


@dataclass(frozen=True)
class Architecture:
    """Everything that decides the form of the learned score, apart from its numbers.

    Parameters
    ----------
    network : {"mlp", "resnet", "unet"}
        A name in :data:`gfdt.diffusion.networks.NETWORKS`.
    options : mapping of str to int
        Its hyperparameters; those left out have their defaults.
    precondition : {"gaussian", "edm", "none"}
        The linear part, see :mod:`gfdt.diffusion.preconditioning`.
    energy : bool
        Whether F is the gradient of a scalar, see :mod:`gfdt.diffusion.energy`.
    symmetries : tuple of str
        Names of generators, see :mod:`gfdt.diffusion.symmetries`.

    Raises
    ------
    InputError
        For a value that is not one of these; symmetries are checked against the state in :func:`make_denoiser`.
    """

    network: str
    options: Mapping[str, int] = field(default_factory=dict)
    precondition: str = "gaussian"
    energy: bool = False
    symmetries: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("network", self.network, tuple(NETWORKS))
        one_of("precondition", self.precondition, PRECONDITIONS)
        object.__setattr__(self, "options", network_options(self.network, self.options))
        if not isinstance(self.energy, bool):
            raise InputError(f"energy={shown(self.energy)} is neither True nor False: pass one of them.")
        if not isinstance(self.symmetries, list | tuple) or not all(isinstance(s, str) for s in self.symmetries):
            raise InputError(f'symmetries={shown(self.symmetries)} are not names: pass e.g. ("sign", "reflect_x").')
        object.__setattr__(self, "symmetries", tuple(self.symmetries))


def make_denoiser(
    architecture: Architecture,
    covariance: Covariance,
    state_dims: tuple[str, ...],
    state_shape: tuple[int, ...],
    *,
    generator: torch.Generator | None = None,
    module: nn.Module | None = None,
    n_grid: int | None = None,
) -> Denoiser:
    """Build a denoiser for normalised anomalies.

    Parameters
    ----------
    architecture : Architecture
        What to build.
    covariance : DenseCovariance, SpectralCovariance or CrossSpectralCovariance
        Of the normalised anomalies.
    state_dims, state_shape : tuple
        Names and lengths of the state's dims; a convolutional network takes (*grid) or (variable, *grid).
    generator : Generator, optional
        Source of the initial weights, on the CPU. None: they stay on the meta device, to be loaded with
        ``denoiser.network.load_state_dict(weights, assign=True)``.
    module : Module, optional
        The user's own network, used in place of the named one but in its layout; its weights are kept.
    n_grid : int, optional
        How many of the last dims are the grid of a field. Default: as the covariance says
        (:func:`~gfdt.diffusion.preconditioning.count_grid_dims`).

    Raises
    ------
    InputError
        If the network or a symmetry does not go with such states.
    """
    channel = NETWORKS[architecture.network].channel
    if n_grid is None:
        n_grid = count_grid_dims(covariance, state_shape) if channel else 0
    # An energy is a function of y alone; and the other preconditions are for comparison with plain networks.
    inputs = 2 if module is None and not architecture.energy and architecture.precondition == "gaussian" else 1
    if module is None:
        grid = state_shape[len(state_shape) - n_grid :] if channel else state_shape
        variables = torch.Size(state_shape[: len(state_shape) - n_grid]).numel()
        module = make_network(
            architecture.network,
            grid,
            architecture.options,
            generator,
            channels=variables if channel else 1,
            inputs=inputs,
        )
    return Denoiser(
        EnergyNetwork(module) if architecture.energy else module,
        covariance,
        state_shape,
        channel=channel,
        precondition=architecture.precondition,
        symmetries=architecture.symmetries,
        state_dims=state_dims,
        n_grid=n_grid,
        inputs=inputs,
    )
