r"""The response from the linearised drift along the record: the short-time fluctuation-dissipation theorem.

Two solutions of dx = F(x) dt + dN with the same additive noise and starts a little apart obey, for their difference M,

    dM/dt = J(x(t)) M,   M(0) = I,   J = grad F,           R(t) = <M(t)>,                                           (1)

the mean over all starts on the stationary record: exact for the mean of the state, and no density is
asked for (Boffetta et al. 2003; the "short-time FDT" of Abramov & Majda 2007). From states a sample interval h apart

    M_{n+1} = exp[h (J_n + J_{n+1})/2] M_n.                                                                         (2)

**Error of (2).** The path between samples is a Brownian bridge: the trapezoid errs by a random amount of variance (grad
J)^2 Q h^3/12 per interval, whose mean is higher order, so that a single M errs by O(h) and the mean <M> by O(h^2). J
must not change much between samples: h below a tenth of the fastest time on which J varies is the practical limit, and
what is left is measured by doing the same with every second sample (attribute ``interval_error``: a third of the
difference).

**Where it ends.** In a chaotic system single M grow like exp(lambda t) although their mean decays: the spread of M
drowns the mean after a few Lyapunov times, and more data move that only logarithmically. In a contracting system that
passes through unstable places (the top of a barrier) the same happens slowly: rare, large M carry the mean. Both show
in how many units carry the sum of |M|^2,

    n_eff(t) = (sum_u w_u)^2 / sum_u w_u^2,        w_u = sum of |M(t)|^2 over the starts of unit u.

A lag is trusted if the standard error is below 2 % of the kick, or below half of it while n_eff is at least 25 (a third
of the units, where there are fewer than 75); ``trusted_lag`` is the last lag before the first that is not. Beyond it a
long-time estimate has to take over, one from a score: what Abramov & Majda call the blended response.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.crosschecks.inputs import Record, check_confidence, lag_samples, load_record, refuse_large
from gfdt.crosschecks.linearised import Drift
from gfdt.crosschecks.results import labelled_response
from gfdt.crosschecks.walk import Walk
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.sums import UnitSums, standard_error
from gfdt.responses.units import Unit
from gfdt.trajectory import Source
from gfdt.validation import integer, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["tangent_response"]

MAX_COMPONENTS = 64  # up to which J is a matrix; beyond, only products J v are affordable
_NEGLIGIBLE, _USELESS = 0.02, 0.5  # standard error as part of the kick
_CARRIERS = 25  # independent units that carry the mean square: the standard error is then known to about a quarter


def tangent_response(
    trajectory: Source,
    drift: Callable[[NDArray[Any]], Any],
    *,
    max_lag: float,
    jacobian: Callable[[NDArray[Any]], Any] | None = None,
    perturbation: Any = None,
    lag_stride: int = 1,
    n_starts: int = 4096,
    confidence: float | None = 0.95,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> xr.Dataset:
    r"""Estimate R(t) = <dx(t)/dx(0)> by the linearised drift along the record.

    Parameters
    ----------
    trajectory : DataArray, Dataset, path or ndarray
        The stationary record, of additive noise or none; see :func:`gfdt.load_trajectory`.
    drift : callable
        F(x) of dx = F(x) dt + dN: (..., *state) to the same shape.
    max_lag : float
        Largest lag, in the trajectory's time unit.
    jacobian : callable, optional
        J(x): (..., *state) to (..., d, d), J_ij = dF_i/dx_j. Default None: central differences of F.
    perturbation : None, DataArray or array of the state's shape
        The constant pattern w that is added at t = 0; the result is then R(t) w, from products J v alone where there
        are more than 64 components. Default None: each component is kicked by one unit.
    lag_stride : int
        Every how many samples a lag is returned; (2) uses every sample in any case. Default 1.
    n_starts : int
        How many starts, spaced evenly over the record, at most one at every sample. Default 4096: starts
        closer than the coherence time add little.
    confidence, var, dims, dt
        As in :func:`gfdt.response`.

    Returns
    -------
    Dataset
        ``response``, ``stderr``, ``lower``, ``upper``, ``influence`` with dims ``(lag, *state, *state_src)``, or
        ``(lag, *state)`` for a pattern; ``growth`` (lag): root mean square of |M(t)|/|M(0)| over the starts, in
        standard deviations. Attributes ``trusted_lag``, ``growth_rate`` (of ``growth``, over the second half of the
        lags; per time unit), ``interval_error`` (largest up to ``trusted_lag``, in standard deviations of x_i for a
        kick of one of x_j, or relative to the size of the pattern; NaN if no lag is an even number of samples).

    Raises
    ------
    InputError
        A drift, Jacobian or pattern of another shape; more than 64 components without a pattern or a Jacobian.

    Warns
    -----
    ReliabilityWarning
        If ``trusted_lag`` is shorter than ``max_lag``; too few units; lags beyond half the record.

    References
    ----------
    Boffetta, Lacorata, Musacchio & Vulpiani, Chaos 13, 806 (2003). Abramov & Majda, Nonlinearity 20, 2793 (2007).
    """
    check_confidence(confidence)
    integer("n_starts", n_starts, 1, 2**31)
    record = load_record(trajectory, var=var, dims=dims, dt=dt)
    lags = lag_samples(record.trajectory, max_lag, lag_stride)
    size = record.spread.size
    dense = size <= MAX_COMPONENTS or jacobian is not None
    if not dense and perturbation is None:
        raise InputError(
            f"the full matrix of {size} components needs {size} x {size} derivatives at every sample, the limit is "
            f"{MAX_COMPONENTS}: pass perturbation= (a pattern of the state's shape), or jacobian=."
        )
    kick = np.eye(size) if perturbation is None else _pattern(perturbation, record)
    if not callable(drift):
        raise InputError(f"drift is {shown(drift)}, expected a function F(x): e.g. lambda x: x - x**3.")
    flow = Drift(drift, jacobian, record.shape, record.spread)
    units, unit_text = record.units(warn=confidence is not None)
    starts, owners = _starts(record, units, int(lags[-1]), n_starts)
    counts = np.bincount(owners).astype(np.float64)
    refuse_large(
        2 * 8 * counts.size * lags.size * kick.size, f"{counts.size} units x {lags.size} lags of {kick.size} numbers"
    )
    walk = Walk(record, flow, kick, lags, dense=dense)
    sums, squares = walk.sums(starts, owners)
    means = UnitSums(sums, counts[:, None, None, None])
    estimate, influence = means.mean(), means.influence()
    growth = np.sqrt(squares.sum(axis=0) / counts.sum()) / walk.size
    trusted = max(_trust(walk, influence, squares), 0)
    if trusted < lags.size - 1:
        warnings.warn(
            f"the mean of the tangent is known up to lag {lags[trusted] * record.step:g} only (attribute trusted_lag; "
            f"perturbations have grown {growth[-1]:.2g} times at lag {lags[-1] * record.step:g}): use these lags, and "
            "a response from a score beyond them.",
            ReliabilityWarning,
            stacklevel=2,
        )
    kicked = perturbation is None
    out = labelled_response(
        record,
        lags,
        estimate if kicked else estimate[..., 0],
        influence if kicked else influence[..., 0],
        confidence=confidence,
        kicked=kicked,
        attributes={
            "estimator": "tangent",
            "references": "Boffetta et al., Chaos 13, 806 (2003)",
            "resampling": unit_text,
            "n_starts": int(counts.sum()),
            "trusted_lag": float(lags[trusted] * record.step),
            "growth_rate": _growth_rate(np.asarray(lags * record.step), growth),
            "interval_error": walk.interval_error(starts, int(lags[trusted])),
        },
        settings={"max_lag": float(max_lag), "lag_stride": int(lag_stride), "n_starts": int(n_starts)},
    )
    out["growth"] = ("lag", growth, {"long_name": "root mean square growth of a perturbation", "units": "1"})
    return out


def _pattern(perturbation: Any, record: Record) -> NDArray[np.float64]:
    """Return w as one column (d, 1)."""
    if isinstance(perturbation, xr.DataArray) and set(perturbation.dims) == set(record.dims):
        perturbation = perturbation.transpose(*record.dims)
    try:
        w = np.asarray(perturbation, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"perturbation={shown(perturbation)} is not an array: this estimate answers a constant pattern w only."
        ) from error
    if w.shape != record.shape or not np.isfinite(w).all() or not w.any():
        raise InputError(
            f"the pattern has shape {w.shape}: expected that of the state, "
            f"{dict(zip(record.dims, record.shape, strict=True))}, with finite values that are not all zero."
        )
    return w.reshape(-1, 1)


def _starts(
    record: Record, units: list[Unit], reach: int, n_starts: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the starts, in samples of all members one after the other, and the unit of each.

    All have ``reach`` samples behind them, so that units at the end of a member may have none and are left out.
    """
    members, times = record.series.shape[:2]
    usable = times - reach
    every = np.arange(0, usable, max(members * usable // n_starts, 1))
    found = [every[(every >= unit.start) & (every < unit.stop)] + unit.member * times for unit in units]
    found = [own for own in found if own.size]
    return np.concatenate(found), np.repeat(np.arange(len(found)), [own.size for own in found])


def _trust(
    walk: Walk,
    influence: NDArray[np.float64],
    squares: NDArray[np.float64],
) -> int:
    """Return the index of the last lag before the first that cannot be trusted (see the module)."""
    noise = np.linalg.norm(standard_error(influence) * walk.scale, axis=(1, 2)) / walk.size
    carriers = squares.sum(axis=0) ** 2 / np.maximum((squares**2).sum(axis=0), 1e-300)
    enough = min(_CARRIERS, squares.shape[0] / 3)
    good = (noise <= _NEGLIGIBLE) | ((noise <= _USELESS) & (carriers >= enough))
    return int(np.argmin(good)) - 1 if not good.all() else good.size - 1


def _growth_rate(lag: NDArray[np.float64], growth: NDArray[np.float64]) -> float:
    """Slope of log |M| over the second half of the lags."""
    half = slice(lag.size // 2, None)
    if lag[half].size < 2 or not (growth[half] > 0).all():
        return float("nan")
    return float(np.polyfit(lag[half], np.log(growth[half]), 1)[0])
