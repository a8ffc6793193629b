"""Forcings f(t): sampled series, callables, and several named ones, read into one form.

A drive has ``n`` columns, the flattened dims of the perturbation. A sampled one is linear between its samples and zero
outside them; a callable is switched on at t = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.reading import ResponseFunction
from gfdt.validation import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Drive", "Forcing", "Function", "Named", "Sampled", "read_forcing"]

# What is compared with the change of observables: a part of it goes with the same part of the response.
_CHANGES = ("observed_change", "the target", "stderr")

Series = xr.DataArray | Callable[["NDArray[np.float64]"], Any]
Forcing = Series | Mapping[str, Series]


@dataclass(frozen=True)
class Sampled:
    """Values (n_times, n) at times that increase; linear between, zero before the first and after the last."""

    times: NDArray[np.float64]
    values: NDArray[Any]
    exact = True  # linear between its breaks, so that the quadrature is exact

    @property
    def start(self) -> float:
        """When it sets in."""
        return float(self.times[0])

    @property
    def end(self) -> float:
        """When it is over."""
        return float(self.times[-1])

    @property
    def breaks(self) -> NDArray[np.float64]:
        """Where it is not smooth."""
        return self.times

    def at(self, t: NDArray[np.float64]) -> NDArray[Any]:
        """Values at times t inside the samples' range or outside: shape (len(t), n)."""
        right = np.clip(np.searchsorted(self.times, t), 1, self.times.size - 1)
        left = right - 1
        share = ((t - self.times[left]) / (self.times[right] - self.times[left]))[:, None]
        inside = ((t >= self.times[0]) & (t <= self.times[-1]))[:, None]
        return np.where(inside, (1 - share) * self.values[left] + share * self.values[right], 0.0)

    def transformed(self, transform: Callable[[NDArray[Any]], NDArray[Any]]) -> Sampled:
        """The same in other columns, e.g. Fourier coefficients: a linear map commutes with the interpolation."""
        return Sampled(self.times, transform(self.values))


@dataclass(frozen=True)
class Function:
    """f(t), switched on at t = 0: called with times (m,), it returns (m,) or (m, *shape)."""

    call: Callable[[NDArray[np.float64]], Any]
    shape: tuple[int, ...]
    transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    exact = False
    start = 0.0
    end = math.inf

    @property
    def breaks(self) -> NDArray[np.float64]:
        """Only the switch is known."""
        return np.zeros(1)

    def at(self, t: NDArray[np.float64]) -> NDArray[Any]:
        """Values at times t >= 0: shape (len(t), n)."""
        wanted = (t.size, *self.shape)
        if t.size == 0:  # only times before the forcing begins
            nothing = np.zeros((0, int(np.prod(self.shape, dtype=np.int64))))
            return nothing if self.transform is None else self.transform(nothing)
        try:
            values = np.asarray(self.call(t), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the forcing {shown(self.call)} cannot be evaluated ({error}): it is called with an array of times of "
                f"shape {wanted[:1]} and must return real numbers of shape {wanted}."
            ) from error
        if values.shape == () and not self.shape:  # a constant written without t
            values = np.full(wanted, float(values))
        if values.shape != wanted:
            raise InputError(
                f"the forcing {shown(self.call)} returned shape {values.shape} for {t.size} times, expected {wanted}: "
                f"the times, then the perturbed dims."
            )
        values = values.reshape(t.size, -1)
        if not np.isfinite(values).all():
            raise InputError(f"the forcing {shown(self.call)} returns NaN or inf: it must be finite from t = 0 on.")
        return values if self.transform is None else self.transform(values)

    def transformed(self, transform: Callable[[NDArray[Any]], NDArray[Any]]) -> Function:
        """The same in other columns."""
        return Function(self.call, self.shape, transform)


@dataclass(frozen=True)
class Named:
    """One drive of one column for each named perturbation; None where there is no forcing."""

    parts: tuple[Sampled | Function | None, ...]

    @property
    def exact(self) -> bool:
        """Whether every part is."""
        return all(part.exact for part in self._present)

    @property
    def _present(self) -> tuple[Sampled | Function, ...]:
        return tuple(part for part in self.parts if part is not None)

    @property
    def start(self) -> float:
        """When the first part sets in."""
        return min(part.start for part in self._present)

    @property
    def end(self) -> float:
        """When the last part is over."""
        return max(part.end for part in self._present)

    @property
    def breaks(self) -> NDArray[np.float64]:
        """Those of all parts."""
        return np.unique(np.concatenate([part.breaks for part in self._present]))

    def at(self, t: NDArray[np.float64]) -> NDArray[Any]:
        """Values at times t: shape (len(t), n)."""
        out = np.zeros((t.size, len(self.parts)))
        for column, part in enumerate(self.parts):
            if part is not None:
                on = t >= part.start
                out[on, column] = part.at(t[on])[:, 0]
        return out


