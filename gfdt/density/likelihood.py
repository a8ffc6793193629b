r"""ln ρ(a; level) by the probability flow: the ODE that carries every state up to the prior, and its divergence.

In the notation of :mod:`gfdt.density.family`, da/dv = -s/2 moves states so that their density is the blurred one at
every v (Song et al. 2021, eq. 13). In whitened coordinates u = w^(-1/2) a the Gaussian part stands still and

    du/dv = -1/2 w^(-1/2) f(a; σ),        d ln ρ(u)/dv = 1/2 tr ∇f(a; σ),

so that, with T for the top of the noise scale,

    ln ρ(a) = ln N(u_T; 0, I) - 1/2 ∫ tr ∇f dv - 1/2 ln det(C + level²).

A Gaussian (f = 0) is exact. The trace is exact, d products (∇f) e_i, up to d = 64; beyond, it is Hutchinson's average
of z'(∇f)z over random signs z, each state with the same z all along its path: the spread over z gives a standard error.

The classical Runge-Kutta method takes ``n_steps`` equal steps in ln(v + ε), ε = 0.01 of the smallest variance of a
direction, no less than 1e-9: peaks a tenth of that direction wide are resolved, finer ones are not. Measured root mean
square errors in nats of planes with two peaks, apart along a direction r and each 0.2 r standard deviations wide there:
2e-4 to 3e-4 for r = 0.1 and 0.01, 7e-4 for 0.001 and 1.5e-3 (at most 0.015) for 1e-4, in steps of 0.29 at most; in 32
steps 6e-3 for r = 0.001, and 0.05 (at most 0.7) for 1e-4.

The prior is taken at ten standard deviations of the widest direction, or as far up as the score is known. Pointwise it
errs by the third cumulant over top³: by up to 3e-4 nats for these mixtures, but by up to 1e-2 at three standard
deviations, which are enough for samples and for averages (there the error enters squared).

References: Song et al., arXiv:2011.13456, eq. 13 and 39; Hutchinson, Commun. Stat. 19, 433 (1990).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from gfdt.density.family import inverse
from gfdt.errors import InputError
from gfdt.validation import integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["CHUNK_VALUES", "log_prob", "prior_level"]

CHUNK_VALUES = 2**20  # numbers handed to f at once: bounds memory to a few times this
_STEPS, _STEP_SIZE = 32, 0.29  # at least so many steps, and none longer than that in ln(v + ε): 32 from 0.01 to 100
_EXACT_SIZE = 64  # up to this many components the trace is summed over all of them, as div s is in gfdt.scores.base
_PROBES = 16
_FINEST, _LEAST = 1e-2, 1e-9  # ε in variances of the narrowest direction, and what it is at least
# Of central differences where f has no derivative, at most, and in standard deviations of the narrowest direction:
# their error is (step/width)²/6.
_STEP, _RELATIVE_STEP = 1e-3, 1e-2


def prior_level(family: Family) -> float:
    """Return σ at the top of the noise scale of likelihood and bound: ten times the widest direction, or highest."""
    return max(family.top(), family.level)


def log_prob(
    family: Family,
    a: NDArray[np.float64],
    *,
    n_steps: int | None = None,
    n_probes: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ln ρ(a; level) in nats, in the coordinates a, and its standard error.

    Parameters
    ----------
    family : Family
    a : (n, *state)
        States of the density at ``family.level``.
    n_steps : int, optional
        Runge-Kutta steps, of four evaluations of f and of its trace each. Default 32, or more where the range of
        ln(v + ε) is large: see the module docstring.
    n_probes : int, optional
        Use Hutchinson's estimate with so many probes for each state. Default None: the exact trace, or 16 probes where
        d > 64.
    seed : int
        Root of the probes' signs.
    progress : bool, optional
        Show a bar; default only in a terminal.

    Returns
    -------
    values, stderr : (n,)
        -inf for a state off the plane of data that obey a constraint, at level 0. The standard error is that of the
        probes: 0 with the exact trace, NaN for one probe. Of the steps it says nothing: double ``n_steps`` to see
        their error.

    Raises
    ------
    InputError
        If a number of steps or probes is not one, or a path does not stay finite.
    """
    integer("n_steps", n_steps, 1, 10**6, optional=True)
    integer("n_probes", n_probes, 1, 10**5, optional=True)
    integer("seed", seed, 0, 2**63 - 1)
    if family.gaussian:
        return family.supported(family.gaussian_log_density(a, family.level), a, family.level), np.zeros(len(a))
    if n_probes is None and family.size > _EXACT_SIZE:
        n_probes = _PROBES
    levels = _levels(family, n_steps)
    values, stderr = np.empty(len(a)), np.zeros(len(a))
    size = max(1, CHUNK_VALUES // (family.size * (n_probes or family.size)))
    starts = range(0, len(a), size)
    disable = None if progress is None else not progress
    with tqdm(total=len(starts) * (len(levels[0]) - 1), desc="log_prob", disable=disable, leave=False) as bar:
        for index, start in enumerate(starts):
            part = slice(start, start + size)
            states = a[part].astype(np.float64)
            probes = _probes(family, len(states), n_probes, np.random.SeedSequence(seed, spawn_key=(index,)))
            end, growth = _carried(family, states, probes, levels, bar)
            values[part] = _log_prior(family, end) - growth.mean(axis=1)
            if n_probes is not None:
                stderr[part] = growth.std(axis=1, ddof=1) / math.sqrt(n_probes) if n_probes > 1 else math.nan
    return family.supported(values, a, family.level), stderr


def _levels(family: Family, n_steps: int | None) -> tuple[NDArray[np.float64], float]:
    """Return ln(v + ε) at the ends of the steps, and ε."""
    finest = max(_FINEST * family.narrowest() ** 2, _LEAST)
    low, high = (math.log(level**2 + finest) for level in (family.level, prior_level(family)))
    n_steps = n_steps or max(_STEPS, math.ceil((high - low) / _STEP_SIZE))
    return np.linspace(low, high, n_steps + 1), finest


def _probes(family: Family, n: int, n_probes: int | None, stream: np.random.SeedSequence) -> NDArray[np.float64]:
    """Return z (n, probes, *state) whose mean of z'(∇f)z over probes is tr ∇f: random signs, or √d e_i."""
    if n_probes is None:
        basis = math.sqrt(family.size) * np.eye(family.size).reshape(1, family.size, *family.shape)
        return np.broadcast_to(basis, (n, *basis.shape[1:]))
    return np.random.default_rng(stream).choice(np.array([-1.0, 1.0]), (n, n_probes, *family.shape))


def _carried(
    family: Family,
    a: NDArray[np.float64],
    probes: NDArray[np.float64],
    levels: tuple[NDArray[np.float64], float],
    bar: tqdm,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return u at the top, in the eigenbasis of C, and 1/2 ∫ z'(∇f)z dv along the path, (batch, probes)."""
    (grid, finest), v, modes = levels, family.level**2, family.modes

    def rates(u: NDArray[np.float64], x: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Derivatives of both with respect to x = ln(v + ε)."""
        v = max(math.exp(x) - finest, 0.0)
        level, per_step = math.sqrt(v), v + finest
        width = np.sqrt(modes.values + v)
        states = modes.back(width * u)
        f = family.remainder(states, level)
        _require_finite(f, level)
        drift = (-0.5 * per_step * inverse(width)) * modes.forward(f)
        return drift, 0.5 * per_step * _quadratic(family, states, level, probes)

    u = np.sqrt(inverse(modes.values + v)) * modes.forward(a)
    growth = np.zeros(probes.shape[:2])
    for x, end in pairwise(grid):
        h = end - x
        slope_1, gain_1 = rates(u, x)
        slope_2, gain_2 = rates(u + h / 2 * slope_1, x + h / 2)
        slope_3, gain_3 = rates(u + h / 2 * slope_2, x + h / 2)
        slope_4, gain_4 = rates(u + h * slope_3, end)
        u = u + h / 6 * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4)
        growth += h / 6 * (gain_1 + 2 * gain_2 + 2 * gain_3 + gain_4)
        bar.update()
    return u, growth


def _quadratic(
    family: Family, a: NDArray[np.float64], level: float, probes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return z'(∇f)z at a (batch, *state) for z (batch, probes, *state): (batch, probes)."""
    count = probes.shape[1]
    states = np.repeat(a, count, axis=0)
    directions = probes.reshape(states.shape)
    if family.product is not None:
        # z'(∇f)z is the same either way.
        along = (family.pull_back or family.product)(states, level, directions)
    else:
        # Signs move every component by the step, √d e_i one component by √d of it.
        size = np.abs(directions).reshape(len(states), -1).max(axis=1).reshape(-1, *[1] * (a.ndim - 1))
        h = min(_STEP, _RELATIVE_STEP * math.hypot(family.narrowest(), level))
        step = h * directions / size
        along = (family.remainder(states + step, level) - family.remainder(states - step, level)) * (size / (2 * h))
    return (directions * along).reshape(len(a), count, -1).sum(axis=2)


def _require_finite(f: NDArray[np.float64], level: float) -> None:
    there = np.isfinite(f.reshape(len(f), -1)).all(axis=1)
    if not there.all():
        raise InputError(
            f"the score is NaN or inf for {np.count_nonzero(~there)} of {len(f)} states on the probability flow, at "
            f"the noise level {level:.3g}: they may start far outside the record it was fitted on (leave those out), "
            "or the fit itself failed (fit it again)."
        )


def _log_prior(family: Family, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln N(u; 0, I) - 1/2 ln det(C + level²), of u in the eigenbasis of C."""
    squares = family.modes.dot(u, u)
    return -0.5 * (squares + family.rank(family.level) * math.log(2 * math.pi) + family.log_determinant(family.level))
