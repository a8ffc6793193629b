"""Two-dimensional turbulence on the periodic box, driven by random waves (Giorgini et al. 2024, the "PRL", eq. 11-13).

Equation, for the vorticity z(x, y, t) on [0, 2 pi)^2, with c = ``advection`` a mean flow towards +x:

    dz/dt = -v.grad z - c dx z + D z + f,
    v = (dy psi, -dx psi),  Lap psi = z,
    D = -viscosity Lap^2 - hypoviscosity Lap^-2,  and  -mean_relaxation  for the spatial mean,
    f = F sum_k cos(k.x + phi_k(t)),  F = forcing / 128^2,

the sum over all wavenumbers of the grid (see below) with |k|^2 <= n^2 / 8, the term k = 0 times 1 - mean_damping.

Notation: k = (kx, ky) integer wavenumbers, k2 = |k|^2, hats are unnormalised transforms (`simulators.grid`). v is
the PRL's, the mirror image of the usual sign: z = dy u - dx v is *minus* the usual curl, and the statistics are those
of the usual sign reflected in y. <.> is an average over the box; energy E = <|v|^2> / 2, enstrophy Z = <z^2> / 2.

Noise: the phases phi_k are independent Brownian motions with <dphi^2> = 2 dt (Ito: increments N(0, 1) sqrt(dt) over
each half step), k and -k apart. They are hidden variables: part of the state of a member, not of the saved record. So
f is stationary with <f(t) f(0)> proportional to exp(-t). It has no volume factor: a wave has the height F on any grid.

Grid: n even. The Nyquist row and column (kx or ky = -n/2) are zero in the state, the forcing and every product: a real
field has no odd derivative there. With ``dealias`` so are all modes with |kx| or |ky| > (n - 1) // 3 (the 2/3 rule),
and the quadratic term is exact; without it products are taken at the grid points, and their aliases stay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_flag, require_integer, require_number
from simulators.errors import ParameterError
from simulators.grid import positions
from simulators.schema import Layout, field_layout
from simulators.system import PRL, System

if TYPE_CHECKING:
    from simulators.engine import Stepper
    from simulators.kernels.navier_stokes import Tables

__all__ = ["NavierStokes"]

Array = NDArray[Any]

# The grid on which the PRL's amplitude 300 is the height of one wave in its unnormalised transform.
_REFERENCE_N = 128
_SPACE = ("y", "x")


@dataclass(frozen=True)
class NavierStokes(System):
    """Randomly forced two-dimensional turbulence in a mean flow (PRL, eq. 11-13).

    ``dz/dt = -v.grad z - advection dx z + D z + f`` for the vorticity z, see the module docstring. Runge-Kutta steps of
    order 4 with the linear part exact; forcing at the beginning, middle and end of each step.

    Parameters
    ----------
    n : int
        Grid points along each axis, even, 16 to 512; the PRL uses 32.
    viscosity : float
        Coefficient of -Lap^2, length^4/time, >= 0.
    hypoviscosity : float
        Coefficient of -Lap^-2, 1/(length^4 time), >= 0; it removes the energy that collects in the largest scales.
    advection : float
        Mean flow c towards +x, length/time.
    forcing : float
        Amplitude >= 0 of each forced wave, 128^2 times its height in physical space. 0 is a decaying flow.
    mean_relaxation : float
        Rate at which the spatial mean of z relaxes, 1/time, >= 0. The mean moves nothing: it takes no part in v.
    mean_damping : float
        Fraction by which the spatial mean of f is reduced, in [0, 1]; 0.9 leaves a tenth of it.
    dealias : bool
        Truncate to two thirds of the wavenumbers of each axis, which makes the quadratic term exact.
    save_forcing : bool
        Save f beside z as a second variable ``forcing``.

    Raises
    ------
    ParameterError
        If a parameter is out of range.

    Notes
    -----
    Measured at the defaults with ``benchmarks/navier_stokes_physics.py`` (64 members):

    * From rest, the energy is at 0.79, 0.87 and 0.94 of its late mean after 90, 190 and 210 time units, and its
      autocorrelation is 0.49 at lag 40 and 0.21 at lag 80: the slow rate is 2 hypoviscosity. No drift is visible after
      300, hence ``default_spinup`` = 3/hypoviscosity. Times 300 to 600: standard
      deviation of z 0.440 +- 0.004, kurtosis 5.0 +- 0.2, E = 0.038 +- 0.001. Between 100 and 150 the kurtosis is 4.0
      +- 0.1 only.
    * ``dealias=False`` is the default because n = 32 resolves the flow with all its modes and not with two thirds of
      them: there aliases feed at most 0.1 % of the injection into the energy and 3 % into the enstrophy, while the
      truncation cuts into the forced band, raises the spectrum at K = 9 and 10 by 38 and 64 %, lowers the kurtosis to
      4.3 +- 0.15, and leaves 583 of 1024 directions without any variance, hence without a score (the Nyquist modes
      alone are 63). Use it where conservation laws matter, where n is large, and where n or the viscosity is small:
      without it nothing bounds the enstrophy. At n = 32 no member of 25,600 time units came near a blow-up; at n = 16
      about one in 1e4 time units does, whatever the step, and with ``dealias=True`` none did (9600 time units).
    * Twins kicked at one point (768 pairs) peak at 0.74, 0.46, 0.27, 0.16 after 0.25, 0.5, 0.75, 1, exactly where the
      mean flow carries them. A kick loses its Nyquist part, so R(0) peaks at 961/1024.
    * With the same phases, z after one time unit is off by 1.1e-3 (relative rms) at the default step and by 4.4e-3 at
      1/32: order 1, because the forcing is rough in time; with smooth forcing the order is 4. An explicit linear part
      would be unstable at the default step for n > 164.

    References
    ----------
    PRL eq. 11-13; Basdevant, J. Comput. Phys. 50, 209 (1983) for the form of the quadratic term.
    """

    # ---- parameters

    n: int = 32
    viscosity: float = 1e-5
    hypoviscosity: float = 1e-2
    advection: float = np.pi
    forcing: float = 300.0
    mean_relaxation: float = 1.0
    mean_damping: float = 0.9
    dealias: bool = False
    save_forcing: bool = False

    name: ClassVar[str] = "navier-stokes"
    title: ClassVar[str] = "Two-dimensional turbulence driven by random waves"
    references: ClassVar[str] = PRL + ", eq. 11-13"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", require_integer("n", self.n, at_least=16, at_most=512))
        if self.n % 2:
            raise ParameterError(f"n = {self.n}: expected an even number of grid points; pass n={self.n + 1}")
        for name in ("viscosity", "hypoviscosity", "forcing", "mean_relaxation", "mean_damping"):
            object.__setattr__(self, name, require_number(name, getattr(self, name), at_least=0))
        if self.mean_damping > 1:
            raise ParameterError(f"mean_damping = {self.mean_damping}: expected a fraction <= 1; pass mean_damping=0.9")
        object.__setattr__(self, "advection", require_number("advection", self.advection))
        object.__setattr__(self, "dealias", require_flag("dealias", self.dealias))
        object.__setattr__(self, "save_forcing", require_flag("save_forcing", self.save_forcing))

    @property
    def default_spinup(self) -> float:  # type: ignore[override]
        """Six relaxation times of the largest scales; as at the default hypoviscosity where there is less."""
        return 3 / max(self.hypoviscosity, 1e-2)

    @property
    def default_dt(self) -> float:  # type: ignore[override]
        """The step of the PRL, 1 / (4 n)."""
        return 1 / (4 * self.n)

    def layout(self) -> Layout:
        """Return the labels of the state: ``vorticity(y, x)``, and ``forcing`` if it is saved."""
        labels = field_layout(positions(self.n), "vorticity", "vorticity")
        extra = {"forcing": "vorticity forcing"} if self.save_forcing else {}
        return Layout(labels.variable, labels.coordinates, labels.long_name, labels.coordinate_long_name, extra)

    # ---- operators, in half-plane layout (n, n//2 + 1)

    def wavenumbers(self) -> tuple[Array, Array]:
        """Return kx, shape (1, n//2 + 1), and ky, shape (n, 1)."""
        return self.n * np.fft.rfftfreq(self.n)[None, :], self.n * np.fft.fftfreq(self.n)[:, None]

    def kept(self) -> Array:
        """Return which modes exist, as booleans: not Nyquist and, with ``dealias``, inside the 2/3 truncation."""
        kx, ky = self.wavenumbers()
        highest = (self.n - 1) // 3 if self.dealias else self.n // 2 - 1
        return np.asarray((np.abs(kx) <= highest) & (np.abs(ky) <= highest))

    def forced(self) -> Array:
        """Return which of the modes that exist are forced, as booleans: |k|^2 <= n^2 / 8."""
        kx, ky = self.wavenumbers()
        return np.asarray(self.kept() & (kx**2 + ky**2 <= self.n**2 / 8))

    def linear(self) -> Array:
        """Return L_k = -viscosity k2^2 - hypoviscosity / k2^2 - i c kx, and -mean_relaxation at k = 0."""
        kx, _ = self.wavenumbers()
        rate = self.viscosity * self._k2() ** 2 + self.hypoviscosity * self._inverse_k2() ** 2
        rate[0, 0] = self.mean_relaxation
        return -rate - 1j * self.advection * kx

    def _k2(self) -> Array:
        kx, ky = self.wavenumbers()
        return np.asarray(kx**2 + ky**2)

    def _inverse_k2(self) -> Array:
        k2 = self._k2()
        k2[0, 0] = np.inf
        return 1 / k2

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return -v.grad z - c dx z + D z."""
        z_hat = self._spectrum(u)
        return self._field(self._quadratic(z_hat) + self.linear() * z_hat)

    def _spectrum(self, u: Array) -> Array:
        """Return the spectrum of a field, without the modes that do not exist."""
        if np.shape(u)[-2:] != (self.n, self.n):
            raise ParameterError(f"found an array of shape {np.shape(u)}, expected (..., {self.n}, {self.n})")
        return np.asarray(np.fft.rfft2(u) * self.kept())

    def _field(self, u_hat: Array) -> NDArray[np.float64]:
        return np.fft.irfft2(u_hat, s=(self.n, self.n), axes=(-2, -1))

    def _velocity_hat(self, z_hat: Array) -> tuple[Array, Array]:
        kx, ky = self.wavenumbers()
        psi_hat = -z_hat * self._inverse_k2()
        return 1j * ky * psi_hat, -1j * kx * psi_hat

    def _quadratic(self, z_hat: Array) -> Array:
        """Return the transform of -v.grad z = (dxx - dyy) (u v) + dxy (v^2 - u^2), v = (u, v)."""
        kx, ky = self.wavenumbers()
        u, v = map(self._field, self._velocity_hat(z_hat))
        return self.kept() * ((ky**2 - kx**2) * np.fft.rfft2(u * v) - kx * ky * np.fft.rfft2(v**2 - u**2))

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the Runge-Kutta step from rest, with the phases uniform on the circle.

        The state is (spectrum of the vorticity, phases, random generators); a displacement loses the modes that do not
        exist.
        """
        from simulators.engine import Stepper
        from simulators.kernels import navier_stokes as kernel
        from simulators.kernels.noise import seed_words

        tables = self._tables(dt)
        n_phases = 1 + 2 * len(tables.site)
        rows = kernel.row_wavenumbers(self.n)

        def start(rng: np.random.Generator) -> tuple[Array, ...]:
            phases = np.empty(n_phases)
            kernel.draw_phases(rng, phases)
            return np.zeros(self.n**2), phases, seed_words(rng)

        def advance(state: tuple[Array, ...], rng: np.random.Generator, *outs: Array) -> None:  # noqa: ARG001
            z, phases, words = state
            out, forcing = outs if self.save_forcing else (outs[0], outs[0][:0])
            kernel.advance(z, phases, words, tables, dt, n_steps, out, forcing)

        def displace(state: tuple[Array, ...], du: NDArray[np.float64]) -> None:
            du_hat = self._flat(self._spectrum(du), rows)
            state[0][...] += np.concatenate([du_hat.real, du_hat.imag])

        advice = "" if self.dealias else "aliases can feed the enstrophy without bound: pass dealias=True or a larger n"
        return Stepper(start, advance, displace, advice)

    def _flat(self, values: Array, rows: NDArray[np.int64]) -> Array:
        """Return half-plane values in the order of the kernel: rows as given, no Nyquist column."""
        return values[rows % self.n, : self.n // 2].ravel()

    def _tables(self, dt: float, *, use_lanes: bool | None = None) -> "Tables":
        """Return what a step of `dt` needs, in the layout of the kernel (`simulators.kernels.navier_stokes`)."""
        from simulators.kernels import navier_stokes as kernel

        n = self.n
        rows = kernel.row_wavenumbers(n, use_lanes=use_lanes)
        transform = kernel.transform_tables(n, use_lanes=use_lanes)
        kx, ky = self.wavenumbers()
        kept, inverse_k2 = self.kept(), self._inverse_k2()
        half_step = np.exp(self.linear() * dt / 2) * kept
        row_of = np.argsort(rows % n)
        # each pair k, -k once, in the order of kx, ky whatever the layout: the order of the random numbers
        pairs = [
            (int(row_of[iy]) * (n // 2) + ix, int(row_of[-iy % n] if ix == 0 else row_of[iy]) * (n // 2) + ix)
            for ix, iy in np.argwhere(self.forced().T)
            if ix > 0 or 0 < iy < n // 2
        ]
        site, twin = np.array(pairs, dtype=np.int64).T
        amplitude = np.full(1 + len(pairs), n**2 * self.forcing / _REFERENCE_N**2 / 2)
        amplitude[0] *= 2 * (1 - self.mean_damping)
        return kernel.Tables(
            **transform,
            to_u=self._flat(kept * ky * inverse_k2, rows) / n**2,
            to_v=self._flat(kept * kx * inverse_k2, rows) / n**2,
            shear=self._flat(kept * (ky**2 - kx**2), rows),
            cross=self._flat(kept * (-kx * ky), rows),
            decay=self._flat(half_step.real, rows),
            turn=self._flat(half_step.imag, rows),
            site=np.ascontiguousarray(site),
            twin=np.ascontiguousarray(twin),
            amplitude=amplitude,
        )

    # ---- exact answers: none is known, neither score nor response

    # ---- diagnostics: functions of ndarrays (..., n, n) or labelled fields, which keep their other dimensions

    def velocity(self, z: Any) -> tuple[Any, Any]:
        """Return the velocity v = (dy psi, -dx psi) without the mean flow.

        Parameters
        ----------
        z : ndarray or xarray.DataArray
            Vorticity, shape (..., n, n).

        Returns
        -------
        tuple
            Its components along x and along y, shape (..., n, n).
        """

        def components(z: Array) -> tuple[Array, Array]:
            u_hat, v_hat = self._velocity_hat(self._spectrum(z))
            return self._field(u_hat), self._field(v_hat)

        u, v = self._apply(components, z, dims=(_SPACE, _SPACE))
        return u, v

    def energy(self, z: Any) -> Any:
        """Return E = <|v|^2> / 2 = sum_k |z_k|^2 / (2 k2 n^4), without the mean flow.

        Parameters
        ----------
        z : ndarray or xarray.DataArray
            Vorticity, shape (..., n, n).

        Returns
        -------
        ndarray or xarray.DataArray
            Shape (...).
        """
        return self._apply(lambda z: self._rate(self._spectrum(z), self._spectrum(z), self._inverse_k2()) / 2, z)

    def enstrophy(self, z: Any) -> Any:
        """Return Z = <z^2> / 2 = sum_k |z_k|^2 / (2 n^4); argument and result as in `energy`."""
        return self._apply(lambda z: self._rate(self._spectrum(z), self._spectrum(z), 1.0) / 2, z)

    def energy_budget(self, z: Any, forcing: Any) -> dict[str, Any]:
        """Return the terms of dE/dt, each the rate at which it changes E: sinks are negative.

        A term g of dz/dt changes E at the rate -<psi g> = sum_k Re(z_k* g_k) / (k2 n^4). Spatial mean and mean flow
        take no part. The quadratic term conserves E with ``dealias``, and its entry is rounding error; without, that
        entry is what the aliases do.

        Parameters
        ----------
        z, forcing : ndarray or xarray.DataArray
            Vorticity and forcing at the same times, shape (..., n, n).

        Returns
        -------
        dict
            "injection", "viscosity", "hypoviscosity", "mean_relaxation" and "quadratic", each of shape (...); the sum
            is dE/dt.
        """
        return self._budget(z, forcing, self._inverse_k2())

    def enstrophy_budget(self, z: Any, forcing: Any) -> dict[str, Any]:
        """Return the terms of dZ/dt, as `energy_budget` does, with the rate <z g> = sum_k Re(z_k* g_k) / n^4."""
        return self._budget(z, forcing, 1.0)

    def energy_spectrum(self, z: Any) -> Any:
        """Return the isotropic spectrum: the part of E in the shell of all k with |k| rounded to K = 0, 1, 2, ...

        Parameters
        ----------
        z : ndarray or xarray.DataArray
            Vorticity, shape (..., n, n).

        Returns
        -------
        ndarray or xarray.DataArray
            Shape (..., K), the last dimension "wavenumber"; the sum over it is E.
        """
        shell = np.sqrt(self._k2()).round().astype(np.int64)
        last = int(shell[self.kept()].max())

        def shells(z: Array) -> Array:
            z_hat = self._spectrum(z)
            rates = [self._rate(z_hat, z_hat, self._inverse_k2() * (shell == K)) / 2 for K in range(last + 1)]
            return np.stack(rates, axis=-1)

        spectrum = self._apply(shells, z, dims=(("wavenumber",),))
        return spectrum.assign_coords(wavenumber=np.arange(last + 1)) if hasattr(spectrum, "dims") else spectrum

    def _budget(self, z: Any, forcing: Any, weight: Any) -> dict[str, Any]:
        names = ("injection", "viscosity", "hypoviscosity", "mean_relaxation", "quadratic")

        def rates(z: Array, forcing: Array) -> tuple[Array, ...]:
            z_hat = self._spectrum(z)
            mean = self._k2() == 0
            terms = (
                self._spectrum(forcing),
                -self.viscosity * self._k2() ** 2 * z_hat,
                -self.hypoviscosity * self._inverse_k2() ** 2 * z_hat,
                -self.mean_relaxation * mean * z_hat,
                self._quadratic(z_hat),
            )
            return tuple(self._rate(z_hat, term, weight) for term in terms)

        return dict(zip(names, self._apply(rates, z, forcing, dims=((),) * len(names)), strict=True))

    def _rate(self, z_hat: Array, g_hat: Array, weight: Any) -> NDArray[np.float64]:
        """Return sum_k weight_k Re(z_k* g_k) / n^4 over the whole plane: columns kx > 0 stand for -kx too."""
        kx, _ = self.wavenumbers()
        doubled = np.where(kx > 0, 2, 1) * weight / self.n**4
        return np.asarray(np.sum(doubled * (z_hat.conj() * g_hat).real, axis=(-2, -1)))

    def _apply(self, function: Callable[..., Any], *fields: Any, dims: tuple[tuple[str, ...], ...] = ((),)) -> Any:
        """Apply a function of arrays (..., n, n) to arrays or labelled fields; `dims` are the state dims it returns."""
        import xarray as xr

        return xr.apply_ufunc(
            function, *fields, input_core_dims=[list(_SPACE)] * len(fields), output_core_dims=[list(d) for d in dims]
        )
