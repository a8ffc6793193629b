"""Homogeneous Ornstein-Uhlenbeck field on a periodic grid (PRL eq. 6).

    du/dt = -lam Sigma u + kappa Lap u - c dx u + eps Sigma^(1/2) xi,     Sigma = (1 - Lap)^-1,

on [0, 2 pi)^2, xi space-time white noise, c = ``advection`` a velocity towards +x. Notation: k = (kx, ky) integer
wavenumbers, k2 = |k|^2, Sigma_k = 1 / (1 + k2), hats are unnormalised transforms (`simulators.grid`). Each mode is
an Ornstein-Uhlenbeck process with rate r_k and frequency c kx:

    r_k = lam Sigma_k + kappa k2,
    R_k(t) = exp[-(r_k + i c kx) t],
    C_k = eps^2 n^2 Sigma_k / (2 r_k)      (eigenvalue of the stationary covariance matrix of the grid values).

Noise: Ito. Over a time dt the increment of eps Sigma^(1/2) xi is eps n sqrt(dt) Sigma^(1/2) w with w an n x n field
of standard normals: its grid covariance is dt eps^2 n^2 Sigma. The volume factor n^2 is 1 / (cell volume) up to
(2 pi)^2, which the code of the PRL leaves out and so do we.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.answers import displacement_axes, label_covariance, label_response
from simulators.checks import require_integer, require_lags, require_number
from simulators.grid import advection_wavenumber, positions, wavenumber_squared
from simulators.schema import Layout, field_layout
from simulators.system import PRL, System

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper

__all__ = ["OrnsteinUhlenbeck"]

# One field is then 34 GB.
_MAX_N = 2**16


@dataclass(frozen=True)
class OrnsteinUhlenbeck(System):
    """Linear stochastic field with advection, the Gaussian test case of the PRL (eq. 6).

    ``du/dt = -lam Sigma u + kappa Lap u - advection dx u + noise Sigma^(1/2) xi``; Ito, increments proportional
    to sqrt(dt), grid covariance ``dt noise^2 n^2 Sigma`` (the n^2 is the volume factor of the module docstring).
    Sampled by its exact transition law, so any ``save_every`` gives the exact statistics.

    Parameters
    ----------
    n : int
        Grid points along each axis, even or odd, at least 2; the PRL uses 32.
    lam : float
        Relaxation rate of the mean mode, 1/time, > 0 (without it the mean has no stationary state).
    kappa : float
        Diffusivity, length^2/time, >= 0.
    advection : float
        Velocity c towards +x, length/time. The PRL has +A dx u with A = 2e-2, which moves towards -x; hence the
        default -0.02. On an even grid the Nyquist column kx = n/2 is not advected: a real grid field has no odd
        derivative there.
    noise : float
        Amplitude eps > 0, u/sqrt(time); the default gives eps^2 = 0.004.

    Raises
    ------
    ParameterError
        If a parameter is out of range.

    References
    ----------
    PRL eq. 6.
    """

    # ---- parameters

    n: int = 32
    lam: float = 4e-2
    kappa: float = 2.5e-4
    advection: float = -0.02
    noise: float = 2 * 10**-1.5

    name: ClassVar[str] = "ou"
    title: ClassVar[str] = "Homogeneous Ornstein-Uhlenbeck field with advection"
    references: ClassVar[str] = PRL + ", eq. 6"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", require_integer("n", self.n, at_least=2, at_most=_MAX_N))
        object.__setattr__(self, "lam", require_number("lam", self.lam, above=0))
        object.__setattr__(self, "kappa", require_number("kappa", self.kappa, at_least=0))
        object.__setattr__(self, "advection", require_number("advection", self.advection))
        object.__setattr__(self, "noise", require_number("noise", self.noise, above=0))

    def layout(self) -> Layout:
        """Return the labels of the state: ``u(y, x)``."""
        return field_layout(positions(self.n), "Ornstein-Uhlenbeck field")

    # ---- operators, in half-plane layout (n, n//2 + 1)

    def rate(self) -> NDArray[np.float64]:
        """Return the relaxation rate r_k = lam / (1 + k2) + kappa k2 of each mode, 1/time."""
        k2 = wavenumber_squared(self.n)
        return self.lam / (1 + k2) + self.kappa * k2

    def propagator(self, t: float) -> NDArray[np.complex128]:
        """Return R_k(t) = exp[-(r_k + i c kx) t], the factor by which each mode relaxes and moves in time `t`."""
        return np.exp(-(self.rate() + 1j * self.advection * advection_wavenumber(self.n)) * t)

    def spectrum(self) -> NDArray[np.float64]:
        """Return C_k = eps^2 n^2 / (2 (lam + kappa k2 (1 + k2))), the stationary covariance per mode.

        <|u_hat_k|^2> = n^2 C_k.
        """
        k2 = wavenumber_squared(self.n)
        return self.noise**2 * self.n**2 / (2 * (self.lam + self.kappa * k2 * (1 + k2)))

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return -lam Sigma u + kappa Lap u - c dx u."""
        return self._filter(u, -(self.rate() + 1j * self.advection * advection_wavenumber(self.n)))

    def _filter(self, u: NDArray[np.float64], factor: NDArray[Any]) -> NDArray[np.float64]:
        return np.fft.irfft2(factor * np.fft.rfft2(u), s=(self.n, self.n), axes=(-2, -1))

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the exact transition law over `dt`, mode by mode.

        u_hat_k <- R_k(dt) u_hat_k + sqrt(C_k (1 - exp(-2 r_k dt))) w_hat_k, w_hat the transform of white noise; for
        small dt the amplitude is eps n sqrt(dt Sigma_k). The filter is real and even in k, so u stays real.
        """
        from simulators.kernels.lanes import SIZES

        propagator = self.propagator(dt)
        amplitude = np.sqrt(-self.spectrum() * np.expm1(-2 * self.rate() * dt))
        make = self._lane_stepper if self.n in SIZES else self._library_stepper
        return make(propagator, amplitude, n_steps)

    def forced_dt(self) -> float:
        """Return 0.05 / max |r_k + i c kx|: the splitting of a constant force then errs by 2e-4 at most."""
        return 0.05 / float(np.abs(self.rate() + 1j * self.advection * advection_wavenumber(self.n)).max())

    def _library_stepper(
        self, propagator: NDArray[np.complex128], amplitude: NDArray[np.float64], n_steps: int
    ) -> "Stepper":
        from simulators.engine import Stepper
        from simulators.kernels import ou as kernel

        n = self.n
        standard_deviation = np.sqrt(self.spectrum())

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            u_hat = np.empty((n, n // 2 + 1), dtype=np.complex128)
            kernel.stationary_draw(rng, standard_deviation, u_hat)
            return (u_hat,)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:
            (u_hat,) = state
            kernel.advance(u_hat, np.empty_like(u_hat), rng, propagator, amplitude, n_steps, out)

        def displace(state: tuple[NDArray[Any], ...], du: NDArray[np.float64]) -> None:
            state[0][...] += np.fft.rfft2(du)

        return Stepper(start, advance, displace)

    def _lane_stepper(
        self, propagator: NDArray[np.complex128], amplitude: NDArray[np.float64], n_steps: int
    ) -> "Stepper":
        from simulators.engine import Stepper
        from simulators.kernels import lanes
        from simulators.kernels import ou as kernel
        from simulators.kernels.noise import seed_words

        n = self.n
        standard_deviation = np.sqrt(self.spectrum())
        tables, rows, columns = kernel.make_lane_tables(propagator, amplitude)

        def transform(u: NDArray[np.float64]) -> NDArray[np.float64]:
            return lanes.transform(u, rows, columns, tables.twiddle, tables.position)

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            return transform(self._filter(rng.standard_normal((n, n)), standard_deviation)), seed_words(rng)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:  # noqa: ARG001
            spectrum, words = state
            kernel.advance_lanes(spectrum, words, tables, rows, columns, n_steps, out)

        def displace(state: tuple[NDArray[Any], ...], du: NDArray[np.float64]) -> None:
            state[0][...] += transform(du)

        return Stepper(start, advance, displace)

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(u) = 2 / (eps^2 n^2) (-lam u + kappa Lap u - kappa Lap^2 u) = -C^-1 u."""
        k2 = wavenumber_squared(self.n)
        factor = -2 / (self.noise**2 * self.n**2) * (self.lam + self.kappa * k2 + self.kappa * k2**2)
        return self._filter(u, factor)

    def exact_response(self, lags: Any) -> "xr.DataArray":
        """Return the linear response R(t, r) of the field at displacement r from a unit kick of one grid point.

        R(t, r) = n^-2 sum_k exp[-(r_k + i c kx) t + i k r], R(0, r) the Kronecker delta.

        Parameters
        ----------
        lags : array_like
            Times t >= 0, shape (lag,).

        Returns
        -------
        xarray.DataArray
            "response", dims (lag, dy, dx); dy and dx centred signed displacements in grid cells, so
            ``.sel(dy=0, dx=1)`` is one cell towards +x from the kick.

        Raises
        ------
        ParameterError
            If a lag is negative or not finite.
        """
        lags = require_lags(lags)
        response = np.stack([np.fft.irfft2(self.propagator(t), s=(self.n, self.n), axes=(-2, -1)) for t in lags])
        return label_response(np.fft.fftshift(response, axes=(-2, -1)), lags, displacement_axes(self.n))

    def exact_covariance(self) -> "xr.DataArray":
        """Return the stationary covariance function <u(r') u(r' + r)> = n^-2 sum_k C_k exp(i k r).

        Returns
        -------
        xarray.DataArray
            "covariance", dims (dy, dx), centred signed displacements in grid cells; (0, 0) is the variance.
        """
        covariance = np.fft.irfft2(self.spectrum(), s=(self.n, self.n), axes=(-2, -1))
        return label_covariance(np.fft.fftshift(covariance, axes=(-2, -1)), displacement_axes(self.n))
