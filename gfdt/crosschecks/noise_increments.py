r"""The response from the noise that drove the record: no score, no model of the density, no second run.

For additive noise, dx = F(x) dt + dN with <dN dN^T> = Q dt, a kick of the state at time s is a shift of the noise at s,
and the change of a Gaussian measure under a shift (Girsanov; Furutsu-Novikov) gives, for any F,

    <x_i(t) [Q^-1 (N(b) - N(a))]_j> = int_a^b R_ij(t - s) ds,        a < b <= t:                                    (1)

the likelihood-ratio or Malliavin-weight method (Warren & Allen 2012; Baiesi & Maes 2013). It also holds
where the density has no smooth score. A record with sample interval h and increments Delta_n = N(t_n + h) - N(t_n)
gives box averages

    b_l = <x(t_n + l h) Delta_n^T> Q^-1 / h = (1/h) int_{(l-1)h}^{lh} R(s) ds,        l >= 1;       b_0 = 0.        (2)

**From boxes to lags.** h (b_1 + ... + b_l) is the integral of R at l h; R is its derivative, taken by the formulas that
are exact for a cubic R, with R(0) = I for the box that is missing at l = 1:

    R(l h) = [7 (b_l + b_{l+1}) - b_{l-1} - b_{l+2}]/12 + O(h^4), R(h) = -I/3 + (17 b_1 + 8 b_2 - b_3)/18 + O(h^4).  (3)

The mean of two neighbours, (b_l + b_{l+1})/2, would err by (h^2/6) R''. Two more boxes than lags are needed.

**Variance.** One product x Delta^T Q^-1 / h has a variance of about var(x) / (Q h), so n samples leave a standard error
of (var(x) / (Q n h))^(1/2) at every lag, also where R has long decayed. Most of it is not needed. Delta_n is
independent of x_n and of all other increments, so that in expectation

    b_0 = <x_n Delta_n^T> Q^-1 / h = 0,        g_k = <Delta_{n+k} Delta_n^T> Q^-1 / h = delta_{k0} I,

and what these are in the record is known error. With x_{n+l} = K_l x_n + sum_k b_{l-k} Delta_{n+k} + rest, the
best linear forecast (K_l = C(lh) C(0)^-1), the control variate is

    b_l <- b_l - K_l b_0 - sum_{k=0}^{l-1} b_{l-k} (g_k - delta_{k0} I):                                            (4)

only the rest, which the past and the noise do not determine linearly, is left as sampling error. The b_{l-k} on the
right are estimates themselves, so that (4) is applied three times, each time with those of the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
import xarray as xr

from gfdt.crosschecks.inputs import Record, check_confidence, lag_samples, load_record, refuse_large
from gfdt.crosschecks.noise_checks import refuse_foreign_noise, warn_of_a_bad_start
from gfdt.crosschecks.noise_record import aligned_increments, inverse, named_noise, stated_covariance
from gfdt.crosschecks.results import labelled_response
from gfdt.responses.correlation import outer_sums, pair_counts
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import Unit
from gfdt.trajectory import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["from_boxes", "noise_response"]

SPARE = 2  # boxes beyond the last lag that eq. 3 needs
_PASSES = 3  # of eq. 4: a second with better coefficients took 30 % off the error of a linear system, a third 2 %
_FLOOR = 1e-10  # relative eigenvalue of the state's correlation matrix, below which a direction does not forecast


def noise_response(
    trajectory: Source,
    noise: str | xr.DataArray | NDArray[Any],
    *,
    max_lag: float,
    noise_covariance: Any = None,
    lag_stride: int = 1,
    confidence: float | None = 0.95,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> xr.Dataset:
    r"""Estimate R_ij(t) from the recorded noise increments: R(t) ~ <x(t) dN(0)^T> Q^-1 / dt.

    Parameters
    ----------
    trajectory : DataArray, Dataset, path or ndarray
        The unperturbed stationary record x; see :func:`gfdt.load_trajectory`.
    noise : str, DataArray or ndarray
        Delta_n: the sum of all noise increments dN between sample n and sample n + 1, stored at sample n, in the units
        of x. Shape of the trajectory; the last sample, which no later state has felt, may be missing and is not
        used. A str names a variable of the Dataset or file ``trajectory``.
    max_lag : float
        Largest lag, in the trajectory's time unit; two samples more must fit into the record.
    noise_covariance : float, (d,) or (d, d) array, optional
        Q, the covariance of the noise per unit time (a number: times the identity; a vector: the diagonal). Default
        None: measured from the increments, which costs nothing: after the control variate (4) both have the same error
        to first order.
    lag_stride : int
        Every how many samples a lag is returned. Default 1.
    confidence : float in (0, 1) or None
        Level of the band ``lower``, ``upper``. None: no error bars. Default 0.95.
    var, dims, dt
        As in :func:`gfdt.load_trajectory`; ``dims`` also names the axes of ``noise`` where that is an ndarray.

    Returns
    -------
    Dataset
        ``response``, ``stderr``, ``lower``, ``upper``, ``influence``; dims ``(lag, *state, *state_src)``, as
        :func:`gfdt.response` gives them. R(0) = I is not estimated. Attributes: ``variance_left``, the part of the
        sampling variance that the control variate left, over all boxes; ``interval_error``, the largest difference
        between (3) and the second-order (b_l + b_{l+1})/2, in standard deviations of x_i for a kick of one standard
        deviation of x_j: an upper estimate of the error O(h^4) that the band does not hold.

    Raises
    ------
    InputError
        Increments that are not those of this record (found from <x_n Delta_n> != 0), a Q that is not
        theirs, or a component without noise, the kick of which this method cannot see.

    Warns
    -----
    ReliabilityWarning
        Noise that is correlated in time; increments that extrapolate to another R(0) than I, because h is too long
        for eq. 3 or they are not in the units of x; too few units; lags beyond half the record.

    Notes
    -----
    Only for additive noise, and only where the noise was recorded: a simulation. There it tests a score, because it
    shares neither its model nor its bias, and serves where the density has no score to learn. The more linear the
    system, the more of the sampling error (4) removes. Rms errors of one record each: a linear system of 4 components
    (8 x 2000 samples, h = 0.25, lags to 4) 0.0014, against 0.019 of C(t) C(0)^-1, with 0.5 % of the variance left; the
    double well (64 x 4000 samples, h = 0.1, lags to 20) 0.0026, against 0.0087 of the GFDT with the exact score, with
    29 % left. At h = 1 (3) errs by 0.03 at the first lag of the double well, whose wells relax within 0.5.

    References
    ----------
    Warren & Allen, Phys. Rev. Lett. 109, 250601 (2012). Baiesi & Maes, New J. Phys. 15, 013004 (2013).
    Novikov, Sov. Phys. JETP 20, 1290 (1965).
    """
    check_confidence(confidence)
    trajectory, noise, var = named_noise(trajectory, noise, var)
    record = load_record(trajectory, var=var, dims=dims, dt=dt)
    increments = aligned_increments(noise, record, dims)
    lags = lag_samples(record.trajectory, max_lag, lag_stride, spare=SPARE)
    units, unit_text = record.units(warn=confidence is not None)
    boxes, white, forecast, measured = _sums(record, increments, units, max(int(lags[-1]), 1) + SPARE + 1)
    stated = noise_covariance is not None
    q = stated_covariance(noise_covariance, measured) if stated else measured
    weight = inverse(q) / record.step
    boxes = UnitSums(boxes.sums @ weight, boxes.counts)
    white = UnitSums(white.sums @ weight, white.counts)
    scale = record.spread[None, :] / record.spread[:, None]
    refuse_foreign_noise(boxes, white, scale, np.sqrt(np.diagonal(q)), stated=stated)

    raw, errors = boxes.mean(), boxes.influence()
    before = _scaled_variance(errors, scale)
    estimate, departure = raw, white.mean() - _one_at_zero(white)
    for _ in range(_PASSES):
        estimate = _controlled(raw, estimate, departure, forecast)
    whites = white.influence()
    errors = np.stack(
        [_controlled(error, estimate, other, forecast) for error, other in zip(errors, whites, strict=True)]
    )
    warn_of_a_bad_start(estimate, errors, scale)
    response = from_boxes(estimate, np.eye(scale.shape[0]))
    influence = from_boxes(np.moveaxis(errors, 0, 1), np.zeros(errors.shape[:1] + scale.shape))[lags]
    return labelled_response(
        record,
        lags,
        response[lags],
        np.moveaxis(influence, 1, 0),
        confidence=confidence,
        kicked=True,
        attributes={
            "estimator": "noise increments",
            "references": "Warren & Allen, Phys. Rev. Lett. 109, 250601 (2012)",
            "resampling": unit_text,
            "noise_covariance": "stated" if stated else "measured",
            "variance_left": _scaled_variance(errors, scale) / before,
            "interval_error": _interval_error(estimate, response, scale),
        },
        settings={"max_lag": float(max_lag), "lag_stride": int(lag_stride)},
    )


def from_boxes(boxes: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R(l h), l = 0 .. L, from box averages by eq. 3; exact where R is cubic in t.

    Parameters
    ----------
    boxes : (L + 3, ...)
        b_0 (not used), b_1, ..., b_{L+2}.
    start : (...)
        R(0).

    Returns
    -------
    (L + 1, ...)
    """
    last = boxes.shape[0] - 1 - SPARE
    out = np.empty((last + 1, *boxes.shape[1:]))
    out[0] = start
    if last >= 1:
        out[1] = -start / 3 + (17 * boxes[1] + 8 * boxes[2] - boxes[3]) / 18
    inner, near, far = boxes[2 : last + 1], boxes[3 : last + 2], boxes[4 : last + 3]
    out[2:] = (7 * (inner + near) - boxes[1:last] - far) / 12
    return out


