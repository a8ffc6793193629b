r"""Convolution over the sites of a homogeneous field as products, one small matrix for each wavenumber.

delta<A>(x) = sum_r R(r) f(x - r) becomes A_k = R_k f_k, k over the half-plane of ``rfftn``; R_k is a matrix (observed,
perturbed). A response without displacement dims is the case of one "wavenumber" and real matrices, so both go through
the same code: arrays are (mode, ..., observed, perturbed).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.forcing.reading import ResponseFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["field_from_modes", "mode_matrices", "modes_of_field", "parseval_weights"]


def mode_matrices(response: ResponseFunction, batch: NDArray[Any]) -> NDArray[Any]:
    """Turn (*lead, *observed, *displacement, *perturbed) into (mode, *lead, observed, perturbed)."""
    shape = response.shape(response.displacement)
    lead = batch.shape[: batch.ndim - len(response.dims)]
    flat = batch.reshape(*lead, response.n_observed, *shape, response.n_perturbed)
    if not shape:
        return flat[None]
    axes = tuple(range(len(lead) + 1, len(lead) + 1 + len(shape)))
    spectrum = scipy.fft.rfftn(scipy.fft.ifftshift(flat, axes=axes), axes=axes)
    spectrum = spectrum.reshape(*lead, response.n_observed, -1, response.n_perturbed)
    return np.ascontiguousarray(np.moveaxis(spectrum, -2, 0))


def modes_of_field(fields: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Turn fields (n, *shape, m), given as (n, -1), into (n, mode * m): the unnormalised transform over the sites."""
    if not shape:
        return fields
    n = fields.shape[0]
    axes = tuple(range(1, 1 + len(shape)))
    return scipy.fft.rfftn(fields.reshape(n, *shape, -1), axes=axes).reshape(n, -1)


def field_from_modes(modes: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Turn (mode, *lead) into (*lead, *shape), the inverse of the transforms above; without sites drop the one mode."""
    if not shape:
        return modes[0]
    half = (*shape[:-1], shape[-1] // 2 + 1)
    spectrum = np.moveaxis(modes, 0, -1)
    lead = spectrum.shape[:-1]
    axes = tuple(range(len(lead), len(lead) + len(shape)))
    return scipy.fft.irfftn(spectrum.reshape(*lead, *half), s=shape, axes=axes)


def parseval_weights(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the weights w_k with sum_x |f(x)|^2 = sum_k w_k |f_k|^2 over the half-plane (1 without sites)."""
    if not shape:
        return np.ones(1)
    n = shape[-1]
    last = np.full(n // 2 + 1, 2.0)
    last[0] = 1.0
    if n % 2 == 0:
        last[-1] = 1.0
    return np.broadcast_to(last, (*shape[:-1], last.size)).ravel() / math.prod(shape)
