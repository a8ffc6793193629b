r"""Which forcing explains an observed change: the inverse problem, with what it cannot tell.

For a forcing f kept since t = 0 the change at time t is y = S(t) f + noise. With independent prior f_j ~ N(0, p^2),
f in units of its scale (:mod:`gfdt.forcing.scale`; S to match), and noise covariance N the posterior is Gaussian
(Tikhonov's solution; Tarantola, Inverse Problem Theory, 2005, ch. 3),

    C_post = (S' N^-1 S + p^-2 I)^-1,      <f> = C_post S' N^-1 y,
    resolution = diag(C_post S' N^-1 S) = 1 - C_post,jj / p^2.

Resolution 1: the data fix this forcing. Resolution 0: they say nothing about it; its estimate is then 0 with the
prior's standard deviation, not an invention.

N holds the noise of the observation and that of S itself: N = diag(stderr^2) + n/(n - 1) sum_u (E_u f)(E_u f)', E_u
the influences of S, with f taken from the solution and iterated (first order: S must be known to better than about
its own size along what is solved for). p is, unless given, the LARGEST prior spread that the data do not reject (log
evidence within 1.92 of its maximum, a likelihood-ratio test at 95 %): as little pull towards zero as the data allow,
so that what they do not fix is seen to be open.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import xarray as xr
from scipy import stats

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.drive import aligned
from gfdt.forcing.optimal import target_values
from gfdt.forcing.posterior import Posterior
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.scale import read_scale
from gfdt.forcing.spline import integral_weights
from gfdt.forcing.steering import Steering
from gfdt.validation import is_number, number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["attribute"]

_MAX_UNKNOWNS = 4096  # a dense problem: its factorisation takes seconds at this size
_MAX_DIRECTIONS = 256
_PASSES = 12
_REJECTED = 1e-3  # p-value below which it is said that no constant forcing explains the change
_TESTABLE = 0.5  # degrees of freedom left by the fit; with fewer the data are met whatever the model


def attribute(
    response: xr.Dataset | xr.DataArray,
    observed_change: xr.DataArray | float,
    stderr: xr.DataArray | float,
    *,
    prior_std: float | None = None,
    forcing_scale: xr.DataArray | NDArray[np.float64] | float | None = None,
    confidence: float = 0.95,
) -> xr.Dataset:
    r"""Find the constant forcing, switched on at t = 0, that explains an observed change.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t); see :func:`gfdt.response`.
    observed_change : DataArray or number
        y: the change of each observable (its dims, and the sites ``y, x`` of a homogeneous field), at the longest
        lag, or at several times: with a dim ``time``, 0 < time <= longest lag.
    stderr : DataArray like ``observed_change``, or number > 0
        Standard error of y; errors of different observables, sites and times are taken as independent.
    prior_std : float > 0, optional
        p, the size of forcing thought possible, in units of ``forcing_scale``. Default None: the largest that the
        data do not reject; see :mod:`gfdt.forcing.attribution`.
    forcing_scale : DataArray over the perturbed dims, array or number > 0, optional
        What a forcing of size 1 is in each direction, in the unit of the forcing: without it one p could not serve
        directions of different units. Default: the natural standard deviation of each component where R carries it,
        otherwise 1, as in :func:`gfdt.optimal_forcing`; with a part of the observables,
        ``R.sel(component=[...])``, pass ``forcing_scale=R.observable_std`` of the whole.
    confidence : float in (0, 1)
        Level of the credible band. Default 0.95, the custom.

    Returns
    -------
    Dataset
        ``forcing`` with ``stderr`` (posterior standard deviation), ``lower``, ``upper``; ``resolution`` in [0, 1] and
        ``constrained`` (resolution above 1/2), all with the dims of a forcing; ``explained``, the change S f, and
        ``residual`` = y - S f, like y; ``forcing_scale``. Up to 256 unknowns also ``direction`` (mode, \*perturbed),
        the independent combinations of forcings in units of their scale, from the best to the least known, and
        ``direction_resolution`` (mode): those near 0 are the null space. Attributes: ``prior_std``,
        ``degrees_of_freedom`` (the trace of the resolution), ``chi_square`` of the residual with ``chi_square_dof``
        and ``p_value``: a small p says that no constant forcing of these directions explains y. Where the fit leaves
        less than half a degree of freedom (as many unknowns as data, all determined) the data are met whatever the
        model: chi_square and p_value are then NaN, chi_square_dof 0. ``summary`` in words.

    Raises
    ------
    InputError
        If y, its error or the scale do not fit R, or there are more than 4096 unknowns or data.

    Warns
    -----
    ReliabilityWarning
        If no forcing explains the change (p below 0.001).

    Examples
    --------
    >>> lag = np.linspace(0.0, 20.0, 201)
    >>> R = xr.DataArray(np.exp(-2 * lag), dims="lag", coords={"lag": lag})
    >>> got = attribute(R, 0.5, stderr=0.01)  # S(T) = 1/2
    >>> round(float(got.forcing), 2), round(float(got.stderr), 3)
    (1.0, 0.02)
    """
    number("prior_std", prior_std, low=0.0, optional=True)
    number("confidence", confidence, low=0.0, high=1.0)
    R = read_response(response)
    y, times = _read_change(observed_change, R)
    noise = _read_stderr(stderr, observed_change, R, y)
    weights = integral_weights(R.lags, R.lags[-1:] if times is None else times)
    problem = _Problem(R, weights, read_scale(forcing_scale, R))
    _refuse_large(problem, y.size)
    matrix = problem.matrix()
    found = _solve(problem, matrix, y, noise, np.zeros(matrix.shape[1]), prior_std)
    for _ in range(_PASSES):
        previous = found.mean
        found = _solve(problem, matrix, y, noise, previous, prior_std)
        if np.linalg.norm(found.mean - previous) <= 1e-4 * np.linalg.norm(previous):
            break
    return _labelled(problem, found, matrix, y, times, confidence)


@dataclass(frozen=True)
class _Problem:
    """S at the times of the data as one dense matrix, and its errors, for forcings in units of their scale."""

    response: ResponseFunction
    lag_weights: NDArray[np.float64]  # (time, lag)
    scale: xr.DataArray  # over the perturbed dims

    @property
    def n_unknowns(self) -> int:
        return int(np.prod(self.response.source_shape))

    @property
    def unit(self) -> NDArray[np.float64]:
        """The scale of each unknown, the same at all sites: (source,)."""
        flat = self.scale.values.ravel()
        return np.tile(flat, self.n_unknowns // flat.size)

    def matrix(self) -> NDArray[np.float64]:
        """(time * target, source): columns are the changes under a forcing of one scale along each direction."""
        return self._unscaled() * self.unit

    def _unscaled(self) -> NDArray[np.float64]:
        R = self.response
        n_sites = int(np.prod(R.shape(R.displacement)))
        kernel = np.tensordot(self.lag_weights, R.values, axes=(1, 0))
        kernel = kernel.reshape(-1, R.n_observed, n_sites, R.n_perturbed)
        if not R.displacement:
            return kernel.reshape(-1, R.n_perturbed)
        shape = R.shape(R.displacement)
        sites = np.indices(shape).reshape(len(shape), -1)
        # displacement of site x from site x', at index displacement + n // 2 of its dim
        steps = [(s[:, None] - s[None, :] + n // 2) % n for s, n in zip(sites, shape, strict=True)]
        index = np.ravel_multi_index(steps, shape)
        return kernel[:, :, index, :].reshape(-1, n_sites * R.n_perturbed)

    def error_covariance(self, forcing: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariance of S f from the errors of S, f in units of its scale; zero without error bars."""
        R = self.response
        n_data = self.lag_weights.shape[0] * int(np.prod(R.target_shape))
        if R.stderr is None or not forcing.any():
            return np.zeros((n_data, n_data))
        # one time after the other: each is the change that a constant forcing has made by then
        real = (forcing * self.unit).reshape(1, *R.source_shape)
        changes = [Steering(R, row[None], np.ones(1)).achieved(real) for row in self.lag_weights]
        if R.influence is None:
            return np.diag(np.concatenate([np.ravel(item.stderr) ** 2 for item in changes if item.stderr is not None]))
        n_units = R.influence.shape[0]
        errors = np.concatenate(
            [item.influence.reshape(n_units, -1) for item in changes if item.influence is not None], axis=1
        )
        return errors.T @ errors * n_units / max(n_units - 1, 1)


