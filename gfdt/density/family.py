r"""The scores of one density at every noise level: what sampling, likelihood and the variational bound work on.

Notation, used throughout :mod:`gfdt.density`: a is a state less its mean in coordinates in which the noise is white
(standard deviations of the components, or whitened coordinates), C the covariance of a, v = σ² the variance of the
noise, w = C + v. The density of a + σ z, z ~ N(0, I), has the score

    s(a; σ) = -(C + v)⁻¹ a + f(a; σ),

the Gaussian answer and a correction f, which is zero for Gaussian data. What is linear is done in closed form in the
eigenbasis of C, so only f is ever integrated: for a Gaussian everything in this package is exact whatever the number
of steps. In terms of f the posterior mean is

    D(a; σ) = a + v s = C (C + v)⁻¹ a + v f.

``level`` is the σ of the score itself (0: the density of the data), ``highest`` the largest σ at which f is known; the
prior at the top of the noise scale is the Gaussian N(0, C + σ²), which the blurred density approaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import Covariance
from gfdt.density.modes import Modes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Diagonal", "Family", "highest_level", "inverse"]

_TRAINED = 3.0  # standard deviations of the widest mode: a bimodal one is a Gaussian to 1e-5 nats when blurred so much
# The same where nothing has to be learned for it: a mode of probability p, d standard deviations off, keeps its
# weight if its distance is small beside the noise, and three standard deviations lose what is rare and far away.
_EXACT = 10.0
_OFF = 1e-4  # of the widest standard deviation: single precision of states whose mean is 1000 times as large
_ROUNDING = 1e-12  # of the largest eigenvalue: a smaller one is rounding of a direction without variance

Correction = Callable[["NDArray[np.float64]", float], "NDArray[np.float64]"]
Product = Callable[["NDArray[np.float64]", float, "NDArray[np.float64]"], "NDArray[np.float64]"]


@dataclass(frozen=True)
class Diagonal:
    """The map a = (x - m)/scale.

    Attributes
    ----------
    mean, scale : broadcastable to one state
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def states(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Return a for states x (batch, *state)."""
        return (x.astype(np.float64) - self.mean) / self.scale

    def data(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x for a (batch, *state)."""
        return self.mean + self.scale * a

    def directions(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the direction in a of a direction v in x."""
        return v / self.scale

    def gradient(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a score with respect to x from one with respect to a."""
        return s / self.scale

    def log_volume(self, shape: tuple[int, ...]) -> float:
        """Return ln |dx/da|, by which ln rho(x) is less than ln rho(a)."""
        return float(np.log(np.broadcast_to(self.scale, shape)).sum())


@dataclass(frozen=True)
class Family:
    """Scores s(a; σ) of one density blurred at every noise level; see the module docstring.

    Attributes
    ----------
    units : Diagonal, or another map with the same methods
        Between x and a.
    covariance : Covariance
        C, of a; its mean is zero.
    shape : tuple of int
        Of a state.
    level : float
        σ of the score itself.
    correction : callable or None
        f(a, σ) for a (batch, *state), float64; None for a Gaussian.
    product : callable or None
        (∇f)(a; σ) u as product(a, σ, u).
    pull_back : callable or None
        u (∇f)(a; σ), the transposed product, where it is cheaper (networks); else None.
    highest : float
        The largest σ at which f is known.
    lowest : float
        The smallest at which it was learned; ``level`` may lie a little below.
    """

    units: Any
    covariance: Covariance
    shape: tuple[int, ...]
    level: float
    correction: Correction | None = None
    product: Product | None = None
    highest: float = math.inf
    lowest: float = 0.0
    pull_back: Product | None = None

    @cached_property
    def modes(self) -> Modes:
        """The eigenbasis of C."""
        return Modes.of(self.covariance, self.shape)

    @property
    def size(self) -> int:
        """The number of components d."""
        return math.prod(self.shape)

    @property
    def gaussian(self) -> bool:
        """Whether f is zero."""
        return self.correction is None

    def top(self) -> float:
        """Return the level at which the density is taken for its Gaussian: ten times the widest mode, or highest."""
        return min(_EXACT * self.widest(), self.highest)

    def widest(self) -> float:
        """Return the standard deviation of the direction of most variance."""
        return math.sqrt(float(self.covariance.eigenvalues.max()))

    def narrowest(self) -> float:
        """Return the least standard deviation of a direction that varies; structure there is finer still."""
        values = self.covariance.eigenvalues
        return math.sqrt(float(values[values > _ROUNDING * values.max()].min()))

    def supported(self, logs: NDArray[np.float64], a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return log densities (batch,) at a level, -inf where a (batch, *state) violates a constraint of the data.

        Directions without variance are the normals of the plane that the data lie on. At level 0 a state off it by
        more than 1e-4 of the widest standard deviation has no density; less may be rounding to single precision.
        """
        normal = self.modes.values <= 0
        if level > 0 or not normal.any() or not len(a):
            return logs
        off = np.abs(self.modes.forward(a)[:, normal]).max(axis=1)
        return np.where(off > _OFF * self.widest(), -np.inf, logs)

    def rank(self, level: float) -> int:
        """Return the number of directions that have a density at this level: all of them if it is not 0."""
        if level > 0:
            return self.size
        return round(self.covariance.trace(lambda c: (c > 0).astype(np.float64)))

    def filtered(
        self, a: NDArray[np.float64], gain: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Return gain(C) a for a (batch, *state)."""
        return self.covariance.apply(a, gain)

    def remainder(self, a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return f(a; σ), zeros for a Gaussian."""
        return np.zeros_like(a) if self.correction is None else self.correction(a, level)

    def linear_score(self, a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return -(C + v)⁻¹ a, the pseudo-inverse at level 0."""
        return self.filtered(a, lambda c: -inverse(c + level**2))

    def score(self, a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return s(a; σ)."""
        linear = self.linear_score(a, level)
        return linear if self.correction is None else linear + self.correction(a, level)

    def denoised(self, a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return D(a; σ), the mean of the states that a may be with the noise taken off."""
        v = level**2
        if v == 0:
            return a
        linear = self.filtered(a, lambda c: c / (c + v))
        return linear if self.correction is None else linear + v * self.correction(a, level)

    def gaussian_log_density(self, a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return ln N(a; 0, C + v), shape (batch,); on the directions with variance at level 0."""
        v = level**2
        quadratic = (a * self.filtered(a, lambda c: inverse(c + v))).reshape(len(a), -1).sum(axis=1)
        return -0.5 * (quadratic + self.log_determinant(level) + self.rank(level) * math.log(2 * math.pi))

    def log_determinant(self, level: float) -> float:
        """Return ln det(C + v) over the directions that have a density."""
        v = level**2
        return self.covariance.trace(lambda c: np.log(np.where(c + v > 0, c + v, 1.0)))

    def gaussian_sample(self, z: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        """Return (C + v)^½ z, samples of the prior at this level from white noise z."""
        return self.filtered(z, lambda c: np.sqrt(c + level**2))


def highest_level(covariance: Covariance) -> float:
    """Return the σ up to which a network is trained: three standard deviations of the widest mode."""
    return _TRAINED * math.sqrt(float(covariance.eigenvalues.max()))


def inverse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1/values, and 0 where they are 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
