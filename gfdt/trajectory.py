"""The input gate: whatever holds a trajectory becomes one labelled, validated array.

Notation used throughout the package: a trajectory is an array with dims ``(member, time, *state)``;
``member`` counts independent realisations of the same stationary process, ``time`` is uniform with step
dt, and the remaining dims are the state x in R^d (``component`` for vectors, ``y, x`` for fields).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.parts import check_alike, check_parts, clock_of, expand_pattern
from gfdt.reading import open_dataset
from gfdt.record import read_record, time_blocks
from gfdt.time_axis import time_step, time_unit, with_uniform_time
from gfdt.validation import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Source",
    "block_digest",
    "described",
    "fingerprint",
    "homogeneous_dims",
    "joined_digest",
    "labelled",
    "load_trajectory",
    "state_dims",
    "time_step",
    "time_unit",
    "with_coordinates",
    "without_gaps",
]

Source = (
    xr.DataArray | xr.Dataset | str | Path | np.ndarray | Sequence[xr.DataArray | xr.Dataset | str | Path | np.ndarray]
)

_LEAD = ("member", "time")
MIN_TIMES = 8  # fewer samples than this leave no lag to speak of


def load_trajectory(
    source: Source,
    *,
    var: str | Sequence[str] | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    needs_time: bool = True,
    gaps: bool = False,
) -> xr.DataArray:
    """Turn any supported source into a validated ``(member, time, *state)`` array.

    Values are read into memory; where they would fill more than 30 % of it they are mapped from a temporary file on
    disk (:mod:`gfdt.record`, environment variable ``GFDT_CACHE_DIR``).

    Parameters
    ----------
    source : DataArray, Dataset, path to netCDF or zarr, ndarray, or list of these
        The trajectory. A Dataset (or file) with several variables needs ``var``; an ndarray needs
        ``dims`` and ``dt``. A list holds members, or groups of members, of any lengths; the shorter ones end with
        missing samples. A path with ``*`` or ``?`` stands for the list of the files that match, e.g. the parts of one
        run, ``"run_*.nc"``.
    var : str or list of str, optional
        Name of the variable, needed only where there is more than one that has a ``time`` dim. Several names make one
        state of several variables, numbered by the dim ``variable``.
    dims : sequence of str, optional
        Names of an ndarray's dims, e.g. ``("member", "time", "component")``.
    dt : float, optional
        Time step, in the unit the lags are to be in. Needed when there is no time coordinate.
    needs_time : bool
        False where only the stationary density matters (fitting a score): a missing dt is then 1.
    gaps : bool
        Whether samples may be missing: all components NaN, or left out of an otherwise uniform time coordinate (they
        are then put in, as NaN). Default False; ``fit`` and :func:`gfdt.response` take them.

    Returns
    -------
    DataArray
        dims ``(member, time, *state)``, float32 (if the source is) or float64, with a float time
        coordinate; ``member`` is added where the source has none.

    Raises
    ------
    InputError
        Missing dims or time step, non-uniform time, NaN or inf, text, constant, too short or empty series.
    MissingFileError
        A path that does not exist.
    """
    source = expand_pattern(source)
    if isinstance(source, list | tuple):
        return _joined(source, var, dims, dt, needs_time)
    return with_coordinates(read_record(described(source, var, dims, dt, needs_time, gaps), gaps=gaps))


def described(
    source: Source, var: Any, dims: Sequence[str] | None, dt: float | None, needs_time: bool, gaps: bool
) -> xr.DataArray:
    """Return one source with its dims in order and a uniform time, checked but for its values, which stay unread.

    ``member`` is added later where there is none.
    """
    array = labelled(source, var, dims)
    array = _ordered(array)
    if array.size == 0:
        empty = [str(dim) for dim, size in array.sizes.items() if size == 0]
        raise InputError(
            f"the trajectory is empty (size 0 along {', '.join(empty)}): pass a series with at least {MIN_TIMES} times."
        )
    if array.sizes["time"] < MIN_TIMES:
        raise InputError(
            f"the trajectory has {array.sizes['time']} times, at least {MIN_TIMES} are needed: pass a longer "
            f"series, or check that the dims {tuple(array.dims)} are in the order of the axes."
        )
    return with_uniform_time(array, dt, needs_time, gaps)


def state_dims(trajectory: xr.DataArray) -> tuple[str, ...]:
    """Return the names of the state dims, in order (empty for a scalar series)."""
    return tuple(str(dim) for dim in trajectory.dims if dim not in _LEAD)


def without_gaps(trajectory: xr.DataArray, there: NDArray[np.bool_]) -> xr.DataArray:
    """Return the samples that are there, (member, time), as one member: enough for whatever ignores time."""
    coords = {dim: trajectory[dim] for dim in state_dims(trajectory)}
    values = trajectory.values[there][None]
    time = xr.DataArray(np.arange(float(values.shape[1])), dims="time", attrs={"units": "1"})
    return xr.DataArray(values, dims=trajectory.dims, coords=coords, name=trajectory.name).assign_coords(
        time=time, member=[0]
    )


def fingerprint(trajectory: xr.DataArray) -> str:
    """Return a digest of a validated trajectory's values: equal for the same record, whatever the order of its dims."""
    names, values = state_dims(trajectory), trajectory.values
    digests = (block_digest(values[member, times], names) for member, times in time_blocks(values.shape))
    return joined_digest(trajectory.sizes, digests)


