"""Pointwise moments as observables, by name.

x' = x - m is the state without its unperturbed mean m. "mean" answers how <x> moves, "second_moment" how <x^2> moves,
"variance", "moment3" and "moment4" how <x'^2>, <x'^3> and <x'^4> move. m stays the unperturbed mean while the state is
perturbed: to first order that makes no difference to the variance, but the third central moment moves by
<x'^3> - 3 <x'^2> dm, dm the response of the mean.
"""

from dataclasses import dataclass
from typing import Any

from simulators.checks import show
from simulators.errors import ParameterError

__all__ = ["MOMENTS", "Moment", "find_moment"]


@dataclass(frozen=True)
class Moment:
    """The observable x^power, or x'^power where `centred`."""

    name: str
    power: int
    centred: bool

    @property
    def n_powers(self) -> int:
        """Powers of the state that an estimate follows: all up to that of a centred moment, whose m comes last."""
        return self.power if self.centred else 1


MOMENTS = {
    moment.name: moment
    for moment in (
        Moment("mean", 1, False),
        Moment("second_moment", 2, False),
        Moment("variance", 2, True),
        Moment("moment3", 3, True),
        Moment("moment4", 4, True),
    )
}


def find_moment(name: Any, otherwise: str = "") -> Moment:
    """Return the moment of that name.

    Parameters
    ----------
    name : str
        A key of `MOMENTS`.
    otherwise : str
        What else the caller accepts, for the message.

    Returns
    -------
    Moment

    Raises
    ------
    ParameterError
        If there is none.
    """
    if not isinstance(name, str) or name not in MOMENTS:
        raise ParameterError(
            f"observable = {show(name)}: expected {', '.join(map(repr, MOMENTS))}{otherwise}; pass observable='mean'"
        )
    return MOMENTS[name]
