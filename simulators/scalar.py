"""Scalar stochastic equations with exact answers: the double well and the scalar climate model.

Both are gradient systems with a cubic drift; `simulators.scalar_law` states the notation and holds the answers
they share. Paths are stepped by the stochastic Heun scheme, one normal per step. With additive noise it is Platen's
explicit scheme of weak order 2 (Kloeden & Platen, Numerical Solution of SDEs, section 15.1). Noise is Ito, increments
s sqrt(dt) w; there is no volume factor, these are not fields.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.answers import component_axes, label_covariance
from simulators.checks import require_lags, require_number
from simulators.scalar_law import CubicLaw
from simulators.scalar_response import scalar_response
from simulators.schema import Layout, component_layout
from simulators.system import System

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper

__all__ = ["DoubleWell", "ScalarClimate"]


class _CubicSystem(System):
    """Methods shared by the scalar systems; a subclass states its `law`."""

    @cached_property
    def law(self) -> CubicLaw:
        """Stationary law of the system (`simulators.scalar_law`)."""
        raise NotImplementedError

    def layout(self) -> Layout:
        """Return the labels of the state: ``x(component)`` with one component."""
        return component_layout(1)

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.law.drift(u)

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return Heun steps from an exact stationary draw (`simulators.kernels.scalar`)."""
        from simulators.engine import Stepper, add_in_place
        from simulators.kernels import scalar as kernel

        law = self.law
        coefficients = np.array(law.coefficients)

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            return (np.array([law.draw(rng)]),)

        def advance(
            state: tuple[NDArray[Any], ...],
            rng: np.random.Generator,
            out: NDArray[Any],
            increments: NDArray[Any] | None = None,
        ) -> None:
            kernel.advance(state[0], rng, coefficients, law.noise, dt, n_steps, out, increments)

        def advance_many(x: NDArray[Any], normals: NDArray[Any], kicks: NDArray[Any]) -> None:
            kernel.advance_many(x, normals, kicks, coefficients, law.noise, dt)

        return Stepper(start, advance, add_in_place, advance_many=advance_many)

    def increment_covariance(self) -> NDArray[np.float64]:
        """Return s^2, the variance of the noise per unit time, shape (1, 1)."""
        return np.array([[self.law.noise**2]])

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.law.score(u)

    def density(self, x: Any) -> NDArray[np.float64]:
        """Return the normalised stationary density rho(x).

        Parameters
        ----------
        x : array_like
            Points, any shape.

        Returns
        -------
        ndarray
            Shape of `x`, unit 1 / (unit of x).
        """
        return self.law.density(np.asarray(x, dtype=float))

    def exact_response(self, lags: Any, observable: Any = "mean", perturbation: Any = "drift") -> "xr.DataArray":
        """Return R_A(t) = <A(x(t)) B(x(0))> from the Fokker-Planck operator on a grid (`simulators.fokker_planck`).

        By default the response -<x(t) s(x(0))> of the mean to a small constant drift, whose error is below 1e-4.

        Parameters
        ----------
        lags : array_like
            Times t >= 0, shape (lag,).
        observable : str or callable
            What moves: "mean", "second_moment" (<x^2>), "variance" (<x'^2>), "moment3" (<x'^3>) or "moment4" (<x'^4>)
            with x' = x - m, m the unperturbed mean; or a function A(x) of an array of points, shape (n,), that returns
            the shape (n,) or (n, n_outputs). Kernel densities at several values, for example, give the response of
            the density.
        perturbation : str or callable
            What moves it: "drift", a constant added to the drift, w = 1; a function w(x) of an array of points, shape
            (n,), that returns that shape, a drift that depends on the state, B = -(w' + w s); or "noise", a change of
            the amplitude of the noise by 1 in its unit, B = noise (s' + s^2) (Ito).

        Returns
        -------
        xarray.DataArray
            "response", dims lag, then ``component`` for a named observable and ``output`` for a function with several
            outputs, then ``component_src`` for "drift".

        Raises
        ------
        ParameterError
            If a lag is negative, an argument none of those, or the noise too small for the grid.
        """
        return scalar_response(self.law, require_lags(lags), observable, perturbation)

    def exact_covariance(self) -> "xr.DataArray":
        """Return the stationary variance by quadrature.

        Returns
        -------
        xarray.DataArray
            "covariance", dims (component, component_src), shape (1, 1).
        """
        return label_covariance(np.array([[self.law.variance]]), component_axes(1))