Drive = Sampled | Function | Named


def read_forcing(forcing: Forcing, response: ResponseFunction) -> Drive:
    """Read a forcing for the perturbed dims of a response.

    Raises
    ------
    InputError
        If dims, names or times do not fit; the message says what is expected.
    """
    if isinstance(forcing, Mapping) and not isinstance(forcing, xr.Dataset):
        return _named(forcing, response)
    if isinstance(forcing, xr.DataArray):
        return _sampled(forcing, response.source_dims, response)
    if callable(forcing):
        return Function(forcing, response.source_shape)
    raise InputError(
        f"the forcing is a {type(forcing).__name__}: pass a callable f(t), a DataArray over 'time', or a mapping of "
        "perturbation names to these; a numpy array needs its times, xr.DataArray(f, dims='time', coords={'time': t})."
    )


def _named(forcing: Mapping[str, Series], response: ResponseFunction) -> Named:
    if len(response.source_dims) != 1 or response.displacement or response.perturbed[0] not in response.coords:
        raise InputError(
            f"a mapping of forcings needs a response with one labelled perturbation dim, found {response.source_dims}: "
            "pass a DataArray over 'time' and these dims."
        )
    labels = response.coords[response.perturbed[0]].values.tolist()
    unknown = [name for name in forcing if name not in labels]
    if unknown or not forcing:
        raise InputError(
            f"the forcing names {shown(unknown)}, the response has {response.perturbed[0]} = "
            f"{shown(labels)}: use these names."
        )
    parts: list[Sampled | Function | None] = []
    for label in labels:
        item = forcing.get(label)
        if item is None:
            parts.append(None)
        elif isinstance(item, xr.DataArray):
            parts.append(_sampled(item, (), response))
        elif callable(item):
            parts.append(Function(item, ()))
        else:
            raise InputError(
                f"the forcing of {label!r} is a {type(item).__name__}: pass a callable or a DataArray over 'time'."
            )
    return Named(tuple(parts))


def _sampled(forcing: xr.DataArray, dims: tuple[str, ...], response: ResponseFunction) -> Sampled:
    wanted = ("time", *dims)
    if set(forcing.dims) != set(wanted):
        hint = ""
        if dims and set(forcing.dims) == {"time"}:
            hint = " To force every direction alike, multiply it by a pattern: f * xr.ones_like(pattern)."
        raise InputError(
            f"the forcing has dims {tuple(map(str, forcing.dims))}, this response needs {wanted}: forcings act on the "
            f"perturbed directions.{hint}"
        )
    sizes = {dim: forcing.sizes[dim] for dim in dims}
    expected = dict(zip(response.source_dims, response.source_shape, strict=True))
    for dim in dims:
        if sizes[dim] != expected[dim]:
            raise InputError(f"the forcing has {sizes[dim]} points along {dim!r}, the response {expected[dim]}.")
    if dims:
        forcing = aligned(forcing, response.side_coords(response.perturbed), "the forcing")
    values = np.asarray(forcing.transpose(*wanted).values)
    if "time" not in forcing.coords or not np.issubdtype(forcing["time"].dtype, np.number):
        raise InputError(
            "the forcing has no numeric 'time' coordinate: give times in the unit of the lags "
            f"({response.unit}), e.g. f.assign_coords(time=np.arange(f.sizes['time']) * dt)."
        )
    times = np.asarray(forcing["time"].values, dtype=np.float64)
    if times.size < 2 or not (np.diff(times) > 0).all():
        raise InputError(f"the forcing has {times.size} time(s) that do not increase: at least two are needed.")
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values) or not np.isfinite(values).all():
        raise InputError("the forcing holds NaN, inf or values that are not real numbers: fill the gaps first.")
    return Sampled(times, values.reshape(times.size, -1).astype(np.float64))


def aligned(array: xr.DataArray, coords: Mapping[str, Any], what: str) -> xr.DataArray:
    """Return an array in the order of the labels of the response; refuse other labels, and say how to take a part."""
    for dim, labels in coords.items():
        if dim not in array.dims or dim not in array.coords:
            continue
        ours, theirs = labels.values, array[dim].values
        if np.array_equal(ours, theirs):
            continue
        if set(ours.tolist()) != set(theirs.tolist()):
            advice = f"use the same labels, or none (drop_vars({dim!r}))"
            if set(theirs.tolist()) < set(ours.tolist()):
                advice = (
                    f"select the same of the response, R.sel({dim}={shown(theirs.tolist())})"
                    if what in _CHANGES
                    else f"fill up the others, e.g. with .reindex({dim}={shown(ours.tolist())}, fill_value=0)"
                )
            raise InputError(
                f"{what} has {dim} = {shown(theirs.tolist())}, the response {shown(ours.tolist())}: {advice}."
            )
        array = array.sel({dim: ours})
    return array
