"""Richardson extrapolation of a learned score in σ²: the blur of first order removed.

A score learned at noise level σ is s_σ = s + σ² e + O(σ⁴), with e the same at every level. Hence

    s ≈ (r² s_σ - s_rσ)/(r² - 1),

whose bias is O(σ⁴), at twice the evaluations and, for r² = 2, with errors of learning up to three times as large where
they do not agree between the two levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gfdt.errors import InputError
from gfdt.scores.base import Score
from gfdt.validation import number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.scores.dsm import DSMScore

__all__ = ["ExtrapolatedScore"]


class ExtrapolatedScore(Score):
    """The combination of the module docstring; made by :meth:`gfdt.DSMScore.extrapolated`.

    Parameters
    ----------
    score : DSMScore
        A fitted score with a noise level above zero.
    ratio : float
        r, above 1.

    Raises
    ------
    InputError
        If r or the noise level of the score cannot be used, or r times that level is far beyond the trained ones.
    """

    label: ClassVar[str] = "generative"

    def __init__(self, score: DSMScore, ratio: float) -> None:
        number("ratio", ratio, low=1.0, high=10.0)
        if not np.all(np.asarray(score.noise_level_) > 0):
            raise InputError("the noise level is 0, and there is no blur to remove: use the score as it is.")
        self.score, self.ratio = score, ratio
        self._coarse = score.at_noise_level(ratio * score.noise_level_)
        self.state_dims_, self.state_shape_ = score.state_dims_, score.state_shape_
        self.state_labels_ = score.state_labels_
        self.fingerprint_ = score.fingerprint_
        self.covariance_ = score.covariance_
        self.noise_level_ = 0.0

    def validate(self, dims: tuple[str, ...]) -> None:
        """Do nothing: the score was validated when it was fitted."""

    def _fit(self, trajectory: xr.DataArray) -> None:  # noqa: ARG002  same call as every score
        raise InputError("an extrapolated score is made from a fitted one: fit that, then call .extrapolated() on it.")

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        return self._combined(self.score._evaluate(batch), self._coarse._evaluate(batch))

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._combined(self.score._jvp(batch, v), self._coarse._jvp(batch, v))

    def _combined(self, fine: NDArray[Any], coarse: NDArray[Any]) -> NDArray[Any]:
        square = self.ratio**2
        return (square * fine - coarse) / (square - 1)

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        raise InputError("an extrapolated score is not saved: save the score itself and call .extrapolated() again.")
