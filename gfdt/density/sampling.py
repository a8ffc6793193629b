"""Samples from a family of scores: noise taken off step by step, from the Gaussian at the top to the score's level.

The steps are those of :mod:`gfdt.density.steps`, between levels placed by a schedule (:mod:`gfdt.density.schedules`).
Samples are drawn in batches that bound the memory. Their noise comes in groups of 32 samples, each from a stream of its
own that always draws for all 32: sample k depends on the seed and on k, but (to rounding) not on how many there are.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from tqdm import tqdm

from gfdt.density.langevin import Chains
from gfdt.density.schedules import LEAST, SCHEDULES, Schedule, make_schedule
from gfdt.density.steps import Step, euler, heun
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.validation import integer, is_number, one_of, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["METHODS", "STEPS", "Noise", "Sampler", "decode", "levels", "sample"]

# Total variation of the pdf of a mixture with peaks 0.3 wide (benchmarks/sampling.py), from a top of three standard
# deviations, 100000 samples, noise 0.0054:
# heun 0.0173, 0.0068, 0.0058 in 16, 32, 64 steps; euler 0.0197 in 64, halved by twice as many; predictor-corrector
# 0.0063 in 8.
STEPS = {"heun": 32, "ode": 32, "euler": 128, "predictor-corrector": 16, "langevin": 200}
METHODS = (*STEPS, "sde", "euler-maruyama")
CORRECTIONS = 2  # Langevin steps after each step of the predictor
_ALIASES = {"sde": "heun", "euler-maruyama": "euler"}
_GROUP = 32  # samples that share a stream: few enough not to waste noise, many enough to draw it fast
_BATCH_VALUES = 2**20  # numbers of states integrated at once: bounds memory to a few times 8 MiB
_RESOLVED = 0.1  # of the narrowest standard deviation: peaks a fifth of it wide are resolved (see the tests)
_FLOOR = 1e-6  # of the top: a last level this small leaves no more than rounding of single precision
_NARROW = 1.5  # of the widest standard deviation: blurred less, a bimodal density has an excess kurtosis beyond -0.2


@dataclass(frozen=True)
class Sampler:
    """How samples are drawn; made by :meth:`make` from the arguments of :meth:`gfdt.Score.sample`.

    Attributes
    ----------
    method : "heun", "ode", "euler", "predictor-corrector" or "langevin"
    lam : float
        λ.
    n_steps : int or None
        None: the default, see :meth:`steps`.
    schedule : str or Schedule
    decode : bool
        Whether the noise of the family's own level is taken off too.
    """

    method: str
    lam: float
    n_steps: int | None
    schedule: str | Schedule
    decode: bool

    @classmethod
    def make(
        cls, method: str, *, lam: float | None, n_steps: int | None, schedule: str | Schedule, decode: bool
    ) -> Self:
        """Validate the arguments and fill in the defaults.

        Raises
        ------
        InputError
            If one of them cannot be used, or two contradict each other.
        """
        one_of("method", method, METHODS)
        integer("n_steps", n_steps, 1, 10**6, optional=True)
        if not isinstance(decode, bool):
            raise InputError(f"decode={shown(decode)} is neither True nor False.")
        if lam is not None:
            _check_lam(method, lam)
        if not isinstance(schedule, Schedule):
            one_of("schedule", schedule, tuple(SCHEDULES), ", or an object with level(t) and weight(t)")
        name = _ALIASES.get(method, method)
        default = 1.0 if method == "ode" else 0.0
        return cls(name, default if lam is None else float(lam), n_steps, schedule, decode)

    def steps(self, family: Family) -> int:
        """Return the number of steps: for a Gaussian, of which any number is exact, one unless it was asked for."""
        return self.n_steps or (1 if family.gaussian else STEPS[self.method])


def sample(
    family: Family, n: int, sampler: Sampler, *, seed: int = 0, progress: bool | None = None
) -> NDArray[np.float64]:
    """Return samples a (n, *state).

    Parameters
    ----------
    family : Family
    n : int
    sampler : Sampler
    seed : int
    progress : bool, optional
        Show a progress bar. Default: in a terminal.

    Raises
    ------
    InputError
        If the levels of the family or of the schedule cannot be used, or states do not stay finite.

    Warns
    -----
    ReliabilityWarning
        If the largest noise level that is known leaves the density far from a Gaussian.
    """
    path = levels(family, sampler)
    out = np.empty((n, *family.shape))
    batch = max(1, _BATCH_VALUES // (_GROUP * family.size)) * _GROUP
    hidden = not (sys.stderr.isatty() if progress is None else progress)
    starts = range(0, n, batch)
    steps = sampler.steps(family)
    with tqdm(total=len(starts) * steps, desc="sampling", unit="step", disable=hidden, leave=False) as bar:
        for start in starts:
            noise = Noise(seed, start, min(batch, n - start), family.shape)
            # Overflow is looked for after every step, and reported with the level at which it came.
            with np.errstate(over="ignore", invalid="ignore"):
                for level, a in _integrate(family, sampler, path, noise):
                    _require_finite(family, a, level)
                    bar.update()
            out[start : start + batch] = decode(family, a) if sampler.decode and family.level > 0 else a
    return out


def levels(family: Family, sampler: Sampler) -> NDArray[np.float64]:
    """Return the noise levels σ from the top to the family's own, one more than there are steps.

    The last step but the one to level 0 ends at 0.001 of the top, or at a tenth of the standard deviation of the
    narrowest direction if that is less (but no less than 1e-6 of the top): a last step from a level that is large
    beside the structure of the density would miss it, and smaller levels resolve nothing.
    """
    n = sampler.steps(family)
    if sampler.method == "langevin":
        return np.full(n + 1, family.level)
    schedule, top = sampler.schedule, family.top()
    if isinstance(schedule, Schedule):
        top = max(top, min(float(schedule.level(1.0)), family.highest))
    if not top > family.level:
        raise InputError(
            f"the scores are known up to the noise level {top:.3g} (in standard deviations of the data), and their own "
            f"is {family.level:.3g}: there is no noise to take off. Fit a score with a smaller sigma."
        )
    widest = family.widest()
    if not family.gaussian and top < _NARROW * widest:
        warnings.warn(
            f"the scores are known up to the noise level {top:.3g} only, {top / widest:.3g} standard deviations of the "
            "widest mode: samples start from a Gaussian there, and keep what is wrong with that. Train for larger "
            "noise levels.",
            ReliabilityWarning,
            stacklevel=4,
        )
    least = max(min(LEAST * top, _RESOLVED * family.narrowest()), _FLOOR * top)
    if family.level >= least:
        path = make_schedule(schedule, family.level, top).level(np.linspace(1.0, 0.0, n + 1))
        # The schedule of another score may begin below the level of this one.
        return np.concatenate([np.maximum(path[:-1], family.level), [family.level]])
    path = make_schedule(schedule, least, top).level(np.linspace(1.0, 0.0, n) if n > 1 else np.ones(1))
    return np.concatenate([np.maximum(path, least), [family.level]])


def decode(family: Family, a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return states without the noise of the family's own level: the reverse step to σ = 0 with G as it is at a.

    A Gaussian loses exactly its noise. Where the data have a direction without variance, the noise there goes to 0.
    """
    # λ = 1: what is added in one step by λ < 1 would have the width of the Gaussian's posterior, not the density's.
    return euler(family, a, family.remainder(a, family.level), None, Step(family.level, 0.0, 1.0))


