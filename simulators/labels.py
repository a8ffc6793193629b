"""Functions of arrays applied to labelled states."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.errors import ParameterError
from simulators.schema import Layout

__all__ = ["on_state"]


def on_state(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], u: Any, layout: Layout) -> Any:
    """Apply an array function of (..., *state) to an ndarray or a DataArray, keeping its floating dtype."""
    if hasattr(u, "data_vars"):
        raise ParameterError(f"found a Dataset, expected a DataArray or an ndarray; pass dataset[{layout.variable!r}]")
    labelled = hasattr(u, "dims") and hasattr(u, "transpose")
    if labelled:
        missing = [dim for dim in layout.dims if dim not in u.dims]
        if missing:
            raise ParameterError(
                f"found dims {tuple(u.dims)}, expected the state dims {layout.dims} among them; rename them first"
            )
        ordered = u.transpose(..., *layout.dims)
        values = ordered.values
    else:
        values = np.asarray(u)
    n_dims = len(layout.shape)
    if values.ndim < n_dims or values.shape[values.ndim - n_dims :] != layout.shape:
        raise ParameterError(
            f"found an array of shape {values.shape}, expected (..., {', '.join(map(str, layout.shape))}) "
            f"with the state dims {layout.dims} last"
        )
    result = function(values.astype(np.float64, copy=False))
    if np.issubdtype(values.dtype, np.floating):
        result = result.astype(values.dtype, copy=False)
    if labelled:
        return ordered.copy(data=result).transpose(*u.dims)
    return result
