r"""Does a score satisfy the identities every exact score satisfies?

For the score of the stationary density, integrating by parts gives <s> = 0 (so <B> = 0) and the Stein identity
M = -<(x - m) s^T> = I, per pair of components or, for a homogeneous field, per wavenumber. A score learned at noise
level sigma has M = P = C (C + sigma^2 I)^-1 on Gaussian data; that known factor is divided out before judging, since
``gfdt.response`` divides by it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance import SpectralCovariance
from gfdt.responses.correction import UnitSums, find_departure, significance_threshold
from gfdt.responses.prepare import prepare
from gfdt.scores.base import Score
from gfdt.trajectory import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreReport", "check_score"]

_GREEN, _RED = (
    0.05,
    0.20,
)  # rms departure from I, beyond sampling noise: "a few per cent" and "the score is wrong"


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
    mean_score_z : float
        Largest |<s_j>| in standard errors.
    noise_level : float
        sigma of the score.
    """

    verdict: str
    reasons: tuple[str, ...]
    stein: NDArray[Any]
    stein_stderr: NDArray[np.float64]
    stein_excess: float
    worst_z: float
    mean_score_z: float
    noise_level: float

    @property
    def ok(self) -> bool:
        """Whether nothing worse than amber was found."""
        return self.verdict != "red"

    def __str__(self) -> str:
        lines = [
            f"score check: {self.verdict}",
            f"  Stein identity   rms |M - I| beyond noise {self.stein_excess:.3g} (worst {self.worst_z:.1f} stderr)",
            f"  mean score       largest |<s>| {self.mean_score_z:.1f} stderr",
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
    """Test a score on a trajectory against <s> = 0 and the Stein identity.

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
        Green: departures from the identity below 5 % rms, or within sampling noise. Red: above 20 % and significant.

    Raises
    ------
    InputError
        As :func:`gfdt.response`.
    """
    if homogeneous is None and isinstance(getattr(score, "covariance_", None), SpectralCovariance):
        homogeneous = True
    ready = prepare(
        trajectory, score, max_lag=0.0, homogeneous=homogeneous, var=var, dims=dims, dt=dt, progress=progress
    )
    departure = find_departure(
        ready.stein,
        parametric=ready.layout.parametric(ready.covariance, ready.score.noise_level_),
        scale=ready.layout.scale(ready.covariance),
        dense=ready.layout.dense,
    )
    mean_z, mean_threshold = _mean_score_z(ready.conjugate_units)
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
    if mean_z > mean_threshold:
        verdict = "red" if verdict == "red" else "amber"
        reasons.append(
            f"the mean score is {mean_z:.1f} standard errors from zero: the trajectory is not stationary, or its "
            "density is not the one the score was fitted on."
        )
    return ScoreReport(
        verdict=verdict,
        reasons=tuple(reasons),
        stein=departure.measured,
        stein_stderr=departure.stderr,
        stein_excess=departure.excess,
        worst_z=departure.worst_z,
        mean_score_z=mean_z,
        noise_level=float(ready.score.noise_level_),
    )


def _mean_score_z(units: UnitSums) -> tuple[float, float]:
    """Largest |<s_j>| in standard errors, and what chance alone would hardly exceed."""
    influence = units.influence()
    n_units = influence.shape[0]
    stderr = np.sqrt((influence**2).sum(axis=0) * n_units / max(n_units - 1, 1))
    z = np.abs(units.mean()) / np.maximum(stderr, 1e-300)
    return float(z.max()), significance_threshold(z.size, n_units)
