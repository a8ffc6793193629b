"""The input gate: whatever holds a trajectory becomes one labelled, validated array.

Notation used throughout the package: a trajectory is an array with dims ``(member, time, *state)``;
``member`` counts independent realisations of the same stationary process, ``time`` is uniform with step
dt, and the remaining dims are the state x in R^d (``component`` for vectors, ``y, x`` for fields).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.reading import open_dataset
from gfdt.record import read_record, time_blocks
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Source", "fingerprint", "homogeneous_dims", "load_trajectory", "state_dims", "time_step", "time_unit"]

Source = xr.DataArray | xr.Dataset | str | Path | np.ndarray

MIN_TIMES = 8  # fewer samples than this leave no lag to speak of
_CALENDAR_RTOL = 0.1  # months differ by less from their mean
_UNIFORM_RTOL = 1e-3  # spread of the time increments, relative to dt: admits float32 time coordinates


def load_trajectory(
    source: Source,
    *,
    var: str | None = None,
    dims: Sequence[str] | None = None,
    dt: float | None = None,
    needs_time: bool = True,
) -> xr.DataArray:
    """Turn any supported source into a validated ``(member, time, *state)`` array.

    Values are read into memory; where they would fill more than 30 % of it they are mapped from a temporary file on
    disk (:mod:`gfdt.record`, environment variable ``GFDT_CACHE_DIR``).

    Parameters
    ----------
    source : DataArray, Dataset, path to netCDF or zarr, or ndarray
        The trajectory. A Dataset (or file) with several variables needs ``var``; an ndarray needs
        ``dims`` and ``dt``.
    var : str, optional
        Name of the variable, needed only where there is more than one that has a ``time`` dim.
    dims : sequence of str, optional
        Names of an ndarray's dims, e.g. ``("member", "time", "component")``.
    dt : float, optional
        Time step, in the unit the lags are to be in. Needed when there is no time coordinate.
    needs_time : bool
        False where only the stationary density matters (fitting a score): a missing dt is then 1.

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
    array = _labelled(source, var, dims)
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
    array = _with_uniform_time(array, dt, needs_time)
    return _with_coordinates(read_record(array))


def time_step(trajectory: xr.DataArray) -> float:
    """Return dt of a validated trajectory, in its time unit: the shortest decimal within the rounding of the times."""
    time = trajectory["time"].values
    step = float((time[-1] - time[0]) / (time.size - 1))
    rounding = 4 * np.finfo(np.float64).eps * float(np.abs(time).max()) / (time.size - 1)
    candidates = (float(f"{step:.{digits}g}") for digits in range(1, 17))
    return next((short for short in candidates if abs(short - step) <= rounding), step)


def time_unit(trajectory: xr.DataArray) -> str:
    """Return the unit of time differences: the "days" of "days since 1900-01-01"; "time units" where none is stated."""
    unit = str(trajectory["time"].attrs.get("units", "1")).partition(" since ")[0].strip()
    return unit if unit not in ("", "1") else "time units"


def state_dims(trajectory: xr.DataArray) -> tuple[str, ...]:
    """Return the names of the state dims, in order (empty for a scalar series)."""
    return tuple(str(dim) for dim in trajectory.dims if dim not in ("member", "time"))


def fingerprint(trajectory: xr.DataArray) -> str:
    """Return a digest of a validated trajectory's values: equal for the same record, whatever the order of its dims."""
    values = trajectory.transpose("member", "time", *sorted(state_dims(trajectory))).values
    digest = hashlib.blake2b(repr(values.shape).encode(), digest_size=16)
    for member, times in time_blocks(values.shape):
        digest.update(np.ascontiguousarray(values[member, times], dtype=np.float64).data)
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


def _labelled(source: Source, var: str | None, dims: Sequence[str] | None) -> xr.DataArray:
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


def _variable(dataset: xr.Dataset, var: str | None) -> xr.DataArray:
    names = [str(name) for name in dataset.data_vars]
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
        f"there are {len(series)} time series, {', '.join(series)}: name one with var=, or make them the components of "
        "one state with ds.to_array('component')."
    )


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


