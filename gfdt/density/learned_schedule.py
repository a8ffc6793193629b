r"""A noise schedule fitted to a score: noise levels where the variational bound is noisiest.

The bound does not depend on the schedule, only its noise does (Kingma et al. 2021, section 5.1: the interior of the
schedule may be chosen to minimise the variance of the estimator). With γ(t) = -ln SNR = ln v piecewise linear, the
integral ∫ h dv = ∫ h v dγ, estimated at levels of density q(γ), has the variance ∫ Var(h v)/q dγ, least for

    q(γ) ∝ [E Var_z(h v)]^(1/2),

the spread over z, averaged over states. (Where levels are drawn independently, as there, the root of the mean square of
h v takes its place; strata leave of the variance only the part of z.)

Reference: Kingma, Salimans, Poole & Ho, arXiv:2107.00630, section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from gfdt.density.integrand import denoising
from gfdt.density.likelihood import CHUNK_VALUES, prior_level
from gfdt.density.schedules import LEAST
from gfdt.errors import InputError
from gfdt.validation import integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gfdt.density.family import Family

__all__ = ["LearnedSchedule", "learn_schedule"]

_CELLS = 24
_LOWEST = 0.5 * LEAST  # of the top: half of what a schedule may start at instead of 0
_DRAWS = 4  # of z at each level, for every state
_SHARE = 0.1  # of the levels are spread evenly over ln v: where no noise was seen there may be some


@dataclass(frozen=True)
class LearnedSchedule:
    """ln SNR = -ln v piecewise linear and decreasing in t.

    Attributes
    ----------
    times : (n,)
        From 0 to 1, increasing.
    log_snr : (n,)
        At these times, decreasing.
    """

    times: NDArray[np.float64]
    log_snr: NDArray[np.float64]

    def __post_init__(self) -> None:
        times, log_snr = (np.asarray(values, dtype=np.float64) for values in (self.times, self.log_snr))
        if times.ndim != 1 or times.shape != log_snr.shape or len(times) < 2:
            raise InputError(
                f"a schedule from times of shape {times.shape} and log_snr of shape {log_snr.shape}: pass two arrays "
                "of one length, 2 or more."
            )
        if times[0] != 0 or times[-1] != 1 or not (np.diff(times) > 0).all() or not (np.diff(log_snr) < 0).all():
            raise InputError(
                f"times from {times[0]:.4g} to {times[-1]:.4g} and log_snr from {log_snr[0]:.4g} to "
                f"{log_snr[-1]:.4g}: times must increase from 0 to 1, and log_snr decrease."
            )
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "log_snr", log_snr)

    def level(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return σ(t)."""
        return np.asarray(np.exp(-0.5 * np.interp(np.asarray(t, dtype=np.float64), self.times, self.log_snr)))

    def weight(self, t: ArrayLike) -> NDArray[np.float64]:
        """Return dv/dt = v dγ/dt; at a knot the slope to its right."""
        slopes = -np.diff(self.log_snr) / np.diff(self.times)
        cell = np.clip(np.searchsorted(self.times, t, side="right") - 1, 0, len(slopes) - 1)
        return np.asarray(self.level(t) ** 2 * slopes[cell])


def learn_schedule(
    family: Family, a: NDArray[np.float64], *, n_cells: int = _CELLS, seed: int = 0, progress: bool | None = None
) -> LearnedSchedule:
    """Fit the schedule with which :func:`gfdt.density.bound.elbo` has the least variance.

    Parameters
    ----------
    family : Family
    a : (n, *state)
        States like those it will be used for; some hundred are plenty.
    n_cells : int
        Cells of equal width in ln v, in each of which the density of levels is constant.
    seed : int
        Root of the noise.
    progress : bool, optional
        Show a bar; default only in a terminal.

    Returns
    -------
    LearnedSchedule
        From ``family.level`` (or 0.0005 of the top, if that is 0) to the top. For a Gaussian, whose bound has no
        noise, it is the geometric schedule.

    Raises
    ------
    InputError
        If ``n_cells`` is not a number of cells, or there are no states.
    """
    integer("n_cells", n_cells, 1, 1000)
    integer("seed", seed, 0, 2**63 - 1)
    if not len(a):
        raise InputError("no states to learn a schedule from: pass some hundred of the record.")
    top = prior_level(family)
    log_v = 2 * np.log(np.geomspace(max(family.level, _LOWEST * top), top, n_cells + 1))
    density = _spread(family, a, log_v, seed, progress)
    total = density.sum()
    density = (1 - _SHARE) * density / total + _SHARE / n_cells if total > 0 else np.full(n_cells, 1 / n_cells)
    times = np.concatenate([[0.0], np.cumsum(density)])
    times[-1] = 1.0
    return LearnedSchedule(times, -log_v)


def _spread(
    family: Family, a: NDArray[np.float64], log_v: NDArray[np.float64], seed: int, progress: bool | None
) -> NDArray[np.float64]:
    """Return [E Var_z(h v)]^(1/2) in the middle of every cell."""
    middles = (log_v[:-1] + log_v[1:]) / 2
    variance = np.zeros(len(middles))
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK_VALUES // (2 * family.size))
    disable = None if progress is None else not progress
    for index, gamma in enumerate(tqdm(middles, desc="schedule", disable=disable, leave=False)):
        level = float(np.exp(gamma / 2))
        for first in range(0, len(a), size):
            states = a[first : first + size].astype(np.float64)
            coefficients = family.modes.forward(states)
            noise = (rng.standard_normal(states.shape) for _ in range(_DRAWS))
            draws = (denoising(family, states, coefficients, z, level, family.level) for z in noise)
            values = np.stack([np.exp(gamma) * draw.excess() for draw in draws])
            variance[index] += values.var(axis=0, ddof=1).sum() / len(a)
    return np.sqrt(variance)
