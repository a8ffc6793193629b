"""Mean, standard deviations and covariance of a record that is divided among processes (:mod:`gfdt.shares`).

All are sums over the states, and so the sum over the processes of those over their shares, in float64:

    m = sum_r sum_(x on r) x / n,        C = sum_r sum_(x on r) (x - m) (x - m)^T / n,

equal on all processes, and to :func:`gfdt.record.moments` and :func:`gfdt.covariance.estimate_covariance` of the whole
record up to the order of summation. Only where shrinkage is to be found from the spread over consecutive blocks of the
record there is one sum for each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.covariance import Covariance, CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.covariance.dense import RELATIVE_FLOOR, _explain_singular
from gfdt.covariance.shrinkage import AUTOMATIC, BlockMean, blocks
from gfdt.covariance.spectral import half_plane_weights, warn_unequal_sites
from gfdt.record import BLOCK_VALUES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.diffusion.distributed import Processes
    from gfdt.shares import Share

__all__ = ["shared_covariance", "shared_moments"]

_Square = Callable[["NDArray[Any]"], "NDArray[Any]"]  # states (n, *state) to the sum of their products


def shared_moments(share: Share, processes: Processes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each component over the states of all processes."""
    mean = np.asarray(processes.total(_sum(share, lambda x: x.sum(axis=0, dtype=np.float64))) / share.n_states)
    squares = processes.total(_sum(share, lambda x: np.square(x - mean).sum(axis=0)))
    return mean, np.asarray(np.sqrt(squares / share.n_states))


def shared_covariance(
    share: Share,
    centre: NDArray[np.float64],
    deviation: NDArray[np.float64],
    processes: Processes,
    n_homogeneous: int,
    shrinkage: float | str = 0.0,
    scale: NDArray[np.float64] | float = 1.0,
) -> Covariance:
    """Return mean and covariance of the states of all processes, in units of ``scale``.

    Parameters
    ----------
    share : Share
        With the states of this process.
    centre, deviation : (*state)
        From :func:`shared_moments`.
    processes : Processes
        Those that have a share.
    n_homogeneous, shrinkage, scale
        As in :func:`gfdt.covariance.estimate_covariance`; raises and warns as it does.
    """
    shape = share.shape
    if n_homogeneous == 0:
        return _dense(share, centre, processes, shrinkage, np.broadcast_to(scale, shape))
    lead = len(shape) - n_homogeneous
    _warn_unequal_sites(centre, deviation, lead)
    if lead == 0:
        return _spectral(share, float(centre.mean()), processes, shrinkage).rescaled(np.asarray(scale))
    return _cross(share, centre, processes, shrinkage, scale)


def _dense(
    share: Share,
    mean: NDArray[np.float64],
    processes: Processes,
    shrinkage: float | str,
    scale: NDArray[np.float64],
) -> DenseCovariance:
    def square(x: NDArray[Any]) -> NDArray[Any]:
        centred = ((x.astype(np.float64) - mean) / scale).reshape(len(x), mean.size)
        return centred.T @ centred

    sums = _block_mean(share, square, processes, shrinkage)
    covariance, a = sums.shrunk(np.diag(np.diagonal(sums.mean())), shrinkage)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    absent = eigenvalues <= RELATIVE_FLOOR * eigenvalues[-1]
    if absent.any():
        _explain_singular(share.n_states, mean.size, int(absent.sum()), eigenvalues)
    return DenseCovariance((mean / scale).ravel(), np.where(absent, 0.0, eigenvalues), eigenvectors, a)


def _spectral(share: Share, mean: float, processes: Processes, shrinkage: float | str) -> SpectralCovariance:
    shape, axes = share.shape, tuple(range(1, len(share.shape) + 1))

    def square(x: NDArray[Any]) -> NDArray[Any]:
        spectrum = scipy.fft.rfftn(x.astype(np.float64) - mean, axes=axes)
        power: NDArray[Any] = (spectrum.real**2 + spectrum.imag**2).sum(axis=0) / np.prod(shape)
        return power

    sums, weights = _block_mean(share, square, processes, shrinkage), half_plane_weights(shape)
    variance = float((sums.mean() * weights).sum())
    power, a = sums.shrunk(np.full_like(sums.mean(), variance), shrinkage, weights)
    return SpectralCovariance(mean, np.where(power <= RELATIVE_FLOOR * power.max(), 0.0, power), shape, a)


def _cross(
    share: Share,
    centre: NDArray[np.float64],
    processes: Processes,
    shrinkage: float | str,
    scale: NDArray[np.float64] | float,
) -> CrossSpectralCovariance:
    shape, axes = share.shape[1:], tuple(range(2, len(share.shape) + 1))
    mean = centre.reshape(len(centre), -1).mean(axis=1)
    means = mean.reshape(-1, *[1] * len(shape))

    def square(x: NDArray[Any]) -> NDArray[Any]:
        spectrum = scipy.fft.rfftn((x.astype(np.float64) - means) / scale, axes=axes)
        product: NDArray[Any] = np.einsum("na...,nb...->ab...", spectrum, spectrum.conj()) / np.prod(shape)
        return product

    sums, weights = _block_mean(share, square, processes, shrinkage), half_plane_weights(shape)
    matrix = sums.mean()
    target = np.zeros_like(matrix)
    for variable in range(len(mean)):
        target[variable, variable] = (matrix[variable, variable].real * weights).sum()
    matrix, a = sums.shrunk(target, shrinkage, weights)
    mean = mean / np.broadcast_to(np.ravel(scale), mean.shape)
    return CrossSpectralCovariance._from_matrix(mean, matrix, shape, a)


def _warn_unequal_sites(centre: NDArray[np.float64], deviation: NDArray[np.float64], lead: int) -> None:
    """Warn as for the whole record: of two states, m - sd and m + sd, which have its moments."""
    pair = np.stack([centre - deviation, centre + deviation])
    for index in np.ndindex(centre.shape[:lead]):
        warn_unequal_sites(pair[:, *index])


def _block_mean(share: Share, square: _Square, processes: Processes, shrinkage: float | str) -> BlockMean:
    edges = [(0, share.n_states)]
    if shrinkage == AUTOMATIC:
        found = (list(batches) for batches in blocks((share.n_states, *share.shape)))
        edges = [(slices[0].start, slices[-1].stop) for slices in found]
    sums = BlockMean()
    for low, high in edges:
        sums.add(processes.total(_sum(share, square, low, high)), high - low)
    return sums


def _sum(share: Share, square: _Square, low: int = 0, high: int | None = None) -> NDArray[Any]:
    """Return the sum of ``square`` over this process's states with numbers from ``low`` to ``high``."""
    size = max(1, BLOCK_VALUES // max(1, int(np.prod(share.shape))))
    total = square(share.training[:0])
    for batch in share.batches(low, share.n_states if high is None else high, size):
        total = total + square(batch)
    return total
