"""Exact answers for a bent double well in the plane with a rotation that leaves its density alone.

    dx = (-grad U + w J grad U) dt + sqrt(2 D) dW,   J = [[0, -1], [1, 0]],   rho = exp(-U / D) / Z,
    U(x, y) = V(x) + (k / 2) (y - q x^2)^2     (Ito).

Under rho, x has the density exp(-V / D) of a cubic scalar system (`simulators.scalar_law`) and
z = (y - q x^2) / sigma, sigma^2 = D / k, is standard normal and independent of x. All moments are then one-dimensional
sums, and functions of the state expand in products phi_a(x) h_b(z): phi the orthonormal polynomials of the density of
x, h the normalised Hermite polynomials. In this basis, with Gx and Gy the matrices of d/dx and d/dy, the backward
generator L g = (-grad U + w J grad U) . grad g + D Lap g has, after an integration by parts, the Galerkin matrix

    D (-Gx^T Gx - Gy^T Gy + w (Gx^T Gy - Gy^T Gx)),

symmetric without rotation, and R_ij(t) = -<x_i(t) s_j(x(0))> = <d_j exp(L t) x_i>. See Risken, The Fokker-Planck
Equation, 2nd ed., chapter 6.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simulators.errors import ParameterError
from simulators.scalar_law import CubicLaw

__all__ = ["BentLaw"]

# Polynomials in x, and half as many in z. The basis grows until the response stands still, which takes the second
# size for moderate parameters and the last (seconds) for a rotation of 5.
_SIZES = (20, 28, 40)
_ENOUGH, _TOO_MUCH = 1e-6, 1e-4


@dataclass(frozen=True)
class BentLaw:
    """Stationary law and response for U = V(x) + (k/2) (y - q x^2)^2.

    Parameters
    ----------
    along : CubicLaw
        Law of x: drift -V', noise sqrt(2 D).
    stiffness : float
        k > 0.
    bend : float
        q.
    rotation : float
        w.
    """

    along: CubicLaw
    stiffness: float
    bend: float
    rotation: float

    @property
    def diffusivity(self) -> float:
        """D."""
        return self.along.diffusivity

    @property
    def width(self) -> float:
        """Standard deviation sigma of y about q x^2."""
        return float(np.sqrt(self.diffusivity / self.stiffness))

    def density(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rho(x, y), normalised; `x` and `y` broadcast."""
        z = (y - self.bend * x**2) / self.width
        return self.along.density(x) * np.exp(-(z**2) / 2) / (self.width * np.sqrt(2 * np.pi))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return one stationary draw (x, y): x by its inverse distribution, y by its conditional normal law."""
        x = self.along.draw(rng)
        return np.array([x, self.bend * x**2 + self.width * rng.standard_normal()])

    def mean(self) -> NDArray[np.float64]:
        """Return (<x>, <y>)."""
        x = self.along.nodes
        return np.array([self.along.mean(x), self.bend * self.along.mean(x**2)])

    def covariance(self) -> NDArray[np.float64]:
        """Return the stationary covariance, shape (2, 2)."""
        x = self.along.nodes
        dx = x - self.along.mean(x)
        dy = self.bend * (x**2 - self.along.mean(x**2))
        xy = self.along.mean(dx * dy)
        return np.array([[self.along.mean(dx**2), xy], [xy, self.along.mean(dy**2) + self.width**2]])

    def response(self, lags: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return R at `lags`, shape (lag, 2, 2).

        Raises
        ------
        ParameterError
            If it still changes by more than 1e-4 with the largest basis.
        """
        response, change = self._generator(_SIZES[0]).response(lags), np.inf
        for size in _SIZES[1:]:
            coarser, response = response, self._generator(size).response(lags)
            change = float(np.abs(response - coarser).max())
            if change < _ENOUGH:
                break
        if not change < _TOO_MUCH:  # NaN is too much
            raise ParameterError(
                f"the response still changes by {change:.2g} with the largest polynomial basis, expected less than "
                f"{_TOO_MUCH:g}: the wells are too deep or the rotation too fast; use a larger diffusivity"
            )
        return response

    def _generator(self, size: int) -> "_Generator":
        if size not in self._generators:
            self._generators[size] = _Generator(self, size, size // 2)
        return self._generators[size]

    @cached_property
    def _generators(self) -> dict[int, "_Generator"]:
        return {}


class _Generator:
    """The backward generator on polynomials of degree below `n_x` in x and below `n_z` in z, diagonalised."""

    def __init__(self, law: BentLaw, n_x: int, n_z: int) -> None:
        multiply, differentiate = _polynomial_matrices(law.along, n_x)
        lower = np.diag(np.sqrt(np.arange(1.0, n_z)), 1)  # d/dz h_b = sqrt(b) h_(b-1)
        sigma, same_x, same_z = law.width, np.eye(n_x + 1, n_x), np.eye(n_z)
        # y = q x^2 + sigma z, so d/dx at fixed y is d/dx - (2 q x / sigma) d/dz
        gx = np.kron(differentiate, same_z) - 2 * law.bend / sigma * np.kron(multiply, lower)
        gy = np.kron(same_x, lower) / sigma
        turn = gx.T @ gy
        matrix = law.diffusivity * (-gx.T @ gx - gy.T @ gy + law.rotation * (turn - turn.T))
        self._rates, vectors = np.linalg.eig(matrix)
        constant = np.zeros((n_x, n_z))
        constant[0, 0] = 1
        x = np.kron(multiply[:n_x], same_z) @ constant.ravel()
        y = law.bend * np.kron(multiply[:n_x], same_z) @ x
        y[1] += sigma  # the function sigma z = sigma phi_0 h_1
        self._functions = np.linalg.solve(vectors, np.stack([x, y], axis=1).astype(complex))
        self._derivatives = np.stack([gx[0], gy[0]]) @ vectors  # row 0: the average over rho

    def response(self, lags: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return <d_j exp(L t) x_i>, shape (lag, i, j)."""
        decay = np.exp(np.outer(lags, self._rates))
        return np.einsum("jn,tn,ni->tij", self._derivatives, decay, self._functions).real


def _polynomial_matrices(law: CubicLaw, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrices (n + 1, n) of multiplication by x and of d/dx on the orthonormal polynomials of `law`.

    Stieltjes' recurrence b_(m+1) phi_(m+1) = (x - a_m) phi_m - b_m phi_(m-1), and its derivative, on the nodes.
    """
    x = law.nodes
    phi, dphi = np.zeros((n + 1, len(x))), np.zeros((n + 1, len(x)))
    phi[0] = 1
    multiply, differentiate = np.zeros((n + 1, n)), np.zeros((n + 1, n))
    b = 0.0
    for m in range(n):
        a = law.mean(x * phi[m] ** 2)
        step = (x - a) * phi[m] - b * phi[m - 1]
        slope = phi[m] + (x - a) * dphi[m] - b * dphi[m - 1]
        multiply[m, m] = a
        if m:
            multiply[m - 1, m] = b
        b = float(np.sqrt(law.mean(step**2)))
        multiply[m + 1, m] = b
        phi[m + 1], dphi[m + 1] = step / b, slope / b
        differentiate[:m, m] = [law.mean(phi[k] * dphi[m]) for k in range(m)]
    return multiply, differentiate
