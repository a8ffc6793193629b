"""A record that is larger than memory: labelled and checked as any, its values left where they are.

What is on disk, and arrays of Dask, become one array of Dask that is read a block at a time; with
`gfdt.responses.stream` a response needs no more. Dask is the optional extra ``gfdt[dask]``.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.parts import check_alike, check_parts, clock_of, expand_pattern
from gfdt.reading import open_dataset
from gfdt.trajectory import Source, described, labelled, state_dims, with_coordinates

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["has_dask", "open_lazily", "precision_of", "unread_bytes"]

_CHUNK_VALUES = 2**19  # 4 MiB: small beside a block, so that the overlap of two blocks costs little reading


def has_dask() -> bool:
    """Whether Dask is installed."""
    return importlib.util.find_spec("dask") is not None


def precision_of(array: xr.DataArray) -> np.dtype[Any]:
    """Return the precision in which the values of a record are kept: float32 where they are, else float64."""
    return np.dtype(np.float32 if array.dtype == np.float32 else np.float64)


def unread_bytes(source: Source, var: Any = None, dims: Any = None) -> int:
    """Return how much memory the values of a source would fill; 0 where any of them are in memory already."""
    source = expand_pattern(source)
    total = 0
    for part in source if isinstance(source, list | tuple) else [source]:
        opened = _opened(part, var)
        arrays = [opened[name] for name in var] if _has(opened, var) else [labelled(opened, var, dims)]
        if any(_in_memory(array) for array in arrays):
            return 0
        total += sum(array.nbytes for array in arrays)
    return total


def open_lazily(
    source: Source,
    *,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
) -> xr.DataArray | None:
    """Return the record as one array of Dask (member, time, *state), its values unread and unchecked.

    Parameters are those of :func:`gfdt.load_trajectory`; samples may be missing.

    Returns
    -------
    DataArray or None
        None where the values are in memory already, where the parts of a list have different lengths, and without Dask.

    Raises
    ------
    InputError
        As :func:`gfdt.load_trajectory`, but for what only the values can tell; chunks of unknown size.
    """
    if not has_dask():
        return None
    source = expand_pattern(source)
    if not isinstance(source, list | tuple):
        array = labelled(_opened(source, var), var, dims)
        return None if _in_memory(array) else with_coordinates(_described(array, dt))
    check_parts(source)
    parts = [labelled(_opened(part, var), var, dims) for part in source]
    if any(_in_memory(part) for part in parts):
        return None
    records = [_described(part, dt) for part in parts]
    check_alike(records, source)
    first = records[0]
    if any(record.sizes["time"] != first.sizes["time"] for record in records):
        return None
    clock, coords = clock_of(first, first.sizes["time"]), {dim: first[dim] for dim in state_dims(first)}
    kind: DTypeLike = np.result_type(*(precision_of(record) for record in records))
    bare = [record.drop_vars(list(record.coords)).astype(kind) for record in records]
    joined = xr.concat(bare, "member", combine_attrs="override").assign_coords(coords).assign_coords(time=clock)
    return with_coordinates(joined)


def _opened(source: Any, var: Any) -> Any:
    """Open a path; variables that will be stacked become arrays of Dask, which does not read them."""
    opened = open_dataset(source) if isinstance(source, str | Path) else source
    if not _has(opened, var):
        return opened
    some = opened[list(var)]
    return some if any(_in_memory(some[name]) for name in var) or not has_dask() else some.chunk(_sizes(some))


def _has(opened: Any, var: Any) -> bool:
    """Whether several variables are asked for, of a Dataset that has them all."""
    return isinstance(opened, xr.Dataset) and isinstance(var, list | tuple) and set(var) <= set(opened.data_vars)


def _sizes(some: xr.DataArray | xr.Dataset) -> dict[str, int]:
    """Return chunks for what is not in any yet: small beside a block."""
    if some.chunks:
        return {}
    lead = [dim for dim in ("member", "time") if dim in some.sizes]
    state = math.prod(size for dim, size in some.sizes.items() if dim not in lead)
    return {dim: 1 if dim == "member" else max(1, _CHUNK_VALUES // max(1, state)) for dim in lead}


def _in_memory(array: xr.DataArray) -> bool:
    return isinstance(array.variable._data, np.ndarray)


def _described(array: xr.DataArray, dt: float | None) -> xr.DataArray:
    """Return a record as an array of Dask, checked, with ``member``; chunks that there are stay as they are."""
    if array.chunks is None:
        array = array.chunk(_sizes(array))
    elif not np.isfinite(np.concatenate(array.chunks)).all():
        raise InputError(
            "the chunks of the trajectory have unknown sizes: let Dask find them with compute_chunk_sizes() before it "
            "becomes a DataArray."
        )
    array = described(array, None, None, dt, True, True)
    return array if "member" in array.dims else array.expand_dims("member")
