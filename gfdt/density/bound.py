r"""The variational lower bound of ln ρ, by stratified noise levels and antithetic noise.

:mod:`gfdt.density.integrand` states the bound. It is tight if the score is exact, and so is the prior
(at :func:`gfdt.density.likelihood.prior_level`, where it errs by up to 3e-4 nats). Otherwise its mean over states of
the density with the exact score s* falls short of the mean of that ln ρ by 1/2 ∫ E|s - s*|² dv.

It needs no derivative of the score, so it costs less than the likelihood, and it has a standard error. The schedule is
the importance distribution of the levels: it changes the noise of the result and nothing else (Kingma et al. 2021).

References: Huang, Lim & Courville, arXiv:2106.02808; Kingma, Salimans, Poole & Ho, arXiv:2107.00630.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from gfdt.density.by_sigma import Comparison, LevelSums, as_dataset, bin_edges
from gfdt.density.integrand import Draw, decoding, denoising
from gfdt.density.learned_schedule import learn_schedule
from gfdt.density.likelihood import CHUNK_VALUES, prior_level
from gfdt.density.schedules import make_schedule
from gfdt.density.strata import strata
from gfdt.errors import InputError
from gfdt.validation import integer

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.density.family import Family
    from gfdt.density.schedules import Schedule

__all__ = ["bound", "elbo"]

_LEVELS = 128
_FEWEST = 16  # eight strata: of fewer the spread within them is too rough for the standard error of a state
_LEARNED_FROM = 64  # states with four draws each: spreads to 5 %, were the draws normal
_UNITS = 1000  # resampling units where none are given: enough for a standard error, and bounded memory


def elbo(
    family: Family,
    a: NDArray[np.float64],
    *,
    n_levels: int = _LEVELS,
    schedule: str | Schedule = "edm",
    decode: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower bound of ln ρ(a) in nats, in the coordinates a, and its standard error.

    Parameters
    ----------
    family : Family
    a : (n, *state)
        States; of the density at ``family.level``, or with ``decode`` of the data.
    n_levels : int
        Noise levels, 16 or more, each with one z and its mirror image: the standard error falls as n_levels^(-1/2).
    schedule : str or Schedule
        Where they are: "edm", "ve", "vp" or an object (:mod:`gfdt.density.schedules`), or "learned": the one with the
        least noise for 64 of the states (:mod:`gfdt.density.learned_schedule`), which takes as many evaluations for
        each of these as 96 levels.
    decode : bool
        Bound the density of the data themselves instead of the density blurred at ``family.level``: the one that scores
        with different noise levels can be compared by.
    seed : int
        Root of levels and noise. Families of the same shape and level are judged on the same ones, so that differences
        are far less noisy than the values.
    progress : bool, optional
        Show a bar; default only in a terminal.

    Returns
    -------
    values, stderr : (n,)
        -inf for a state off the plane of data that obey a constraint, at level 0. The standard error is that of the
        levels and the noise for each state; 0 for a Gaussian, which is exact. Of a single state it is rough, as few
        strata have most of the noise: deviations are distributed like a Student t of few degrees of freedom, not like
        a Gaussian. The root of the sum of squares over states is the right error of their mean.

    Raises
    ------
    InputError
        For an unknown schedule, or a number of levels that is not one of 16 or more.
    """
    integer("n_levels", n_levels, _FEWEST, 10**6)
    integer("seed", seed, 0, 2**63 - 1)
    start = 0.0 if decode else family.level
    values = family.supported(family.gaussian_log_density(a, start), a, start)
    variance = np.zeros(len(a))
    if family.gaussian:
        return values, variance
    edges = np.array([family.level, prior_level(family)])
    for draws, part in _drawn(family, a, edges, n_levels, schedule, decode, seed, progress):
        first, second = (weight * draw.excess() for _, weight, draw in draws)
        values[part] -= (first + second) / 2
        variance[part] += (first - second) ** 2 / 4
    return values, np.sqrt(variance)