def block_digest(values: NDArray[Any], names: tuple[str, ...]) -> bytes:
    """Return the digest of a block (time, *state) of a record whose state dims have these names."""
    order = sorted(range(len(names)), key=names.__getitem__)
    block = np.ascontiguousarray(values.transpose(0, *(1 + axis for axis in order)), dtype=np.float64)
    return hashlib.blake2b(block.data, digest_size=16).digest()


def joined_digest(sizes: Mapping[Any, int], digests: Iterable[bytes]) -> str:
    """Return the fingerprint of a record of these sizes, from the digests of its blocks in the order of `time_blocks`.

    A digest of digests, so that a record can be gone through by several workers.
    """
    shape = (sizes["member"], sizes["time"], *(sizes[dim] for dim in sorted(map(str, sizes)) if dim not in _LEAD))
    digest = hashlib.blake2b(repr(shape).encode(), digest_size=16)
    for each in digests:
        digest.update(each)
    return digest.hexdigest()


def homogeneous_dims(
    homogeneous: bool | str | Sequence[str] | None, dims: tuple[str, ...], *, variables: bool = False
) -> tuple[str, ...]:
    """Resolve the ``homogeneous`` argument against the state dims.

    All of them, or none; with ``variables`` also all but the first, which then numbers several variables of a field.

    Raises
    ------
    InputError
        If it names other dims than the state's, or others of them.
    """
    if homogeneous is None or homogeneous is False:
        return ()
    if not isinstance(homogeneous, bool | str) and not isinstance(homogeneous, Sequence):
        raise InputError(f"homogeneous={shown(homogeneous)} does not name dims: pass e.g. {dims} or None.")
    if isinstance(homogeneous, bool):
        homogeneous = dims
    names = (homogeneous,) if isinstance(homogeneous, str) else tuple(homogeneous)
    if variables and len(names) == len(dims) - 1 > 0 and set(names) < set(dims):
        if set(names) != set(dims[1:]):
            first = next(dim for dim in dims if dim not in names)
            raise InputError(
                f"homogeneous={names} leaves {first!r}, which numbers the variables and must then be the first of the "
                f"state dims, found {dims}: transpose, e.g. da.transpose('member', 'time', {first!r}, ...)."
            )
        return dims[1:]
    if set(names) != set(dims) or not dims:
        raise InputError(
            f"homogeneous={names} does not match the state dims {dims}: name all of them "
            "(or None for a state that is not the same everywhere)."
        )
    return dims


def _joined(
    parts: Sequence[Any], var: Any, dims: Sequence[str] | None, dt: float | None, needs_time: bool
) -> xr.DataArray:
    """One record of the members of several, of any lengths, each from its own time zero."""
    check_parts(parts)
    records = [load_trajectory(part, var=var, dims=dims, dt=dt, needs_time=needs_time, gaps=True) for part in parts]
    check_alike(records, parts)
    first = records[0]
    times, members = max(record.sizes["time"] for record in records), sum(record.sizes["member"] for record in records)
    values = np.full((members, times, *first.shape[2:]), np.nan, dtype=np.result_type(*(r.dtype for r in records)))
    start = 0
    for record in records:
        values[start : start + record.sizes["member"], : record.sizes["time"]] = record.values
        start += record.sizes["member"]
    coords = {dim: first[dim] for dim in state_dims(first)}
    array = xr.DataArray(values, dims=first.dims, coords=coords, name=first.name, attrs=first.attrs)
    return with_coordinates(read_record(array.assign_coords(time=clock_of(first, times)), gaps=True))


