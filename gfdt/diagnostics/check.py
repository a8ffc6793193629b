r"""Does a score satisfy the identities every exact score satisfies?

For the score s of the stationary density, integrating by parts gives, for every component or wavenumber,

    <s> = 0,      M = -<x' s^T> = I (Stein),      K_i = -<x_i'^3 s_i> / (3 <x_i'^2>) = 1,        x' = x - m.

The first two hold for a Gaussian fit on its own record whatever the data; the third holds for it only if the kurtosis
is Gaussian, and so tells a score that knows the shape of the density from one that does not. A score learned at noise
level sigma has M = P = C (C + sigma^2 I)^-1 and K_i = P_ii on Gaussian data; that known factor is divided out before
judging, since ``gfdt.response`` divides by it too. All of it supposes a stationary record, so a drift of the mean from
the first half of the record to the second is looked for as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import SpectralCovariance
from gfdt.responses.correction import Departure, UnitSums, find_departure, significance_threshold, standard_error
from gfdt.responses.prepare import Prepared, check_arguments, prepare
from gfdt.scores.base import Score
from gfdt.trajectory import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreReport", "check_score"]

_GREEN, _RED = (
    0.05,
    0.20,
)  # rms departure from I, beyond sampling noise: "a few per cent", "wrong"


@dataclass(frozen=True)
class ScoreReport:
    """What :func:`check_score` found; ``print`` it.

    Attributes
    ----------
    verdict : "green", "amber" or "red"
    reasons : tuple of str
        One sentence for each finding that is not green.
    stein : ndarray
        M P^-1: (d, d), or the half-plane of wavenumbers (homogeneous).
    stein_stderr : ndarray
        Its standard error from the resampling units.
    stein_excess : float
        rms of |M P^-1 - I| over its entries, with the squared standard errors subtracted.
    worst_z : float
        Largest |M P^-1 - I| in standard errors.
    cubic_excess : float
        rms of |K_i / P_ii - 1| over the components, beyond sampling noise.
    mean_score : float
        Largest |<s_j>| as a part of the rms of s_j.
    mean_score_z : float
        The same in standard errors.
    drift_z : float
        Largest change of the mean between the halves of the record, in standard errors.
    noise_level : float
        sigma of the score.
    """

    verdict: str
    reasons: tuple[str, ...]
    stein: NDArray[Any]
    stein_stderr: NDArray[np.float64]
    stein_excess: float
    worst_z: float
    cubic_excess: float
    mean_score: float
    mean_score_z: float
    drift_z: float
    noise_level: float

    @property
    def ok(self) -> bool:
        """Whether nothing worse than amber was found."""
        return self.verdict != "red"

    def __str__(self) -> str:
        lines = [
            f"score check: {self.verdict}",
            f"  Stein identity   rms |M - I| beyond noise {self.stein_excess:.3g} (worst {self.worst_z:.1f} stderr)",
            f"  third order      rms |<x^3 s>/(3 <x^2>) + 1| beyond noise {self.cubic_excess:.3g}",
            f"  mean score       largest |<s>| {self.mean_score:.2g} of its rms ({self.mean_score_z:.1f} stderr)",
            f"  stationarity     largest drift of the mean {self.drift_z:.1f} stderr",
            f"  noise level      sigma = {self.noise_level:.3g}",
        ]
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])


def check_score(
    trajectory: Source,
    score: Score | Callable[[NDArray[Any]], NDArray[Any]],
    *,
    homogeneous: bool | str | Sequence[str] | None = None,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    progress: bool | None = None,
) -> ScoreReport:
    """Test a score on a trajectory against <s> = 0, the Stein identity and its third-order companion.

    Parameters
    ----------
    trajectory, var, dims, dt
        As in :func:`gfdt.load_trajectory`; best a record the score was not fitted on.
    score : Score or callable
        s(x), in the units of the data.
    homogeneous : None, True or sequence of str
        Test per wavenumber instead of per pair of components. Default None: as the score itself was fitted.
    progress : bool, optional
        Show a progress bar. Default None: only on a terminal.

    Returns
    -------
    ScoreReport
        Green: departures from the identities below 5 % rms, or within sampling noise. Red: above 20 % and significant.
        ``gfdt.response`` divides a departure from the Stein identity out; one of the third order it cannot.

    Raises
    ------
    InputError
        As :func:`gfdt.response`.
    """
    if homogeneous is None and isinstance(getattr(score, "covariance_", None), SpectralCovariance):
        homogeneous = True
    request = check_arguments(trajectory, score, max_lag=0.0, homogeneous=homogeneous, var=var, dims=dims, dt=dt)
    ready = prepare(request, progress=progress)
    departure = find_departure(
        ready.stein,
        parametric=ready.layout.parametric(ready.covariance, ready.score.noise_level_),
        scale=ready.layout.scale(ready.covariance),
        dense=ready.layout.dense,
    )
    parametric = ready.layout.parametric(ready.covariance, ready.score.noise_level_)
    cubic = _cubic_departure(ready, _pointwise(parametric, ready))
    mean, mean_z, mean_significant = _mean_score(ready)
    drift_z, drifts = _drift(ready)
    reasons, verdict = [], "green"
    if departure.excess > _GREEN and departure.significant:
        verdict = "red" if departure.excess > _RED else "amber"
        where = departure.worst
        reasons.append(
            f"the Stein identity fails by {100 * departure.excess:.0f} % rms (worst at index {where}: "
            f"{np.real(departure.measured[where]):.3g} +- {departure.stderr[where]:.2g} instead of "
            f"{departure.identity[where]:.0f}): gfdt.response divides much of it out, but train longer or with more "
            "data, or check that score and trajectory belong to the same system."
        )
    if cubic.excess > _GREEN and cubic.significant:
        verdict = "red" if verdict == "red" or cubic.excess > _RED else "amber"
        reasons.append(
            f"the third-order identity fails by {100 * cubic.excess:.0f} % rms: the score does not know the shape of "
            "the density (a Gaussian score of other data fails here): learn it, e.g. with DSMScore, or train longer."
        )
    if mean > _GREEN and mean_significant:
        verdict = "red" if verdict == "red" else "amber"
        reasons.append(
            f"the mean score is {100 * mean:.0f} % of its rms ({mean_z:.1f} standard errors): the score belongs to a "
            "density with another mean; fit it on this record, or train longer."
        )
    if drifts:
        verdict = "red" if verdict == "red" else "amber"
        reasons.append(
            f"the mean drifts by {drift_z:.1f} standard errors between the halves of the record, so it is not "
            "stationary: remove trend and seasonal cycle, or cut the spin-up."
        )
    return ScoreReport(
        verdict=verdict,
        reasons=tuple(reasons),
        stein=departure.measured,
        stein_stderr=departure.stderr,
        stein_excess=departure.excess,
        worst_z=departure.worst_z,
        cubic_excess=cubic.excess,
        mean_score=mean,
        mean_score_z=mean_z,
        drift_z=drift_z,
        noise_level=float(ready.score.noise_level_),
    )


def _pointwise(parametric: NDArray[Any], ready: Prepared) -> float | NDArray[np.float64]:
    """P_ii: the diagonal of P, or its value at displacement zero."""
    if ready.layout.dense:
        return np.diagonal(parametric)
    kernel = ready.layout.to_physical(parametric)
    return float(kernel[tuple(size // 2 for size in kernel.shape)])


def _cubic_departure(ready: Prepared, parametric: float | NDArray[np.float64]) -> Departure:
    """K_i / P_ii per component, or averaged over the sites of a homogeneous field."""
    x, mean = ready.trajectory.values, ready.mean
    sums, variances, counts = [], [], []
    for unit in ready.units:
        part = slice(unit.start, unit.stop)
        centred = (x[unit.member, part] - mean).reshape(unit.stop - unit.start, -1)
        b = ready.conjugate[unit.member, part].reshape(centred.shape) - ready.conjugate_mean.ravel()
        sums.append((centred**3 * b).sum(axis=0))
        variances.append((centred**2).sum(axis=0))
        counts.append([centred.shape[0]])
    third, second = np.array(sums), np.array(variances)
    if not ready.layout.dense:
        third, second = third.mean(axis=1, keepdims=True), second.mean(axis=1, keepdims=True)
    # The variance of the record is known far better than the fourth-order sum it divides.
    variance = second.sum(axis=0) / np.sum(counts)
    units = UnitSums(third / (3 * variance * parametric), np.array(counts, dtype=np.float64))
    ones = np.ones(units.sums.shape[1])
    return find_departure(units, parametric=ones, scale=1.0, dense=False)


def _mean_score(ready: Prepared) -> tuple[float, float, bool]:
    """Largest |<s_j>| over the rms of s_j, in standard errors, and whether chance would hardly exceed it."""
    units = ready.conjugate_units
    stderr = standard_error(units.influence())
    mean = np.abs(units.mean())
    rms = np.sqrt((ready.conjugate.astype(np.float64) ** 2).mean(axis=(0, 1))).ravel()
    z = mean / np.maximum(stderr, 1e-300)
    share = float((mean / np.maximum(rms, 1e-300)).max())
    return share, float(z.max()), bool(z.max() > significance_threshold(z.size, len(ready.units)))


def _drift(ready: Prepared) -> tuple[float, bool]:
    """Change of the mean from the first half of each member to the second, against the spread between units."""
    x = ready.trajectory.values
    times = x.shape[1]
    if len(ready.units) == x.shape[0]:
        halves = [x[:, : times // 2].mean(axis=1), x[:, times // 2 :].mean(axis=1)]
        change = (halves[1] - halves[0]).reshape(x.shape[0], -1).astype(np.float64)
        stderr = change.std(axis=0, ddof=1) / np.sqrt(x.shape[0])
        z = np.abs(change.mean(axis=0)) / np.maximum(stderr, 1e-300)
        return float(z.max()), bool(z.max() > significance_threshold(z.size, x.shape[0]))
    means = np.array([x[u.member, u.start : u.stop].mean(axis=0).ravel() for u in ready.units], dtype=np.float64)
    late = np.array([u.start + u.stop > times for u in ready.units])
    change = means[late].mean(axis=0) - means[~late].mean(axis=0)
    stderr = np.sqrt(sum(means[part].var(axis=0, ddof=1) / part.sum() for part in (late, ~late)))
    z = np.abs(change) / np.maximum(stderr, 1e-300)
    return float(z.max()), bool(z.max() > significance_threshold(z.size, len(ready.units) - 1))
