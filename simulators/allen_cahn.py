"""Stochastic Allen-Cahn field on a periodic grid (PRL eq. 9).

    du/dt = kappa Lap u - c dx u + alpha Sigma [u (1 - u^2)] + eps Sigma^(1/2) xi,     Sigma = (1 - Lap)^-1,

on [0, 2 pi)^2, xi space-time white noise, c = ``advection`` a velocity towards +x. Notation: k = (kx, ky) integer
wavenumbers, k2 = |k|^2, Sigma_k = 1 / (1 + k2), hats are unnormalised transforms (`simulators.grid`).

The cube. With ``dealias=True`` the reaction is alpha Sigma P[P u - (P u)^3]: P removes the Nyquist row and column
of an even grid, whose modes then only diffuse, and the cube is computed on a grid twice as fine, where products of
three resolved waves alias onto no resolved wave. The process is then a gradient flow with a drift that leaves its
density invariant: V below does not change when the field is shifted by any distance, on the grid or between its
points, so advection only moves along its level sets. With ``dealias=False`` the cube is taken at the grid points,
P = 1, as in the PRL. V then feels the grid, and for c != 0 the score below is only near that of the process: on a 32 x
32 grid -<u s> misses the identity by 0.07 at the two neighbours in x.

Stationary density exp(-V) and its score s = -grad V, on the grid,

    V(u) = 2 / (eps^2 n^2) sum_cells [ alpha (u^4 / 4 - u^2 / 2) + kappa / 2 (|grad u|^2 + (Lap u)^2) ],
    s(u) = 2 / (eps^2 n^2) (alpha P[P u - (P u)^3] + kappa (Lap u - Lap^2 u)),

with P u in the quartic, summed over the fine grid, if dealiased. (The continuum expression of the PRL is n^2
larger: a Dirac instead of a Kronecker delta.) The drift is (eps^2 n^2 / 2) Sigma s - c dx u.

Noise: Ito. Over a time dt the increment of eps Sigma^(1/2) xi is eps n sqrt(dt) Sigma^(1/2) w with w an n x n field
of standard normals: its grid covariance is dt eps^2 n^2 Sigma. The volume factor n^2 is 1 / (cell volume) up to
(2 pi)^2, which the code of the PRL leaves out and so do we.

Scheme. The linear part L_k = -r_k - i c kx, r_k = kappa k2 + 1.5 alpha Sigma_k P_k, and its noise are exact. What
remains, alpha Sigma P[2.5 u - u^3], has hardly a linear part on average (3 <u^2> - 1 is 1.44) and is extrapolated from
two steps (exponential Adams-Bashforth; Cox & Matthews, J. Comput. Phys. 176, 430 (2002), eq. 6):

    u <- E u + h (phi1 + phi2) N_n - h phi2 N_(n-1) + [eps^2 n^2 Sigma (1 - exp(-2 r h)) / (2 r)]^(1/2) w,
    E = exp(L h),   phi1 = (E - 1) / (L h),   phi2 = (E - 1 - L h) / (L h)^2.

One evaluation a step. For additive noise it is of weak order 2 all the same: the correlation of N_n - N_(n-1) with
the increment of the previous step stands in for the missing one with that of the present step.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_flag, require_integer, require_number
from simulators.grid import advection_wavenumber, positions, wavenumber_squared
from simulators.schema import Layout, field_layout
from simulators.system import PRL, System

if TYPE_CHECKING:
    from simulators.engine import Stepper
    from simulators.kernels.allen_cahn import Tables

__all__ = ["AllenCahn"]

# One field is then 134 MB, on the fine grid 537 MB.
_MAX_N = 2**12


@dataclass(frozen=True)
class AllenCahn(System):
    """Bimodal reaction-diffusion field with advection, the non-Gaussian test case of the PRL (eq. 9).

    ``du/dt = kappa Lap u - advection dx u + alpha Sigma[u (1 - u^2)] + noise Sigma^(1/2) xi``; Ito, increments
    proportional to sqrt(dt), grid covariance ``dt noise^2 n^2 Sigma`` (the n^2 is the volume factor of the module
    docstring, which also states score and scheme).

    Parameters
    ----------
    n : int
        Grid points along each axis, even or odd, 4 to 4096; the PRL uses 32. Powers of two from 16 to 512 have a
        kernel several times faster than the others.
    alpha : float
        Rate of the reaction, 1/time, > 0: a spatially constant field relaxes to a well at the rate 2 alpha.
    kappa : float
        Diffusivity, length^2/time, > 0 (the Nyquist modes have no other restoring force).
    advection : float
        Velocity c towards +x, length/time. On an even grid the Nyquist column kx = n/2 is not advected.
    noise : float
        Amplitude eps > 0, u/sqrt(time); the default gives eps^2 = 0.004.
    dealias : bool
        Compute the cube without aliasing, so that the score is exact with advection too. False is the
        collocation of the PRL.

    Raises
    ------
    ParameterError
        If a parameter is out of range.

    Notes
    -----
    ``default_dt`` is 1/32, or 1/(2 alpha) where that is smaller, from a study with the same Brownian path for all
    steps, 48 members over 48 time units, errors against dt = 1/128 (``benchmarks/allen_cahn_convergence.py``, drawn
    in docs/images/allen_cahn_convergence.png).
    Relative error of the kurtosis at dt = 1/4, 1/8, 1/16, 1/32: 1.7e-3, 3e-4, 1.2e-4, 6e-5 (standard errors 3e-4,
    1.5e-4, 9e-5, 5e-5); of the response of the kicked cell at lag 1/4: -3.2e-3, -9e-5, -7e-5, -2e-5; of the variance at
    most 1e-4 from dt = 1/8 on (standard errors 1.8e-4 and less). The one-step scheme (ETD1) has 6e-4, 4e-4 and 8e-4 at
    1/32. The damping 1.5 alpha Sigma matters for the mean mode: with 1 it would be 7 % too lively at 1/32.

    Stationary state of the defaults: <u^2> = 0.813, kurtosis 1.38, and no change of sign of the mean in 1.2e5 time
    units. A start near 0 coarsens for 1e4 time units; members therefore start in the wells, each in one of them, and
    ``default_spinup = 1000``. ``spinup="auto"`` is not for this system: members do not leave their wells. A kick moves
    the previous remainder along: without that the response at lag 1/4 would be off by -7e-4 at the default step.

    References
    ----------
    PRL eq. 9 and 10.
    """

    # ---- parameters

    n: int = 32
    alpha: float = 16.0
    kappa: float = 2.5e-4
    advection: float = 0.02
    noise: float = 2 * 10**-1.5
    dealias: bool = True

    name: ClassVar[str] = "allen-cahn"
    title: ClassVar[str] = "Stochastic Allen-Cahn field with advection"
    references: ClassVar[str] = PRL + ", eq. 9"
    default_spinup: ClassVar[float] = 1000.0

    @property
    def default_dt(self) -> float:  # type: ignore[override]
        """The step of the Notes, and in proportion to 1/alpha where the reaction is faster."""
        return min(1 / 32, 0.5 / self.alpha)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", require_integer("n", self.n, at_least=4, at_most=_MAX_N))
        for key in ("alpha", "kappa", "noise"):
            object.__setattr__(self, key, require_number(key, getattr(self, key), above=0))
        object.__setattr__(self, "advection", require_number("advection", self.advection))
        object.__setattr__(self, "dealias", require_flag("dealias", self.dealias))

    def layout(self) -> Layout:
        """Return the labels of the state: ``u(y, x)``."""
        return field_layout(positions(self.n), "Allen-Cahn field")

    # ---- operators, in half-plane layout (n, n//2 + 1)

    def reacting(self) -> NDArray[np.float64]:
        """Return P_k: 0 for the Nyquist row and column of a dealiased even grid, 1 elsewhere."""
        mask = np.ones((self.n, self.n // 2 + 1))
        if self.dealias and self.n % 2 == 0:
            mask[self.n // 2] = 0
            mask[:, -1] = 0
        return mask

    def _smoothing(self) -> NDArray[np.float64]:
        return 1 / (1 + wavenumber_squared(self.n))

    def rate(self) -> NDArray[np.float64]:
        """Return r_k = kappa k2 + 1.5 alpha Sigma_k P_k, the damping in the linear part of the scheme, 1/time."""
        from simulators.kernels.allen_cahn import DAMPING

        reaction = self.alpha * self._smoothing() * self.reacting()
        return self.kappa * wavenumber_squared(self.n) + DAMPING * reaction

    def _cubic_hat(self, u: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Return the transform of P[(P u)^3], shape (..., n, n//2 + 1)."""
        n = self.n
        if not self.dealias:
            return np.fft.rfft2(u**3)
        m, top = 2 * n, (n - 1) // 2
        kept = np.r_[0 : top + 1, -top:0]
        u_hat = np.fft.rfft2(u)
        fine_hat = np.zeros((*u.shape[:-2], m, n + 1), dtype=complex)
        # (m / n)^2 = 4 against the 1 / m^2 of the inverse transform, and back
        fine_hat[..., kept, : top + 1] = 4 * u_hat[..., kept, : top + 1]
        cube_hat = np.fft.rfft2(np.fft.irfft2(fine_hat, s=(m, m)) ** 3)
        result = np.zeros_like(u_hat)
        result[..., kept, : top + 1] = cube_hat[..., kept, : top + 1] / 4
        return result

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return kappa Lap u - c dx u + alpha Sigma P[P u - (P u)^3]."""
        linear = -self.kappa * wavenumber_squared(self.n) - 1j * self.advection * advection_wavenumber(self.n)
        u_hat = np.fft.rfft2(u)
        reaction_hat = self.reacting() * u_hat - self._cubic_hat(u)
        return self._field(linear * u_hat + self.alpha * self._smoothing() * reaction_hat)

    def _field(self, u_hat: NDArray[np.complex128]) -> NDArray[np.float64]:
        return np.fft.irfft2(u_hat, s=(self.n, self.n), axes=(-2, -1))

    # ---- step

    def tables(self, dt: float) -> "Tables":
        """Return the factors of the scheme for a step `dt`; those of the remainder include alpha Sigma P."""
        from simulators.kernels.allen_cahn import Tables

        reaction = self.alpha * self._smoothing() * self.reacting()
        rate = self.rate()
        z = -(rate + 1j * self.advection * advection_wavenumber(self.n)) * dt
        phi1, phi2 = _phi(z)
        variance = self.noise**2 * self.n**2 * self._smoothing() * dt * _phi(-2 * rate * dt)[0].real
        return Tables(np.exp(z), dt * (phi1 + phi2) * reaction, -dt * phi2 * reaction, np.sqrt(variance))

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the two-step scheme of the module docstring.

        A member starts in one of the two wells, with the Gaussian law of the linear part around it. Its state is the
        spectrum, the remainder one step ago and, for powers of two, its random generators.
        """
        from simulators.kernels.lanes import SIZES

        tables = self.tables(dt)
        if self.n in SIZES and 2 * self.n in SIZES:
            return self._lane_stepper(tables, n_steps)
        return self._library_stepper(tables, n_steps)

    def _draw_hat(self, rng: np.random.Generator) -> NDArray[np.complex128]:
        variance = self.noise**2 * self.n**2 * self._smoothing() / (2 * self.rate())
        u_hat = np.sqrt(variance) * np.fft.rfft2(rng.standard_normal((self.n, self.n)))
        u_hat[0, 0] += self.n**2 * (1 if rng.random() < 0.5 else -1)
        return u_hat

    def _library_stepper(self, tables: "Tables", n_steps: int) -> "Stepper":
        from simulators.engine import Stepper
        from simulators.kernels import allen_cahn as kernel

        def remainder(u_hat: NDArray[np.complex128]) -> NDArray[np.complex128]:
            v_hat = np.empty_like(u_hat)
            kernel.remainder(u_hat, self.n, self.dealias, v_hat)
            return v_hat

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            u_hat = self._draw_hat(rng)
            return u_hat, remainder(u_hat)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:
            u_hat, before = state
            kernel.advance(u_hat, before, rng, tables, self.dealias, n_steps, out)

        def displace(state: tuple[NDArray[Any], ...], du: NDArray[np.float64]) -> None:
            # the past moves with the present: the twin then differs by the kick alone, to second order in the step
            u_hat, before = state
            before -= remainder(u_hat)
            u_hat += np.fft.rfft2(du)
            before += remainder(u_hat)

        return Stepper(start, advance, displace)

    def _lane_stepper(self, tables: "Tables", n_steps: int) -> "Stepper":
        from simulators.engine import Stepper
        from simulators.kernels import allen_cahn as kernel
        from simulators.kernels import lanes
        from simulators.kernels.noise import seed_words

        n = self.n
        packed, rows, columns, fine = kernel.make_lane_tables(tables, self.dealias)
        m = 2 * n if self.dealias else n

        def transform(u: NDArray[np.float64]) -> NDArray[np.float64]:
            return lanes.transform(u, rows, columns, packed.twiddle, packed.position)

        def remainder(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
            v = np.empty(n * n)
            kernel.remainder_lanes(spectrum, v, np.empty(m * n), np.empty(m * m), packed, rows, columns, fine)
            return v

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            spectrum = transform(self._field(self._draw_hat(rng)))
            return spectrum, remainder(spectrum), seed_words(rng)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:  # noqa: ARG001
            spectrum, before, words = state
            kernel.advance_lanes(spectrum, before, words, packed, rows, columns, fine, n_steps, out)

        def displace(state: tuple[NDArray[Any], ...], du: NDArray[np.float64]) -> None:
            spectrum, before, _ = state
            before -= remainder(spectrum)
            spectrum += transform(du)
            before += remainder(spectrum)

        return Stepper(start, advance, displace)

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(u) = 2 / (eps^2 n^2) (alpha P[P u - (P u)^3] + kappa (Lap u - Lap^2 u))."""
        k2 = wavenumber_squared(self.n)
        u_hat = np.fft.rfft2(u)
        reaction_hat = self.alpha * (self.reacting() * u_hat - self._cubic_hat(u))
        factor = 2 / (self.noise**2 * self.n**2)
        return factor * self._field(reaction_hat - self.kappa * (k2 + k2**2) * u_hat)


def _phi(z: NDArray[Any]) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return (e^z - 1) / z and (e^z - 1 - z) / z^2, by their series near 0."""
    small = np.abs(z) < 1e-2
    safe = np.where(small, 1.0, z)
    with np.errstate(invalid="ignore"):
        phi1 = np.where(small, 1 + z / 2 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5))), np.expm1(safe) / safe)
        series = 0.5 * (1 + z / 3 * (1 + z / 4 * (1 + z / 5 * (1 + z / 6))))
        phi2 = np.where(small, series, (np.expm1(safe) - safe) / safe**2)
    return phi1.astype(complex), phi2.astype(complex)
