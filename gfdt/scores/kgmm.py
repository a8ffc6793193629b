r"""KGMM: the score as a conditional average of noise over clusters, and a small network through the averages.

In standardised components, with a sample mu and z ~ N(0, I), the noisy point y = mu + sigma z has the density
rho * N(0, sigma^2 I), whose score is exactly

    s(y) = -E[z | y]/sigma     (not 1/sigma^2: z has unit variance).

Clusters C of noisy points (:mod:`gfdt.scores.bisecting`) give pairs (mean of y, s) = (<y>_C, -<z>_C/sigma) of weight
N_C; the regression through them is the Gaussian score of the noisy data and a network for the rest,

    s(y) = -(Corr + sigma^2 I)^-1 y + W_3 tanh(W_2 tanh(W_1 y + b_1) + b_2) + b_3.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gfdt.errors import CheckpointError, InputError, ReliabilityWarning
from gfdt.scores.base import Score
from gfdt.scores.bisecting import BisectingTree
from gfdt.scores.heldout import evenly
from gfdt.scores.whitening import Whitening, checked_array
from gfdt.validation import integer, number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["KGMMScore"]

_MOST_COMPONENTS = 10
_CLUSTERED = 2**16  # noisy points that the clusters are made from
_DRAWN = 2**17  # noisy points of one draw, about: a longer record is thinned, in turn, and a shorter one repeated
_MOST_DRAWS = 400
_NOISE = 0.02  # wanted noise of the regression, relative to the rms score
_PARAMETERS = 30  # that the regression spends in effect, so that K averages are worth K/30 times less noise
_PART = 1 / 3  # of the normal-reference bandwidth
_NAMES = ("w1", "b1", "w2", "b2", "w3", "b3")


class KGMMScore(Score):
    """Score from k-means clusters of noisy samples (Giorgini, Bischoff & Souza 2025).

    Parameters
    ----------
    sigma : float, optional
        Noise level, in standard deviations of the components. Default: a third of the normal-reference
        bandwidth for gradients, (4/(d + 4))^(1/(d + 6)) n^(-1/(d + 6)) for n samples: a KGMM with many draws is a
        kernel estimate of width sigma, and a third is about the best such width on bimodal densities.
    prob : float in (0, 0.5]
        Every cluster holds less than this share of the noisy points. Default 0.001 (1500 clusters): in two
        dimensions they are then as wide as sigma.
    n_draws : int, optional
        Draws of the noise, of about 131072 points each. Default: until the noise of the cluster averages,
        (K d/(sigma^2 N))^(1/2) for K clusters and N points, times (30/K)^(1/2) for the averaging by the regression,
        is below 0.02 of the rms score; at most 400.
    width : int
        Hidden units of the network. Default 32.
    max_steps : int
        Steps of its training, on all pairs at once. Default 600 (about two seconds).
    seed : int
        Of the noise and the weights. The same seed and machine give the same score.

    Attributes
    ----------
    noise_level_ : float or ndarray of shape (*state)
        sigma in the units of the data: one level per component, a float where they are all equal.
    sigma_ : float
        sigma in standard deviations.
    n_clusters_ : int
    n_draws_ : int
    cluster_noise_ : float
        Noise of the cluster averages over the rms score.

    Warns
    -----
    ReliabilityWarning
        If 400 draws do not get there.

    References
    ----------
    Giorgini, Bischoff & Souza, arXiv:2503.18054 (2025), sections 2-3.
    """

    label: ClassVar[str] = "kgmm"

    def __init__(
        self,
        *,
        sigma: float | None = None,
        prob: float = 0.001,
        n_draws: int | None = None,
        width: int = 32,
        max_steps: int = 600,
        seed: int = 0,
    ) -> None:
        self.sigma = sigma
        self.prob = prob
        self.n_draws = n_draws
        self.width = width
        self.max_steps = max_steps
        self.seed = seed

    def validate(self, dims: tuple[str, ...]) -> None:  # noqa: ARG002  the same call for every estimator
        """Refuse settings that cannot be used; ``fit`` calls it before any work."""
        number("sigma", self.sigma, low=0.0, high=2.0, optional=True)
        number("prob", self.prob, low=0.0, high=0.5)
        integer("n_draws", self.n_draws, 1, 10**6, optional=True)
        integer("width", self.width, 1, 1024)
        integer("max_steps", self.max_steps, 1, 10**7)
        integer("seed", self.seed, 0, 2**63 - 1)

    def _fit(self, trajectory: xr.DataArray) -> None:
        shape = trajectory.shape[2:]
        self.validate(tuple(str(dim) for dim in trajectory.dims[2:]))
        states = trajectory.values.reshape(-1, math.prod(shape))
        n, d = states.shape
        if d > _MOST_COMPONENTS:
            raise InputError(
                f"the state has {d} components, and samples fill no more than {_MOST_COMPONENTS} densely enough for "
                "clusters: use DSMScore, or GaussianScore for a start."
            )
        self._whitening = Whitening.estimate(states, correlations=False)
        y = self._whitening.states(states)
        reference = (4 / (d + 4)) ** (1 / (d + 6)) * n ** (-1 / (d + 6))
        self.sigma_ = _PART * reference if self.sigma is None else float(self.sigma)
        self._linear = -np.linalg.inv(y.T @ y / n + self.sigma_**2 * np.eye(d))
        centres, scores, counts = self._averages(y, np.random.default_rng(self.seed))
        self._weights = _train(
            centres, scores - centres @ self._linear, counts, width=self.width, steps=self.max_steps, seed=self.seed
        )
        self.noise_level_ = self._levels(shape)

    def _levels(self, shape: tuple[int, ...]) -> float | NDArray[np.float64]:
        levels = (self.sigma_ / np.diagonal(self._whitening.matrix)).reshape(shape)
        return float(levels.max()) if np.ptp(levels) <= 1e-12 * levels.max() else levels

    def _averages(
        self, y: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return centroids (K, d), scores (K, d) and counts (K,) of the clusters."""
        d, sigma = y.shape[1], self.sigma_
        repeats, stride = max(1, _DRAWN // len(y)), -(-len(y) // _DRAWN)
        clustered = np.tile(y[evenly(len(y), _CLUSTERED)], (max(1, _CLUSTERED // len(y)), 1))
        tree = BisectingTree.grow(clustered + sigma * rng.standard_normal(clustered.shape), self.prob)
        sums, counts = np.zeros((2 * d, tree.n_clusters)), np.zeros(tree.n_clusters)
        self.n_clusters_, self.n_draws_, self.cluster_noise_ = tree.n_clusters, 0, math.inf
        most = _MOST_DRAWS if self.n_draws is None else self.n_draws
        wanted = _NOISE * math.sqrt(max(1.0, tree.n_clusters / _PARAMETERS))
        while self.n_draws_ < most and (self.n_draws is not None or self.cluster_noise_ > wanted):
            mu = np.tile(y[self.n_draws_ % stride :: stride], (repeats, 1))
            z = rng.standard_normal(mu.shape)
            noisy = mu + sigma * z
            cluster = tree.assign(noisy)
            counts += np.bincount(cluster, minlength=tree.n_clusters)
            for row, column in zip(sums, np.concatenate([noisy, z], axis=1).T, strict=True):
                row += np.bincount(cluster, column, tree.n_clusters)
            self.n_draws_ += 1
            noise = tree.n_clusters * d / (sigma**2 * counts.sum())
            power = ((sums[d:] ** 2).sum(axis=0) / np.maximum(counts, 1)).sum() / (sigma**2 * counts.sum())
            self.cluster_noise_ = math.sqrt(noise / max(power - noise, 1e-3 * noise))
        if self.n_draws is None and self.cluster_noise_ > wanted:
            warnings.warn(
                f"after {self.n_draws_} draws the cluster averages still hold noise of {self.cluster_noise_:.2f} of "
                f"the score: pass a larger sigma= (now {self.sigma_:.2g}) or prob=, or n_draws= to accept it.",
                ReliabilityWarning,
                stacklevel=4,
            )
        used = counts > 0
        means = (sums[:, used] / counts[used]).T
        return means[:, :d], -means[:, d:] / sigma, counts[used]

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        w1, b1, w2, b2, w3, b3 = self._weights
        y = self._whitening.states(batch)
        score = y @ self._linear + np.tanh(np.tanh(y @ w1 + b1) @ w2 + b2) @ w3 + b3
        return self._whitening.gradient(score, batch.shape)

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        w1, b1, w2, b2, w3, _ = self._weights
        y, along = self._whitening.states(batch), self._whitening.directions(v)
        first = np.tanh(y @ w1 + b1)
        second = np.tanh(first @ w2 + b2)
        hidden = (1 - second**2) * (((1 - first**2) * (along @ w1)) @ w2)
        return self._whitening.gradient(along @ self._linear + hidden @ w3, batch.shape)

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config = {
            "sigma": self.sigma_,
            "prob": float(self.prob),
            "width": int(self.width),
            "max_steps": int(self.max_steps),
            "seed": int(self.seed),
            "n_draws": self.n_draws_,
            "n_clusters": self.n_clusters_,
            "cluster_noise": self.cluster_noise_,
        }
        weights = dict(zip(_NAMES, self._weights, strict=True))
        return config, self._whitening.pack() | {"linear": self._linear} | weights

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        size = math.prod(config["state_shape"])
        score = cls(**{key: config[key] for key in ("sigma", "prob", "n_draws", "width", "max_steps", "seed")})
        score.validate(tuple(config["state_dims"]))
        integer("n_clusters", config["n_clusters"], 1, 10**9)
        number("cluster_noise", config["cluster_noise"], low=0.0, closed=True)
        known = {"mean", "whitening", "linear", *_NAMES}
        if score.sigma is None or score.n_draws is None or not known.issuperset(arrays):
            raise CheckpointError("the score file does not describe a KGMM score: it was altered; fit the score anew.")
        width = score.width
        shapes = ((size, width), (width,), (width, width), (width,), (width, size), (size,))
        score._weights = [checked_array(arrays, name, shape) for name, shape in zip(_NAMES, shapes, strict=True)]
        score._linear = checked_array(arrays, "linear", (size, size))
        score._whitening = Whitening.unpack(arrays, size)
        score.sigma_, score.n_draws_ = float(score.sigma), score.n_draws
        score.n_clusters_, score.cluster_noise_ = config["n_clusters"], float(config["cluster_noise"])
        if not np.array_equal(score._levels(tuple(config["state_shape"])), config["noise_level"]):
            raise CheckpointError("the noise level in the score file is not that of its sigma: it was altered.")
        return score


def _train(
    centres: NDArray[np.float64],
    residuals: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    width: int,
    steps: int,
    seed: int,
) -> list[NDArray[np.float64]]:
    """Return the weights that minimise sum_C N_C |residual_C - F(centre_C)|^2, by Adam with a falling rate."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    d = centres.shape[1]
    shapes = [(d, width), (width,), (width, width), (width,), (width, d), (d,)]
    scales = [1.5 / math.sqrt(d), 1.0, 1.5 / math.sqrt(width), 0.1, 0.0, 0.0]
    w1, b1, w2, b2, w3, b3 = parameters = [
        (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    x, target = torch.from_numpy(centres), torch.from_numpy(residuals)
    share = torch.from_numpy(counts / counts.sum())[:, None]
    optimizer = torch.optim.Adam(parameters, lr=1e-2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        output = torch.tanh(torch.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3
        loss = (share * (target - output) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return [parameter.detach().numpy() for parameter in parameters]
