"""div w of a field w(x) on the state, given, by autodiff, or by central differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AUTODIFF", "divergence_of"]

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
        value = np.asarray(divergence(states.copy()), dtype=np.float64)
        try:
            value = np.broadcast_to(value, states.shape[:1])
        except ValueError as error:
            raise InputError(
                f"the divergence function returned shape {value.shape} for {len(states)} states: it must return one "
                "number per state."
            ) from error
        if not np.isfinite(value).all():
            raise InputError("the divergence function returned NaN or inf: check its formula.")
        return value
    if divergence == AUTODIFF:
        return _by_autodiff(w, states)
    return _by_differences(w, states)


def _by_differences(w: Callable[[NDArray[Any]], NDArray[Any]], states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of d w_i/d x_i for few components, else z . (dw/dx) z averaged over random signs z."""
    spread = states.std(axis=0)
    spread = np.where(spread > 0, spread, np.maximum(np.abs(states).max(axis=0), 1.0))
    axes = tuple(range(1, states.ndim))
    total = np.zeros(len(states))
    if math.prod(states.shape[1:]) <= _EXACT_SIZE:
        for index in np.ndindex(*states.shape[1:]):
            shift = np.zeros(states.shape[1:])
            shift[index] = _STEP * spread[index]
            change = np.asarray(w(states + shift))[:, *index] - np.asarray(w(states - shift))[:, *index]
            total += change / (2 * shift[index])
        return total
    # The directions depend on nothing but the number of components, so that every block of states has the same.
    rng = np.random.default_rng(0)
    for _ in range(_PROBES):
        z = rng.choice(np.array([-1.0, 1.0]), states.shape)
        change = (np.asarray(w(states + _STEP * spread * z)) - np.asarray(w(states - _STEP * spread * z))) / (2 * _STEP)
        total += (z * change / spread).sum(axis=axes)
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

    value = w(x)
    if not isinstance(value, torch.Tensor) or value.shape != x.shape:
        raise InputError(
            f"w returned a {type(value).__name__} for a torch tensor: divergence='autodiff' needs a w that takes and "
            "returns tensors of one shape; pass the divergence as a function, or leave it out for differences."
        )
    if not value.requires_grad:
        raise InputError("w does not depend on x through torch: write it with torch functions, or leave autodiff out.")
    return value
