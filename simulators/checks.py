"""Checks of single values, shared by the parameter records and the engine."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.errors import ParameterError

__all__ = [
    "MAX_MAGNITUDE",
    "MIN_MAGNITUDE",
    "check_cluster",
    "check_flags",
    "require_array",
    "require_flag",
    "require_integer",
    "require_lags",
    "require_number",
    "show",
]

# No physical unit needs more, and products of a few such numbers stay inside double precision.
MIN_MAGNITUDE, MAX_MAGNITUDE = 1e-60, 1e60


def require_number(name: str, value: Any, *, above: float | None = None, at_least: float | None = None) -> float:
    """Return `value` as a finite float, or say what is wrong with it.

    Parameters
    ----------
    name : str
        What the user calls the value.
    value : object
        The value given; numpy scalars are fine, text and bools are not. At most 1e60 in magnitude and, where it must
        be positive, at least 1e-60.
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
    value = _scalar(value)
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # an integer of more than 308 digits
        number = math.inf
    good = math.isfinite(number) and (above is None or number > above) and (at_least is None or number >= at_least)
    if not good:
        raise ParameterError(f"{name} = {show(value)}: expected {expected}; pass {name}=<{expected}>")
    if abs(number) > MAX_MAGNITUDE or (above is not None and number - above < MIN_MAGNITUDE):
        raise ParameterError(
            f"{name} = {number:g}: expected a magnitude between {MIN_MAGNITUDE:g} and {MAX_MAGNITUDE:g}, beyond "
            "which products leave double precision; choose other units"
        )
    return number


def require_integer(name: str, value: Any, *, at_least: int, at_most: int | None = None) -> int:
    """Return `value` as an int within the bounds, or say what is wrong with it.

    Parameters
    ----------
    name : str
        What the user calls the value.
    value : object
        The value given; numpy integers are fine, floats and bools are not.
    at_least, at_most : int
        Inclusive bounds; no upper bound by default.

    Returns
    -------
    int

    Raises
    ------
    ParameterError
        If it is not such an integer.
    """
    value = _scalar(value)
    integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not integer or value < at_least or (at_most is not None and value > at_most):
        expected = f"an integer >= {at_least}" + ("" if at_most is None else f" and <= {at_most}")
        raise ParameterError(f"{name} = {show(value)}: expected {expected}; pass for example {name}={at_least}")
    return int(value)


def require_flag(name: str, value: Any) -> bool:
    """Return `value` if it is a bool; text such as "no" would count as true.

    Raises
    ------
    ParameterError
        If it is anything else.
    """
    value = _scalar(value)
    if not isinstance(value, bool):
        raise ParameterError(f"{name} = {show(value)}: expected true or false without quotes; pass {name}=False")
    return value


def require_array(name: str, value: Any, expected: str) -> NDArray[np.float64]:
    """Return a new float64 array of `value`, any shape; text and bools are not numbers.

    Parameters
    ----------
    name : str
        What the user calls the value.
    value : array_like
        The value given.
    expected : str
        What it should be, with how to get there, for the message.

    Returns
    -------
    ndarray

    Raises
    ------
    ParameterError
        If an element is not a real number, or nested sequences have unequal lengths.
    """
    try:
        if hasattr(value, "__array__"):
            array = np.asarray(value)
            numbers = array.dtype.kind in "iuf"
        else:  # element by element: numpy would turn [True, 1.0] and ["1"] into floats
            array = np.asarray(value, dtype=object)
            numbers = all(isinstance(item, Real) and not isinstance(item, bool | np.bool_) for item in array.flat)
        if numbers:
            return np.array(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        pass
    raise ParameterError(f"{name} = {show(value)}: expected {expected}")


def require_lags(lags: Any) -> NDArray[np.float64]:
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
    expected = "a 1-D sequence of finite times >= 0 (a response is causal); pass for example lags=numpy.arange(0, 10)"
    array = np.atleast_1d(require_array("lags", lags, expected))
    # NaN fails both comparisons
    if array.ndim != 1 or array.size == 0 or not np.all((array >= 0) & (array <= MAX_MAGNITUDE)):
        raise ParameterError(f"lags = {show(lags)}: expected {expected}")
    return array


def show(value: object) -> str:
    """Return `value` for a message: on one line, and never longer than a sentence can carry."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; lists nested without end
        text = f"a {type(value).__name__} too large to print"
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-10:]}"


def _scalar(value: Any) -> Any:
    """Return the Python number in a numpy scalar or 0-d array, anything else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def check_flags(*, overwrite: Any = False, resume: Any = False, progress: Any = None) -> None:
    """Raise a `ParameterError` unless these arguments of ``simulate`` are bools; `progress` may be None."""
    require_flag("overwrite", overwrite)
    require_flag("resume", resume)
    if progress is not None:
        require_flag("progress", progress)


def check_cluster(client: Any, members_per_task: Any) -> None:
    """Raise a `ParameterError` if `members_per_task` is given without a `client`."""
    if client is None and members_per_task is not None:
        raise ParameterError(
            f"members_per_task = {show(members_per_task)} without a client: expected a cluster with tasks; pass "
            "client='tcp://...' or leave it out"
        )