def _solve(
    problem: _Problem,
    matrix: NDArray[np.float64],
    y: NDArray[np.float64],
    noise: NDArray[np.float64],
    forcing: NDArray[np.float64],
    prior_std: float | None,
) -> Posterior:
    """The posterior with the error that S makes under ``forcing``: whiten the data, then solve."""
    covariance = np.diag(noise.ravel() ** 2) + problem.error_covariance(forcing)
    root = scipy.linalg.cholesky(covariance, lower=True)
    white = scipy.linalg.solve_triangular(root, np.column_stack([matrix, y.ravel()]), lower=True)
    return Posterior.solve(white[:, :-1], white[:, -1], prior_std)


def _read_change(
    change: xr.DataArray | float, response: ResponseFunction
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Y with axes (time, *target), and its times if it has any."""
    if not (isinstance(change, xr.DataArray) and "time" in change.dims):
        return target_values(change, response, "observed_change")[None], None
    if "time" not in change.coords or not np.issubdtype(change["time"].dtype, np.number):
        raise InputError(
            "observed_change has no numeric 'time' coordinate: give the times since the forcing set in, in the unit of "
            f"the lags ({response.unit})."
        )
    times = np.asarray(change["time"].values, dtype=np.float64)
    if not ((times > 0) & (times <= response.lags[-1] * (1 + 1e-9))).all():
        raise InputError(
            f"observed_change has times from {times.min():g} to {times.max():g}: they must lie in (0, "
            f"{response.lags[-1]:g}], the lags at which the response is known."
        )
    slices = [target_values(change.isel(time=k, drop=True), response, "observed_change") for k in range(times.size)]
    return np.stack(slices), times


def _read_stderr(
    stderr: xr.DataArray | float, change: xr.DataArray | float, response: ResponseFunction, y: NDArray[np.float64]
) -> NDArray[np.float64]:
    if is_number(stderr):
        values = np.full(y.shape, float(stderr))
    elif isinstance(stderr, xr.DataArray) and isinstance(change, xr.DataArray) and set(stderr.dims) <= set(change.dims):
        labels = {str(dim): change[dim] for dim in stderr.dims if dim in change.coords}
        full = xr.broadcast(
            aligned(stderr, labels, "stderr").drop_vars(labels, errors="ignore"), change.drop_vars(labels)
        )
        values = _read_change(full[0].assign_coords(change.coords), response)[0]
    else:
        raise InputError(f"stderr is {shown(stderr)}: pass a number, or a DataArray with the dims of observed_change.")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError("stderr holds zeros, negative numbers or NaN: every datum needs an error > 0.")
    return values


def _refuse_large(problem: _Problem, n_data: int) -> None:
    if max(problem.n_unknowns, n_data) > _MAX_UNKNOWNS:
        raise InputError(
            f"there are {problem.n_unknowns} unknown forcings and {n_data} data, at most {_MAX_UNKNOWNS} of each are "
            "handled: combine directions into patterns, coarsen the field, or take fewer times."
        )


def _labelled(
    problem: _Problem,
    found: Posterior,
    matrix: NDArray[np.float64],
    y: NDArray[np.float64],
    times: NDArray[np.float64] | None,
    confidence: float,
) -> xr.Dataset:
    R = problem.response
    shape, dims = R.source_shape, R.source_dims
    mean, sd = found.mean * problem.unit, np.sqrt(found.variance) * problem.unit
    half = stats.norm.ppf(0.5 + confidence / 2) * sd
    explained = (matrix @ found.mean).reshape(y.shape)
    target_dims: tuple[str, ...] = ("time", *R.target_dims)
    coords: dict[str, Any] = R.side_coords((*R.observed, *R.perturbed))
    if times is None:
        target_dims, explained, y = R.target_dims, explained[0], y[0]
    else:
        coords["time"] = ("time", times, {"long_name": "time since the forcing set in", "units": R.unit})
    data: dict[str, Any] = {}
    for name, values, text in (
        ("forcing", mean, "constant forcing that explains the change, posterior mean"),
        ("stderr", sd, "posterior standard deviation of the forcing"),
        ("lower", mean - half, "lower end of the credible band of the forcing"),
        ("upper", mean + half, "upper end of the credible band of the forcing"),
        ("resolution", found.resolution, "share of the forcing that the data determine"),
        ("constrained", found.resolution > 0.5, "whether the data determine more than half of the forcing"),
    ):
        data[name] = (dims, values.reshape(shape), {"long_name": text, "units": "1"})
    data["explained"] = (target_dims, explained, {"long_name": "change that the forcing makes", "units": "1"})
    data["residual"] = (target_dims, y - explained, {"long_name": "observed less explained change", "units": "1"})
    if found.mean.size <= _MAX_DIRECTIONS:
        vectors = found.directions.reshape(-1, *shape)
        text = "independent combination of forcings in units of their scale, best known first"
        data["direction"] = (("mode", *dims), vectors, {"long_name": text, "units": "1"})
        text = "share of the combination that the data determine"
        data["direction_resolution"] = ("mode", found.gains, {"long_name": text, "units": "1"})
    freedom = float(found.gains.sum())
    dof = y.size - freedom
    chi_square, p_value = found.chi_square, float(stats.chi2.sf(found.chi_square, max(dof, _TESTABLE)))
    if dof < _TESTABLE:
        chi_square, dof, p_value = float("nan"), 0.0, float("nan")
    if p_value < _REJECTED:
        warnings.warn(
            f"no constant forcing explains the observed change: chi^2 = {chi_square:.4g} for {dof:.3g} degrees "
            f"of freedom (p = {p_value:.1g}); another direction is forced, the forcing varies, or stderr is too small.",
            ReliabilityWarning,
            stacklevel=3,
        )
    return (
        xr.Dataset(data, coords=coords)
        .assign(forcing_scale=problem.scale)
        .assign_attrs(
            title="attribution of an observed change to a constant forcing",
            confidence=float(confidence),
            prior_std=found.prior_std,
            degrees_of_freedom=freedom,
            chi_square=chi_square,
            chi_square_dof=float(dof),
            p_value=p_value,
            summary=_summary(y.size, found, p_value),
        )
    )


def _summary(n_data: int, found: Posterior, p_value: float) -> str:
    """What the data say and what they leave open, in words."""
    n, n_open = found.mean.size, int((found.resolution <= 0.5).sum())
    one, each = found.prior_std, "" if n == 1 else "each "
    left = f"{n_open} of the {n} forcings, taken {each}by itself, {'is' if n_open == 1 else 'are'} not determined: "
    left += f"less than half of it comes from the data, the rest from the prior, 0 +- {one:.3g} forcing_scale"
    parts = [
        f"{n_data} data determine {found.gains.sum():.1f} combinations of {n} forcing{'s' * (n > 1)}",
        left if n_open else ("it is determined" if n == 1 else "each forcing is determined by itself"),
        "the data cannot test whether a constant forcing is the cause: the fit leaves no degree of freedom"
        if np.isnan(p_value)
        else f"a constant forcing of these directions {'does not explain' if p_value < _REJECTED else 'may explain'} "
        f"the change (p = {p_value:.2g})",
    ]
    return "; ".join(parts)
