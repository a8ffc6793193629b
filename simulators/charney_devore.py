"""Charney-DeVore model of blocking: barotropic flow over topography in a channel, six modes, additive noise.

    dx1 = [ g1' x3 - C (x1 - x1*) ] dt + s dW1
    dx2 = [ -(a1 x1 - b1) x3 - C x2 - d1 x4 x6 ] dt + s dW2
    dx3 = [  (a1 x1 - b1) x2 - g1 x1 - C x3 + d1 x4 x5 ] dt + s dW3
    dx4 = [ g2' x6 - C (x4 - x4*) + e (x2 x6 - x3 x5) ] dt + s dW4
    dx5 = [ -(a2 x1 - b2) x6 - C x5 - d2 x4 x3 ] dt + s dW5
    dx6 = [  (a2 x1 - b2) x5 - g2 x4 - C x6 + d2 x4 x2 ] dt + s dW6     (Ito; increments s sqrt(dt) w)

x1, x4 are zonal flow (first and second meridional mode m), the pairs (x2, x3), (x5, x6) waves. With b the ratio of
meridional to zonal length scale (b = 2 width / length), m = 1, 2 and K_m = b^2 + m^2:

    a_m = 8 sqrt(2)/pi m^2/(4 m^2 - 1) (K_m - 1)/K_m        advection by the zonal flow
    b_m = beta b^2/K_m                                      Rossby waves
    d_m = 64 sqrt(2)/(15 pi) (b^2 - m^2 + 1)/K_m,  e = 16 sqrt(2)/(5 pi)     interaction of the two meridional modes
    g_m = gamma 4 m^3/(4 m^2 - 1) sqrt(2) b/(pi K_m),  g_m' = gamma 4 m/(4 m^2 - 1) sqrt(2) b/pi     topography

Everything but forcing, damping and noise conserves the energy (1/2) sum k_i^2 x_i^2, k^2 = (1, K_1, K_1, 4, K_2, K_2);
the quadratic terms conserve the enstrophy (1/2) sum k_i^4 x_i^2 too and have no divergence. No closed-form density.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_number
from simulators.polynomial import PolynomialDrift, heun_stepper
from simulators.schema import Layout, component_layout
from simulators.system import System

if TYPE_CHECKING:
    from simulators.engine import Stepper

__all__ = ["CharneyDeVore"]


@dataclass(frozen=True)
class CharneyDeVore(System):
    """Six-mode Charney-DeVore model ``dx = f(x) dt + s dW``, f as in `simulators.charney_devore`; Ito.

    Parameters
    ----------
    x1_star : float
        Zonal forcing x1* of the first mode, dimensionless streamfunction.
    x4_star : float
        Zonal forcing x4* of the second mode.
    damping : float
        Ekman damping C > 0, 1/time.
    beta : float
        Gradient of the Coriolis parameter.
    gamma : float
        Height of the topography.
    b : float
        Ratio of scales b = 2 width / length > 0.
    noise : float
        Amplitude s > 0 in every mode, x/sqrt(time). The default is this project's choice.

    Raises
    ------
    ParameterError
        If a parameter is not finite, or `damping`, `b` or `noise` not positive.

    Notes
    -----
    The defaults of the deterministic part are the parameters at which Crommelin, Opsteegh & Verhulst find
    transitions between a zonal and a blocked regime without any noise. With it, 2000 members have standard deviations
    from 0.08 to 0.15 and skewness up to -1.8 (x6).

    ``default_dt = 0.05`` from a convergence study: 16,000 members over time 9.6, each with the same Brownian path at
    every dt. Largest error of the mean in standard deviations, against dt = 0.1, at dt = 0.8, 0.4, 0.2: 9.7e-3, 1.7e-3,
    3.2e-4; without noise the rms error of the state at dt = 0.4, 0.2, 0.1, 0.05 is 1.7e-3, 4.1e-4, 1.0e-4, 2.4e-5.
    ``default_spinup = 500``: the mean of 2000 members is 7 standard errors off at time 50, 3 at 100, and within 2 from
    150 on.

    References
    ----------
    Charney & DeVore, J. Atmos. Sci. 36, 1205 (1979). De Swart, Physica D 36, 222 (1989). Crommelin, Opsteegh &
    Verhulst, J. Atmos. Sci. 61, 1406 (2004), the six equations and coefficients above.
    """

    # ---- parameters

    x1_star: float = 0.95
    x4_star: float = -0.76095
    damping: float = 0.1
    beta: float = 1.25
    gamma: float = 0.2
    b: float = 0.5
    noise: float = 0.02

    name: ClassVar[str] = "charney-devore"
    title: ClassVar[str] = "Charney-DeVore model with six modes and additive noise"
    references: ClassVar[str] = "Crommelin, Opsteegh & Verhulst, J. Atmos. Sci. 61, 1406 (2004)"
    default_spinup: ClassVar[float] = 500.0
    default_dt: ClassVar[float | None] = 0.05

    def __post_init__(self) -> None:
        for key in ("x1_star", "x4_star", "beta", "gamma"):
            object.__setattr__(self, key, require_number(key, getattr(self, key)))
        for key in ("damping", "b", "noise"):
            object.__setattr__(self, key, require_number(key, getattr(self, key), above=0))

    def layout(self) -> Layout:
        """Return the labels of the state: ``x(component)``, component 0 is x1."""
        return component_layout(6)

    # ---- operators

    @cached_property
    def _polynomial(self) -> PolynomialDrift:
        m = np.array([1.0, 2.0])
        k = self.b**2 + m**2
        root2_pi, odd = np.sqrt(2) / np.pi, 4 * m**2 - 1
        advection = 8 * root2_pi * m**2 / odd * (k - 1) / k
        rossby = self.beta * self.b**2 / k
        mixing = 64 * root2_pi / 15 * (self.b**2 - m**2 + 1) / k
        mountain = self.gamma * 4 * root2_pi * self.b * m / odd
        a1, a2, b1, b2, d1, d2, h1, h2, g1, g2 = np.concatenate(
            [advection, rossby, mixing, mountain, mountain * m**2 / k]
        ).tolist()
        c, e = self.damping, 16 / 5 * root2_pi
        x1, x2, x3, x4, x5, x6 = range(6)
        return PolynomialDrift(
            [
                [(h1, x3), (-c, x1), (c * self.x1_star,)],
                [(-a1, x1, x3), (b1, x3), (-c, x2), (-d1, x4, x6)],
                [(a1, x1, x2), (-b1, x2), (-g1, x1), (-c, x3), (d1, x4, x5)],
                [(h2, x6), (-c, x4), (c * self.x4_star,), (e, x2, x6), (-e, x3, x5)],
                [(-a2, x1, x6), (b2, x6), (-c, x5), (-d2, x4, x3)],
                [(a2, x1, x5), (-b2, x5), (-g2, x4), (-c, x6), (d2, x4, x2)],
            ]
        )

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._polynomial(u)

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return Heun steps (`simulators.polynomial`) from the forcing plus N(0, 0.1^2) in every mode."""

        def draw(rng: np.random.Generator) -> NDArray[np.float64]:
            return np.array([self.x1_star, 0, 0, self.x4_star, 0, 0]) + 0.1 * rng.standard_normal(6)

        return heun_stepper(self._polynomial, self.noise, draw, dt, n_steps)

    def increment_covariance(self) -> NDArray[np.float64]:
        """Return s^2 I, the covariance of the noise per unit time."""
        return self.noise**2 * np.eye(6)
