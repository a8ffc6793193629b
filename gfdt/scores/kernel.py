r"""A score from score matching in a kernel space: one linear system, no noise and no training.

In whitened coordinates y the density is modelled as N(0, I) times exp f, f = sum_m beta_m k(y, c_m),
k(y, c) = exp(-|y - c|^2 / 2 l^2), with M inducing points c_m (Nystrom), so that

    s(y) = -y + grad f,      grad s . v = -v + (grad grad f) v,

which is curl-free and turns into the Gaussian score far from all c_m. Score matching, <|s|^2/2 + div s>, is quadratic
in beta and has with the penalty (lambda/2) beta.K beta, K_ml = k(c_m, c_l), its minimum at

    (G + lambda K) beta = -b,   G_ml = <grad k_m . grad k_l>,   b_m = <Lap k_m - y . grad k_m>.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import scipy.linalg
import scipy.spatial

from gfdt.errors import CheckpointError
from gfdt.scores.base import Score
from gfdt.scores.heldout import evenly, halves
from gfdt.scores.whitening import Whitening, checked_array
from gfdt.validation import integer, number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["KernelScore"]

_SEARCHED = 2**15  # samples, of both halves, that bandwidth and penalty are chosen on
_CANDIDATES = 2**12  # samples that the inducing points and the median distance are taken from
_WIDTHS = (1.5, 1.0, 0.65, 0.4, 0.25)  # of the median distance, smoothest first
_PENALTIES = 10.0 ** np.arange(0, -9, -1)  # strongest first
_TOLERANCE = 1e-3  # of the gain over the Gaussian: less is not worth a rougher score
_JITTER = 1e-7  # on the diagonal of K, singular to rounding for wide kernels; at 1e-10 the loss is rounding noise
_BLOCK = 2**21  # kernels evaluated at once: 16 MiB


class KernelScore(Score):
    """Score of a kernel exponential family, by score matching on inducing points (Sutherland et al. 2018).

    Parameters
    ----------
    bandwidth : float, optional
        l, in standard deviations of the whitened data. Default: from 1.5, 1, 0.65, 0.4 and 0.25
        median distances between samples the largest whose score-matching loss, of each half of the record under the
        other's fit (blocks of time), gains on the Gaussian within 0.1 % of the best.
    penalty : float, optional
        lambda. Default: of the powers of ten from 1 to 1e-8 the largest by the same rule. A rougher choice wins nothing
        on average and can be far off where there are few samples.
    n_inducing : int
        M. Default 256: farther apart than l in two dimensions, and a state costs 5 microseconds.
    max_samples : int
        The averages of the last fit are over so many samples, evenly thinned. Default 131072: it costs
        2 n d M^2 operations, a few seconds in two dimensions.
    seed : int
        Of the first inducing point; each next one is the sample farthest from all before it.

    Attributes
    ----------
    bandwidth_, penalty_ : float
        The l and lambda used.

    References
    ----------
    Sutherland, Strathmann, Arbel & Gretton, AISTATS 2018, arXiv:1705.08360; Zhou, Shi & Zhu, ICML 2020,
    arXiv:2005.10099, for its place among the other kernel estimators.
    """

    label: ClassVar[str] = "kernel"
    bandwidth_: float
    penalty_: float

    def __init__(
        self,
        *,
        bandwidth: float | None = None,
        penalty: float | None = None,
        n_inducing: int = 256,
        max_samples: int = 2**17,
        seed: int = 0,
    ) -> None:
        self.bandwidth = bandwidth
        self.penalty = penalty
        self.n_inducing = n_inducing
        self.max_samples = max_samples
        self.seed = seed

    def validate(self, dims: tuple[str, ...]) -> None:  # noqa: ARG002  the same call for every estimator
        """Refuse settings that cannot be used; ``fit`` calls it before any work."""
        number("bandwidth", self.bandwidth, low=0.0, high=1e6, optional=True)
        number("penalty", self.penalty, low=0.0, high=1e6, optional=True)
        integer("n_inducing", self.n_inducing, 1, _CANDIDATES)
        integer("max_samples", self.max_samples, 100, 10**9)
        integer("seed", self.seed, 0, 2**63 - 1)

    def _fit(self, trajectory: xr.DataArray) -> None:
        self.validate(tuple(str(dim) for dim in trajectory.dims[2:]))
        states = trajectory.values.reshape(-1, math.prod(trajectory.shape[2:]))
        self._whitening = Whitening.estimate(states)
        y = self._whitening.states(states)
        candidates = y[evenly(len(y), _CANDIDATES)]
        self._centres = _farthest(candidates, self.n_inducing, np.random.default_rng(self.seed))
        median = float(np.median(scipy.spatial.distance.pdist(candidates[::4])))
        self.bandwidth_, self.penalty_ = self._choose(y, halves(*trajectory.shape[:2]), median)
        gram, linear = _averages(y[evenly(len(y), self.max_samples)], self._centres, self.bandwidth_)
        self._coefficients = _Path(gram, linear, self._centres, self.bandwidth_).solve(self.penalty_)

    def _choose(self, y: NDArray[np.float64], first: NDArray[np.bool_], median: float) -> tuple[float, float]:
        """Return the smoothest l, then lambda, whose held-out loss is the least or near it; the given ones if given.

        The loss is that of f, less the Gaussian's: f = 0 has none, and the gain is its negative.
        """
        penalties = _PENALTIES if self.penalty is None else np.array([self.penalty])
        sizes = median * np.array(_WIDTHS) if self.bandwidth is None else np.array([self.bandwidth])
        if len(penalties) == len(sizes) == 1:
            return float(sizes[0]), float(penalties[0])
        index = evenly(len(y), _SEARCHED)
        samples = [y[index[first[index]]], y[index[~first[index]]]]
        losses = np.zeros((len(sizes), len(penalties)))
        for i, size in enumerate(sizes):
            averages = [_averages(half, self._centres, size) for half in samples]
            for (gram, linear), (gram_held, linear_held) in (averages, averages[::-1]):
                path = _Path(gram, linear, self._centres, size)
                for j, penalty in enumerate(penalties):
                    beta = path.solve(penalty)
                    losses[i, j] += beta @ gram_held @ beta / 2 + linear_held @ beta
        good = losses <= losses.min() + _TOLERANCE * abs(losses.min())
        best = divmod(int(good.argmax()), len(penalties))
        return float(sizes[best[0]]), float(penalties[best[1]])

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        y = self._whitening.states(batch)
        score = np.empty_like(y)
        for part, kernels in _kernels(y, self._centres, self.bandwidth_):
            kernels *= self._coefficients
            pull = kernels @ self._centres - kernels.sum(axis=1, keepdims=True) * y[part]
            score[part] = pull / self.bandwidth_**2 - y[part]
        return self._whitening.gradient(score, batch.shape)

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        y, along = self._whitening.states(batch), self._whitening.directions(v)
        out = np.empty_like(y)
        for part, kernels in _kernels(y, self._centres, self.bandwidth_):
            kernels *= self._coefficients
            total = kernels.sum(axis=1, keepdims=True)
            kernels *= along[part] @ self._centres.T - (along[part] * y[part]).sum(axis=1, keepdims=True)
            pull = kernels @ self._centres - kernels.sum(axis=1, keepdims=True) * y[part]
            out[part] = pull / self.bandwidth_**4 - (total / self.bandwidth_**2 + 1) * along[part]
        return self._whitening.gradient(out, batch.shape)

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config = {
            "bandwidth": self.bandwidth_,
            "penalty": self.penalty_,
            "n_inducing": int(self.n_inducing),
            "max_samples": int(self.max_samples),
            "seed": int(self.seed),
        }
        return config, self._whitening.pack() | {"centres": self._centres, "coefficients": self._coefficients}

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        size = math.prod(config["state_shape"])
        score = cls(**{key: config[key] for key in ("bandwidth", "penalty", "n_inducing", "max_samples", "seed")})
        score.validate(tuple(config["state_dims"]))
        known = {"mean", "whitening", "centres", "coefficients"}
        if None in (score.bandwidth, score.penalty) or config["noise_level"] != 0 or not known.issuperset(arrays):
            raise CheckpointError(
                "the score file does not describe a kernel score: it was altered; fit the score anew."
            )
        score.bandwidth_, score.penalty_ = float(config["bandwidth"]), float(config["penalty"])
        score._centres = checked_array(arrays, "centres", (None, size))
        score._coefficients = checked_array(arrays, "coefficients", (len(score._centres),))
        score._whitening = Whitening.unpack(arrays, size)
        return score


class _Path:
    """beta(lambda) for every lambda from one generalised eigendecomposition G v = g K v."""

    def __init__(
        self, gram: NDArray[np.float64], linear: NDArray[np.float64], centres: NDArray[np.float64], size: float
    ) -> None:
        (_, kernel), *_ = _kernels(centres, centres, size, block=len(centres))
        self._values, self._vectors = scipy.linalg.eigh(gram, kernel + _JITTER * np.eye(len(centres)))
        self._projected = self._vectors.T @ linear

    def solve(self, penalty: float) -> NDArray[np.float64]:
        return -self._vectors @ (self._projected / (np.maximum(self._values, 0.0) + penalty))


def _farthest(candidates: NDArray[np.float64], most: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return distinct candidates, each the farthest from all before it: an even cover of where the data are."""
    chosen = [int(rng.integers(len(candidates)))]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < most:
        distance = np.minimum(distance, ((candidates - candidates[chosen[-1]]) ** 2).sum(axis=1))
        if not distance.max() > 0:
            break
        chosen.append(int(distance.argmax()))
    return candidates[chosen]


def _averages(
    y: NDArray[np.float64], centres: NDArray[np.float64], size: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return G (M, M) and b (M,) of the module docstring."""
    m, d = centres.shape
    gram, linear = np.zeros((m, m)), np.zeros(m)
    for part, kernels in _kernels(y, centres, size):
        squares = np.zeros_like(kernels)
        for i in range(d):
            away = centres[:, i] - y[part, i, None]
            squares += away**2
            away *= kernels / size**2
            gram += away.T @ away
            linear -= y[part, i] @ away
        linear += (kernels * (squares / size**4 - d / size**2)).sum(axis=0)
    return gram / len(y), linear / len(y)


def _kernels(
    y: NDArray[np.float64], centres: NDArray[np.float64], size: float, block: int | None = None
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield slices of the states and the kernels (block, M) between them and the centres."""
    length = block or max(1, _BLOCK // len(centres))
    squares = (centres**2).sum(axis=1)
    for start in range(0, len(y), length):
        part = slice(start, start + length)
        exponent = y[part] @ centres.T - (squares + (y[part] ** 2).sum(axis=1, keepdims=True)) / 2
        yield part, np.exp(np.minimum(exponent, 0.0) / size**2)
