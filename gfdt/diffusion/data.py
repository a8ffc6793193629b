"""What a training is made of: units and covariance, the states it learns from, and those that judge it.

    a = (x - m)/scale        C = cov(a)        learned from: the times that are not held out; judged by: some that are

One process reads the whole record. Each of several has its share of it (:mod:`gfdt.shares`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import Covariance, estimate_covariance
from gfdt.diffusion.linear import Linear
from gfdt.diffusion.networks import NETWORKS
from gfdt.diffusion.selection import EVALUATIONS, hold_out
from gfdt.diffusion.states import States
from gfdt.diffusion.statistics import shared_covariance, shared_moments
from gfdt.record import moments
from gfdt.shares import Split, read_share
from gfdt.trajectory import fingerprint, state_dims

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.diffusion.distributed import Processes
    from gfdt.diffusion.settings import Settings

__all__ = ["Data", "share_data", "split", "whole_data"]

_HELD_OUT_SHARE = 0.1  # of the network evaluations of a training may go into the held-out states
_HELD_OUT_RANGE = (64, 2**14)  # states, at least and at most


@dataclass(frozen=True)
class Data:
    """The outcome of :func:`whole_data` or :func:`share_data`.

    Attributes
    ----------
    linear : Linear
        Of the whole record.
    training : States
        Of this process.
    judged : (n, *state) held-out states of this process that decide, in the units of the data
    pieces : which (member, block) each belongs to, of those of all processes together
    deviation : (*state) standard deviations of the whole record
    fingerprint : of the whole record; "" where it was not asked for
    """

    linear: Linear
    training: States
    judged: NDArray[Any]
    pieces: NDArray[np.int64]
    deviation: NDArray[np.float64]
    fingerprint: str


def whole_data(trajectory: xr.DataArray, settings: Settings, processes: Processes, *, digest: bool) -> Data:
    """Take everything from a validated trajectory (member, time, *state); ``digest`` asks for its fingerprint."""
    states = trajectory.values.reshape(-1, *trajectory.shape[2:])
    centre, deviation = moments(states)

    def covariance(scale: NDArray[np.float64]) -> Covariance:
        return estimate_covariance(states, settings.n_homogeneous, settings.shrinkage, scale=scale)

    linear = Linear.of_statistics(centre, deviation, covariance, settings, state_dims(trajectory))
    parts = split(settings, trajectory.shape[:2])
    training = States(states, parts.training, linear.units, processes.device)
    mark = fingerprint(trajectory) if digest else ""
    return Data(linear, training, states[parts.judged], parts.pieces, deviation, mark)


def share_data(array: xr.DataArray, settings: Settings, processes: Processes) -> Data:
    """Read the share of one of several processes from a record whose values need not be read yet.

    Parameters
    ----------
    array : DataArray
        From :func:`gfdt.shares.open_unread`, or a validated trajectory.
    settings : Settings
        For its state dims.
    processes : Processes
        That of this process among all.

    Raises
    ------
    InputError
        As :func:`gfdt.load_trajectory` for the values, on all processes alike.
    """
    share = read_share(array, partial(split, settings), processes.rank, processes.size, total=processes.total)
    centre, deviation = shared_moments(share, processes)

    def covariance(scale: NDArray[np.float64]) -> Covariance:
        return shared_covariance(share, centre, deviation, processes, settings.n_homogeneous, settings.shrinkage, scale)

    linear = Linear.of_statistics(centre, deviation, covariance, settings, state_dims(array))
    training = States(share.training, None, linear.units, processes.device)
    return Data(linear, training, share.judged, share.pieces, deviation, share.fingerprint)


def split(settings: Settings, sizes: tuple[int, ...]) -> Split:
    """Return which of the (member, time) states are for training, which are held out, and which of those judge.

    The last are thinned to what a tenth of the training's evaluations pays for.
    """
    n_members, n_times = sizes
    block = np.tile(hold_out(n_members, n_times), n_members)
    steps = settings.max_steps or NETWORKS[settings.architecture.network].max_steps
    affordable = int(_HELD_OUT_SHARE * steps * settings.batch_size / (2 * EVALUATIONS))
    held = np.flatnonzero(block >= 0)
    judged = _thin(held, int(np.clip(affordable, *_HELD_OUT_RANGE)))
    return Split(np.flatnonzero(block < 0), held, judged, judged // n_times * n_times + block[judged])


def _thin(index: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` entries of ``index``, evenly spaced."""
    if index.size <= most:
        return index
    return index[np.linspace(0, index.size - 1, most).round().astype(np.int64)]