def labelled(source: Source, var: Any, dims: Sequence[str] | None) -> xr.DataArray:
    """Return one source as an array with names for its axes; the rest is unchecked."""
    if isinstance(source, str | Path):
        source = open_dataset(source)
    if isinstance(source, xr.Dataset):
        return _variable(source, var)
    if isinstance(source, xr.DataArray):
        return source
    if isinstance(source, np.ndarray):
        if dims is None:
            raise InputError(
                f"an ndarray of shape {source.shape} has no named dims: pass dims=, "
                'e.g. dims=("member", "time", "component").'
            )
        names = tuple(dims) if not isinstance(dims, str) and hasattr(dims, "__iter__") else (dims,)
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"dims={shown(dims)} are not names: pass strings, e.g. ('member', 'time', 'component').")
        if len(names) != source.ndim or len(set(names)) != len(names):
            raise InputError(
                f"dims={names} does not name the {source.ndim} axes of an array of shape {source.shape}: "
                "give one distinct name for each axis."
            )
        return xr.DataArray(source, dims=names)
    raise InputError(
        f"a trajectory cannot be a {type(source).__name__}: pass an xarray DataArray or Dataset, a path to a "
        "netCDF or zarr file, or a numpy array with dims= and dt=."
    )


def _variable(dataset: xr.Dataset, var: Any) -> xr.DataArray:
    names = [str(name) for name in dataset.data_vars]
    if isinstance(var, list | tuple):
        return _stacked(dataset, tuple(var), names)
    if var is not None:
        if var not in names:
            raise InputError(f"there is no variable {var!r}: choose var= among {', '.join(names) or '(none)'}.")
        return dataset[var]
    series = [name for name in names if "time" in dataset[name].dims and not _is_bounds(dataset, name)]
    if len(series) == 1:
        return dataset[series[0]]
    if not series:
        raise InputError(
            "no variable has a 'time' dim "
            f"(found {', '.join(f'{name}{tuple(dataset[name].dims)}' for name in names) or 'no variables'}): "
            "rename the time dim to 'time', e.g. ds.rename(t='time')."
        )
    raise InputError(
        f"there are {len(series)} time series, {', '.join(series)}: name one with var=, or several for one state of "
        f"several variables, var={series[:2]}."
    )


def _stacked(dataset: xr.Dataset, var: tuple[Any, ...], names: list[str]) -> xr.DataArray:
    """Several variables as one state, numbered by the dim ``variable``."""
    unknown = [name for name in var if name not in names]
    if unknown or len(set(var)) < len(var) or not var:
        raise InputError(
            f"var={shown(list(var))} does not name distinct variables of the Dataset: choose among "
            f"{', '.join(names) or '(none)'}."
        )
    first = dataset[var[0]]
    for name in var:
        if set(dataset[name].dims) != set(first.dims):
            raise InputError(
                f"the variables {var[0]!r} {tuple(first.dims)} and {name!r} {tuple(dataset[name].dims)} have other "
                "dims: only variables on one grid make one state."
            )
    if "variable" in first.dims:
        raise InputError("the dim 'variable' is already there: rename it, e.g. ds.rename(variable='component').")
    lead = [dim for dim in ("member", "time") if dim in first.dims]
    return dataset[list(var)].to_array("variable").transpose(*lead, "variable", ...)


def _is_bounds(dataset: xr.Dataset, name: str) -> bool:
    """Whether a variable only holds the ends of coordinate intervals (CF conventions, section 7.1)."""
    declared = {str(dataset[key].attrs.get("bounds", "")) for key in dataset.coords}
    return name in declared or name.endswith(("_bnds", "_bounds"))


def _ordered(array: xr.DataArray) -> xr.DataArray:
    for dim in array.dims:
        if not isinstance(dim, str):
            raise InputError(f"the dim {dim!r} is not named by a string: rename it, e.g. da.rename({{{dim!r}: 'x'}}).")
        if getattr(array.indexes.get(dim), "nlevels", 1) > 1:
            raise InputError(f"the dim {dim!r} is a stack of several: unstack it, e.g. da.unstack({dim!r}).")
    if "time" not in array.dims:
        raise InputError(
            f"there is no 'time' dim among {tuple(array.dims)}: rename it, e.g. da.rename(t='time'), or pass "
            'dims=("member", "time", ...) with an ndarray.'
        )
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            f"the trajectory holds {array.dtype} values, real numbers are needed: convert it, e.g. "
            "da.astype('float64') (complex data: pass real and imaginary part as two components)."
        )
    if "member" not in array.dims:
        # A scalar coordinate left by .isel(member=0) would clash with the new dim.
        return array.drop_vars("member", errors="ignore").transpose("time", ...)
    return array.transpose("member", "time", ...)


def with_coordinates(array: xr.DataArray) -> xr.DataArray:
    """Drop all coordinates but those of the dims, and number the dims that have none."""
    keep = {name for name in array.coords if array.coords[name].dims == (name,)}
    array = array.drop_vars([name for name in array.coords if name not in keep])
    missing = {dim: np.arange(array.sizes[dim]) for dim in array.dims if dim not in array.coords}
    return array.assign_coords(missing)