def bound(
    family: Family,
    a: NDArray[np.float64],
    *,
    reference: Family | None = None,
    schedule: str | Schedule = "edm",
    n_levels: int = _LEVELS,
    decode: bool = True,
    unit_of: NDArray[np.int64] | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> xr.Dataset:
    r"""Return the mean bound over states the score has not seen, and which noise levels it wins or loses at.

    Parameters
    ----------
    family : Family
    a : (n, *state)
        States of the data; without ``decode``, of the density at ``family.level``.
    reference : Family, optional
        The exact scores, in the coordinates of the family; see :func:`gfdt.density.recast.recast`.
    schedule, n_levels, seed, progress
        As in :func:`elbo`; every bin of σ has two levels at least.
    decode : bool
        As in :func:`elbo`, but with True for the default; a first bin, from 0 to ``family.level``, is the decoder's.
    unit_of : (n,) of int, optional
        The resampling unit of each state, e.g. its member: standard errors are of the spread between units. Default:
        every state is one, or of more than a thousand states every thousandth part.

    Returns
    -------
    xarray.Dataset
        In nats per state; along ``sigma`` (of the coordinates a), in bins (``sigma_low`` to ``sigma_high``) equal in
        ln σ, sums over which are the totals. Each has a standard error ``..._stderr``.

        elbo, gaussian
            Means of the bound and of the Gaussian's own, of densities in the units of the data:
            elbo = gaussian - Σ excess.
        excess, total_excess
            1/2 ∫ E[|f|² + 2 f.(g - t)] dv. Negative: better than the Gaussian at that scale.
        amplitude
            c = -∫ E[f.(g - t)] dv/∫ E|f|² dv, the factor that would make f best: less than 1 for an f too strong or
            fitted to noise, more than 1 for one that has not been learned fully.
        detected (by ``test``), total_detected
            The part of the gap that the data show without a reference, from below: the residual s - t of an exact score
            has no correlation with any φ(y), and by the inequality of Cauchy and Schwarz
            1/2 (∫ E[(s - t).φ] dv)²/∫ E|φ|² dv <= gap. ``amplitude``: φ = f; ``linear``: φ = w⁻¹ y in up to eight bands
            of the eigenvalues of C (a covariance that is wrong); ``quadratic``, ``cubic``: Hermite polynomials of the
            denoised state in the same bands (:mod:`gfdt.density.by_sigma`); ``all`` together. The noise is taken off:
            where nothing is found it is 0 within its standard error.
        gap, gap_prior, total_gap
            With ``reference``: 1/2 ∫ E|s - s*|² dv, what the Gaussian priors at the top differ by, and their sum. It is
            the mean bound of the reference less that of the family (without ``decode``, or at level 0). In the bin of
            the decoder s has κ f for f (:mod:`gfdt.density.integrand`).

    Raises
    ------
    InputError
        As :func:`elbo`; if ``unit_of`` does not have one entry per state, or names fewer than two units; if the
        reference is of other states, or not known at these levels.
    """
    integer("n_levels", n_levels, 2, 10**6)
    integer("seed", seed, 0, 2**63 - 1)
    units = _units(unit_of, len(a))
    decode = decode and family.level > 0
    edges = bin_edges(family.level, prior_level(family))
    comparison = Comparison.of(family, reference, float(edges[-1]))
    bins = np.concatenate([[0.0], edges]) if decode else edges
    sums = LevelSums.zeros(len(bins) - 1, int(units.max()) + 1, comparison)
    for draws, part in _drawn(family, a, edges, n_levels, schedule, decode, seed, progress):
        for index, weight, draw in draws:
            sums.add(index + decode, units[part], weight / 2, draw)
    start = 0.0 if decode else family.level
    # The one place where the unit of x counts: all the rest are differences.
    gaussian = family.gaussian_log_density(a, start) - family.units.log_volume(family.shape)
    prior = None if reference is None else comparison.prior_gap(a, start, float(edges[-1]))
    return as_dataset(sums, bins, gaussian, prior, units)


def _drawn(
    family: Family,
    a: NDArray[np.float64],
    edges: NDArray[np.float64],
    n_levels: int,
    schedule: str | Schedule,
    decode: bool,
    seed: int,
    progress: bool | None,
) -> Iterator[tuple[list[tuple[int, float, Draw]], slice]]:
    """Yield, stratum by stratum for each batch of states, two draws with their bin and weight, and the batch.

    The levels are the same for all states (f takes one at a time); the noise is drawn anew for each state and level.
    The draws of the decoder have bin -1 and weight 1.
    """
    root = np.random.SeedSequence(seed)
    levels, streams = root.spawn(2)
    if isinstance(schedule, str) and schedule == "learned":
        some = np.unique(np.linspace(0, len(a) - 1, min(len(a), _LEARNED_FROM)).astype(int))
        schedule = learn_schedule(family, a[some], seed=seed, progress=progress)
    noises = make_schedule(schedule, float(edges[0]), float(edges[-1]))
    places = strata(noises, n_levels, np.random.default_rng(levels), edges)
    decode = decode and family.level > 0
    start = 0.0 if decode else family.level
    size = max(1, CHUNK_VALUES // (2 * family.size))
    starts = range(0, len(a), size)
    disable = None if progress is None else not progress
    with tqdm(total=len(starts) * (len(places) + decode), desc="bound", disable=disable, leave=False) as bar:
        for stream, first in zip(streams.spawn(len(starts)), starts, strict=True):
            part = slice(first, first + size)
            states = a[part].astype(np.float64)
            coefficients = family.modes.forward(states)
            rng = np.random.default_rng(stream)
            if decode:
                noise = (rng.standard_normal(states.shape) for _ in range(2))
                yield [(-1, 1.0, decoding(family, states, coefficients, z)) for z in noise], part
                bar.update()
            for place in places:
                noise = (rng.standard_normal(states.shape) for _ in range(2))
                yield (
                    [
                        (place.bin, float(w), denoising(family, states, coefficients, z, float(s), start))
                        for s, w, z in zip(place.levels, place.weights, noise, strict=True)
                    ],
                    part,
                )
                bar.update()


def _units(unit_of: NDArray[np.int64] | None, n: int) -> NDArray[np.int64]:
    """Return the resampling unit of every state, numbered from 0."""
    if unit_of is None:
        unit_of = np.arange(n) * min(n, _UNITS) // max(n, 1)
    given = np.asarray(unit_of)
    if given.shape != (n,):
        raise InputError(f"unit_of has shape {given.shape}, there are {n} states: pass one unit for each.")
    names, units = np.unique(given, return_inverse=True)
    if len(names) < 2:
        raise InputError(f"the {n} states are of {len(names)} unit: two or more are needed for a standard error.")
    return units
