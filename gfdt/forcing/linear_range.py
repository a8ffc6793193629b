r"""How far a linear prediction may be trusted: its size in natural standard deviations.

    shift = |delta <A>| / std(A).

In a gradient system dx = -grad U + f + s dW the density under a constant force is rho exp(f.x/D)/Z, so that for A =
x_1 and f along e_1 the shift is to first order the chi distance [int (rho_f - rho)^2 / rho]^(1/2) of the perturbed
density from the natural one: the parameter that linear response expands in. Its error was computed without sampling
(forced Fokker-Planck operator on a grid, forcing switched on at t = 0) for two systems; "error" is |linear / true -
1| of the mean when it has settled, the largest over all times in both; "true" is the true shift.

    ======  ====================  ========================  ========================
    shift   double well           scalar climate, f > 0     scalar climate, f < 0
            s = 1/sqrt(2)
    ======  ====================  ========================  ========================
    0.05    error 0.1 %           2.4 %                     2.5 %
    0.1     0.2 %                 4.8 %                     5.1 %
    0.2     1.0 %                 9.3 %                     10.6 %
    0.3     2.1 %                 13.5 %                    16.3 %
    0.5     5.8 %                 21.1 %                    28.2 %  (true 0.70)
    0.8     14.5 %  (true 0.70)   31.1 %  (true 0.61)       45.3 %  (true 1.46)
    1.0     22.0 %  (true 0.82)   37.0 %  (true 0.73)       54.7 %  (true 2.21)
    ======  ====================  ========================  ========================

    double well: dx = (x - x^3 + f) dt + dW/sqrt(2)
    climate:     dx = (0.6 + f - 0.0222 x - 0.2 x^2 - 0.0494 x^3) dt + 0.7071 dW

The error is of first order in the shift for the skewed system and of second order for the symmetric one. A shift of
0.2 keeps it near 10 % in the worse of the two; that is the threshold. It is a necessary condition, not a proof: a
linear system is exact at any shift, and in many dimensions the density can move further than one observable shows.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LINEAR_SHIFT", "linear_range"]

LINEAR_SHIFT = 0.2


def linear_range(
    prediction: NDArray[Any], half_width: NDArray[Any] | None, natural: NDArray[Any] | None, *, stacklevel: int
) -> tuple[str, NDArray[np.float64] | None]:
    """Return "inside", "outside" or "undetermined", and the shift.

    Parameters
    ----------
    prediction : array
        delta <A>.
    half_width : array like prediction, or None
        Of its confidence band.
    natural : array broadcastable against prediction, or None
        Standard deviation of A in the unperturbed record.
    stacklevel : int
        Of the warning, counted from the caller.

    Returns
    -------
    verdict : str
        "outside" if some shift exceeds the threshold by its whole band, "inside" if all stay below it with theirs.
    shift : array or None

    Warns
    -----
    ReliabilityWarning
        If it is "outside".
    """
    if natural is None:
        return "undetermined", None
    natural = np.broadcast_to(natural, prediction.shape)
    # An observable that never varies has no scale to measure with.
    scale = np.where(natural > 0, natural, np.nan)
    shift = np.abs(prediction) / scale
    margin = 0.0 if half_width is None else half_width / scale
    if np.isnan(shift).all():
        return "undetermined", shift
    if (shift - margin > LINEAR_SHIFT).any():
        warnings.warn(
            f"the prediction moves an observable by {np.nanmax(shift):.2g} of its natural standard deviations, beyond "
            f"the {LINEAR_SHIFT:g} up to which linear response was found good to about 10 %: take a weaker forcing, or "
            "check against a perturbed simulation.",
            ReliabilityWarning,
            stacklevel=stacklevel + 1,
        )
        return "outside", shift
    inside = not (shift + margin > LINEAR_SHIFT).any() and np.isfinite(shift).all()
    return "inside" if inside else "undetermined", shift