@dataclass(frozen=True)
class DoubleWell(_CubicSystem):
    """Overdamped particle in a double well: ``dx = (x - x^3) dt + s dW``; Ito, increments s sqrt(dt) w.

    Parameters
    ----------
    noise : float
        Amplitude s > 0, x/sqrt(time). The default 1/sqrt(2) makes D = s^2/2 equal to the barrier 1/4: the wells are
        distinct (rho(0) / rho(1) = 1/e) and yet left every 5 to 10 time units, so a record of 1000 holds a hundred
        transitions. The Gaussian estimate C(t)/C(0) then misses the exact response by 51 % in relative L2 over lags
        0-40 (26 % at s = 1, where the wells nearly merge; 136 % at s = 0.5, where flips are rare).

    Raises
    ------
    ParameterError
        If the noise is not positive, or too small or large for the density to be resolved.

    Notes
    -----
    ``default_dt = 0.01`` from a convergence study without sampling (stationary law of the Heun chain itself,
    tests/reference/simulators_heun.py). Relative error of the variance at s = 1/sqrt(2), dt = 0.2, 0.1, 0.05, 0.025,
    0.0125: -3.6e-2, -7.1e-3, -1.5e-3, -3.4e-4, -8.2e-5, that is second order and about 5e-5 at the default; the
    covariance at lag 1 errs by -4.6e-5 at dt = 0.0125. A sample of 10^6 independent points cannot see it.
    """

    noise: float = 2**-0.5

    name: ClassVar[str] = "double-well"
    title: ClassVar[str] = "Overdamped particle in a double well"
    references: ClassVar[str] = "Risken, The Fokker-Planck Equation, 2nd ed., chapter 5"
    default_dt: ClassVar[float | None] = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise", require_number("noise", self.noise, above=0))
        self.law.check()

    @cached_property
    def law(self) -> CubicLaw:
        """Stationary law of the system (`simulators.scalar_law`)."""
        return CubicLaw((0.0, 1.0, 0.0, -1.0), self.noise)


@dataclass(frozen=True)
class ScalarClimate(_CubicSystem):
    """Scalar climate model: ``dx = (F + a x + b x^2 - c x^3) dt + s dW``; Ito, increments s sqrt(dt) w.

    A normal form of the slow climate with additive noise: skewed, so that its response to a kick is not that of a
    Gaussian process. Mind the sign of the cubic term.

    Parameters
    ----------
    forcing : float
        Constant forcing F, x/time.
    linear : float
        Coefficient a of x, 1/time.
    quadratic : float
        Coefficient b of x^2, 1/(x time).
    cubic : float
        Damping c > 0 of -x^3, 1/(x^2 time).
    noise : float
        Amplitude s > 0, x/sqrt(time).

    Raises
    ------
    ParameterError
        If a parameter is not finite, `cubic` or `noise` is not positive, or the density cannot be resolved.

    Notes
    -----
    ``default_dt = 0.02`` from the same study as that of `DoubleWell`. Relative error of the variance at dt = 0.2, 0.1,
    0.05, 0.025: -6.6e-3, -1.6e-3, -3.8e-4, -9.7e-5 (second order, 6e-5 at the default); of the mean, absolute:
    -1.4e-3, -2.9e-4, -6.8e-5, -1.6e-5.

    References
    ----------
    Majda, Franzke & Crommelin, PNAS 106, 3649 (2009), doi:10.1073/pnas.0900173106, with additive noise only.
    """

    forcing: float = 0.6
    linear: float = -0.0222
    quadratic: float = -0.2
    cubic: float = 0.0494
    noise: float = 0.7071

    name: ClassVar[str] = "scalar-climate"
    title: ClassVar[str] = "Scalar climate model with cubic drift"
    references: ClassVar[str] = "Majda, Franzke & Crommelin, PNAS 106, 3649 (2009), doi:10.1073/pnas.0900173106"
    default_dt: ClassVar[float | None] = 0.02

    def __post_init__(self) -> None:
        for key in ("forcing", "linear", "quadratic"):
            object.__setattr__(self, key, require_number(key, getattr(self, key)))
        for key in ("cubic", "noise"):
            object.__setattr__(self, key, require_number(key, getattr(self, key), above=0))
        self.law.check()

    @cached_property
    def law(self) -> CubicLaw:
        """Stationary law of the system (`simulators.scalar_law`)."""
        return CubicLaw((self.forcing, self.linear, self.quadratic, -self.cubic), self.noise)
