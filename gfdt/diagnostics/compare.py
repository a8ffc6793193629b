r"""Errors of estimated responses against a reference response.

With D(t) = R(t) - R_ref(t) over the whole field or matrix: rms error (mean D^2)^(1/2) and max error max |D|, at every
lag and over all lags; the relative error is ||R - R_ref|| / ||R_ref|| over all lags; coverage is the part of the
cells in which the reference lies inside the estimate's band.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compare", "response_variable"]

_LAG_RTOL = 1e-6


def compare(reference: xr.Dataset | xr.DataArray, responses: Mapping[str, xr.Dataset | xr.DataArray]) -> xr.Dataset:
    """Tabulate the errors of several responses against one reference.

    Parameters
    ----------
    reference : Dataset with ``response``, or DataArray
        What is taken for true: exact, or dynamical (twin ensembles).
    responses : mapping of str to Dataset or DataArray
        The estimates by name, e.g. ``{"gaussian": R1, "generative": R2}``, with the dims of the reference.

    Returns
    -------
    Dataset
        ``rms`` and ``max`` (estimator, lag); ``rms_overall``, ``max_overall``, ``relative`` and ``coverage``
        (estimator); coverage is NaN for an estimate without a band. Units: those of the response.

    Raises
    ------
    InputError
        If dims or sizes differ, or no lag is common.
    """
    truth = response_variable(reference, "the reference")
    if isinstance(responses, xr.Dataset) or not isinstance(responses, Mapping):
        raise InputError(
            f'responses is a {type(responses).__name__}: pass the responses by name, e.g. {{"gaussian": R}}.'
        )
    if not responses:
        raise InputError('there is nothing to compare: pass responses by name, e.g. {"gaussian": R}.')
    rows = []
    for name, estimate in responses.items():
        value = response_variable(estimate, repr(name))
        _refuse_other_observable(reference, estimate, name)
        mine, other = _matched(value, truth, name)
        error = np.abs(mine.values - other.values)
        axes = tuple(range(1, error.ndim))
        rows.append(
            xr.Dataset(
                {
                    "rms": ("lag", np.sqrt((error**2).mean(axis=axes))),
                    "max": ("lag", error.max(axis=axes) if axes else error),
                    "rms_overall": float(np.sqrt((error**2).mean())),
                    "max_overall": float(error.max()),
                    "relative": _relative(error, other.values),
                    "coverage": _coverage(estimate, other),
                },
                coords={"lag": mine["lag"]},
            )
        )
    out = xr.concat(rows, xr.Variable("estimator", list(responses)), join="outer")
    long_names = {
        "rms": "rms error over the field",
        "max": "maximum error over the field",
        "rms_overall": "rms error over field and lags",
        "max_overall": "maximum error over field and lags",
        "relative": "norm of the error over norm of the reference",
        "coverage": "part of the cells whose band holds the reference",
    }
    for key, text in long_names.items():
        out[key].attrs.update(long_name=text, units="1")
    return out


def response_variable(response: xr.Dataset | xr.DataArray, what: str) -> xr.DataArray:
    """Return the ``response`` array of a Dataset (or the DataArray itself), with its ``lag`` first."""
    if isinstance(response, xr.Dataset):
        if "response" not in response:
            raise InputError(
                f"{what} has no variable 'response' (found {', '.join(map(str, response.data_vars)) or 'none'}): pass "
                "what gfdt.response or exact_response returned."
            )
        response = response["response"]
    if not isinstance(response, xr.DataArray):
        raise InputError(f"{what} is a {type(response).__name__}: pass a Dataset with 'response' or a DataArray.")
    if "lag" not in response.dims:
        raise InputError(f"{what} has dims {tuple(response.dims)} without 'lag': pass a response function.")
    return response.transpose("lag", ...)


def _matched(estimate: xr.DataArray, truth: xr.DataArray, name: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Both at their common lags and in the same order of dims."""
    sizes = {dim: size for dim, size in estimate.sizes.items() if dim != "lag"}
    wanted = {dim: size for dim, size in truth.sizes.items() if dim != "lag"}
    if sizes != wanted:
        raise InputError(
            f"{name!r} has dims {sizes}, the reference {wanted}: compare responses of the same kind (both "
            "homogeneous, or both full matrices) and state."
        )
    tolerance = _LAG_RTOL * max(float(np.abs(truth["lag"]).max()), 1e-300)
    distance = np.abs(estimate["lag"].values[:, None] - truth["lag"].values[None, :])
    mine, theirs = np.nonzero(distance <= tolerance)
    if mine.size == 0:
        raise InputError(
            f"{name!r} and the reference have no lag in common ({_span(estimate)} against {_span(truth)}): compute "
            "both at the same lags."
        )
    estimate, truth = estimate.isel(lag=mine), truth.isel(lag=theirs).transpose(*estimate.dims)
    for dim in sizes:
        if dim in estimate.coords and dim in truth.coords:
            truth = _on_labels(truth, estimate[dim], name)
    return estimate, truth


def _on_labels(truth: xr.DataArray, labels: xr.DataArray, name: str) -> xr.DataArray:
    """Put the reference in the order of the estimate's labels along one dim."""
    dim = str(labels.dims[0])
    ours, theirs = labels.values, truth[dim].values
    if np.issubdtype(ours.dtype, np.number) and np.issubdtype(theirs.dtype, np.number):
        close = np.isclose(ours[:, None], theirs[None, :], rtol=1e-6, atol=1e-12)
    else:
        close = ours[:, None] == theirs[None, :]
    if not (close.sum(axis=1) == 1).all():
        raise InputError(
            f"{name!r} and the reference have other labels along {dim!r}: give both the same coordinates, or none "
            f"(drop_vars({dim!r}))."
        )
    return truth.isel({dim: close.argmax(axis=1)})


def _relative(error: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    norm = float(np.linalg.norm(truth))
    return float(np.linalg.norm(error)) / norm if norm > 0 else float("nan")


def _refuse_other_observable(reference: object, estimate: object, name: str) -> None:
    ours, theirs = (str(getattr(item, "attrs", {}).get("observable", "mean")) for item in (estimate, reference))
    if ours != theirs:
        raise InputError(
            f"{name!r} is the response of the {ours}, the reference that of the {theirs}: compare like with like."
        )


def _span(response: xr.DataArray) -> str:
    lag = response["lag"].values
    return f"{lag.size} lags from {lag.min():g} to {lag.max():g}"


def _coverage(estimate: xr.Dataset | xr.DataArray, truth: xr.DataArray) -> float:
    if not isinstance(estimate, xr.Dataset) or "lower" not in estimate or "upper" not in estimate:
        return float("nan")
    lower, _ = _matched(estimate["lower"].transpose("lag", ...), truth, "lower")
    upper, _ = _matched(estimate["upper"].transpose("lag", ...), truth, "upper")
    value = truth.transpose(*lower.dims).values
    return float(((lower.values <= value) & (value <= upper.values)).mean())
