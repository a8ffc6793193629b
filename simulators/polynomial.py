"""Drifts that are polynomials of degree three at most, written as a table, and their Heun stepper.

    dx_i = f_i(x) dt + s dW_i     (Ito; increments s sqrt(dt) w, no volume factor),
    f_i(x) = sum over the terms of equation i of  coefficient * x_a * x_b * x_c.

A term is a tuple: the coefficient and then the indices of its factors, none for a constant. The Lorenz (1963)
equations, for example, are

    PolynomialDrift([
        [(-10.0, 0), (10.0, 1)],
        [(28.0, 0), (-1.0, 1), (-1.0, 0, 2)],
        [(-8 / 3, 2), (1.0, 0, 1)],
    ])

One compiled loop (`simulators.kernels.polynomial`) then steps every such system. With additive noise the stochastic
Heun scheme is Platen's explicit scheme of weak order 2 (Kloeden & Platen, Numerical Solution of SDEs, section 15.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simulators.engine import Stepper

__all__ = ["PolynomialDrift", "Term", "heun_stepper"]

Term = tuple[float | int, ...]

_MAX_DEGREE = 3


@dataclass(frozen=True, eq=False)
class PolynomialDrift:
    """The drift f as a function, and as the arrays the compiled loop reads.

    Parameters
    ----------
    equations : sequence of sequence of tuple
        For each component i the terms of f_i, each ``(coefficient, a, b, c)`` with up to three component indices.

    Raises
    ------
    ValueError
        If a term has more than three factors or names a component that does not exist: a mistake in a system.
    """

    equations: Sequence[Sequence[Term]]

    def __post_init__(self) -> None:
        d = len(self.equations)
        for terms in self.equations:
            for _, *indices in terms:
                if len(indices) > _MAX_DEGREE or any(not 0 <= index < d for index in indices):
                    raise ValueError(f"found the factors {indices}: expected at most {_MAX_DEGREE}, each 0 to {d - 1}")

    def arrays(self) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.uint64]]:
        """Return starts (d + 1,), coefficients (n,) and factors (n, 3): equation i has the terms from starts[i] on.

        The index d as a factor stands for 1.
        """
        d = len(self.equations)
        terms = [term for equation in self.equations for term in equation]
        starts = np.cumsum([0, *map(len, self.equations)]).astype(np.uint64)
        coefficients = np.array([coefficient for coefficient, *_ in terms], dtype=np.float64)
        factors = np.full((len(terms), _MAX_DEGREE), d, dtype=np.uint64)
        for row, (_, *indices) in zip(factors, terms, strict=True):
            row[: len(indices)] = indices
        return starts, coefficients, factors

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return f(x) for an array (..., d)."""
        f = np.zeros_like(x)
        for target, terms in enumerate(self.equations):
            for coefficient, *indices in terms:
                f[..., target] += coefficient * np.prod([x[..., int(index)] for index in indices], axis=0)
        return f


def heun_stepper(
    drift: PolynomialDrift,
    noise: float,
    draw: Callable[[np.random.Generator], NDArray[np.float64]],
    dt: float,
    n_steps: int,
) -> "Stepper":
    """Return Heun steps of ``dx = f(x) dt + s dW``.

    Parameters
    ----------
    drift : PolynomialDrift
        f.
    noise : float
        s, the same in every component; Ito, increments s sqrt(dt) w.
    draw : callable
        ``draw(rng)`` returns an initial state, shape (d,), as a new array.
    dt : float
        Time step.
    n_steps : int
        Steps between snapshots.

    Returns
    -------
    Stepper
        Its `advance` also takes a second array, for the noise that follows each snapshot.
    """
    from simulators.engine import Stepper, add_in_place
    from simulators.kernels import polynomial as kernel

    starts, coefficients, factors = drift.arrays()

    def start(rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        return (draw(rng),)

    def advance(
        state: tuple[NDArray[Any], ...],
        rng: np.random.Generator,
        out: NDArray[Any],
        increments: NDArray[Any] | None = None,
    ) -> None:
        kernel.advance(state[0], rng, starts, coefficients, factors, noise, dt, n_steps, out, increments)

    def advance_many(x: NDArray[Any], normals: NDArray[Any], kicks: NDArray[Any]) -> None:
        kernel.advance_many(x, normals, kicks, starts, coefficients, factors, noise, dt)

    return Stepper(start, advance, add_in_place, advance_many=advance_many)
