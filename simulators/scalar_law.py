"""Exact answers for one-dimensional gradient systems with a cubic drift.

    dx = f(x) dt + s dW     (Ito; increments of variance s^2 dt, so proportional to sqrt(dt)),
    f(x) = c0 + c1 x + c2 x^2 + c3 x^3,  c3 < 0,   D = s^2 / 2,   F(x) = int f.

Stationary density rho = exp(F / D) / Z, score f / D. The backward generator L g = f g' + D g'' = (D rho g')' / rho
(`simulators.fokker_planck`) is symmetric in L2(rho); with its eigenvalues -l_n and orthonormal eigenfunctions phi_n,
a_n = <x phi_n>,

    R(t) = -<x(t) score(x(0))> = (1/D) sum_n l_n a_n^2 exp(-l_n t),

because L x = f makes <f phi_n> = -l_n a_n. Hence R = -(1/D) dC/dt, positive and decreasing, with
R(0) = <x' x'> = 1. See Risken, The Fokker-Planck Equation, 2nd ed., chapters 5 and 7.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from simulators.errors import ParameterError
from simulators.fokker_planck import FokkerPlanck, make_fokker_planck

__all__ = ["CubicLaw"]

# rho is followed down to exp(-60) of its maximum: what is beyond changes no moment in double precision.
_DEPTH = 60.0
# Trapezoidal sums of such a smooth function that vanishes at both ends converge faster than any power.
_N_QUADRATURE = 8001
# Finite volumes for the generator: error O(h^2), 1e-6 in R for the systems of `simulators.scalar`.
_N_VOLUMES = 1200


@dataclass(frozen=True)
class CubicLaw:
    """Stationary law and response of ``dx = (c0 + c1 x + c2 x^2 + c3 x^3) dt + s dW``.

    Parameters
    ----------
    coefficients : tuple of float
        (c0, c1, c2, c3) with c3 < 0, so that the potential confines.
    noise : float
        s > 0, Ito, increments proportional to sqrt(dt).
    """

    coefficients: tuple[float, float, float, float]
    noise: float

    def check(self) -> None:
        """Raise unless the Stein identity <x score> = -1 holds to 1e-3 on the quadrature nodes.

        Raises
        ------
        ParameterError
            If the density overflows double precision or is too narrow for the nodes: the initial states would then
            not be stationary.
        """
        try:
            with np.errstate(all="ignore"):
                stein = self.mean(self.nodes * self.score(self.nodes))
        except (ArithmeticError, ValueError):  # LinAlgError is a ValueError
            stein = np.nan
        if not abs(stein + 1) < 1e-3:
            raise ParameterError(
                f"the stationary density of drift coefficients {self.coefficients} and noise {self.noise:g} cannot be "
                f"resolved (<x score> = {stein:.6g}, expected -1): choose units in which x and the coefficients are "
                "of order one, or another noise"
            )

    @property
    def diffusivity(self) -> float:
        """D = s^2 / 2."""
        return self.noise**2 / 2

    @property
    def _f(self) -> Polynomial:
        return Polynomial(self.coefficients)

    def drift(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return f(x), any shape."""
        return self._f(x)

    def score(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(x) = d log rho / dx = 2 f(x) / s^2, any shape."""
        return self.drift(x) / self.diffusivity

    @cached_property
    def _log_density(self) -> Polynomial:
        """log(rho / max rho) = (F - max F) / D."""
        integral = self._f.integ()
        return (integral - integral(_real_roots(self._f)).max()) / self.diffusivity

    @cached_property
    def support(self) -> tuple[float, float]:
        """Interval outside which rho is below exp(-60) of its maximum."""
        ends = _real_roots(self._log_density + _DEPTH)
        return float(ends.min()), float(ends.max())

    @cached_property
    def _quadrature(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Nodes, weights rho(x) dx, and Z."""
        x = np.linspace(*self.support, _N_QUADRATURE)
        weights = np.exp(self._log_density(x)) * (x[1] - x[0])
        z = float(weights.sum())
        return x, weights / z, z

    def density(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the normalised stationary density rho(x), any shape."""
        return np.exp(self._log_density(x)) / self._quadrature[2]

    def mean(self, values: NDArray[np.float64]) -> float:
        """Return <g> for `values` = g at `nodes`."""
        return float(np.dot(self._quadrature[1], values))

    @property
    def nodes(self) -> NDArray[np.float64]:
        """Quadrature nodes."""
        return self._quadrature[0]

    @property
    def variance(self) -> float:
        """<x^2> - <x>^2."""
        return self.mean((self.nodes - self.mean(self.nodes)) ** 2)

    def draw(self, rng: np.random.Generator) -> float:
        """Return one stationary draw, by the inverse of the cumulative distribution."""
        return float(np.interp(rng.random(), self._cumulative, self.nodes))

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """Probability of being below each node; half of the node's own weight lies above it."""
        weights = self._quadrature[1]
        return np.cumsum(weights) - weights / 2

    def response(self, lags: NDArray[np.float64], n_volumes: int = _N_VOLUMES) -> NDArray[np.float64]:
        """Return R of the state at `lags`, shape (lag,), on `n_volumes` finite volumes (`simulators.fokker_planck`).

        Raises
        ------
        ParameterError
            If the grid does not resolve the density (R(0) is then off by more than 1e-6).
        """
        generator = self.generator(n_volumes)
        response = generator.response(np.append(lags, 0.0), generator.nodes, np.ones(n_volumes - 1))
        return response[:-1] / response[-1]  # R(0) = 1 but for the rounding of a sum over all modes

    def generator(self, n_volumes: int = _N_VOLUMES) -> FokkerPlanck:
        """Return the generator on `n_volumes` finite volumes, diagonalised at the first call.

        Raises
        ------
        ParameterError
            If the grid does not resolve the density: faces and nodes then hold masses that differ by more than 1e-6.
        """
        if n_volumes in self._generators:
            return self._generators[n_volumes]
        x = np.linspace(*self.support, n_volumes)
        log_rho, log_rho_faces = self._log_density(x), self._log_density((x[:-1] + x[1:]) / 2)
        # R(0) of the state for w = 1
        initial = np.exp(log_rho_faces).sum() / np.exp(log_rho).sum()
        if not abs(initial - 1) < 1e-6:
            raise ParameterError(
                f"R(0) = {initial:.8f} on {n_volumes} volumes: expected 1, the density is too narrow for the "
                f"grid; use a larger noise than {self.noise:g}, or rescale x"
            )
        # the same mass on the faces, so that R(0) = 1 to rounding
        generator = make_fokker_planck(x, log_rho, log_rho_faces - np.log(initial), self.diffusivity)
        self._generators[n_volumes] = generator
        return generator

    @cached_property
    def _generators(self) -> dict[int, FokkerPlanck]:
        return {}


def _real_roots(polynomial: Polynomial) -> NDArray[np.float64]:
    """Return the real roots of a polynomial; a double root may come out with a small imaginary part."""
    roots = polynomial.roots()
    return roots[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots))].real