def _with_uniform_time(array: xr.DataArray, dt: float | None, needs_time: bool) -> xr.DataArray:
    if dt is not None and not (is_number(dt) and dt > 0):
        raise InputError(f"dt={shown(dt)} is not a time step: pass a finite positive number.")
    if "time" not in array.coords:
        if dt is None and needs_time:
            raise InputError("the trajectory has no time coordinate: pass dt= (the time between samples).")
        step = 1.0 if dt is None else float(dt)
        time = xr.DataArray(step * np.arange(array.sizes["time"]), dims="time", attrs={"units": "1"})
        return array.assign_coords(time=time)
    times, units = _numeric_time(array["time"])
    increments = np.diff(times)
    if not np.isfinite(times).all():
        raise InputError("the time coordinate holds NaN or inf: give every sample its time, or pass plain dt=.")
    step = float((times[-1] - times[0]) / (times.size - 1))
    if step <= 0 or np.any(increments <= 0):
        where = int(np.argmax(increments <= 0))
        raise InputError(
            f"time does not increase (at index {where}: {times[where]:g} then {times[where + 1]:g}): "
            "sort it with da.sortby('time') and drop duplicates."
        )
    spread = np.abs(increments - step)
    precision = np.finfo(array["time"].dtype).eps if np.issubdtype(array["time"].dtype, np.floating) else 0.0
    if spread.max() > _UNIFORM_RTOL * step + 4 * precision * np.abs(times).max():
        where = int(spread.argmax())
        nearly = spread.max() <= _CALENDAR_RTOL * step
        if nearly and dt is not None and abs(dt - step) <= _CALENDAR_RTOL * step:
            time = xr.DataArray(float(dt) * np.arange(times.size), dims="time", attrs={"units": units})
            return array.assign_coords(time=time)
        advice = (
            f"pass dt={step:.6g} to count calendar months or years as equal steps"
            if nearly
            else ("interpolate to a uniform time or split the series at its gaps into members")
        )
        raise InputError(
            f"time is not uniform (mean step {step:g}, but {increments[where]:g} after index {where}): {advice}."
        )
    if dt is not None and abs(dt - step) > _UNIFORM_RTOL * step:
        raise InputError(f"dt={dt:g} contradicts the time coordinate, whose step is {step:g}: leave dt out.")
    coordinate = xr.DataArray(times, dims="time", attrs={**array["time"].attrs, "units": units})
    return array.assign_coords(time=coordinate)


def _numeric_time(time: xr.DataArray) -> tuple[NDArray[np.float64], str]:
    """Times as floats and their unit; dates in the unit of the file they came from, else days since the first."""
    if time.ndim != 1:
        raise InputError(f"the time coordinate has {time.ndim} dims, one is needed: drop it and pass dt=.")
    values = time.values
    unit = str(time.encoding.get("units", "days")).partition(" since ")[0].strip()
    if np.issubdtype(values.dtype, np.datetime64) or np.issubdtype(values.dtype, np.timedelta64):
        seconds = (values - values[0]) / np.timedelta64(1, "s")
        unit = unit if unit in _SECONDS else "days"
        return seconds / _SECONDS[unit], unit
    try:
        if values.dtype == object:  # cftime dates of a model calendar: their differences are timedeltas
            seconds = np.array([(value - values[0]).total_seconds() for value in values])
            unit = unit if unit in _SECONDS else "days"
            return seconds / _SECONDS[unit], unit
        return values.astype(np.float64), str(time.attrs.get("units", "1"))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the time coordinate holds {values.dtype} values, numbers or dates are needed: drop it and pass dt=."
        ) from error


_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}


def _with_coordinates(array: xr.DataArray) -> xr.DataArray:
    keep = {name for name in array.coords if array.coords[name].dims == (name,)}
    array = array.drop_vars([name for name in array.coords if name not in keep])
    missing = {dim: np.arange(array.sizes[dim]) for dim in array.dims if dim not in array.coords}
    return array.assign_coords(missing)
