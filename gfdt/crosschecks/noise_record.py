"""The noise increments that belong to a record: found, aligned, and their covariance per unit time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.crosschecks.inputs import Record
from gfdt.errors import InputError
from gfdt.reading import open_dataset
from gfdt.trajectory import Source, load_trajectory, state_dims
from gfdt.validation import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["aligned_increments", "inverse", "named_noise", "stated_covariance"]

_SINGULAR = 1e-10  # smallest eigenvalue of the noise's correlation matrix, relative to the largest


def named_noise(
    trajectory: Source, noise: Any, var: str | None
) -> tuple[Source, xr.DataArray | NDArray[Any], str | None]:
    """Find a noise variable named by a str, and leave the state as the only other one."""
    if not isinstance(noise, str):
        return trajectory, noise, var
    dataset = open_dataset(trajectory) if isinstance(trajectory, str | Path) else trajectory
    if not isinstance(dataset, xr.Dataset):
        raise InputError(
            f"noise={noise!r} names a variable, but the trajectory is a {type(dataset).__name__}: pass a Dataset "
            "or file that holds both, or the increments themselves."
        )
    if noise not in dataset:
        raise InputError(
            f"there is no variable {noise!r} (found {', '.join(map(str, dataset.data_vars))}): record the increments, "
            "or pass them as an array."
        )
    return dataset.drop_vars(noise), dataset[noise], var


def aligned_increments(noise: Any, record: Record, dims: Sequence[str] | None) -> NDArray[np.float64]:
    """Return Delta_n as (member, time, d), on the trajectory's dims; the last sample, not used, is zero."""
    array, names = record.trajectory, record.dims
    if isinstance(noise, np.ndarray):
        if dims is None:
            dims = ("member", "time", *names) if noise.ndim == array.ndim else ("time", *names)
        noise = xr.DataArray(noise, dims=dims) if len(tuple(dims)) == noise.ndim else noise
    if not isinstance(noise, xr.DataArray):
        raise InputError(
            f"noise is {shown(noise)}: pass the increments with the dims of the trajectory, {tuple(array.dims)}."
        )
    if "time" in noise.dims:
        noise = noise.isel(time=slice(0, array.sizes["time"] - 1))
    try:
        found = load_trajectory(noise, dt=None if "time" in noise.coords else record.step)
    except InputError as error:
        raise InputError(f"the noise increments cannot be used: {error}") from error
    expected = {**dict(zip(array.dims, array.shape, strict=True)), "time": array.sizes["time"] - 1}
    if set(state_dims(found)) != set(names) or dict(found.sizes) != expected:
        raise InputError(
            f"the noise has sizes {dict(found.sizes)} without its last sample, the trajectory {dict(array.sizes)}: "
            "pass one increment for every sample and component of the trajectory."
        )
    values = found.transpose("member", "time", *names).values
    out = np.zeros((*array.shape[:2], record.spread.size))
    out[:, :-1] = values.reshape(*values.shape[:2], -1)
    return out


def stated_covariance(stated: Any, measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Q as a matrix of the size of the measured one, from a number, a diagonal or a matrix."""
    size = measured.shape[0]
    try:
        q = np.asarray(stated, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"noise_covariance={shown(stated)} is not an array of numbers: pass Q or its diagonal."
        ) from error
    if q.ndim == 0:
        q = q * np.eye(size)
    elif q.shape == (size,):
        q = np.diag(q)
    if q.shape != (size, size) or not np.isfinite(q).all() or not np.allclose(q, q.T, rtol=1e-6, atol=0):
        raise InputError(
            f"noise_covariance has shape {np.shape(stated)}: expected a symmetric ({size}, {size}) matrix, {size} "
            "variances or one number, finite, per unit time."
        )
    return q


def inverse(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Q^-1, or refuse a Q without noise along some direction."""
    diagonal = np.diagonal(q)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(q / np.outer(scale, scale))
    if not values[0] > _SINGULAR * values[-1]:
        raise InputError(
            f"the noise covariance is singular (eigenvalues of its correlation matrix from {values[0]:.2g} to "
            f"{values[-1]:.2g}): a kick along a direction without noise cannot be seen in the increments; use "
            "gfdt.tangent_response, or a score."
        )
    return (vectors / values) @ vectors.T / np.outer(scale, scale)
