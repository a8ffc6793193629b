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

from gfdt.covariance.dense import RELATIVE_FLOOR
from gfdt.errors import InputError
from gfdt.responses.algebra import Algebra
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

    def algebra(self, covariance: NDArray[Any]) -> Algebra:
        """Where there is variance, by the eigenvalues of the correlation matrix, which know no units."""
        spread = _spread(covariance)
        values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
        present = values > RELATIVE_FLOOR * values[-1]
        if present.all():
            return Algebra(True, spread.size)
        return Algebra(True, spread.size, np.linalg.qr(spread[:, None] * vectors[:, present])[0])

    def parametric(self, covariance: NDArray[Any], noise_level: float | NDArray[np.float64]) -> NDArray[Any]:
        """P = C (C + diag sigma_j^2)^-1; for sigma = 0 the projector on the support of C."""
        level = np.broadcast_to(noise_level, self.shape).ravel()
        algebra = self.algebra(covariance)
        if not level.any():
            return algebra.identity
        blurred = covariance + np.diag(level**2)
        if algebra.support is None or level.all():
            return np.linalg.solve(blurred, covariance).T
        spread = _spread(blurred)
        inverse = np.linalg.pinv(blurred / np.outer(spread, spread), rcond=RELATIVE_FLOOR, hermitian=True)
        return covariance @ (inverse / np.outer(spread, spread))

    def scale(self, covariance: NDArray[Any]) -> NDArray[np.float64]:
        """sd_j / sd_i: makes R_ij a pure number."""
        spread = _spread(covariance)
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

    def algebra(self, covariance: NDArray[Any]) -> Algebra:
        """Which wavenumbers have variance."""
        power = covariance.real
        present = power > RELATIVE_FLOOR * power.max()
        return Algebra(False, power.size, None if present.all() else present)

    def parametric(self, covariance: NDArray[Any], noise_level: float | NDArray[np.float64]) -> NDArray[Any]:
        """P_k = C_k/(C_k + sigma^2), 0 where there is no variance.

        Raises
        ------
        InputError
            If the noise level is not the same at every site.
        """
        level = np.ravel(noise_level)
        if np.ptp(level) > 0:
            raise InputError(
                f"the noise level of the score goes from {level.min():.3g} to {level.max():.3g} between sites, a "
                "homogeneous field needs one: fit the score with one sigma, or pass homogeneous=None."
            )
        present = self.algebra(covariance).identity > 0
        power = np.where(present, covariance.real, 0.0)
        return np.divide(power, power + level[0] ** 2, out=np.zeros_like(power), where=present)

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


def _spread(covariance: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviations, 1 where there is none."""
    variance = np.diagonal(covariance)
    return np.sqrt(np.where(variance > 0, variance, 1.0))
