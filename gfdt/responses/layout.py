"""The two shapes a response can have, behind one call: full matrix, or displacement of a homogeneous field.

Both say how to turn states into series (``transform``), how to correlate them (``sums``), and how to label and
map back what comes out (``to_physical``, ``coords``). A homogeneous field works per wavenumber:
R_k(t) = <A_k(t) B_k(0)*>/n_sites has the inverse transform R(r, t) = <A(x + r, t) B(x, 0)>.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.responses.correlation import outer_sums, spectral_sums

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.responses.units import Unit

__all__ = ["FullMatrix", "Homogeneous", "displacements"]


def displacements(n: int) -> NDArray[np.int64]:
    """Return the signed displacements of n periodic cells in increasing order: -n/2 .. n/2 - 1 for even n."""
    return np.arange(n) - n // 2


@dataclass(frozen=True)
class FullMatrix:
    """R_ij(t) for every pair of state components; arrays are (..., d, d)."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dense = True

    def unit_bytes(self, n_lags: int) -> int:
        """Memory of one unit's sums."""
        return 8 * n_lags * math.prod(self.shape) ** 2

    def transform(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """States (time, *shape) to series (time, d)."""
        return values.reshape(values.shape[0], -1)

    def sums(self, a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]) -> NDArray[np.float64]:
        """Correlation sums (n_lags, d, d); see :func:`outer_sums`."""
        return outer_sums(a, b, unit, lags)

    def parametric(self, covariance: NDArray[Any], noise_level: float) -> NDArray[Any]:
        """P = C (C + sigma^2 I)^-1."""
        return covariance @ np.linalg.inv(covariance + noise_level**2 * np.eye(covariance.shape[0]))

    def scale(self, covariance: NDArray[Any]) -> NDArray[np.float64]:
        """sd_j / sd_i: makes R_ij a pure number."""
        spread = np.sqrt(np.diagonal(covariance))
        return spread[None, :] / spread[:, None]

    def to_physical(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(..., d, d) to (..., *shape, *shape)."""
        return values.reshape(*values.shape[:-2], *self.shape, *self.shape)

    def coords(self, trajectory: xr.DataArray) -> dict[str, Any]:
        """Names and coordinates of the dims after ``lag``."""
        observed = {name: trajectory[name].values for name in self.dims}
        return observed | {f"{name}_src": trajectory[name].values for name in self.dims}


@dataclass(frozen=True)
class Homogeneous:
    """R(r, t) at displacement r from the kick; arrays are (..., n_modes) complex, the half-plane of ``rfftn``."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dense = False

    def unit_bytes(self, n_lags: int) -> int:
        """Memory of one unit's sums."""
        return 16 * n_lags * math.prod(self.shape[:-1]) * (self.shape[-1] // 2 + 1)

    def transform(self, values: NDArray[Any]) -> NDArray[np.complex128]:
        """Fields (time, *shape) to Fourier series (time, n_modes), scaled so that products need no 1/n_sites."""
        axes = tuple(range(1, values.ndim))
        spectrum = scipy.fft.rfftn(values, axes=axes, norm="ortho", workers=-1)
        return spectrum.reshape(values.shape[0], -1)

    def sums(self, a: NDArray[Any], b: NDArray[Any], unit: Unit, lags: NDArray[np.int64]) -> NDArray[np.complex128]:
        """Correlation sums (n_lags, n_modes); see :func:`spectral_sums`."""
        return spectral_sums(a, b, unit, lags)

    def parametric(self, covariance: NDArray[Any], noise_level: float) -> NDArray[Any]:
        """P_k = C_k/(C_k + sigma^2)."""
        return covariance.real / (covariance.real + noise_level**2)

    def scale(self, covariance: NDArray[Any]) -> NDArray[np.float64]:  # noqa: ARG002  same call as FullMatrix
        """Nothing to scale: R_k is a pure number."""
        return np.ones(1)

    def to_physical(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(..., n_modes) to (..., *shape), displacement zero at index n // 2 of each dim."""
        half = (*self.shape[:-1], self.shape[-1] // 2 + 1)
        lead = values.shape[:-1]
        axes = tuple(range(len(lead), len(lead) + len(self.shape)))
        fields = scipy.fft.irfftn(values.reshape(*lead, *half), s=self.shape, axes=axes, workers=-1)
        return np.fft.fftshift(fields, axes=axes)

    def coords(self, trajectory: xr.DataArray) -> dict[str, Any]:  # noqa: ARG002  same call as FullMatrix
        """Names and coordinates of the dims after ``lag``."""
        return {f"d{name}": displacements(size) for name, size in zip(self.dims, self.shape, strict=True)}
