"""What is observed: pointwise functions A(x) of the state, by name.

x' = x - m is the centred state. "mean" answers how <x> moves, "second_moment" how <x^2> moves, "variance" how
<x'^2> moves, "moment3" and "moment4" how <x'^3> and <x'^4> move. m stays the unperturbed mean: for the variance that
makes no difference to first order, but the third *central* moment moves by <x'^3> - 3 <x'^2> dm, the fourth by
<x'^4> - 4 <x'^3> dm, with dm the response of the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Observable = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

__all__ = ["OBSERVABLES", "find_observable"]

OBSERVABLES: dict[str, Observable] = {
    "mean": lambda centred, mean: centred,  # noqa: ARG005  every entry has the same call
    "second_moment": lambda centred, mean: (centred + mean) ** 2,
    "variance": lambda centred, mean: centred**2,  # noqa: ARG005
    "moment3": lambda centred, mean: centred**3,  # noqa: ARG005
    "moment4": lambda centred, mean: centred**4,  # noqa: ARG005
}


def find_observable(name: str | None) -> tuple[str, Observable]:
    """Return the name and the function A(x', m) of a named observable (None: the state itself)."""
    if name is None:
        return "mean", OBSERVABLES["mean"]
    if not isinstance(name, str) or name not in OBSERVABLES:
        raise InputError(
            f"observable={name!r} is not known: choose among {', '.join(OBSERVABLES)}, or None for the state itself."
        )
    return name, OBSERVABLES[name]
