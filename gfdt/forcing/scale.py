r"""The scale in which a forcing is measured, so that components of different units can be added: |f/scale|^2.

Where what is perturbed is what is observed (dims ``component_src`` and ``component``), the record tells the natural
standard deviation of every component, and a forcing f_j/scale_j is in natural standard deviations per unit of time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.drive import aligned
from gfdt.forcing.reading import ResponseFunction
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["natural_scale", "read_scale"]


def natural_scale(response: ResponseFunction) -> NDArray[np.float64] | None:
    """Return the natural standard deviation of what is perturbed, (n_perturbed,), or None where R does not tell it.

    R tells it where the observable is the mean of the state itself: the perturbed dims are the observed dims with
    ``_src``, with equal labels (of a homogeneous field: at every site), and R carries ``observable_std``.
    """
    R = response
    names = {dim: f"{dim}_src" for dim in R.observed}
    same_dims = set(names.values()) == set(R.perturbed) and (bool(R.perturbed) or bool(R.displacement))
    natural = R.natural
    if not same_dims or natural is None or _observable(R) != "mean":
        return None
    for dim, source in names.items():
        ours, theirs = (R.coords[name].values if name in R.coords else range(R.sizes[name]) for name in (dim, source))
        if not np.array_equal(ours, theirs):  # a selection: the record's spread of the others is not in it
            return None
    shape = R.shape(R.observed)
    std = np.broadcast_to(natural.reshape(natural.shape[: len(shape)]), shape)
    order = [R.observed.index(dim.removesuffix("_src")) for dim in R.perturbed]
    std = std.transpose(order).ravel()
    # A component that never varies gives no scale to measure its forcing with.
    return std if (np.isfinite(std) & (std > 0)).all() else None


def read_scale(scale: xr.DataArray | NDArray[np.float64] | float | None, response: ResponseFunction) -> xr.DataArray:
    """Return the scale over the perturbed dims: as given, or the natural one where it is known, or 1.

    Raises
    ------
    InputError
        If its dims, labels or shape are not those of what is perturbed, or it is not > 0.
    """
    dims = response.perturbed
    shape, labels = response.shape(dims), response.side_coords(dims)
    attrs = {"long_name": "scale in which the forcing is measured"}
    if scale is None:
        natural = natural_scale(response)
        values = np.ones(shape) if natural is None else natural.reshape(shape)
        return xr.DataArray(values, dims=dims, coords=labels, attrs=attrs)
    if isinstance(scale, xr.DataArray):
        # R.observable_std is a scale too: component stands for component_src
        names = {str(dim): f"{dim}_src" for dim in scale.dims if dim not in dims and f"{dim}_src" in dims}
        scale = aligned(scale.rename(names), labels, "forcing_scale")
        if set(scale.dims) != set(dims):
            raise InputError(f"forcing_scale has dims {shown(scale.dims)}, the forcing {shown(dims)}: give these.")
        values = np.asarray(scale.transpose(*dims).values, dtype=np.float64)
    elif is_number(scale):
        values = np.full(shape, float(scale))
    else:
        try:
            values = np.asarray(scale, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"forcing_scale is {shown(scale)}: pass numbers over the dims {shown(dims)}.") from error
    if values.shape != shape:
        raise InputError(f"forcing_scale has shape {values.shape}, the forcing's dims {shown(dims)} need {shape}.")
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError("forcing_scale holds zeros, negative numbers or NaN: a scale is > 0 for every direction.")
    return xr.DataArray(values, dims=dims, coords=labels, attrs=attrs)


def _observable(response: ResponseFunction) -> str:
    """Name of the observable; of several, the one that was selected."""
    source = response.source
    if "observable" in source.coords and source["observable"].ndim == 0:
        return str(source["observable"].values)
    return str(source.attrs.get("observable", ""))
