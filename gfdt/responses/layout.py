r"""The two shapes a response can have, behind one call: full matrix, or displacement of a homogeneous field.

Both say how to turn states into series (``transform``), how to correlate them (``product``), and how to label and
map back what comes out (``to_physical``). A homogeneous field works per wavenumber:
R_k(t) = <A_k(t) B_k(0)*>/n_sites has the inverse transform R(r, t) = <A(x + r, t) B(x, 0)>. Several variables at each
site make R_k a matrix <A_k B_k^H>.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.fft

from gfdt.covariance.dense import RELATIVE_FLOOR
from gfdt.covariance.spectral import half_plane_weights
from gfdt.errors import InputError
from gfdt.responses.algebra import Algebra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FullMatrix", "Homogeneous", "Layout", "displacements"]


def displacements(n: int) -> NDArray[np.int64]:
    """Return the signed displacements of n periodic cells in increasing order: -n/2 .. n/2 - 1 for even n."""
    return np.arange(n) - n // 2


@dataclass(frozen=True)
class FullMatrix:
    """R_ij(t) for every pair of state components; arrays are (..., d, d)."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dense = True
    several = False
    grid_dims: ClassVar[tuple[str, ...]] = ()
    grid: ClassVar[tuple[int, ...]] = ()
    n_variables = 1

    @property
    def size(self) -> int:
        """Number of state components."""
        return math.prod(self.shape)

    def transform(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """States (time, *shape) to series (time, d)."""
        return values.reshape(values.shape[0], -1)

    def to_states(self, series: NDArray[Any]) -> NDArray[np.float64]:
        """Undo ``transform``."""
        return series.reshape(series.shape[0], *self.shape)

    def product(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
        """Return sum_t a(t) b(t)^T, (d, d)."""
        return np.asarray(a.T @ b, dtype=np.float64)

    def cross(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Return h(t) with left . (D^H right) = h . D for every D of the algebra, (time, d^2)."""
        return (right[:, :, None] * left[:, None, :]).reshape(left.shape[0], -1)

    def inner(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Return left(t) . right(t), summed over the state, (time,)."""
        return np.einsum("ti,ti->t", left, right)

    def site_mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the average (*shape) itself: every component is its own kind."""
        return values

    def algebra(self, covariance: NDArray[Any]) -> Algebra:
        """Where there is variance, by the eigenvalues of the correlation matrix, which know no units."""
        spread = _spread(covariance)
        values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
        present = values > RELATIVE_FLOOR * values[-1]
        if present.all():
            return Algebra("matrix", spread.size)
        return Algebra("matrix", spread.size, np.linalg.qr(spread[:, None] * vectors[:, present])[0])

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


@dataclass(frozen=True)
class Homogeneous:
    """R(r, t) at displacement r from the kick; arrays are (..., n_modes) complex, the half-plane of ``rfftn``.

    With ``several`` the first of the dims numbers variables of the field, and arrays are (..., n_modes, v, v).
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    several: bool = False
    dense = False

    @property
    def size(self) -> int:
        """Number of state components."""
        return math.prod(self.shape)

    @property
    def grid_dims(self) -> tuple[str, ...]:
        """Names of the dims along which the field is periodic."""
        return self.dims[1:] if self.several else self.dims

    @property
    def grid(self) -> tuple[int, ...]:
        """Their sizes."""
        return self.shape[1:] if self.several else self.shape

    @property
    def n_variables(self) -> int:
        """Variables at each site."""
        return self.shape[0] if self.several else 1

    @property
    def half(self) -> tuple[int, ...]:
        """Shape of the half plane of wavenumbers."""
        return (*self.grid[:-1], self.grid[-1] // 2 + 1)

    @property
    def n_modes(self) -> int:
        """Number of wavenumbers in the half plane."""
        return math.prod(self.half)

    @property
    def weights(self) -> NDArray[np.float64]:
        """How often each wavenumber of the half plane occurs in the whole."""
        return half_plane_weights(self.grid).ravel() * math.prod(self.grid)

    def transform(self, values: NDArray[Any]) -> NDArray[np.complex128]:
        """Fields (time, *shape) to Fourier series (time, n_modes[, v]), scaled so that products need no 1/n_sites."""
        axes = tuple(range(values.ndim - len(self.grid), values.ndim))
        spectrum = scipy.fft.rfftn(values, axes=axes, norm="ortho", workers=-1)
        if not self.several:
            return spectrum.reshape(values.shape[0], -1)
        return np.moveaxis(spectrum.reshape(values.shape[0], self.n_variables, -1), 1, 2)

    def to_states(self, series: NDArray[Any]) -> NDArray[np.float64]:
        """Undo ``transform``."""
        if self.several:
            series = np.moveaxis(series, 2, 1)
        axes = tuple(range(series.ndim - 1, series.ndim - 1 + len(self.grid)))
        spectrum = series.reshape(*series.shape[:-1], *self.half)
        return scipy.fft.irfftn(spectrum, s=self.grid, axes=axes, norm="ortho", workers=-1)

    def product(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.complex128]:
        """Return sum_t a_k(t) b_k(t)^H, (n_modes[, v, v])."""
        if self.several:
            return np.einsum("tkv,tkw->kvw", a, b.conj(), optimize=True)
        return np.einsum("tk,tk->k", a, b.conj())

    def cross(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.complex128]:
        """Return h(t) with left . (D^H right) = Re h . D for every D of the algebra, (time, n_modes [* v * v])."""
        weights = self.weights
        if not self.several:
            return weights * left * right.conj()
        product = right.conj()[:, :, :, None] * left[:, :, None, :]
        return (weights[:, None, None] * product).reshape(left.shape[0], -1)

    def inner(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Return left(t) . right(t), summed over the state, (time,)."""
        weights = self.weights[:, None] if self.several else self.weights
        return (left * weights * right.conj()).real.reshape(len(left), -1).sum(axis=1)

    def site_mean(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return ``values`` (*shape) with its average over sites, which are all alike, at every site."""
        axes = tuple(range(len(self.shape) - len(self.grid), len(self.shape)))
        return np.broadcast_to(values.mean(axis=axes, keepdims=True), self.shape).copy()

    def algebra(self, covariance: NDArray[Any]) -> Algebra:
        """Which wavenumbers have variance (and which combinations of variables, in units of their spread)."""
        if not self.several:
            power = covariance.real
            present = power > RELATIVE_FLOOR * power.max()
            return Algebra("numbers", power.size, None if present.all() else present)
        spread = self._spread(covariance)
        values, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
        present = values > RELATIVE_FLOOR * values.max()
        if present.all():
            return Algebra("blocks", values.size, None, self.n_variables)
        # Orthonormal in the data's units: the span of the scaled vectors, mode by mode.
        scaled = spread[:, None] * np.where(present[:, None, :], vectors, 0.0)
        left, strength, _ = np.linalg.svd(scaled)
        kept = np.where(strength[:, None, :] > RELATIVE_FLOOR**0.5 * spread.min(), left, 0.0)
        return Algebra("blocks", values.size, kept @ kept.conj().swapaxes(-1, -2), self.n_variables)

    def parametric(self, covariance: NDArray[Any], noise_level: float | NDArray[np.float64]) -> NDArray[Any]:
        """P_k = C_k (C_k + sigma^2)^-1, 0 where there is no variance.

        Raises
        ------
        InputError
            If the noise level is not the same at every site.
        """
        level = self._levels(noise_level)
        algebra = self.algebra(covariance)
        if not level.any():
            return algebra.identity
        if self.several:
            identity = algebra.identity
            blurred = covariance + np.diag(level**2)
            absent = np.eye(self.n_variables) - identity
            return identity @ covariance @ np.linalg.inv(identity @ blurred @ identity + absent) @ identity
        present = algebra.identity > 0
        power = np.where(present, covariance.real, 0.0)
        return np.divide(power, power + level[0] ** 2, out=np.zeros_like(power), where=present)

    def _levels(self, noise_level: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Sigma of each variable."""
        level = np.broadcast_to(noise_level, self.shape).reshape(self.n_variables, -1)
        if np.ptp(level, axis=1).max() > 0:
            raise InputError(
                f"the noise level of the score goes from {level.min():.3g} to {level.max():.3g} between sites, a "
                "homogeneous field needs one: fit the score with one sigma, or pass homogeneous=None."
            )
        return level[:, 0]

    def _spread(self, covariance: NDArray[Any]) -> NDArray[np.float64]:
        """Standard deviation of each variable, 1 where there is none."""
        diagonal = np.diagonal(covariance, axis1=-2, axis2=-1).real
        variance = half_plane_weights(self.grid).ravel() @ diagonal
        return np.sqrt(np.where(variance > 0, variance, 1.0))

    def scale(self, covariance: NDArray[Any]) -> NDArray[np.float64]:
        """sd_w / sd_v: makes R_k a pure number; 1 for one variable."""
        if not self.several:
            return np.ones(1)
        spread = self._spread(covariance)
        return spread[None, :] / spread[:, None]

    def to_physical(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(..., n_modes) to (..., *grid), displacement zero at index n // 2 of each dim; (..., v, *grid, v)."""
        if self.several:
            values = np.moveaxis(values, -3, -1)  # (..., v, w, n_modes)
        fields = self._inverse(values)
        axes = tuple(range(fields.ndim - len(self.grid), fields.ndim))
        fields = np.fft.fftshift(fields, axes=axes)
        return np.moveaxis(fields, -len(self.grid) - 1, -1) if self.several else fields

    def under_pattern(self, values: NDArray[Any], pattern: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the answer at every site to a kick of this pattern (*shape): a convolution; (..., *shape)."""
        pattern_hat = self.transform(pattern[None])[0] * math.sqrt(math.prod(self.grid))
        if not self.several:
            return self._inverse(values * pattern_hat)
        return self._inverse(np.moveaxis(np.einsum("...kvw,kw->...kv", values, pattern_hat), -1, -2))

    def _inverse(self, values: NDArray[Any]) -> NDArray[np.float64]:
        axes = tuple(range(values.ndim - 1, values.ndim - 1 + len(self.grid)))
        return scipy.fft.irfftn(values.reshape(*values.shape[:-1], *self.half), s=self.grid, axes=axes, workers=-1)


Layout = FullMatrix | Homogeneous


def _spread(covariance: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviations, 1 where there is none."""
    variance = np.diagonal(covariance)
    return np.sqrt(np.where(variance > 0, variance, 1.0))
