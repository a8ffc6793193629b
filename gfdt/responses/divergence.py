"""div w of a field w(x) on the state, given, by autodiff, or by central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AUTODIFF", "divergence_of", "real_values"]

AUTODIFF = "autodiff"
_EXACT_SIZE = 64
_PROBES = 16
_STEP = 1e-4  # of the spread of the states: error 1e-8/6 times the third derivative


def divergence_of(
    w: Callable[[NDArray[Any]], NDArray[Any]], divergence: Any, states: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return div w at states (n, *state), shape (n,).

    Parameters
    ----------
    w : callable
        (n, *state) to the same shape.
    divergence : callable, "autodiff" or None
        As in :class:`gfdt.Drift`.
    states : (n, *state)
    """
    if callable(divergence):
        value = real_values(divergence(states.copy()), "the divergence function")
        try:
            return np.broadcast_to(value, states.shape[:1])
        except ValueError as error:
            raise InputError(
                f"the divergence function returned shape {value.shape} for {len(states)} states: it must return one "
                "number per state."
            ) from error
    if divergence == AUTODIFF:
        return _by_autodiff(w, states)
    return _by_differences(w, states)


def real_values(value: Any, source: str) -> NDArray[np.float64]:
    """Return what a user's function gave as float64, a copy: some functions hand out the same memory each time.

    Raises
    ------
    InputError
        If it holds anything but finite real numbers.
    """
    array = np.asarray(value)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{source} returned {array.dtype} values, real numbers are needed: check its formula.")
    if not np.isfinite(array).all():
        raise InputError(f"{source} returned NaN or inf: check its formula.")
    return array.astype(np.float64)


def _by_differences(w: Callable[[NDArray[Any]], NDArray[Any]], states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of d w_i/d x_i for few components, else z . (dw/dx) z averaged over random signs z."""
    spread = states.std(axis=0)
    spread = np.where(spread > 0, spread, np.maximum(np.abs(states).max(axis=0), 1.0))
    axes = tuple(range(1, states.ndim))
    total = np.zeros(len(states))

    def at(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return real_values(w(x), "w, next to the states of the record (for its divergence, which can be given),")

    if math.prod(states.shape[1:]) <= _EXACT_SIZE:
        for index in np.ndindex(*states.shape[1:]):
            shift = np.zeros(states.shape[1:])
            shift[index] = _STEP * spread[index]
            total += (at(states + shift)[:, *index] - at(states - shift)[:, *index]) / (2 * shift[index])
        return total
    # The directions depend on nothing but the number of components, so that every block of states has the same.
    rng = np.random.default_rng(0)
    for _ in range(_PROBES):
        z = rng.choice(np.array([-1.0, 1.0]), states.shape)
        change = at(states + _STEP * spread * z) - at(states - _STEP * spread * z)
        total += (z * change / (2 * _STEP * spread)).sum(axis=axes)
    return total / _PROBES


def _by_autodiff(w: Callable[[Any], Any], states: NDArray[np.float64]) -> NDArray[np.float64]:
    import torch

    if math.prod(states.shape[1:]) > _EXACT_SIZE:
        return _by_autodiff_probes(w, states)
    x = torch.from_numpy(states.copy()).requires_grad_(True)
    with torch.enable_grad():
        value = _tensor(w, x)
        total = torch.zeros(len(states), dtype=torch.float64)
        for index in np.ndindex(*states.shape[1:]):
            # States do not depend on each other, so one derivative of the sum holds those of all.
            (slope,) = torch.autograd.grad(value[:, *index].sum(), x, retain_graph=True, allow_unused=True)
            if slope is not None:
                total += slope[:, *index]
    return total.detach().numpy()


def _by_autodiff_probes(w: Callable[[Any], Any], states: NDArray[np.float64]) -> NDArray[np.float64]:
    import torch

    rng = np.random.default_rng(0)
    x = torch.from_numpy(states.copy()).requires_grad_(True)
    total = np.zeros(len(states))
    with torch.enable_grad():
        value = _tensor(w, x)
        for _ in range(_PROBES):
            z = torch.from_numpy(rng.choice(np.array([-1.0, 1.0]), states.shape))
            (slope,) = torch.autograd.grad((value * z).sum(), x, retain_graph=True, allow_unused=True)
            if slope is not None:
                total += (slope * z).flatten(1).sum(dim=1).numpy()
    return total / _PROBES


def _tensor(w: Callable[[Any], Any], x: Any) -> Any:
    import torch

    # A copy: a w that works in place must not do so on what is differentiated.
    value = w(x.clone())
    if not isinstance(value, torch.Tensor) or value.shape != x.shape:
        raise InputError(
            f"w returned a {type(value).__name__} for a torch tensor: divergence='autodiff' needs a w that takes and "
            "returns tensors of one shape; pass the divergence as a function, or leave it out for differences."
        )
    if not value.requires_grad:
        raise InputError("w does not depend on x through torch: write it with torch functions, or leave autodiff out.")
    return value
