"""What every cross-check starts from: a validated record, its lags in samples, and its resampling units."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.units import MAX_SERIES, MIN_MEMBERS, Unit, resampling_units
from gfdt.trajectory import Source, load_trajectory, state_dims, time_step, time_unit
from gfdt.validation import integer, is_number, number, shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "Record", "check_confidence", "lag_samples", "load_record", "refuse_large"]

MAX_BYTES = 2 * 2**30  # of per-unit sums


@dataclass(frozen=True)
class Record:
    """A validated trajectory as centred series.

    Attributes
    ----------
    trajectory : the labelled record (member, time, *state)
    series : (member, time, d), the centred state x' = x - m, float64
    mean, spread : (d,), m and the standard deviation of each component
    step : sample interval h
    """

    trajectory: xr.DataArray
    series: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    step: float

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the state dims."""
        return state_dims(self.trajectory)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the state dims."""
        return tuple(self.trajectory.shape[2:])

    def units(self, *, warn: bool) -> tuple[list[Unit], str]:
        """Return the resampling units (:mod:`gfdt.responses.units`) and how they were chosen."""
        if self.series.shape[0] >= MIN_MEMBERS:
            return resampling_units(self.series[:, :, :1], warn=warn)
        size = self.series.shape[2]
        chosen = np.unique(np.linspace(0, size - 1, min(size, MAX_SERIES)).astype(np.int64))
        return resampling_units(self.series[:, :, chosen], warn=warn)


def load_record(source: Source, *, var: str | None, dims: Sequence[str] | None, dt: float | None) -> Record:
    """Validate a trajectory; the arguments are those of :func:`gfdt.load_trajectory`.

    Raises
    ------
    InputError
        As :func:`gfdt.load_trajectory`, or for a state dim whose name the result needs for itself.
    """
    array = load_trajectory(source, var=var, dims=dims, dt=dt)
    names = state_dims(array)
    reserved = {"lag", "unit"} | {f"{name}_src" for name in names}
    clash = sorted(reserved & set(names))
    if clash:
        raise InputError(
            f"the state dim {clash[0]!r} clashes with a name of the result: rename it, e.g. "
            f"da.rename({clash[0]}='site')."
        )
    series = array.values.reshape(*array.shape[:2], -1).astype(np.float64)
    mean = series.mean(axis=(0, 1))
    series -= mean
    return Record(
        array, series, mean, np.sqrt(np.einsum("mti,mti->i", series, series) / series[..., 0].size), time_step(array)
    )


def lag_samples(array: xr.DataArray, max_lag: float, lag_stride: int, *, spare: int = 0) -> NDArray[np.int64]:
    """Return the lags up to ``max_lag`` in samples; ``spare`` more samples must fit into the record behind them.

    Raises
    ------
    InputError
        If ``max_lag`` is negative or too long, or ``lag_stride`` not a positive whole number.

    Warns
    -----
    ReliabilityWarning
        If the longest lag is more than half the record.
    """
    step, times, unit = time_step(array), array.sizes["time"], time_unit(array)
    number("max_lag", max_lag, low=0.0, closed=True)
    integer("lag_stride", lag_stride, 1, times)
    duration = step * (times - 1 - spare)
    if max_lag >= duration:
        raise InputError(
            f"max_lag={max_lag:g} is not shorter than the usable record of {duration:g} {unit}: choose at most about "
            f"{duration / 2:g}, or record longer."
        )
    if max_lag > duration / 2:
        warnings.warn(
            f"max_lag={max_lag:g} is more than half the record of {duration:g} {unit}: the longest lags rest on "
            "few pairs; record longer or shorten max_lag.",
            ReliabilityWarning,
            stacklevel=3,
        )
    # Rounding of max_lag / h must not cost the last lag.
    return np.arange(0, int(max_lag / step * (1 + 1e-9) + 1e-9) + 1, lag_stride)


def check_confidence(confidence: Any, *, optional: bool = True) -> None:
    """Refuse anything but a level in (0, 1), or None where ``optional``."""
    if confidence is None and optional:
        return
    if not (is_number(confidence) and 0 < confidence < 1):
        none = "; None for no band" if optional else ""
        raise InputError(f"confidence={shown(confidence)} is not a level between 0 and 1: 0.95 is the custom{none}.")


def refuse_large(n_bytes: int, what: str) -> None:
    """Raise InputError if sums of ``n_bytes`` would not fit."""
    if n_bytes > MAX_BYTES:
        raise InputError(
            f"{what} need {n_bytes / 2**30:.1f} GiB, the limit is {MAX_BYTES / 2**30:.0f} GiB: shorten max_lag or "
            "select fewer components."
        )
