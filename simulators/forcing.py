"""A finite forcing a f(t) w(x) added to the drift: what a user may write for f and w, checked and resolved.

f is a number (a step at t = 0), a function of an array of times, or values joined by straight lines. w is a constant
pattern, or a function of the state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.checks import MAX_MAGNITUDE, require_array, require_number, show
from simulators.errors import ParameterError
from simulators.perturbation import DisplacementField, find_perturbation, in_order
from simulators.schema import Layout

__all__ = ["Pattern", "evaluate_forcing", "find_pattern"]

Array = NDArray[np.float64]

# Times this close to the end of a labelled forcing, in parts of the duration, are that end.
_ROUNDING = 1e-9
_EXPECTED = (
    "a number, a function f(t) of an array of times, a 1-D DataArray over time, or an array of one value for each "
    "saved time; pass for example forcing=lambda t: numpy.sin(t)"
)


@dataclass(frozen=True, eq=False)
class Pattern:
    """w: where the forcing acts.

    Attributes
    ----------
    layout : Layout
        Labels of the state.
    name : str
        For the record.
    given : ndarray or callable
        Constant values, shape (*state), or w(x) of states (..., *state).
    """

    layout: Layout
    name: str
    given: Array | DisplacementField

    @property
    def constant(self) -> Array | None:
        """The values of w where it does not depend on the state."""
        return None if callable(self.given) else self.given

    def __call__(self, x: Array) -> Array:
        """Return w(x) for states `x`, shape (..., *state)."""
        if not callable(self.given):
            return np.broadcast_to(self.given, x.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            given = self.given(x.copy())  # a copy: a function that changes its argument must not change the state
        w = require_array(f"the forcing {self.name}(x)", given, f"an array of shape {x.shape}")
        # states beyond it have blown up, which is for the runs to say
        if w.shape != x.shape or not np.all((np.abs(w) <= MAX_MAGNITUDE) | ~(np.abs(x) <= MAX_MAGNITUDE)):
            raise ParameterError(
                f"the forcing {self.name}(x) has shape {w.shape} and largest magnitude {np.abs(w).max(initial=0):.3g} "
                f"for states of shape {x.shape}: expected a force on every component of every state, states (..., "
                f"{', '.join(map(str, self.layout.shape))}); write w with x[..., i], and finite"
            )
        return w

    def kick(self, x: Array, size: float) -> Array:
        """Return the displacement of states `x` under dx/dtau = w(x) over the time `size`, by the midpoint rule."""
        if not callable(self.given):
            return size * self(x)
        return size * self(x + size / 2 * self(x))

    def check(self, states: Array) -> None:
        """Raise unless w of several `states`, shape (2 or more, *state), is the w of each."""
        together, alone = self(states), np.array([self(state) for state in states])
        if not np.array_equal(together, alone, equal_nan=True):
            raise ParameterError(
                f"the forcing {self.name}(x) of {len(states)} states at once differs from that of each by "
                f"{np.abs(together - alone).max():.3g}: expected a function of each state alone, members never meet; "
                "write w with x[..., i]"
            )


def find_pattern(value: Any, layout: Layout) -> Pattern:
    """Return the w a user asked for.

    Parameters
    ----------
    value : "uniform", array_like or callable
        As in `simulators.system.System.forced_response`.
    layout : Layout
        Labels of the state.

    Returns
    -------
    Pattern

    Raises
    ------
    ParameterError
        If it is none of these, or an array of another shape, not finite or zero.
    """
    if isinstance(value, str):
        if value != "uniform":
            raise ParameterError(
                f"perturbation = {show(value)}: expected 'uniform', an array of shape {layout.shape}, or a function "
                "w(x) of states with that shape last; pass perturbation='uniform'"
            )
        return Pattern(layout, value, np.ones(layout.shape))
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__name__)
        return Pattern(layout, name, lambda x: in_order(value(x), layout))
    found = find_perturbation(value, layout)
    assert found.given is not None  # an array that is not a string or a function is kept
    return Pattern(layout, found.name, found.given)


def evaluate_forcing(value: Any, times: Array, saved: Array) -> Array:
    """Return f at `times`.

    Parameters
    ----------
    value : float, callable, xarray.DataArray or array_like
        As in `simulators.system.System.forced_response`.
    times : ndarray
        Increasing times from 0 to the end of the record.
    saved : ndarray
        The saved times, the last one the end: those of an array without labels.

    Returns
    -------
    ndarray
        Shape of `times`.

    Raises
    ------
    ParameterError
        If it is none of these, does not reach from 0 to the end, or is not finite.
    """
    if callable(value) and not hasattr(value, "dims"):
        return _of_function(value, times)
    if np.ndim(value) == 0 and not hasattr(value, "dims"):
        return np.full(len(times), require_number("forcing", value))
    if hasattr(value, "dims"):
        knots, values = _labelled(value, float(saved[-1]))
    else:
        knots, values = saved, require_array("forcing", value, _EXPECTED)
        if values.shape != saved.shape:
            raise ParameterError(
                f"forcing is an array of shape {values.shape}: expected ({len(saved)},), one value for each of the "
                f"saved times 0 to {saved[-1]:g}; pass a DataArray with a time coordinate for other times"
            )
    _require_finite(values, knots)
    return np.interp(times, knots, values)


def _of_function(function: Callable[[Array], Any], times: Array) -> Array:
    values = require_array("forcing(t)", function(times.copy()), f"an array of shape {times.shape}")
    if values.ndim == 0:  # a constant
        values = np.full(times.shape, float(values))
    if values.shape != times.shape:
        raise ParameterError(
            f"forcing(t) has shape {values.shape} for {len(times)} times: expected {times.shape}; return one number "
            "for each time"
        )
    _require_finite(values, times)
    return values


def _labelled(value: Any, end: float) -> tuple[Array, Array]:
    """Return the knots and values of a forcing with a time coordinate."""
    if tuple(value.dims) != ("time",) or "time" not in value.coords:
        raise ParameterError(
            f"forcing has dims {tuple(value.dims)} and coordinates {sorted(map(str, value.coords))}: expected the one "
            "dim time with its coordinate; rename, select or assign_coords first"
        )
    knots = require_array("the time of the forcing", value["time"].values, "numbers, in model time units")
    values = require_array("forcing", value.values, _EXPECTED)
    slack = _ROUNDING * end
    if not (np.all(np.diff(knots) > 0) and knots[0] <= slack and knots[-1] >= end - slack):
        raise ParameterError(
            f"forcing is given at {len(knots)} times from {knots[0]:g} to {knots[-1]:g}: expected increasing times "
            f"that reach from 0 to the end {end:g}; extend it, or pass a shorter duration"
        )
    return knots, values


def _require_finite(values: Array, times: Array) -> None:
    bad = ~(np.abs(values) <= MAX_MAGNITUDE)
    if bad.any():
        first = int(np.argmax(bad))
        raise ParameterError(
            f"forcing is {values[first]:g} at time {times[first]:g}: expected finite numbers at all times; correct or "
            "interpolate it there"
        )