def _interval_error(boxes: NDArray[np.float64], response: NDArray[np.float64], scale: NDArray[np.float64]) -> float:
    """Largest change that eq. 3 makes to the second-order (b_l + b_{l+1})/2: above what it leaves out."""
    middle = (boxes[1:-2] + boxes[2:-1]) / 2
    return float((np.abs(response[1:] - middle) * scale).max())


def _sums(
    record: Record, increments: NDArray[np.float64], units: list[Unit], n_boxes: int
) -> tuple[UnitSums, UnitSums, NDArray[np.float64], NDArray[np.float64]]:
    """Sums of x Delta^T and Delta Delta^T by unit and lag, the forecast K_l, and the measured Q."""
    x, size, times = record.series, record.spread.size, record.series.shape[1]
    refuse_large(
        3 * 8 * len(units) * n_boxes * size**2,
        f"{len(units)} units x {n_boxes} lags of {size} x {size} numbers, thrice,",
    )
    every = np.arange(n_boxes)
    lagged: Any = 0.0
    boxes, white, box_counts, white_counts = [], [], [], []
    for unit in units:
        m = unit.member
        inner = Unit(m, min(unit.start, times - 1), min(unit.stop, times - 1))
        boxes.append(outer_sums(x[m], increments[m], inner, every))
        white.append(outer_sums(increments[m, :-1], increments[m, :-1], inner, every))
        box_counts.append(pair_counts(inner, times, every))
        white_counts.append(pair_counts(inner, times - 1, every))
        lagged = lagged + outer_sums(x[m], x[m], unit, every)
    pairs = np.sum([pair_counts(unit, times, every) for unit in units], axis=0)
    covariances = lagged / pairs[:, None, None]
    # Scaled to a correlation matrix, so that the cut-off knows no units; any K_l leaves the estimate unbiased.
    spread = record.spread
    correlation = covariances / (spread[:, None] * spread)
    forecast = correlation @ np.linalg.pinv(correlation[0], rcond=_FLOOR, hermitian=True)
    forecast *= spread[:, None] / spread
    counts = [np.stack(c)[..., None, None] for c in (box_counts, white_counts)]
    sums = [UnitSums(np.stack(s), c) for s, c in zip((boxes, white), counts, strict=True)]
    return sums[0], sums[1], forecast, sums[1].mean()[0] / record.step


def _controlled(
    boxes: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    white: NDArray[np.float64],
    forecast: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Apply eq. 4: ``white`` holds the errors of g_k, ``coefficients`` the b_l that multiply them."""
    n_fft = scipy.fft.next_fast_len(2 * boxes.shape[0], real=True)
    impulse = coefficients.copy()
    impulse[0] = 0.0  # the noise of an interval moves no earlier state
    product = scipy.fft.rfft(impulse, n_fft, axis=0) @ scipy.fft.rfft(white, n_fft, axis=0)
    return boxes - forecast @ boxes[0] - scipy.fft.irfft(product, n_fft, axis=0)[: boxes.shape[0]]


def _one_at_zero(white: UnitSums) -> NDArray[np.float64]:
    n_lags, size = white.sums.shape[1:3]
    out = np.zeros((n_lags, size, size))
    out[0] = np.eye(size)
    return out


def _scaled_variance(errors: NDArray[np.float64], scale: NDArray[np.float64]) -> float:
    """Sampling variance of all boxes but b_0, which is known, in pure numbers."""
    return float(((errors[:, 1:] * scale) ** 2).sum())
