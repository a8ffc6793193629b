r"""What the noise level σ of a score costs, whatever was learned.

The score of the blurred density is C_k (C_k + σ²)⁻¹ times that of the record along a Gaussian mode of variance C_k, so
on average over the modes with variance

    <σ²/(C_k + σ²)>_k = 1 - tr P/rank C,        P = C (C + σ²)⁻¹,

of it is missing: the share that :mod:`gfdt.diffusion.noise_level` keeps below 5 % when it chooses σ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance.spectral import half_plane_weights
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["share_of_blur"]


def share_of_blur(ready: Prepared, noise_level: float | NDArray[np.float64]) -> float:
    """Return <σ²/(C_k + σ²)>_k over the modes of a record that have variance."""
    layout = ready.layout

    def trace(matrix: NDArray[Any]) -> float:
        if layout.dense:
            return float(np.trace(matrix))
        each = np.trace(matrix, axis1=-2, axis2=-1) if layout.several else matrix
        return float((half_plane_weights(layout.grid).ravel() @ each).real)

    kept = trace(layout.parametric(ready.covariance, noise_level))
    return float(max(1 - kept / trace(ready.algebra.identity), 0.0))
