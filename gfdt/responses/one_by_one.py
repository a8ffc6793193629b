"""A user's function of states must treat each state alone: blocks of any size are shown to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["require_one_by_one"]


def require_one_by_one(
    function: Callable[[NDArray[np.float64]], Any], states: NDArray[np.float64], name: str, hint: str
) -> None:
    """Refuse a function that gives a state another value when it sees other states, or another order of them.

    Parameters
    ----------
    function : callable
        States (n, *state) to values (n, ...).
    states : (n, *state)
        Some states of the record.
    name, hint : str
        What it is, and what is probably meant.
    """
    if len(states) < 3:
        return
    chosen = np.arange(len(states))[::-2]  # fewer, and backwards
    together, apart = np.asarray(function(states.copy())), np.asarray(function(states[chosen].copy()))
    if together.shape[:1] != states.shape[:1] or apart.shape != (len(chosen), *together.shape[1:]):
        return  # refused where its shape is looked at
    a, b = together[chosen].astype(np.float64), apart.astype(np.float64)
    size = float(np.abs(np.nan_to_num(together.astype(np.float64))).max(initial=0.0))
    if not np.allclose(a, b, rtol=1e-6, atol=1e-9 * size, equal_nan=True):
        raise InputError(
            f"{name} gives a state another value when it sees others with it, or in another order: it must be a "
            f"function of each state alone ({hint})."
        )
