"""Any function of labelled states as an observable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.responses.bound import RESULT_NAMES, Bound, Record
from gfdt.responses.one_by_one import require_one_by_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["of_function"]


def of_function(function: Callable[[Any], Any], record: Record) -> Bound:
    """Tie a function of labelled states (time, *state) to a record, learning its dims from a few states."""
    name = getattr(function, "__name__", type(function).__name__)
    name = "function" if name == "<lambda>" else name
    dims, mean = record.layout.dims, record.mean
    labels = {dim: record.trajectory[dim].values for dim in dims}

    def call(states: NDArray[np.float64]) -> Any:
        labelled = xr.DataArray(states.copy(), dims=("time", *dims), coords=labels)
        value = function(labelled)
        if isinstance(value, xr.Dataset):
            raise InputError(f"the observable {name} returned a Dataset: it must return a DataArray or an array.")
        if not isinstance(value, xr.DataArray):
            value = np.asarray(value)
            if value.ndim == 0 or value.shape[0] != len(states):
                raise InputError(
                    f"the observable {name} returned shape {value.shape} for {len(states)} states (time, *state): it "
                    "must return one value, or one array, for each time."
                )
            local = value.shape[1:] == record.layout.shape
            others = dims if local else tuple(f"{name}_dim_{axis}" for axis in range(1, value.ndim))
            value = xr.DataArray(value, dims=("time", *others), coords=labels if local else None)
        if value.sizes.get("time") != len(states):
            raise InputError(
                f"the observable {name} returned dims {tuple(value.dims)} of sizes {value.shape} for {len(states)} "
                "states: it must keep the dim 'time'."
            )
        value = value.transpose("time", *(dims if set(value.dims) == {"time", *dims} else ()), ...)
        if not (np.issubdtype(value.dtype, np.number) or value.dtype == bool) or np.iscomplexobj(value.values):
            raise InputError(f"the observable {name} returned {value.dtype} values: it must return real numbers.")
        return value

    first = call(record.examples)
    hint = "take off the mean of the record, not d.mean('time')"
    require_one_by_one(lambda states: call(states).values, record.examples, f"the observable {name}", hint)
    out_dims = tuple(str(dim) for dim in first.dims[1:])
    # Of a homogeneous field a value belongs to the site that its labels say.
    same_sites = all(np.array_equal(first[dim].values, labels[dim]) for dim in out_dims if dim in labels)
    local = out_dims == dims and first.shape[1:] == record.layout.shape and same_sites
    clash = sorted({*RESULT_NAMES, *(f"{dim}_src" for dim in dims)} & set(out_dims))
    if clash:
        raise InputError(f"the dim {clash[0]!r} of the observable {name} is a name of the result: rename it.")
    coords = {
        dim: first[dim].values if dim in first.coords and first[dim].ndim == 1 else np.arange(first.sizes[dim])
        for dim in out_dims
    }

    def evaluate(centred: NDArray[np.float64]) -> NDArray[np.float64]:
        value = np.asarray(call(centred + mean).values, dtype=np.float64)
        if value.shape[1:] != first.shape[1:]:
            raise InputError(
                f"the observable {name} returned shape {value.shape[1:]} for some states and {first.shape[1:]} for "
                "others: it must not depend on how many states it sees."
            )
        if not np.isfinite(value).all():
            raise InputError(f"the observable {name} returned NaN or inf: check its formula.")
        return value

    differentiable = np.issubdtype(first.dtype, np.floating)
    return Bound(name, out_dims, coords, tuple(first.shape[1:]), local, mean, evaluate, differentiable=differentiable)
