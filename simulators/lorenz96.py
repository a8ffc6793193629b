"""Lorenz (1996) model on a ring, with additive noise.

    dx_i = [(x_(i+1) - x_(i-2)) x_(i-1) - x_i + F] dt + s dW_i     (Ito; increments s sqrt(dt) w), i modulo n.

The quadratic term conserves sum x_i^2 and no component appears in its own tendency through it, so it is free of
divergence. Two exact facts follow. Without forcing rho is the Gaussian N(0, (s^2 / 2) I), whatever the advection does,
and the score is -2 x / s^2. With any forcing the mean energy balance of each component closes:

    F <x> - <x^2> + s^2 / 2 = 0.

The law is the same at every site. Time 1 is the damping time (about 5 days in Lorenz's scaling).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.answers import component_axes, label_covariance
from simulators.checks import require_integer, require_number
from simulators.errors import NoScoreError, ParameterError, SimulatorError
from simulators.polynomial import PolynomialDrift, heun_stepper
from simulators.schema import Layout, component_layout
from simulators.system import System

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper

__all__ = ["Lorenz96"]


@dataclass(frozen=True)
class Lorenz96(System):
    """Lorenz (1996) model: ``dx_i = [(x_(i+1) - x_(i-2)) x_(i-1) - x_i + F] dt + s dW_i``; Ito.

    Parameters
    ----------
    n : int
        Sites on the ring, at least 4; 40 as in Lorenz & Emanuel (1998).
    forcing : float
        Constant F, x/time. 8 is the usual chaotic case; at 0 the stationary law is Gaussian and known.
    noise : float
        Amplitude s > 0, x/sqrt(time). The default 1 gives the attractor a smooth density.

    Raises
    ------
    ParameterError
        If `n` is below 4, `forcing` not finite or `noise` not positive.

    Notes
    -----
    ``default_dt = 0.005`` from a convergence study: 2000 members from the attractor over time 1.04, each with the same
    Brownian path at every dt. Relative error of <(x - <x>)^2> against dt = 0.00125, at dt = 0.02, 0.01, 0.005: -2.8e-3,
    -9.5e-4, -2.7e-4, each +- 2e-4 at most. At dt = 0.05 members blow up. ``default_spinup = 10``: from the initial
    state (variance 27 at time 1) mean and variance of 400 members have settled at 2.3 and 13.6 from time 4 on.

    References
    ----------
    Lorenz, Predictability: a problem partly solved, ECMWF Seminar on Predictability, vol. 1 (1996), eq. 1.
    Lorenz & Emanuel, J. Atmos. Sci. 55, 399 (1998), eq. 1, without noise.
    """

    # ---- parameters

    n: int = 40
    forcing: float = 8.0
    noise: float = 1.0

    name: ClassVar[str] = "lorenz-96"
    title: ClassVar[str] = "Lorenz (1996) model with additive noise"
    references: ClassVar[str] = "Lorenz & Emanuel, J. Atmos. Sci. 55, 399 (1998), eq. 1"
    default_spinup: ClassVar[float] = 10.0
    default_dt: ClassVar[float | None] = 0.005

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", require_integer("n", self.n, at_least=4, at_most=10**5))
        object.__setattr__(self, "forcing", require_number("forcing", self.forcing))
        object.__setattr__(self, "noise", require_number("noise", self.noise, above=0))

    def layout(self) -> Layout:
        """Return the labels of the state: ``x(component)``, the site on the ring."""
        return component_layout(self.n)

    # ---- operators

    @property
    def _variance_unforced(self) -> float:
        """Variance s^2 / 2 of each component at F = 0."""
        return self.noise**2 / 2

    @cached_property
    def _polynomial(self) -> PolynomialDrift:
        n = self.n
        return PolynomialDrift(
            [
                [(1.0, (i + 1) % n, (i - 1) % n), (-1.0, (i - 2) % n, (i - 1) % n), (-1.0, i), (self.forcing,)]
                for i in range(n)
            ]
        )

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return (np.roll(u, -1, axis=-1) - np.roll(u, 2, axis=-1)) * np.roll(u, 1, axis=-1) - u + self.forcing

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return Heun steps (`simulators.polynomial`) from the steady state F plus N(0, s^2 / 2); exact if F = 0."""

        def draw(rng: np.random.Generator) -> NDArray[np.float64]:
            return self.forcing + np.sqrt(self._variance_unforced) * rng.standard_normal(self.n)

        return heun_stepper(self._polynomial, self.noise, draw, dt, n_steps)

    def increment_covariance(self) -> NDArray[np.float64]:
        """Return s^2 I, the covariance of the noise per unit time."""
        return self.noise**2 * np.eye(self.n)

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(x) = -2 x / s^2, without forcing only."""
        self._require_unforced("score", NoScoreError)
        return -u / self._variance_unforced

    def exact_covariance(self) -> "xr.DataArray":
        """Return the stationary covariance (s^2 / 2) I, known without forcing only.

        Returns
        -------
        xarray.DataArray
            "covariance", dims (component, component_src).

        Raises
        ------
        ParameterError
            If the forcing is not 0.
        """
        self._require_unforced("stationary covariance", ParameterError)
        return label_covariance(self._variance_unforced * np.eye(self.n), component_axes(self.n))

    def _require_unforced(self, what: str, error: type[SimulatorError]) -> None:
        if self.forcing != 0:
            raise error(
                f"Lorenz96 has no closed-form {what} for forcing = {self.forcing:g}: expected forcing = 0, where the "
                "stationary law is Gaussian; pass forcing=0, or learn it from a trajectory"
            )
