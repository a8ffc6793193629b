"""Checks of single values, shared by the parameter records and the engine."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from simulators.errors import ParameterError

__all__ = ["require_integer", "require_lags", "require_number"]


def require_number(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """Return `value` as a finite float, or say what is wrong with it.

    Parameters
    ----------
    name : str
        What the user calls the value.
    value : object
        The value given.
    above, at_least : float, optional
        Exclusive and inclusive lower bounds; no bound by default.

    Returns
    -------
    float

    Raises
    ------
    ParameterError
        If it is not a finite real number within the bounds.
    """
    expected = "a finite number"
    if above is not None:
        expected += f" > {above:g}"
    if at_least is not None:
        expected += f" >= {at_least:g}"
    number = float(value) if isinstance(value, Real) and not _is_bool(value) else math.nan
    good = math.isfinite(number) and (above is None or number > above) and (at_least is None or number >= at_least)
    if not good:
        raise ParameterError(f"{name} = {value!r}: expected {expected}; pass {name}=<{expected}>")
    return number


def require_integer(name: str, value: Any, *, at_least: int) -> int:
    """Return `value` as an int of at least `at_least`, or say what is wrong with it.

    Parameters
    ----------
    name : str
        What the user calls the value.
    value : object
        The value given; numpy integers are fine, floats are not.
    at_least : int
        Inclusive lower bound.

    Returns
    -------
    int

    Raises
    ------
    ParameterError
        If it is not such an integer.
    """
    if not isinstance(value, Integral) or _is_bool(value) or value < at_least:
        raise ParameterError(
            f"{name} = {value!r}: expected an integer >= {at_least}; pass for example {name}={at_least}"
        )
    return int(value)


def _is_bool(value: object) -> bool:
    """Python counts True as the number 1; here it is a mistake."""
    return isinstance(value, bool | np.bool_)


def require_lags(lags: Any) -> np.ndarray:
    """Return `lags` as a 1-D float array of non-negative times.

    Parameters
    ----------
    lags : array_like
        Lags in model time units; a single number counts as one lag.

    Returns
    -------
    ndarray
        Shape (lag,).

    Raises
    ------
    ParameterError
        If there is none, or one is negative or not finite.
    """
    try:
        array = np.atleast_1d(np.asarray(lags, dtype=float))
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 1 or array.size == 0 or not np.all(np.isfinite(array)) or np.any(array < 0):
        raise ParameterError(
            f"lags = {lags!r}: expected a 1-D sequence of finite times >= 0 (a response is causal); "
            "pass for example lags=numpy.arange(0, 10)"
        )
    return array
