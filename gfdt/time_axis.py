"""The time coordinate of a record: dates to numbers, uniform steps, and samples that were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.validation import is_number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UNIFORM_RTOL", "time_step", "time_unit", "with_uniform_time"]

_CALENDAR_RTOL = 0.1  # months differ by less from their mean
_MOST_MISSING = 10  # times as many samples as there are: beyond that the series is not a uniform one with gaps
UNIFORM_RTOL = 1e-3  # spread of the time increments, relative to dt: admits float32 time coordinates


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


def with_uniform_time(array: xr.DataArray, dt: float | None, needs_time: bool, gaps: bool) -> xr.DataArray:
    """Return a record with a float, uniform time coordinate; with ``gaps`` samples left out are put in, as NaN."""
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
    if spread.max() > UNIFORM_RTOL * step + 4 * precision * np.abs(times).max():
        where = int(spread.argmax())
        filled = _with_missing_times(array, times, units) if gaps else None
        if filled is not None and (dt is None or abs(dt - increments.min()) <= UNIFORM_RTOL * dt):
            return filled
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
    if dt is not None and abs(dt - step) > UNIFORM_RTOL * step:
        raise InputError(f"dt={dt:g} contradicts the time coordinate, whose step is {step:g}: leave dt out.")
    coordinate = xr.DataArray(times, dims="time", attrs={**array["time"].attrs, "units": units})
    return array.assign_coords(time=coordinate)


def _with_missing_times(array: xr.DataArray, times: NDArray[np.float64], units: str) -> xr.DataArray | None:
    """Put NaN where samples of a uniform time were left out; None where the times are not multiples of one step."""
    step = float(np.median(np.diff(times)))
    place = np.rint((times - times[0]) / step).astype(np.int64)
    off = np.abs(times - times[0] - step * place).max()
    if off > UNIFORM_RTOL * step * times.size or np.any(np.diff(place) < 1) or place[-1] > _MOST_MISSING * times.size:
        return None
    step = float((times[-1] - times[0]) / place[-1])
    if np.abs(times - times[0] - step * place).max() > _CALENDAR_RTOL * step:
        return None
    grid = xr.DataArray(times[0] + step * np.arange(place[-1] + 1), dims="time", attrs={"units": units})
    return array.assign_coords(time=grid.values[place]).reindex(time=grid.values).assign_coords(time=grid)


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
