"""Checks of single arguments, with one voice: what was found, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from gfdt.errors import InputError

__all__ = ["integer", "is_number", "number", "one_of", "shown"]


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number, of Python or numpy, that fits a float."""
    if isinstance(value, bool | np.timedelta64) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """Return the repr of a value, cut to a length that fits a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + " ..."


def one_of(name: str, value: Any, allowed: Sequence[str], also: str = "") -> None:
    """Refuse anything but one of the allowed words; ``also`` says what else the argument takes."""
    if not isinstance(value, str) or value not in allowed:
        found = shown(value) if isinstance(value, str) else f"a {type(value).__name__}"
        raise InputError(
            f"{name} is {found}, which this version does not have: choose among {', '.join(map(repr, allowed))}{also}."
        )


def number(
    name: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    closed: bool = False,
    optional: bool = False,
) -> None:
    """Refuse anything but a finite number in (low, high), or [low, high) if ``closed``."""
    if value is None and optional:
        return
    usable = is_number(value)
    if not usable or not (low <= value if closed else low < value) or not value < high:
        interval = f"{'[' if closed else '('}{low:g}, {high:g})"
        raise InputError(f"{name}={shown(value)} is not a number in {interval}: pass one, or leave {name} out.")


def integer(name: str, value: Any, low: int, high: int, *, optional: bool = False) -> None:
    """Refuse anything but a whole number from low to high."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise InputError(
            f"{name}={shown(value)} is not an integer from {low} to {high}: pass one, or leave {name} out."
        )
