r"""Statistics of increments of a homogeneous field: what two points know of each other beyond their covariance.

For a displacement r along one dim, δ(r) = a(x + r) - a(x), averaged over all sites x. Its variance is the second-order
structure function, which follows from the spectrum; its skewness and kurtosis (the flatness S4/S2² and what is odd)
show fronts, vortices and plateaus that the values at single points do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gfdt.certificate.comparison import Statistic
from gfdt.certificate.one_point import standardised_shape
from gfdt.responses.layout import Homogeneous

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["displacements_of", "increments"]


def displacements_of(layout: Homogeneous) -> list[tuple[int, int]]:
    """Return (grid dim, cells) for the displacements 1, 2, 4, ... up to half of each dim."""
    return [
        (axis, 2**power) for axis, n in enumerate(layout.grid) for power in range(n.bit_length()) if 2**power <= n // 2
    ]


def increments(layout: Homogeneous) -> Statistic:
    """γ1/√6 and γ2/√24 of δ(r); summary (variable, 2 displacements): first all skewnesses, then all kurtoses."""
    places, n_variables = displacements_of(layout), layout.n_variables
    n_series = n_variables * len(places)

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        a = values.reshape(len(values), n_variables, *layout.grid)
        out = np.empty((len(values), 4, n_variables, len(places)))
        for index, (axis, cells) in enumerate(places):
            step = (np.roll(a, -cells, axis=2 + axis) - a).reshape(len(a), n_variables, -1)
            for power in range(4):
                out[:, power, :, index] = (step ** (power + 1)).mean(axis=2)
        return out.reshape(len(values), -1)

    def summary(means: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = standardised_shape(means).reshape(*means.shape[:-1], n_variables, len(places), 2)
        return np.moveaxis(shape, -1, -2).reshape(*means.shape[:-1], n_variables, -1)

    def unit(expected: NDArray[np.float64]) -> NDArray[np.float64]:
        kurtosis = 3 + np.sqrt(24) * expected[..., len(places) :]
        size = np.maximum(kurtosis / 3, 1.0)
        return np.concatenate([np.sqrt(size), size], axis=-1)

    return Statistic(features, 4 * n_series, summary, unit)
