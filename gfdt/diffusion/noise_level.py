"""The noise level σ at which the learned score is used.

A small σ costs little bias: σ²/(C_k + σ²) of the Gaussian score of a mode with variance C_k. But the noise of what was
learned grows as 1/σ. The default is 0.05 of the rms of the data, or less where that would cost more than 5 % of
the score on average over the modes (steep spectra), but never less than 0.02 of the rms.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.diffusion.preconditioning import mean_over_modes
from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.covariance import DenseCovariance, SpectralCovariance

__all__ = ["choose_noise_level"]

_LEAST, _DEFAULT = 0.02, 0.05  # of the rms
_BLUR = 0.05  # share of the Gaussian score that the default may cost
_LEVELS = 10  # from the default down to the least, in steps of about 10 %


def choose_noise_level(
    sigma: float | None, covariance: DenseCovariance | SpectralCovariance, states: NDArray[Any]
) -> float:
    """Return σ in the units of the data: the given one, or the default of the module docstring.

    Warns
    -----
    ReliabilityWarning
        If σ is more than half the standard deviation of some component.
    """
    deviations = np.sqrt(states.var(axis=0, dtype=np.float64))
    rms = float(np.sqrt(np.mean(deviations**2)))
    if sigma is None:
        levels = rms * np.geomspace(_DEFAULT, _LEAST, _LEVELS)
        sigma = next((level for level in levels if _blur(covariance, level) <= _BLUR), levels[-1])
    if sigma > 0.5 * deviations.min():
        warnings.warn(
            f"the noise level sigma={sigma:.3g} blurs a component whose standard deviation is {deviations.min():.3g} "
            f"(the rms of all is {rms:.3g}): rescale the components to similar size, or pass a smaller sigma=.",
            ReliabilityWarning,
            stacklevel=4,
        )
    return float(sigma)


def _blur(covariance: DenseCovariance | SpectralCovariance, sigma: float) -> float:
    """Mean over the modes of σ²/(C_k + σ²)."""
    return mean_over_modes(covariance, lambda c: sigma**2 / (c + sigma**2))
