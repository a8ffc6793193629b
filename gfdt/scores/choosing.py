"""Choosing among networks, objectives and noise levels by the likelihood of states that were held out.

Candidates differ in what they minimise, in the noise level of their score and in the network, so none of their losses
compares them. The variational bound of ln rho of the data does (:mod:`gfdt.density.bound`, with the step down from
the noise level of the score to the data in it): its mean over held-out states is, up to a constant that no candidate
changes, minus the Kullback-Leibler distance of the data from what the candidate would sample. All candidates are
judged on the same states, levels and noise, so that differences are known far better than the values.

The states are those blocks of time that every training leaves out (:func:`gfdt.diffusion.selection.hold_out`).
"""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError
from gfdt.validation import shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.scores.dsm import DSMScore

__all__ = ["CHOICES", "candidates", "choose"]

CHOICES = ("network", "precondition", "objective", "sigma")
_MOST = 32  # candidates: each is a whole training
_VALUES = 2**19  # numbers in the states that decide
_STATES = (128, 2048)  # at least and at most
_LEVELS = 32  # noise levels of the bound per state


def candidates(score: DSMScore) -> list[DSMScore]:
    """Return one unfitted score for every combination of the lists among ``CHOICES``; one if there are none.

    Raises
    ------
    InputError
        For an empty list, more than 32 combinations, or ``noise_range="local"`` with a list: such scores have no
        likelihood.
    """
    lists = {name: value for name in CHOICES if isinstance(value := getattr(score, name), list | tuple)}
    for name, values in lists.items():
        if not values:
            raise InputError(
                f"{name}={shown(values)} offers nothing to choose from: pass one value, or a list of some."
            )
    combinations = list(itertools.product(*lists.values()))
    if len(combinations) > _MOST:
        raise InputError(f"{len(combinations)} combinations are asked for, each a training: offer at most {_MOST}.")
    if lists and score.noise_range != "all":
        raise InputError(
            f"noise_range={score.noise_range!r} gives scores without a likelihood to choose by: leave noise_range out, "
            f"or pass one value for {', '.join(lists)}."
        )
    found = []
    for number, values in enumerate(combinations):
        one = copy.copy(score)
        for name, value in zip(lists, values, strict=True):
            setattr(one, name, value)
        if lists:
            one.checkpoint, one.log = (_numbered(path, number) for path in (score.checkpoint, score.log))
        found.append(one)
    return found


def choose(scores: list[DSMScore], trajectory: xr.DataArray) -> tuple[DSMScore, list[dict[str, Any]]]:
    """Fit every score on a validated trajectory (member, time, *state); return one of the best and a table of all.

    Of those that are not worse than the best by more than one standard error the one with the least noise is taken,
    which costs the response least, and of several such the one offered first. (Where all stay at the Gaussian start
    their bounds are even equal.)

    The table has a row for each candidate: what it is, ``elbo`` (nats per state, in the units of the data), its
    ``difference`` from the largest and the standard error ``error`` of that, over the held-out blocks.

    Raises
    ------
    InputError
        If no candidate has a finite bound.
    """
    states, pieces = _held_out(trajectory)
    bounds = []
    for one in scores:
        one._fit(trajectory)
        one.state_dims_ = tuple(str(dim) for dim in trajectory.dims[2:])
        one.state_shape_ = trajectory.shape[2:]
        bounds.append(one.elbo(states, decode=True, n_levels=_LEVELS, seed=one.seed, progress=one.progress))
    means = np.array([bound.mean() for bound in bounds])
    if not np.isfinite(means).any():
        raise InputError("no candidate gives the held-out states a finite likelihood: train longer, or check the data.")
    best = int(np.argmax(np.where(np.isfinite(means), means, -np.inf)))
    table, good = [], []
    for one, bound, mean in zip(scores, bounds, means, strict=True):
        difference, error = _mean_and_error(bound - bounds[best], pieces)
        what = {name: getattr(one, name) for name in CHOICES}
        table.append({**what, "elbo": float(mean), "difference": difference, "error": error})
        if difference >= -error:
            good.append(one)
    return min(good, key=lambda one: float(np.mean(one.noise_level_))), table


def _held_out(trajectory: xr.DataArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return held-out states (n, *state), evenly thinned, and the block of its member that each belongs to."""
    from gfdt.diffusion.selection import hold_out

    n_members, n_times = trajectory.shape[:2]
    block = np.tile(hold_out(n_members, n_times), n_members)
    held = np.flatnonzero(block >= 0)
    size = int(np.prod(trajectory.shape[2:]))
    most = int(np.clip(_VALUES // size, *_STATES))
    held = held[np.unique(np.linspace(0, held.size - 1, min(most, held.size)).round().astype(np.int64))]
    pieces = np.unique(held // n_times * n_times + block[held], return_inverse=True)[1]
    return trajectory.values.reshape(-1, *trajectory.shape[2:])[held], pieces


def _mean_and_error(values: NDArray[np.float64], pieces: NDArray[np.int64]) -> tuple[float, float]:
    from gfdt.diffusion.selection import ratio_mean

    return ratio_mean(np.bincount(pieces, values).astype(np.float64), np.bincount(pieces))


def _numbered(path: Any, number: int) -> Any:
    """Return the file name with a number before its ending: one file for each candidate."""
    if not isinstance(path, str | Path):
        return path
    return Path(path).with_name(f"{Path(path).stem}-{number}{Path(path).suffix}")
