"""General linear stochastic equation in a few dimensions.

    dx = B x dt + L dW,     L L^T = Q     (Ito; increments of covariance Q dt, so proportional to sqrt(dt)),

B = ``drift_matrix`` (stable, it may be non-normal), Q = ``noise_covariance`` per unit time. Stationary covariance C
from the Lyapunov equation B C + C B^T + Q = 0; response R(t) = expm(B t); score s(x) = -C^-1 x. See Gardiner,
Stochastic Methods, 4th ed., chapter 4.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulators.answers import component_axes, label_covariance, label_response
from simulators.checks import MAX_MAGNITUDE, MIN_MAGNITUDE, require_array, require_lags
from simulators.errors import ParameterError
from simulators.schema import Layout, component_layout
from simulators.system import System

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper

__all__ = ["LinearSDE", "square_root"]


@dataclass(frozen=True, eq=False)
class LinearSDE(System):
    """Linear stochastic equation ``dx = B x dt + L dW`` with ``L L^T = Q``, sampled by its exact transition law.

    Parameters
    ----------
    drift_matrix : array_like
        B, shape (d, d), 1/time; every eigenvalue must have a negative real part.
    noise_covariance : array_like
        Q, shape (d, d), covariance per unit time (Ito, increments proportional to sqrt(dt); no volume factor,
        this is not a field); symmetric, positive semi-definite, not zero.

    Raises
    ------
    ParameterError
        If a matrix is not square, B unstable (the eigenvalue is reported), or Q not a covariance.

    Notes
    -----
    Both are stored as read-only float64 copies. Two records are equal only if they are the same object.
    """

    # ---- parameters

    drift_matrix: ArrayLike
    noise_covariance: ArrayLike

    name: ClassVar[str] = "linear"
    title: ClassVar[str] = "Linear stochastic differential equation"
    references: ClassVar[str] = "Gardiner, Stochastic Methods, 4th ed., chapter 4"

    def __post_init__(self) -> None:
        drift = _matrix("drift_matrix", self.drift_matrix)
        noise = _matrix("noise_covariance", self.noise_covariance)
        if noise.shape != drift.shape:
            raise ParameterError(
                f"noise_covariance has shape {noise.shape}: expected that of drift_matrix, {drift.shape}"
            )
        slowest = max(np.linalg.eigvals(drift), key=lambda value: value.real)
        # rounding of the entries moves the eigenvalues by this much
        limit = max(np.finfo(float).eps * float(np.abs(drift).max()), MIN_MAGNITUDE)
        if slowest.real >= -limit:
            raise ParameterError(
                f"drift_matrix has the eigenvalue {slowest:.6g}: expected negative real parts only, below "
                f"{-limit:.2g} to be told from zero, otherwise there is no stationary state; subtract damping from "
                "its diagonal"
            )
        scale = float(np.abs(noise).max())
        if np.abs(noise - noise.T).max() > 1e-12 * scale:
            raise ParameterError(
                f"noise_covariance differs from its transpose by {np.abs(noise - noise.T).max():.3g}: "
                "expected a symmetric matrix; pass (Q + Q.T) / 2"
            )
        noise = (noise + noise.T) / 2
        smallest = float(np.linalg.eigvalsh(noise)[0])
        if scale < MIN_MAGNITUDE or smallest < -1e-12 * scale:
            raise ParameterError(
                f"noise_covariance has smallest eigenvalue {smallest:.6g} and largest entry {scale:.6g}: expected "
                "a positive semi-definite matrix that is not zero; pass L @ L.T for some L"
            )
        for key, value in (("drift_matrix", drift), ("noise_covariance", noise)):
            value.setflags(write=False)
            object.__setattr__(self, key, value)

    def layout(self) -> Layout:
        """Return the labels of the state: ``x(component)``."""
        return component_layout(len(self._drift))

    # ---- operators

    @property
    def _drift(self) -> NDArray[np.float64]:
        return np.asarray(self.drift_matrix)

    @cached_property
    def _covariance(self) -> NDArray[np.float64]:
        from scipy.linalg import solve_continuous_lyapunov

        with np.errstate(all="ignore"):
            covariance = solve_continuous_lyapunov(self._drift, -np.asarray(self.noise_covariance))
        if not np.all(np.isfinite(covariance)):
            raise ParameterError(
                "the stationary covariance overflows double precision: expected entries of drift_matrix and "
                "noise_covariance of comparable size; choose other units"
            )
        return (covariance + covariance.T) / 2

    def transition(self, dt: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return expm(B dt) and the covariance of the noise collected over `dt`.

        Q(h) = int_0^h expm(B t) Q expm(B^T t) dt. Van Loan's block exponential (IEEE Trans. Autom. Control 23, 395
        (1978)) gives it for a short h; doubling Q(2h) = Q(h) + E Q(h) E^T, E = expm(B h), takes it to dt. The block
        exponential alone overflows for large dt, and C - E C E^T cancels for small dt; this does neither.
        """
        from scipy.linalg import expm

        b, d = self._drift, len(self._drift)
        n_doublings = max(0, int(np.ceil(np.log2(max(float(np.linalg.norm(b, 2)) * dt, 1e-300)))) + 1)
        h = dt / 2**n_doublings
        block = expm(np.block([[-b, np.asarray(self.noise_covariance)], [np.zeros((d, d)), b.T]]) * h)
        propagator = block[d:, d:].T
        noise = propagator @ block[:d, d:]
        for _ in range(n_doublings):
            noise = noise + propagator @ noise @ propagator.T
            propagator = propagator @ propagator
        return propagator, (noise + noise.T) / 2

    # ---- drift

    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return B x."""
        return np.asarray(u @ self._drift.T)

    # ---- step

    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the exact transition x <- expm(B dt) x + Q(dt)^(1/2) w, w ~ N(0, I)."""
        from simulators.engine import Stepper, add_in_place
        from simulators.kernels import linear as kernel

        propagator, noise = self.transition(dt)
        propagator = np.ascontiguousarray(propagator)
        noise_root = square_root(noise)
        initial_root = square_root(self._covariance)

        def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
            return (initial_root @ rng.standard_normal(len(initial_root)),)

        def advance(state: tuple[NDArray[Any], ...], rng: np.random.Generator, out: NDArray[Any]) -> None:
            kernel.advance(state[0], rng, propagator, noise_root, n_steps, out)

        def advance_many(x: NDArray[Any], normals: NDArray[Any], kicks: NDArray[Any]) -> None:
            kernel.advance_many(x, normals, kicks, propagator, noise_root)

        return Stepper(start, advance, add_in_place, advance_many=advance_many)

    def forced_dt(self) -> float:
        """Return 0.05 / |B|: the splitting of a constant force from B then errs by (|B| dt)^2 / 12 = 2e-4 at most."""
        return 0.05 / float(np.linalg.norm(self._drift, 2))

    # ---- exact answers

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s(x) = -C^-1 x."""
        eigenvalues = np.linalg.eigvalsh(self._covariance)
        if eigenvalues[0] <= 1e-14 * eigenvalues[-1]:
            raise ParameterError(
                f"the stationary covariance has smallest eigenvalue {eigenvalues[0]:.3g}, largest "
                f"{eigenvalues[-1]:.3g}: expected a density, so noise must reach every direction; change "
                "noise_covariance or drift_matrix"
            )
        flat = u.reshape(-1, u.shape[-1])
        return np.asarray(-np.linalg.solve(self._covariance, flat.T).T.reshape(u.shape))

    def exact_response(self, lags: Any) -> "xr.DataArray":
        """Return R(t) = expm(B t): the mean of component i at lag t after a unit kick of component j.

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
        from scipy.linalg import expm

        lags = require_lags(lags)
        response = np.stack([expm(self._drift * t) for t in lags])
        return label_response(response, lags, component_axes(len(self._drift)))

    def exact_covariance(self) -> "xr.DataArray":
        """Return the stationary covariance C, the solution of B C + C B^T + Q = 0.

        Returns
        -------
        xarray.DataArray
            "covariance", dims (component, component_src).
        """
        return label_covariance(self._covariance.copy(), component_axes(len(self._drift)))


def _matrix(name: str, value: ArrayLike) -> NDArray[np.float64]:
    matrix = require_array(name, value, "a square matrix of numbers; pass for example [[-1.0, 2.0], [0.0, -3.0]]")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ParameterError(
            f"{name} has shape {matrix.shape}: expected a square matrix (d, d); pass [[-1.0]] for d = 1"
        )
    if not np.all(np.isfinite(matrix)):
        raise ParameterError(f"{name} contains NaN or infinity: expected finite numbers; replace them")
    if np.abs(matrix).max() > MAX_MAGNITUDE:
        raise ParameterError(
            f"{name} has an entry of magnitude {np.abs(matrix).max():.3g}: expected at most {MAX_MAGNITUDE:g}, beyond "
            "which products leave double precision; choose other units"
        )
    return matrix


def square_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a square root of a covariance; unlike Cholesky it accepts directions without noise."""
    eigenvalues, vectors = np.linalg.eigh(covariance)
    return np.ascontiguousarray(vectors * np.sqrt(np.clip(eigenvalues, 0, None)))
