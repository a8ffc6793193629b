"""The values of a score that may be a function of the user's: real, finite numbers, one for each component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.scores.base import Score

__all__ = ["checked_values"]


def checked_values(score: Score, states: NDArray[Any], where: str = "") -> NDArray[Any]:
    """Return s(x) of states (n, *state).

    Raises
    ------
    InputError
        If it is not real or not finite; ``where`` says of which states.
    """
    value = np.asarray(score(states))
    if not (np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)):
        raise InputError(f"the score returned {value.dtype} values: it must return real numbers, grad log rho(x).")
    if not np.isfinite(value).all():
        raise InputError(f"the score returned NaN or inf{where}: check its formula, or fit it again.")
    return value