class Noise:
    """White noise for the samples first, first + 1, ..., whatever batch they are in.

    Parameters
    ----------
    seed : int
    first : int
        A multiple of 32.
    count : int
        Number of samples.
    shape : tuple of int
        Of a state.
    """

    def __init__(self, seed: int, first: int, count: int, shape: tuple[int, ...]) -> None:
        groups = range(first // _GROUP, -(-(first + count) // _GROUP))
        self._streams = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(group,))) for group in groups]
        self._count, self._shape = count, shape

    def normal(self) -> NDArray[np.float64]:
        """Return the next z, (count, *shape)."""
        out = np.empty((len(self._streams), _GROUP, *self._shape))
        for stream, part in zip(self._streams, out, strict=True):
            stream.standard_normal(out=part)
        return out.reshape(-1, *self._shape)[: self._count]

    def uniform(self) -> NDArray[np.float64]:
        """Return the next numbers uniform on [0, 1), (count,)."""
        return np.concatenate([stream.random(_GROUP) for stream in self._streams])[: self._count]


def _integrate(
    family: Family, sampler: Sampler, path: NDArray[np.float64], noise: Noise
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    """Yield the level and the states after every step."""
    a = family.gaussian_sample(noise.normal(), float(path[0]))
    f = family.remainder(a, float(path[0]))
    if sampler.method == "langevin":
        chains = Chains(a, f)
        for _ in path[1:]:
            chains.move(family, family.level, noise.normal(), noise.uniform(), noise.uniform())
            yield family.level, chains.a
        return
    advance = euler if sampler.method == "euler" else heun
    for start, end in itertools.pairwise(path.tolist()):
        z = None if sampler.lam == 1 else noise.normal()
        a = advance(family, a, f, z, Step(start, end, sampler.lam))
        if sampler.method == "predictor-corrector":
            chains = Chains(a, family.remainder(a, end))
            for _ in range(CORRECTIONS):
                chains.move(family, end, noise.normal(), noise.uniform(), noise.uniform())
            a, f = chains.a, chains.f
        yield end, a
        if end > family.level and sampler.method != "predictor-corrector":
            f = family.remainder(a, end)


def _require_finite(family: Family, a: NDArray[np.float64], level: float) -> None:
    if np.isfinite(a).all():
        return
    raise InputError(
        f"samples were no longer finite at the noise level {level:.3g} (in standard deviations of the data; the last "
        f"is {family.level:.3g}): take more n_steps; if that does not help the score is wrong there, or was asked "
        "outside the states it learned from. Look at gfdt.check_score, and fit it again."
    )


def _check_lam(method: str, lam: float) -> None:
    if not is_number(lam) or lam > 1:
        raise InputError(
            f"lam={shown(lam)} is not a number up to 1 (the probability flow): pass one, or leave lam out."
        )
    fixed = {"ode": 1.0, "sde": 0.0}.get(method, lam)
    if method == "langevin" or lam != fixed:
        only = "has no lam" if method == "langevin" else f"means lam={fixed:g}"
        raise InputError(f'lam={shown(lam)}, and method="{method}" {only}: leave lam out, or use method="heun".')
