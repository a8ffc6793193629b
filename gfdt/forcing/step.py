r"""The response to a forcing that is switched on and kept: S(t) = int_0^t R(t') dt'."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gfdt.forcing.propagation import propagate
from gfdt.forcing.reading import read_response
from gfdt.forcing.resolution import lag_error, warn_of_coarse_lags
from gfdt.forcing.spline import apply_to_lags, integral_weights

__all__ = ["step_response"]


def step_response(response: xr.Dataset | xr.DataArray) -> xr.Dataset:
    r"""Return S(t) = int_0^t R(t') dt', the change under a unit forcing switched on at t = 0 and kept.

    The integral is that of the cubic spline through R(t_l), of fourth order in the lag spacing and good for lags of
    any spacing (:mod:`gfdt.forcing.spline`): R jumps at t = 0, where the integral begins, and is smooth from there
    on. For R = exp(-t) at lags 0 to 10 the largest error is 6.4e-3, 3.3e-4, 1.3e-5, 4.7e-7 at spacing 1, 0.5, 0.25,
    0.125 (the left rectangle: 0.58, 0.27, 0.13, 0.064). How much the spacing may cost is reported
    (:mod:`gfdt.forcing.resolution`).

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t), with dims ``lag``, the observable's and the perturbation's; see :func:`gfdt.response`.

    Returns
    -------
    Dataset
        ``response`` with the dims of R, attribute ``kind="step"``; with error bars also ``stderr``, ``lower``,
        ``upper`` and (where R has it) ``influence``. Unit: that of R times the unit of the lags. Attribute
        ``quadrature_error``: what the spacing of the lags costs, rms, relative to S.

    Raises
    ------
    InputError
        If R has fewer than two lags, does not start at lag 0, or is a step response already.

    Warns
    -----
    ReliabilityWarning
        If the lags are so far apart that S is off by more than 1 % and by more than half its standard error.

    Examples
    --------
    >>> lag = np.linspace(0.0, 5.0, 51)
    >>> S = step_response(xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag}))
    >>> round(float(S.response.sel(lag=5.0)), 4)  # 1 - exp(-5)
    0.9933
    """
    R = read_response(response)
    weights = integral_weights(R.lags)
    estimate = propagate(R, lambda x: apply_to_lags(weights, x), lambda x: apply_to_lags(np.abs(weights), x))
    error, matters = lag_error(R, estimate.value, estimate.stderr)
    if matters:
        warn_of_coarse_lags(error, R, stacklevel=2)
    units = R.source["response"].attrs.get("units")
    said = f"{R.unit} x {units}" if units else f"unknown: {R.unit} x that of R"
    attrs = {"long_name": "response to a unit forcing switched on at lag 0 and kept", "units": said}
    out = xr.Dataset(estimate.variables("response", ("lag", *R.dims), attrs), coords=dict(R.coords))
    kept = {
        str(name): item for name, item in R.source.data_vars.items() if name in ("observable_mean", "observable_std")
    }
    original = [str(dim) for dim in R.source["response"].dims if dim != "lag"]
    order = [dim for dim in ("unit", "lag", *original) if dim in out.dims]
    out["response"].attrs["kind"] = "step"  # it stays with the array, which must not be integrated again
    return (
        out.transpose(*order)
        .assign(kept)
        .assign_attrs({**R.source.attrs, "title": "step response", "kind": "step", "quadrature_error": error})
    )
