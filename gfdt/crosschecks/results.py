"""The labelled response that every cross-check returns, in the shape and with the labels of :func:`gfdt.response`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import xarray as xr
from scipy import stats

from gfdt._version import __version__
from gfdt.responses.sums import standard_error
from gfdt.trajectory import time_unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gfdt.crosschecks.inputs import Record

__all__ = ["labelled_response"]

_MAX_INFLUENCE = 2**26  # bytes: a larger ``influence`` is left out
_LONG_NAMES = {
    "response": "response of the mean to a unit kick at lag 0",
    "stderr": "standard error of the response",
    "lower": "lower end of the confidence band",
    "upper": "upper end of the confidence band",
    "influence": "first-order error of the response that each resampling unit contributes",
}


def labelled_response(
    record: Record,
    lags: NDArray[np.int64],
    estimate: NDArray[np.float64],
    influence: NDArray[np.float64],
    *,
    confidence: float | None,
    kicked: bool,
    attributes: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> xr.Dataset:
    """Label an estimate and its error bars.

    Parameters
    ----------
    lags : (n_lags,) in samples
    estimate : (n_lags, d, d) if ``kicked``, else (n_lags, d)
    influence : (unit, *estimate.shape)
        Each unit's contribution to the error: stderr^2 = n/(n - 1) sum_u e_u^2.
    confidence : float or None
        Level of the band estimate +- t_{n-1} stderr; None: no error bars.
    kicked : bool
        Whether every component was kicked (dims ``<dim>_src``) or one pattern.
    attributes, settings : mapping
        Further attributes; arguments, for ``config_json``.
    """
    array, dims = record.trajectory, record.dims
    source = tuple(f"{name}_src" for name in dims) if kicked else ()
    coords: dict[str, Any] = {"lag": lags * record.step}
    coords |= {name: array[name].values for name in dims}
    coords |= {f"{name}_src": array[name].values for name in dims} if kicked else {}
    shape = (lags.size, *record.shape, *(record.shape if kicked else ()))
    names = ("lag", *dims, *source)
    data = {"response": (names, estimate.reshape(shape))}
    if confidence is not None:
        n_units = influence.shape[0]
        stderr = standard_error(influence)
        half = stats.t.ppf(0.5 + confidence / 2, max(n_units - 1, 1)) * stderr
        for key, value in (("stderr", stderr), ("lower", estimate - half), ("upper", estimate + half)):
            data[key] = (names, value.reshape(shape))
        if 8 * n_units * math.prod(shape) <= _MAX_INFLUENCE:
            data["influence"] = (("unit", *names), influence.reshape(n_units, *shape))
    out = xr.Dataset(data, coords=coords)
    for key in data:
        out[key].attrs.update(long_name=_LONG_NAMES[key], units="1")
    out["lag"].attrs.update(long_name="lag", units=time_unit(array))
    for key, value, text in (
        ("observable_mean", record.mean, "mean of the observable in the record"),
        ("observable_std", record.spread, "standard deviation of the observable in the record"),
    ):
        out[key] = (dims, value.reshape(record.shape), {"long_name": text})
    return out.assign_attrs(
        title="linear response function",
        Conventions="CF-1.11",
        source=f"gfdt {__version__}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        observable="mean",
        perturbation="kick of each component" if kicked else "pattern",
        observable_dims=" ".join(dims),
        perturbation_dims=" ".join(source),
        displacement_dims="",
        confidence=float(confidence) if confidence is not None else "none",
        n_members=int(array.sizes["member"]),
        n_times=int(array.sizes["time"]),
        n_units=int(influence.shape[0]),
        config_json=json.dumps(dict(settings)),
        **attributes,
    )
