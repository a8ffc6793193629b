r"""The score of a kernel density estimate: nothing is trained, and nothing is known beyond the samples.

In whitened coordinates y, with Gaussian kernels of width h around the samples (:mod:`gfdt.scores.kernel_sums`),

    s_x = W^T s_y,      s_y = 2 s_h - s_(sqrt(2) h),      s_h = grad log sum_k exp(-|y - y_k|^2 / 2 h^2),

the score of rho itself up to O(h^4). For few components: the error falls as n^(-4/(d + 10)) only.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gfdt.density.family import Family
from gfdt.density.whitened import Whitened
from gfdt.errors import CheckpointError, InputError, ReliabilityWarning
from gfdt.scores.base import Score
from gfdt.scores.heldout import evenly, halves
from gfdt.scores.kernel_sums import DirectSums, GridSums, bin_linearly, unpack_sums, widths
from gfdt.scores.whitening import Whitening
from gfdt.validation import integer, number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["KDEScore"]

_MOST_COMPONENTS = 10
_TESTED = 2**11  # states on which a sum over centres is judged, and centres it has then
_STEP = math.log(2) / 2  # of ln h in the search
_SEARCH = 8  # steps from the reference in either direction: a factor of 16
_KEPT = 4  # lattices of other noise levels: a step needs the two at its ends
_COARSE = {1: 2.0, 2: 2.0, 3: 1.5}  # lattice of the search, in spacings of the final one


class KDEScore(Score):
    """Score of a Gaussian kernel density estimate (Cooper & Haynes 2011), its leading bias removed.

    Parameters
    ----------
    bandwidth : float, optional
        h, in standard deviations of the whitened data. Default: the minimum of the score-matching loss
        <|s|^2/2 + div s> of each half of the record under the other's estimate (blocks of time, so that correlated
        samples do not hide an h that is too small), brought from n/2 to n samples by 2^(-1/(d + 10)). The
        normal-reference rule for gradients, (4/(d + 4))^(1/(d + 6)) n^(-1/(d + 6)), is only where the search starts: on
        the double well it is twice too wide and triples the error.
    max_centres : int
        Where no lattice can be used (more than three components, or tails too long for 4 million nodes) the samples
        are thinned evenly to so many kernels; a state then costs about 0.1 ms. Default 4096.

    Attributes
    ----------
    bandwidth_ : float
        The h used, in standard deviations of the whitened data.
    noise_level_ : float
        0: the blur of the kernels is removed to the second order.

    Notes
    -----
    One to three components: samples are binned linearly on a lattice of 24, 8 or 4 nodes per h (see
    :mod:`gfdt.scores.kernel_sums`). A million samples in two dimensions take some 5 s to fit, most of it the search for
    h, and 0.5 s to evaluate. The result does not depend on units or on a linear mixing of the components, but for the
    orientation of the lattice.

    Examples
    --------
    >>> import numpy as np, gfdt
    >>> x = np.random.default_rng(0).normal(2.0, 0.5, (1, 4000, 1))
    >>> score = gfdt.KDEScore().fit(x, dims=("member", "time", "component"))
    >>> score(np.array([[2.5]])).shape
    (1, 1)

    References
    ----------
    Cooper & Haynes, J. Atmos. Sci. 68, 937 (2011), section 3; Chacon, Duong & Wand, Statistica Sinica 21, 807 (2011),
    for the reference bandwidth; Schucany & Sommers, JASA 72, 420 (1977), for the removal of bias.
    """

    label: ClassVar[str] = "kde"
    bandwidth_: float

    def __init__(self, *, bandwidth: float | None = None, max_centres: int = 4096) -> None:
        self.bandwidth = bandwidth
        self.max_centres = max_centres

    def validate(self, dims: tuple[str, ...]) -> None:  # noqa: ARG002  the same call for every estimator
        """Refuse settings that cannot be used; ``fit`` calls it before any work."""
        number("bandwidth", self.bandwidth, low=0.0, high=10.0, optional=True)
        integer("max_centres", self.max_centres, 2, 10**6)

    def _fit(self, trajectory: xr.DataArray) -> None:
        self.validate(tuple(str(dim) for dim in trajectory.dims[2:]))
        states = trajectory.values.reshape(-1, math.prod(trajectory.shape[2:]))
        if states.shape[1] > _MOST_COMPONENTS:
            raise InputError(
                f"the state has {states.shape[1]} components, and samples fill no more than {_MOST_COMPONENTS} densely "
                "enough for kernels: use DSMScore, or GaussianScore for a start."
            )
        self._whitening = Whitening.estimate(states)
        y = self._whitening.states(states)
        if self.bandwidth is None:
            self.bandwidth_ = _best_bandwidth(y, halves(*trajectory.shape[:2]), self.max_centres)
        else:
            self.bandwidth_ = float(self.bandwidth)
        self._sums = GridSums.bin(y, self.bandwidth_) or _thinned(y, self.bandwidth_, self.max_centres)

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._whitening.gradient(self._sums.score(self._whitening.states(batch)), batch.shape)

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        y, along = self._whitening.states(batch), self._whitening.directions(v)
        return self._whitening.gradient(self._sums.product(y, along), batch.shape)

    def _family(self) -> Family:
        """Noise is white in y: the kernels widen, and the covariance of y is I."""
        units = Whitened(self._whitening, self.state_shape_)
        sums = functools.lru_cache(maxsize=_KEPT)(lambda level: self._sums.blurred(level) if level else self._sums)

        def correction(a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
            return sums(level).score(a.reshape(len(a), -1)).reshape(a.shape) + a / (1 + level**2)

        def product(a: NDArray[np.float64], level: float, u: NDArray[np.float64]) -> NDArray[np.float64]:
            along = sums(level).product(a.reshape(len(a), -1), u.reshape(len(u), -1))
            return along.reshape(a.shape) + u / (1 + level**2)

        return Family(units.simplified(), units.covariance, self.state_shape_, 0.0, correction, product)

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config = {"bandwidth": self.bandwidth_, "max_centres": int(self.max_centres)}
        return config, self._whitening.pack() | self._sums.pack()

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        size = math.prod(config["state_shape"])
        score = cls(bandwidth=config["bandwidth"], max_centres=config["max_centres"])
        score.validate(tuple(config["state_dims"]))
        if score.bandwidth is None or config["noise_level"] != 0 or size > _MOST_COMPONENTS:
            raise CheckpointError("the score file does not describe a KDE score: it was altered; fit the score anew.")
        score.bandwidth_ = float(score.bandwidth)
        score._whitening = Whitening.unpack(arrays, size)
        score._sums = unpack_sums(arrays, size, score.bandwidth_)
        if not {*score._whitening.pack(), *score._sums.pack()}.issuperset(arrays):
            raise CheckpointError("the score file holds arrays that do not belong there: it was altered; fit it anew.")
        return score


def _thinned(y: NDArray[np.float64], h: float, most: int) -> DirectSums:
    centres = y[evenly(len(y), most)]
    return DirectSums(centres, np.ones(len(centres)), widths(h))


def _best_bandwidth(y: NDArray[np.float64], first: NDArray[np.bool_], max_centres: int) -> float:
    """Return h at the minimum of the cross-validated loss: downhill in steps of sqrt(2), then a parabola in ln h."""
    n, d = y.shape
    reference = (4 / (d + 4)) ** (1 / (d + 6)) * n ** (-1 / (d + 6))
    folds = ((y[first], y[~first]), (y[~first], y[first]))
    losses: dict[int, float] = {}

    def loss(k: int) -> float:
        if k not in losses:
            h = reference * math.exp(k * _STEP)
            losses[k] = sum(_held_out_loss(fitted, held, h, max_centres) for fitted, held in folds)
        return losses[k]

    best = 0
    while abs(best) < _SEARCH:
        lowest = min((best, best - 1, best + 1), key=loss)
        if lowest == best:
            break
        best = lowest
    if abs(best) == _SEARCH:
        h = reference * math.exp(best * _STEP)
        warnings.warn(
            f"the held-out loss is still falling at the bandwidth {h:.3g} standard deviations, {2.0 ** (best / 2):.3g} "
            "times the usual one: samples repeat, or the density has no width; check the record, or pass bandwidth=.",
            ReliabilityWarning,
            stacklevel=4,
        )
        return h
    below, here, above = loss(best - 1), loss(best), loss(best + 1)
    bend = below - 2 * here + above
    shift = 0.5 * (below - above) / bend if bend > 0 else 0.0
    return reference * math.exp((best + shift) * _STEP) * 2 ** (-1 / (d + 10))


def _held_out_loss(fitted: NDArray[np.float64], held: NDArray[np.float64], h: float, max_centres: int) -> float:
    both = np.concatenate([fitted, held]) if fitted.shape[1] in _COARSE else fitted
    grid = GridSums.bin(both, h, coarseness=_COARSE.get(fitted.shape[1], 1.0))
    if grid is None:
        return _thinned(fitted, h, min(max_centres, _TESTED)).loss(held[evenly(len(held), _TESTED)])
    place = (grid.origin, grid.spacing, grid.counts.shape)
    return GridSums(bin_linearly(fitted, *place), grid.origin, grid.spacing, h).loss(bin_linearly(held, *place))
