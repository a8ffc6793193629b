"""Slow-fast triad: two slow variables that oscillate, kicked by fast bursts which the slow state modulates.

    du1  = (-d u1 - w u2 + tau) dt + s1 dW1
    du2  = (-d u2 + w u1) dt + s2 dW2
    dtau = -d_tau tau dt + g(u1) dW3,    g(u1) = s_tau (1 + m tanh u1)     (Ito; increments proportional to sqrt(dt)).

A caricature of El Nino: u1 is the sea surface temperature, u2 the thermocline depth, tau the wind bursts, more violent
when it is warm. The noise is multiplicative, but g does not depend on tau, so Ito and Stratonovich agree.

The drift B x is linear and the noise has mean zero, whence d<x>/dt = B <x> from every initial state, and the response
of the mean is exactly R(t) = expm(B t) for every modulation m. The Gaussian estimate C(t) C(0)^-1 = expm(B t) is
therefore exact too, although rho is skewed: here non-Gaussianity shows in the response of the higher moments only.
The covariance obeys B C + C B^T + diag(s1^2, s2^2, <g^2>) = 0; at m = 0, <g^2> = s_tau^2 and rho is Gaussian.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_number
from simulators.errors import NoScoreError, ParameterError, SimulatorError
from simulators.linear import LinearSDE, square_root
from simulators.schema import Layout, component_layout
from simulators.system import System

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper

__all__ = ["Triad"]


@dataclass(frozen=True)
class Triad(System):
    """Slow-fast triad ``dx = B x dt + diag(s1, s2, g(u1)) dW``, x = (u1, u2, tau); Ito.

    Parameters
    ----------
    damping : float
        d > 0 of the slow pair, 1/time.
    frequency : float
        w of the slow pair, 1/time.
    burst_damping : float
        d_tau > 0 of the fast variable, 1/time; ten times `damping` by default.
    noise_u1 : float
        s1 > 0, u/sqrt(time).
    noise_u2 : float
        s2 > 0, u/sqrt(time).
    burst_noise : float
        s_tau > 0, tau/sqrt(time): amplitude of the bursts at u1 = 0.
    modulation : float
        m, dimensionless. At the default 1 the bursts cease for very negative u1; at 0 the system is linear, the
        stationary law Gaussian, and score and covariance are exact.

    Raises
    ------
    ParameterError
        If a parameter is not finite, or a damping or noise not positive.

    Notes
    -----
    The paper below describes the model; equations and default values are those of public example scripts ("triad",
    "ENSO-like") for FastSDE.jl, a package of its first author, because the text of the paper could not be checked.

    ``default_dt = 0.05``; the step is exact at m = 0. At the defaults (200 members, time 12,000, error +- 0.0025)
    <g^2> is 2.914, 2.837, 2.796, 2.787, 2.774, 2.777 at dt = 1.6, 0.8, 0.4, 0.2, 0.1, 0.05: from dt = 0.1 on the bias
    cannot be told from sampling error. Covariance diagonal 1.09, 0.89, 0.69; <u1^3> = 1.18. ``default_spinup`` is
    twelve relaxation times of whatever is slower, exp(-12) = 6e-6; 60 at the defaults.

    References
    ----------
    Giorgini, Falasca & Souza, Predicting forced responses of probability distributions via the fluctuation-dissipation
    theorem and generative modeling, arXiv:2504.13333.
    """

    # ---- parameters

    damping: float = 0.2
    frequency: float = 0.4
    burst_damping: float = 2.0
    noise_u1: float = 0.3
    noise_u2: float = 0.3
    burst_noise: float = 1.5
    modulation: float = 1.0

    name: ClassVar[str] = "triad"
    title: ClassVar[str] = "Slow-fast triad with state-dependent bursts"
    references: ClassVar[str] = "Giorgini, Falasca & Souza, arXiv:2504.13333"
    default_dt: ClassVar[float | None] = 0.05

    @property
    def default_spinup(self) -> float:  # type: ignore[override]
        """Twelve relaxation times of whatever is slower."""
        return 12 / min(self.damping, self.burst_damping)

    def __post_init__(self) -> None:
        for key in ("frequency", "modulation"):
            object.__setattr__(self, key, require_number(key, getattr(self, key)))
        for key in ("damping", "burst_damping", "noise_u1", "noise_u2", "burst_noise"):
            object.__setattr__(self, key, require_number(key, getattr(self, key), above=0))

    def layout(self) -> Layout:
        """Return the labels of the state: ``x(component)``, components u1, u2, tau."""
        return component_layout(3)

    # ---- operators

    @cached_property
    def _drift_matrix(self) -> NDArray[np.float64]:
        d, w = self.damping, self.frequency
        return np.array([[-d, -w, 1.0], [w, -d, 0.0], [0.0, 0.0, -self.burst_damping]])

    def _linear(self, burst_noise: float) -> LinearSDE:
        """Return the triad with bursts of constant amplitude."""
        return LinearSDE(self._drift_matrix, np.diag([self.noise_u1**2, self.noise_u2**2, burst_noise**2]))

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(u @ self._drift_matrix.T)

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the exact linear transition, with the mean square of g over the step by the trapezoidal rule.

        Weak order 2; exact in law at m = 0, and in the mean at every m. Starts from the Gaussian law of m = 0.
        """
        from simulators.engine import Stepper, add_in_place
        from simulators.kernels import triad as kernel

        propagator, slow_noise = self._linear(0.0).transition(dt)
        _, all_noise = self._linear(self.burst_noise).transition(dt)
        propagator = np.ascontiguousarray(propagator)
        # the first column of a root belongs to the smallest eigenvalue, here 0: nothing but bursts reaches tau
        slow_root, burst_root = square_root(slow_noise)[:, 1:].copy(), square_root(all_noise - slow_noise)
        initial_root = square_root(self._linear(self.burst_noise).exact_covariance().values)
        modulation = self.modulation

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            return (initial_root @ rng.standard_normal(3),)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:
            kernel.advance(state[0], rng, propagator, slow_root, burst_root, modulation, n_steps, out)

        return Stepper(start, advance, add_in_place)

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(x) = -C^-1 x, at m = 0 only."""
        self._require_linear("score", NoScoreError)
        return np.asarray(self._linear(self.burst_noise).score(u))

    def exact_response(self, lags: Any) -> "xr.DataArray":
        """Return R(t) = expm(B t): the mean of component i at lag t after a unit kick of component j, any m.

        Parameters
        ----------
        lags : array_like
            Times t >= 0, shape (lag,).

        Returns
        -------
        xarray.DataArray
            "response", dims (lag, component, component_src).

        Raises
        ------
        ParameterError
            If a lag is negative or not finite.
        """
        return self._linear(self.burst_noise).exact_response(lags)

    def exact_covariance(self) -> "xr.DataArray":
        """Return the stationary covariance, at m = 0 only.

        Returns
        -------
        xarray.DataArray
            "covariance", dims (component, component_src).

        Raises
        ------
        ParameterError
            If the modulation is not 0.
        """
        self._require_linear("stationary covariance", ParameterError)
        return self._linear(self.burst_noise).exact_covariance()

    def _require_linear(self, what: str, error: type[SimulatorError]) -> None:
        if self.modulation != 0:
            raise error(
                f"Triad has no closed-form {what} for modulation = {self.modulation:g}: expected modulation = 0, where "
                "the stationary law is Gaussian; pass modulation=0, or learn it from a trajectory"
            )
