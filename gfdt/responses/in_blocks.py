"""Which records are gone through in blocks, and which are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gfdt.errors import InputError
from gfdt.lazy import has_dask, open_lazily, unread_bytes
from gfdt.parts import expand_pattern
from gfdt.record import memory_limit

if TYPE_CHECKING:
    import xarray as xr

    from gfdt.trajectory import Source

__all__ = ["open_in_blocks"]


def open_in_blocks(
    trajectory: Source,
    observable: Any,
    perturbation: Any,
    client: Any,
    *,
    var: Any = None,
    dims: Any = None,
    dt: float | None = None,
) -> xr.DataArray | None:
    """Return the record unread, where it is to be gone through in blocks; None where it is to be read.

    Parameters are those of :func:`gfdt.response`: blocks are for a cluster, and for what is larger than memory.

    Raises
    ------
    InputError
        If ``client`` is given with a request, or a record, that no blocks can serve.
    """
    simple = perturbation is None and (observable is None or (isinstance(observable, str) and observable == "mean"))
    if client is not None and not simple:
        raise InputError(
            "client= is for the response of the state to kicks, observable and perturbation of their own were passed: "
            "leave client out (the record is then kept on disk where it is larger than memory)."
        )
    if client is None:
        large = simple and unread_bytes(trajectory, var, dims) > memory_limit()
        return open_lazily(trajectory, var=var, dims=dims, dt=dt) if large else None
    lazy = open_lazily(trajectory, var=var, dims=dims, dt=dt)
    if lazy is None:
        found, remedy = "it is in memory", "pass its file, or da.chunk(member=1), or leave client out."
        if not has_dask():
            found, remedy = "and Dask is missing", 'pip install "gfdt[dask]".'
        elif isinstance(expand_pattern(trajectory), list | tuple):
            found = "its parts have different lengths or are in memory"
        raise InputError(f"client= is for a record on disk or in an array of Dask, {found}: {remedy}")
    return lazy
