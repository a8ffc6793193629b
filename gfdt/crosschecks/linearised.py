r"""Products and exponentials of the drift's derivative J = grad F, for many states at once.

    J v = [F(x + e v) - F(x - e v)] / (2 e) + O(e^2),        exp(A) = [sum_{k<=K} (A / 2^s)^k / k!]^(2^s).

e is the cube root of the rounding error times the size of the state, where rounding and truncation balance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Drift", "exponential_action", "exponentials"]

_DEGREE = 12  # Taylor: relative error 0.5^13/13! = 2e-14 at norm 1/2
_NORM = 0.5
_GROWTH = 100.0  # size of Taylor terms relative to the vector, beyond which the step is halved: costs two digits
_MAX_TERMS = 60
_MAX_HALVINGS = 20


class Drift:
    """F and J = grad F on flattened states (n, d).

    Parameters
    ----------
    function : callable
        F(x), (..., *state) to the same shape.
    jacobian : callable or None
        J(x), (..., *state) to (..., d, d) with d the number of components; None: central differences.
    shape : sizes of the state dims
    spread : (d,)
        Standard deviation of each component, the size of its steps.
    """

    def __init__(
        self,
        function: Callable[[NDArray[Any]], Any],
        jacobian: Callable[[NDArray[Any]], Any] | None,
        shape: tuple[int, ...],
        spread: NDArray[np.float64],
    ) -> None:
        self.function, self.jacobian, self.shape, self.spread = function, jacobian, shape, spread
        self._step = np.finfo(np.float64).eps ** (1 / 3)

    def __call__(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return F for states (n, d)."""
        states = x.reshape(x.shape[0], *self.shape)
        value = np.asarray(self.function(states), dtype=np.float64)
        if value.shape != states.shape:
            raise InputError(
                f"drift returned shape {value.shape} for states of shape {states.shape}: it must map "
                "(..., *state) to the same shape."
            )
        if not np.isfinite(value).all():
            raise InputError("drift returned NaN or inf on states of the record: check its formula and its units.")
        return value.reshape(x.shape)

    def matrices(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return J, (n, d, d), for states (n, d)."""
        n, d = x.shape
        if self.jacobian is not None:
            value = np.asarray(self.jacobian(x.reshape(n, *self.shape)), dtype=np.float64)
            if value.shape != (n, d, d):
                raise InputError(
                    f"jacobian returned shape {value.shape} for {n} states of {d} components: it must return "
                    f"(..., {d}, {d}), with J_ij = dF_i/dx_j."
                )
            return value
        out = np.empty((n, d, d))
        for j in range(d):
            shift = np.zeros(d)
            shift[j] = self._step * self.spread[j]
            out[:, :, j] = (self(x + shift) - self(x - shift)) / (2 * shift[j])
        return out

    def product(self, x: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return J(x) v for states and vectors (n, d)."""
        size = np.sqrt(((v / self.spread) ** 2).mean(axis=1, keepdims=True))
        e = self._step / np.where(size > 0, size, 1.0)
        return (self(x + e * v) - self(x - e * v)) / (2 * e)


def exponentials(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exp(A) of matrices (n, d, d), all scaled by the same power of two."""
    norm = float(np.abs(matrices).sum(axis=-1).max(initial=0.0))
    halvings = max(0, int(np.ceil(np.log2(norm / _NORM)))) if norm > 0 else 0
    # Degree 12 in five products: cubics in A, nested in A^4 (Paterson & Stockmeyer 1973).
    one = matrices / 2**halvings
    two = one @ one
    powers = (np.eye(one.shape[-1]), one, two, two @ one)
    four = two @ two
    out = four / math.factorial(_DEGREE)
    for lowest in (8, 4, 0):
        out = sum((power / math.factorial(lowest + k) for k, power in enumerate(powers)), start=out)
        out = four @ out if lowest else out
    for _ in range(halvings):
        out = out @ out
    return out


def exponential_action(
    product: Callable[[NDArray[np.float64]], NDArray[np.float64]], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return exp(A) v for vectors (n, d), from products A v alone.

    The Taylor series is cut where its terms no longer count; where they first grow a hundredfold the step is halved
    instead.

    Raises
    ------
    InputError
        If a million steps are not enough.
    """
    for halvings in range(_MAX_HALVINGS):
        steps = 2**halvings
        out = v
        for _ in range(steps):
            step = _taylor(product, out, steps)
            if step is None:
                break
            out = step
        else:
            return out
    raise InputError(
        "the linearised drift is too stiff for the sample interval (|J| h > 10^6): record more often or check it."
    )


def _taylor(
    product: Callable[[NDArray[np.float64]], NDArray[np.float64]], v: NDArray[np.float64], steps: int
) -> NDArray[np.float64] | None:
    term, out = v, v.copy()
    size = np.linalg.norm(v, axis=1)
    for k in range(1, _MAX_TERMS):
        term = product(term) / (k * steps)
        length = np.linalg.norm(term, axis=1)
        if not (length <= _GROWTH * size).all():
            return None
        out += term
        if (length <= 1e-12 * np.linalg.norm(out, axis=1)).all():
            return out
    return None
