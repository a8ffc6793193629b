"""The noise level σ at which the learned score is used, in units of ``scale`` (:mod:`gfdt.diffusion.units`).

A small σ costs little bias: σ²/(C_k + σ²) of the Gaussian score of a mode with variance C_k. But the noise of what was
learned grows as 1/σ. The default is 0.05 of the standard deviation, or less where that would cost more than 5 % of
the score on average over the modes (steep spectra), but never less than 0.02.

An objective that learns the score of the data themselves (sliced score matching) needs no noise: its default is 0.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.covariance import Covariance

__all__ = ["default_level", "warn_if_coarse"]

_LEAST, _DEFAULT = 0.02, 0.05
_BLUR = 0.05  # share of the Gaussian score that the default may cost
_LEVELS = 10  # from the default down to the least, in steps of about 10 %


def default_level(covariance: Covariance) -> float:
    """Return the default of the module docstring, for the covariance of anomalies."""
    levels = np.geomspace(_DEFAULT, _LEAST, _LEVELS)
    return float(next((level for level in levels if _blur(covariance, level) <= _BLUR), levels[-1]))


def warn_if_coarse(sigma: float, deviations: NDArray[np.float64]) -> None:
    """Warn if σ, in the units of the data, is more than half the standard deviation of some component.

    Warns
    -----
    ReliabilityWarning
        With both numbers.
    """
    if sigma > 0.5 * deviations.min():
        rms = float(np.sqrt(np.mean(deviations**2)))
        warnings.warn(
            f"the noise level sigma={sigma:.3g} blurs a component whose standard deviation is {deviations.min():.3g} "
            f"(the rms of all is {rms:.3g}): leave sigma out, which gives every component its own, or pass a smaller "
            "one.",
            ReliabilityWarning,
            stacklevel=5,
        )


def _blur(covariance: Covariance, level: float) -> float:
    """Mean of σ²/(C_k + σ²) over the modes that have any variance."""
    lost = covariance.trace(lambda c: np.where(c > 0, level**2 / (c + level**2), 0.0))
    return lost / covariance.trace(lambda c: (c > 0).astype(float))
