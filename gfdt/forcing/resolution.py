r"""Whether the lags are close enough for the integrals of R to be right.

The cubic spline through R errs where R bends within a lag, above all just after the kick. S(t) = int_0^t R from every
second lag errs more; with e the error and r the ratio by which halving the spacing lowers it,

    S_half - S = (r - 1) e,        r = 4

(16 for a smooth R, less where the spacing begins to matter). The error is the rms of this over the lags, relative to
that of S. For the exact response of the double well at spacings 2, 1, 1/2, 1/4 it is 2.9, 1.2, 0.33, 0.049 %, and S is
off by 4.9, 1.1, 0.16, 0.015 %. Where the error is below half of the standard error of S it does not matter.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from gfdt.errors import ReliabilityWarning
from gfdt.forcing.propagation import propagate
from gfdt.forcing.reading import ResponseFunction
from gfdt.forcing.spline import apply_to_lags, integral_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["lag_error", "warn_of_coarse_lags"]

_RATIO = 4.0
_COARSE = 0.01
_HARMLESS = 0.5  # of the standard error
_FEWEST = 5


def lag_error(
    response: ResponseFunction, step: NDArray[np.float64] | None = None, stderr: NDArray[np.float64] | None = None
) -> tuple[float, bool]:
    """Return the relative error of the step response by the spacing of its lags, and whether it matters.

    Parameters
    ----------
    response : ResponseFunction
    step, stderr : arrays like the response, optional
        S and its standard error, where they are known already.
    """
    if response.lags.size < _FEWEST:
        return float("nan"), False
    if step is None:
        weights = integral_weights(response.lags)
        found = propagate(response, lambda x: apply_to_lags(weights, x), lambda x: apply_to_lags(np.abs(weights), x))
        step, stderr = found.value, found.stderr
    sparse = integral_weights(response.lags[::2])
    other = apply_to_lags(sparse, response.values[None, ::2])[0]
    difference = float(np.sqrt(((other - step[::2]) ** 2).mean())) / (_RATIO - 1)
    size = float(np.sqrt((step[::2] ** 2).mean()))
    noise = 0.0 if stderr is None else float(np.sqrt((stderr[::2] ** 2).mean()))
    error = difference / size if size > 0 else 0.0
    return error, error > _COARSE and difference > _HARMLESS * noise


def warn_of_coarse_lags(error: float, response: ResponseFunction, *, stacklevel: int) -> None:
    """Say how much the lag spacing costs."""
    warnings.warn(
        f"the lags are {np.diff(response.lags).max():.3g} apart, too far for this response: integrals over it are off "
        f"by about {100 * error:.2g} %; estimate R with a smaller lag_stride, or from a record sampled more often.",
        ReliabilityWarning,
        stacklevel=stacklevel + 1,
    )
