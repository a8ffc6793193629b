r"""How much is missing because R is known up to the lag T only.

The contributions of the last two quarters of the lags, [T/2, 3T/4] and [3T/4, T], of rms sizes E1 and E2 less the
noise in them (zero up to two standard errors), give the ratio q = min(E2/E1, 1) by which R falls in a quarter. If it
goes on like this, the next N quarters hold

    E2 (q + q^2 + ... + q^N),

exactly so for one exponential. N is how many quarters the forcing lasts beyond T; with q = 1 nothing is known about
where the response ends, and the sum says what it would add if it went on as it is.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import NDArray

from gfdt.errors import ReliabilityWarning

__all__ = ["geometric_tail", "rms_beyond_noise", "warn_of_tail"]

_WORTH_SAYING = 0.05
_NOISE = 2.0  # standard errors: less is no evidence that anything goes on


def rms_beyond_noise(values: NDArray[np.float64], stderr: NDArray[np.float64] | None) -> float:
    """Return (mean |value|^2 - mean stderr^2)^(1/2), zero where noise of two standard errors accounts for all."""
    square = float((np.abs(values) ** 2).mean())
    noise = 0.0 if stderr is None else float((stderr**2).mean())
    return math.sqrt(square - noise) if square > _NOISE**2 * noise else 0.0


def geometric_tail(before: float, last: float, quarters: float) -> float:
    """Return E2 (q + ... + q^N) for E1 = ``before``, E2 = ``last``, N = ``quarters``."""
    if last == 0:
        return 0.0
    q = min(last / before, 1.0) if before > 0 else 1.0
    if q == 1.0:
        return last * quarters
    return last * q * (1 - q**quarters) / (1 - q)


def warn_of_tail(share: float, longest: float, subject: str, *, stacklevel: int) -> None:
    """Warn if the missing tail is more than 5 % of the result."""
    if share > _WORTH_SAYING:
        warnings.warn(
            f"the response has not decayed at its longest lag {longest:g}: about {100 * share:.2g} % of the "
            f"{subject} is missing beyond it; estimate R to a larger max_lag.",
            ReliabilityWarning,
            stacklevel=stacklevel + 1,
        )
