"""Observables of second order in the state that are not local: the covariance of every pair, and the spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.errors import InputError
from gfdt.responses.bound import Bound, Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Spectrum", "two_point"]

_PAIRS = 64  # components up to which all products x'_i x'_j are observed


def two_point(record: Record) -> Bound:
    """x'_i x'_j; by separation, and averaged over sites, for a homogeneous field."""
    layout = record.layout
    if layout.dense:
        if layout.size > _PAIRS:
            raise InputError(
                f"the covariance of {layout.size} components has {layout.size**2} entries: declare the field "
                "homogeneous, or pass a function that returns the products you need."
            )
        labels = {dim: record.trajectory[dim].values for dim in layout.dims}
        second = {f"{dim}_2": values for dim, values in labels.items()}
        clash = sorted(set(labels) & set(second))
        if clash:
            raise InputError(f"the state dim {clash[0]!r} clashes with one of the covariance: rename it.")

        def products(centred: NDArray[np.float64]) -> NDArray[np.float64]:
            flat = centred.reshape(len(centred), -1)
            return (flat[:, :, None] * flat[:, None, :]).reshape(len(centred), *layout.shape, *layout.shape)

        def of_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
            half = -shift[None, :, None, None] * response[:, None, :, :]
            return (half + half.swapaxes(1, 2)).reshape(len(response), layout.size**2, -1)

        shape = (*layout.shape, *layout.shape)
        follows: dict[str, Any] = {"follows_mean": True, "shift_effect": of_shift}
        return Bound("covariance", (*labels, *second), labels | second, shape, False, record.mean, products, **follows)
    if layout.several:
        raise InputError(
            "the covariance of several homogeneous variables is not offered: pass a function of the states."
        )
    grid = layout.grid
    separation = {f"separation_{dim}": np.arange(size) - size // 2 for dim, size in zip(layout.dims, grid, strict=True)}
    axes = tuple(range(1, len(grid) + 1))

    def by_separation(centred: NDArray[np.float64]) -> NDArray[np.float64]:
        power = np.abs(scipy.fft.rfftn(centred, axes=axes)) ** 2
        return np.fft.fftshift(scipy.fft.irfftn(power, s=grid, axes=axes), axes=axes) / math.prod(grid)

    def of_one_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
        # All separations alike: the sites have one mean.
        effect = -2 * shift[0] * response.mean(axis=1, keepdims=True)
        return np.broadcast_to(effect, (len(response), math.prod(grid), response.shape[2]))

    follows_one: dict[str, Any] = {"follows_mean": True, "shift_effect": of_one_shift}
    return Bound("covariance", tuple(separation), separation, grid, False, record.mean, by_separation, **follows_one)


@dataclass(frozen=True)
class Spectrum:
    """Power per shell of integer wavenumbers |k| of a periodic field: P(K) = sum_(|k| in shell) |x'_k|^2 / n_sites^2.

    Its sum over shells is the variance of a site (averaged over sites).
    """

    def bind(self, record: Record) -> Bound:
        """Tie to a record."""
        layout: Any = record.layout
        if layout.dense:
            raise InputError("a spectrum needs a periodic field: pass homogeneous=('y', 'x'), the dims of the grid.")
        grid, several = layout.grid, layout.several
        axes_k = [np.fft.fftfreq(size, 1 / size) for size in grid[:-1]]
        axes_k.append(np.arange(grid[-1] // 2 + 1, dtype=np.float64))
        shell = np.rint(np.sqrt(sum(k**2 for k in np.meshgrid(*axes_k, indexing="ij")))).astype(np.int64).ravel()
        weights = layout.weights / math.prod(grid)
        n_shells = int(shell.max()) + 1
        gather = np.zeros((shell.size, n_shells))
        gather[np.arange(shell.size), shell] = weights

        def evaluate(centred: NDArray[np.float64]) -> NDArray[np.float64]:
            power = np.abs(layout.transform(centred)) ** 2
            return np.einsum("tk...,kp->t...p", power, gather)

        def of_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
            # Only the mean itself, shell 0, holds m.
            n = layout.n_variables
            out = np.zeros((len(response), n, n_shells, response.shape[2]))
            means = response.reshape(len(response), n, -1, response.shape[2]).mean(axis=2)
            out[:, :, 0] = -2 * shift.reshape(n, -1)[:, :1] * means
            return out.reshape(len(response), -1, response.shape[2])

        dims: tuple[str, ...] = ("wavenumber",)
        shape: tuple[int, ...] = (n_shells,)
        coords: dict[str, Any] = {"wavenumber": np.arange(n_shells)}
        if several:
            dims, shape = (layout.dims[0], *dims), (layout.shape[0], *shape)
            coords[layout.dims[0]] = record.trajectory[layout.dims[0]].values
        follows: dict[str, Any] = {"follows_mean": True, "shift_effect": of_shift}
        return Bound("spectrum", dims, coords, shape, False, record.mean, evaluate, **follows)
