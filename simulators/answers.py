"""Exact answers with the labels an estimate has: responses and covariances of vectors and of homogeneous fields.

A vector system has ``component`` (observed) and ``component_src`` (kicked), a homogeneous field the centred signed
displacements ``dy``, ``dx`` from the kick, in grid cells.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulators.grid import displacements

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["component_axes", "displacement_axes", "label_covariance", "label_response"]

Axes = dict[str, NDArray[np.int64]]


def component_axes(d: int) -> Axes:
    """Return the dimensions and coordinates of a d x d answer."""
    return {"component": np.arange(d), "component_src": np.arange(d)}


def displacement_axes(n: int) -> Axes:
    """Return the dimensions and coordinates of an answer on an n x n grid, in ``fftshift`` order."""
    return {"dy": displacements(n), "dx": displacements(n)}


def label_response(values: NDArray[np.float64], lags: NDArray[np.float64], axes: Axes) -> "xr.DataArray":
    """Return R(t), shape (lag, *axes), as "response"."""
    import xarray as xr

    return xr.DataArray(
        values,
        dims=("lag", *axes),
        coords={"lag": lags, **axes},
        name="response",
        attrs={"long_name": "exact linear response", "units": "1"},
    )


def label_covariance(values: NDArray[np.float64], axes: Axes) -> "xr.DataArray":
    """Return C, shape (*axes), as "covariance"."""
    import xarray as xr

    return xr.DataArray(
        values,
        dims=tuple(axes),
        coords=axes,
        name="covariance",
        attrs={"long_name": "exact stationary covariance", "units": "1"},
    )
