"""Forcings of ``gfdt predict``: described in a word, times a direction, or read from a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.cli.inputs import path_of, read_point, read_variable
from gfdt.errors import InputError
from gfdt.forcing.drive import aligned
from gfdt.validation import number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.forcing.reading import ResponseFunction

    Course = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["check_unit", "course", "directions", "output_times", "pushed", "read_word", "source_named"]

_WORDS = {"step": 1, "ramp": 1, "sine": 2}  # how many numbers each takes
_MOST_TIMES = 10**6


def read_word(text: str) -> tuple[str, list[float]] | None:
    """``sine:0.1:20`` as ("sine", [0.1, 20.0]); None for the path of a file."""
    kind, *numbers = text.split(":")
    try:
        values = [float(item) for item in numbers]
    except ValueError:
        values = []
    usable = len(values) == _WORDS.get(kind) and np.isfinite(values).all() and not Path(text).exists()
    if not usable and path_of(text).exists():
        return None
    if not usable or (kind == "sine" and values[1] <= 0):
        raise InputError(
            f"the forcing {text} is neither a file nor of the form step:A, ramp:A or sine:A:PERIOD (PERIOD above 0): "
            "check the path or the numbers."
        )
    return kind, values


def course(word: tuple[str, list[float]], duration: float) -> Course:
    """f(t) for an array of times."""
    kind, (size, *rest) = word
    if kind == "step":
        return lambda t: np.full(t.shape, size)
    if kind == "ramp":
        return lambda t: size * t / duration
    return lambda t: size * np.sin(2 * math.pi * t / rest[0])


def pushed(f: Course, weights: NDArray[np.float64]) -> Course:
    """f(t) times a weight for each direction: (times, *perturbed)."""
    return lambda t: f(t).reshape(-1, *[1] * weights.ndim) * weights


def output_times(
    response: ResponseFunction, start: float, duration: float | None, dt: float | None
) -> NDArray[np.float64]:
    """Times from ``start`` on; by default as long and as fine as the lags."""
    number("duration", duration, low=0.0, optional=True)
    number("dt", dt, low=0.0, optional=True)
    length = float(response.lags[-1]) if duration is None else duration
    step = float(response.lags[1]) if dt is None else dt
    if not 1 <= length / step * (1 + 1e-9) <= _MOST_TIMES:
        raise InputError(
            f"--duration {length:g} holds {length / step:.3g} steps of --dt {step:g}: from 1 to {_MOST_TIMES} are "
            "possible."
        )
    return start + step * np.arange(int(length / step * (1 + 1e-9)) + 1, dtype=np.float64)


def directions(response: ResponseFunction, at: str | None, pattern: str | None) -> NDArray[np.float64]:
    """How strongly each direction is pushed, shape (*sites, *perturbed)."""
    dims, shape = response.source_dims, response.source_shape
    if at and pattern:
        raise InputError("--at and --pattern both say which direction is pushed: give one of them.")
    if not dims and (at or pattern):
        raise InputError("the response is that to one perturbation, there is no direction to choose: leave --at out.")
    if math.prod(shape) == 1 and not (at or pattern):
        return np.ones(shape)
    said = ", ".join(f"{dim} ({size})" for dim, size in zip(dims, shape, strict=True))
    if pattern:
        array = source_named(read_variable(pattern), response)
        if set(array.dims) != set(dims) or any(array.sizes[dim] != n for dim, n in zip(dims, shape, strict=True)):
            found = ", ".join(f"{dim} ({size})" for dim, size in array.sizes.items())
            raise InputError(f"the pattern {pattern} has the dims {found or '(none)'}, the response needs {said}.")
        array = aligned(array, response.side_coords(response.perturbed), "the pattern").transpose(*dims)
        if not np.issubdtype(array.dtype, np.number) or not np.isfinite(array.values).all():
            raise InputError(f"the pattern {pattern} holds NaN, inf or text: give a number for every direction.")
        return array.values.astype(np.float64)
    point = read_point(at)
    if set(point) - set(dims) or any(dim not in point and n > 1 for dim, n in zip(dims, shape, strict=True)):
        example = ",".join(f"{dim}={_labels(response, dim)[0]}" for dim in dims)
        raise InputError(
            f"the response knows {math.prod(shape)} directions, {said}: say which is pushed, e.g. --at {example}, or "
            "how strongly each is with --pattern FILE."
        )
    weights = np.zeros(shape)
    weights[tuple(_index(response, dim, point[dim]) if dim in point else 0 for dim in dims)] = 1.0
    return weights


def _labels(response: ResponseFunction, dim: str) -> list[Any]:
    if dim in response.coords:
        return list(response.coords[dim].values.tolist())
    return list(range(response.source_shape[response.source_dims.index(dim)]))


def _index(response: ResponseFunction, dim: str, label: float | str) -> int:
    labels = _labels(response, dim)
    wanted = f"{label:g}" if isinstance(label, float) else label
    # A label may be the text of a number, and --at cannot tell.
    found = [k for k, item in enumerate(labels) if item == label or str(item) == wanted]
    if len(found) != 1:
        shown = ", ".join(map(str, labels[:8])) + (" ..." if len(labels) > 8 else "")
        raise InputError(f"--at {dim}={wanted} is not there: choose among {shown}.")
    return found[0]


def source_named(array: xr.DataArray, response: ResponseFunction) -> xr.DataArray:
    """The state's dims of a file are those of the kicked state: component is component_src."""
    renamed = {dim.removesuffix("_src"): dim for dim in response.perturbed if dim.endswith("_src")}
    return array.rename({old: new for old, new in renamed.items() if old in array.dims and new not in array.dims})


def check_unit(forcing: xr.DataArray, response: ResponseFunction) -> None:
    """Refuse a forcing whose time is stated in another unit than the lags."""
    if "time" not in forcing.coords:
        return
    unit = str(forcing["time"].attrs.get("units", "1")).partition(" since ")[0].strip()
    plain = ("", "1", "time units")
    if unit not in plain and response.unit not in plain and unit != response.unit:
        raise InputError(
            f"the time of the forcing is in {unit}, the lags of the response in {response.unit}: bring them to "
            "one unit."
        )
