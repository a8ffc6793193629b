"""Components without links: independent AR(1) series fitted one by one, and the Gaussian response of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.crosschecks.inputs import Record
from gfdt.crosschecks.null_variance import autocorrelation_mean, null_variance
from gfdt.responses.correlation import outer_sums, pair_counts, spectral_sums
from gfdt.responses.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RedNoise"]

_MAX_PHI = 1 - 1e-6  # a component that only drifts: its surrogates must still be stationary


@dataclass(frozen=True)
class RedNoise:
    """z(t + h) = phi z(t) + sd (1 - phi^2)^(1/2) w(t), one for each component, w independent standard normals.

    Attributes
    ----------
    phi, spread : (d,)
        The same for all sites of a homogeneous field.
    members, times : int
        Size of the record.
    grid : sizes of the state dims
    periodic : bool
        Whether the response is a function of displacement, averaged over sites.
    """

    phi: NDArray[np.float64]
    spread: NDArray[np.float64]
    members: int
    times: int
    grid: tuple[int, ...]
    periodic: bool

    @classmethod
    def fitted_to(cls, record: Record, *, periodic: bool) -> RedNoise:
        """Take phi from the lag-1 autocorrelation, normalised so that |phi| < 1, and sd from the record."""
        x = record.series
        if periodic:
            x = x + (record.mean - record.mean.mean())  # one mean for all sites
        now, then = x[:, :-1], x[:, 1:]
        lagged = np.einsum("mti,mti->i", now, then)
        squares = np.einsum("mti,mti->i", now, now), np.einsum("mti,mti->i", then, then)
        variance = np.einsum("mti,mti->i", x, x) / x[..., 0].size
        if periodic:
            lagged, variance = np.full_like(lagged, lagged.mean()), np.full_like(lagged, variance.mean())
            squares = squares[0].mean(), squares[1].mean()
        phi = np.clip(lagged / np.sqrt(squares[0] * squares[1]), -_MAX_PHI, _MAX_PHI)
        members, times = x.shape[:2]
        return cls(phi, np.sqrt(variance), members, times, record.shape, periodic)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the response at one lag: (d, d), or the grid of displacements."""
        return self.grid if self.periodic else (self.phi.size, self.phi.size)

    def surrogate(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a record of unit variance, (member, time, d)."""
        from scipy.signal import lfilter

        z = rng.standard_normal((self.phi.size, self.members, self.times))
        z[..., 1:] *= np.sqrt(1 - self.phi**2)[:, None, None]
        for series, phi in zip(z, self.phi, strict=True):
            series[:] = lfilter([1.0], [1.0, -phi], series, axis=-1)
        return np.moveaxis(z, 0, -1)

    def estimate(self, z: NDArray[np.float64], lags: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return C(l) C(0)^-1 of a record of unit variance, in the units of the data: (n_lags, *shape)."""
        z = z - (z.mean() if self.periodic else z.mean(axis=(0, 1)))
        lags_and_zero = np.unique(np.append(lags, 0))
        chosen = np.searchsorted(lags_and_zero, lags)
        whole = Unit(0, 0, self.times)
        counts = self.members * pair_counts(whole, self.times, lags_and_zero)
        if self.periodic:
            axes = tuple(range(1, 1 + len(self.grid)))
            power: Any = 0.0
            for part in z:
                fields = scipy.fft.rfftn(part.reshape(-1, *self.grid), axes=axes, norm="ortho")
                modes = fields.reshape(self.times, -1)
                power = power + spectral_sums(modes, modes, whole, lags_and_zero)
            ratio = (power / counts[:, None])[chosen] / (power[0].real / counts[0])
            ratio = ratio.reshape(lags.size, *fields.shape[1:])
            return np.fft.fftshift(scipy.fft.irfftn(ratio, s=self.grid, axes=axes), axes=axes)
        covariance = sum(outer_sums(part, part, whole, lags_and_zero) for part in z) / counts[:, None, None]
        response = covariance[chosen] @ np.linalg.inv(covariance[0])
        return response * (self.spread[:, None] / self.spread)

    def closed_form(self, lags: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of :meth:`estimate` for a long record (:mod:`gfdt.crosschecks.null_variance`)."""
        pairs = self.members * (self.times - lags)
        if not self.periodic:
            mean = np.zeros((lags.size, *self.shape))
            np.einsum("lii->li", mean)[...] = autocorrelation_mean(self.phi, lags[:, None], pairs[:, None])
            return mean, null_variance(self.phi, lags) / pairs[:, None, None] * (
                self.spread[:, None] / self.spread
            ) ** 2
        # Two like sites stand for all: every displacement is an average over as many kicked sites as there are.
        phi, pairs = self.phi[0], pairs * self.phi.size
        two = null_variance(np.array([phi, phi]), lags) / pairs[:, None, None]
        mean, variance = np.zeros((lags.size, *self.grid)), np.empty((lags.size, *self.grid))
        here: tuple[Any, ...] = (slice(None), *(n // 2 for n in self.grid))
        variance[...] = two[:, 0, 1].reshape(-1, *[1] * len(self.grid))
        mean[here], variance[here] = autocorrelation_mean(phi, lags, pairs), two[:, 0, 0]
        return mean, variance
