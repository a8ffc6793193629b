r"""The forcing that brings the observables to a target, or that moves them most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.drive import aligned
from gfdt.forcing.linear_range import linear_range
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.scale import read_scale
from gfdt.forcing.steering import Steering, solve_least_squares
from gfdt.validation import is_number, number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["optimal_forcing", "target_values"]


def optimal_forcing(
    response: xr.Dataset | xr.DataArray,
    target: xr.DataArray | float | None = None,
    *,
    effort: float | None = None,
    weight: xr.DataArray | None = None,
    forcing_scale: xr.DataArray | NDArray[np.float64] | float | None = None,
    time: Sequence[float] | NDArray[Any] | xr.DataArray | None = None,
) -> xr.Dataset:
    r"""Find the forcing whose response comes closest to a target.

        minimise  sum_i w_i (L f - target)_i^2 + effort |f/scale|^2,

    L f = S(T) f for a constant forcing kept up to the longest lag T, or int R(t_end - t') f(t') dt' for a forcing
    over the given times, with |f/scale|^2 = int sum_j (f_j/scale_j)^2 dt. Without a target: the unit forcing,
    |f/scale| = 1, with the largest response |L f|_w (the leading singular vector). The scale makes components of
    different units comparable.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t); see :func:`gfdt.response`.
    target : DataArray with the observable's dims (and the sites ``y, x`` of a homogeneous field), number, or None
        The change that is wanted. A number where there is one observable.
    effort : float >= 0, optional
        Price of forcing, in the unit of (weighted) target^2 / (forcing/scale)^2. Default None: the squared error that
        R's own error would add, E|dL f|^2 = f' V f, takes its place. The forcing then minimises the EXPECTED squared
        misfit: directions along which L is not known are not used. Without error bars there is none, and the forcing
        is the shortest (in its scale) that comes closest.
    weight : DataArray with the observable's dims, optional
        w_i >= 0. Default: 1/observable_std^2 where R carries it (misfits in natural standard deviations), otherwise 1.
    forcing_scale : DataArray over the perturbed dims, array or number > 0, optional
        The scale, in the unit of the forcing. Default: the natural standard deviation of each component, where R is
        the response of the mean of the state to a push of the same state (dims ``component`` and ``component_src``)
        and carries ``observable_std``; otherwise 1. A selection of observables, ``R.sel(component=[...])``, no longer
        knows it: pass ``forcing_scale=R.observable_std`` of the whole.
    time : array, optional
        Times of the forcing, linear between them; the target is to be reached at the last. Not longer than the lags.
        Default: a constant forcing.

    Returns
    -------
    Dataset
        ``forcing`` (``time``, if given, then the perturbed dims; for a homogeneous field after the sites),
        ``achieved`` with ``achieved_stderr``, ``achieved_lower``, ``achieved_upper`` (the error of R only: the
        forcing is taken as given), ``forcing_scale``, and ``target``, ``residual`` = achieved - target. Attributes:
        ``misfit``, the weighted norm of the residual over that of the target; ``effort_rule``; ``linear_range`` of
        what is achieved. Without a target: ``gain``, the largest response, and ``gain_stderr``; of a noisy R the gain
        is biased upward by about its error.

    Raises
    ------
    InputError
        If target, weight, scale or time do not fit R.

    Warns
    -----
    ReliabilityWarning
        If what is achieved lies outside the linear range.

    Examples
    --------
    >>> lag = np.linspace(0.0, 20.0, 201)
    >>> R = xr.DataArray(np.exp(-2 * lag), dims="lag", coords={"lag": lag})
    >>> round(float(optimal_forcing(R, 0.5).forcing), 4)  # S(T) = 1/2
    1.0
    """
    number("effort", effort, low=0.0, closed=True, optional=True)
    R = read_response(response)
    scale = read_scale(forcing_scale, R)
    flat = scale.values.ravel()
    steering = Steering.constant(R, flat) if time is None else Steering.over(R, time, flat)
    w = _weight(weight, R)
    penalty, rule = _penalty(steering, effort, w)
    if target is None:
        modes = _leading(steering, w)
    else:
        wanted = target_values(target, R, "the target")
        root = np.sqrt(w)
        goal = steering.to_modes(wanted) * root
        # In the unknown N^(1/2) f the shortest solution is that of least int |f/scale|^2 dt, whatever the time steps.
        unit = 1 / np.sqrt(steering.cost)
        rows = steering.matrix * root[:, None] * unit
        prices = [None] * rows.shape[0] if penalty is None else list(penalty * unit)
        modes = np.stack([solve_least_squares(*item) * unit for item in zip(rows, goal, prices, strict=True)])
    forcing = steering.to_forcing(modes)
    achieved = steering.achieved(forcing)
    half = None if achieved.stderr is None else achieved.quantile * achieved.stderr
    verdict, _ = (
        ("undetermined", None) if target is None else linear_range(achieved.value, half, R.natural, stacklevel=2)
    )
    out = _labelled(steering, forcing).assign(forcing_scale=scale)
    said = {"long_name": "change that the forcing is expected to make", "units": "1"}
    out = out.assign(achieved.variables("achieved", R.target_dims, said, prefix="achieved_", keep_influence=False))
    field_weight = w.reshape((*R.shape(R.observed), *(1 for _ in R.displacement)))
    size = float(np.sqrt((field_weight * achieved.value**2).sum()))
    out = out.assign_attrs(title="optimal forcing", effort_rule=rule, confidence=R.confidence, linear_range=verdict)
    if target is None:
        out.attrs["gain"] = size
        if achieved.influence is not None:
            slope = field_weight * achieved.value / size if size > 0 else np.zeros_like(achieved.value)
            gain = achieved.map(lambda batch: (batch * slope).reshape(batch.shape[0], -1).sum(axis=1))
            out.attrs["gain_stderr"] = float(gain.stderr) if gain.stderr is not None else float("nan")
        return out.assign_attrs(title="unit forcing of largest response")
    residual = achieved.value - wanted
    out["target"] = (R.target_dims, wanted, {"long_name": "change that is wanted", "units": "1"})
    out["residual"] = (R.target_dims, residual, {"long_name": "achieved less wanted change", "units": "1"})
    goal_size = float(np.sqrt((field_weight * wanted**2).sum()))
    missed = float(np.sqrt((field_weight * residual**2).sum()))
    return out.assign_attrs(misfit=missed / goal_size if goal_size > 0 else missed)


def target_values(target: xr.DataArray | float, response: ResponseFunction, what: str) -> NDArray[np.float64]:
    """Return a change of the observables as an array (*observed, *sites).

    Raises
    ------
    InputError
        If its dims or labels are not those of the response.
    """
    dims, shape = response.target_dims, response.target_shape
    if is_number(target) and not dims:
        return np.asarray(target, dtype=np.float64)
    if not isinstance(target, xr.DataArray) or set(target.dims) != set(dims):
        found = f"dims {target.dims}" if isinstance(target, xr.DataArray) else shown(target)
        raise InputError(f"{what} is {found}: pass a DataArray with dims {dims}, the change of each observable.")
    target = aligned(target.transpose(*dims), response.side_coords(response.observed), what)
    if target.shape != shape:
        raise InputError(f"{what} has shape {target.shape}, the response needs {shape}.")
    values = np.asarray(target.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{what} holds NaN or inf: give a number for every observable.")
    return values


def _weight(weight: xr.DataArray | None, response: ResponseFunction) -> NDArray[np.float64]:
    """w_i for the flattened observed dims."""
    shape = response.shape(response.observed)
    if weight is None:
        natural = response.natural
        if natural is None:
            return np.ones(response.n_observed)
        std = np.broadcast_to(natural.reshape(natural.shape[: len(shape)]), shape).ravel()
        return np.where(std > 0, 1 / np.where(std > 0, std, 1.0) ** 2, 0.0)
    if not isinstance(weight, xr.DataArray) or set(weight.dims) - set(response.observed):
        raise InputError(
            f"weight must be a DataArray over the observable's dims {response.observed}, found {shown(weight)}."
        )
    weight = aligned(weight, response.side_coords(response.observed), "weight")
    dims = [dim for dim in response.observed if dim in weight.dims]
    sizes = tuple(response.sizes[dim] if dim in dims else 1 for dim in response.observed)
    values = np.broadcast_to(np.asarray(weight.transpose(*dims).values, np.float64).reshape(sizes), shape).ravel()
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise InputError("weight holds NaN, negative numbers or zeros only: weights are >= 0 and not all zero.")
    return values


def _penalty(steering: Steering, effort: float | None, weight: NDArray[np.float64]) -> tuple[NDArray[Any] | None, str]:
    if effort is not None:
        rows = np.diag(np.sqrt(effort * steering.cost))
        return np.broadcast_to(rows, (steering.matrix.shape[0], *rows.shape)), f"effort = {effort:g}"
    rows_of_error = steering.error_rows(weight)
    if rows_of_error is None:
        return None, "none: the response has no error bars; shortest forcing of least misfit"
    return rows_of_error, "expected squared error of the achieved change"


def _leading(steering: Steering, weight: NDArray[np.float64]) -> NDArray[Any]:
    """The unit forcing of largest response: at one wavenumber the leading right singular vector."""
    root, unit = np.sqrt(weight)[:, None], 1 / np.sqrt(steering.cost)
    _, strengths, vectors = np.linalg.svd(steering.matrix * root * unit, full_matrices=False)
    best = int(np.argmax(strengths[:, 0]))
    vector = vectors[best, 0].conj() * unit
    # The sign (or phase) is free: the largest entry, in the scale of the forcing, is real and positive.
    peak = vector[np.argmax(np.abs(vectors[best, 0]))]
    modes = np.zeros((steering.matrix.shape[0], vector.size), dtype=steering.matrix.dtype)
    modes[best] = vector * np.conj(peak) / abs(peak)
    # A wavenumber and its mirror image may both be in the half-plane: going through the real field makes them agree.
    modes = steering._modes_of_forcing(steering.to_forcing(modes)).reshape(modes.shape)
    return modes / steering.norm(modes)


def _labelled(steering: Steering, forcing: NDArray[np.float64]) -> xr.Dataset:
    R = steering.response
    shape = R.source_shape
    coords: dict[str, Any] = R.side_coords((*R.observed, *R.perturbed))
    attrs = {"long_name": "forcing", "units": "1"}
    if steering.times is None:
        return xr.Dataset({"forcing": (R.source_dims, forcing.reshape(shape), attrs)}, coords=coords)
    coords["time"] = ("time", steering.times, {"long_name": "time", "units": R.unit})
    values = forcing.reshape(steering.times.size, *shape)
    return xr.Dataset({"forcing": (("time", *R.source_dims), values, attrs)}, coords=coords)
