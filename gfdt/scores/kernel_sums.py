r"""Gaussian kernel density estimates in whitened coordinates: their score and its derivative.

With centres y_k of weight w_k, kernel width h and the displacements t_k = y_k - y, averaged with the weights
w_k exp(-|t_k|^2 / 2 h^2),

    s_h(y) = <t>/h^2,      H_h(y) = grad s_h = (<t t^T> - <t><t>^T)/h^4 - I/h^2

are those of rho * N(0, h^2 I), off by (h^2/2) grad(Lap rho/rho) + O(h^4). The combination of two widths used here
cancels the first term,

    s = 2 s_h - s_(sqrt(2) h),      H = 2 H_h - H_(sqrt(2) h)

(jackknifed kernels, Schucany & Sommers, JASA 72, 420 (1977)). Noise of standard deviation σ on the samples only widens
the kernels, to (h² + σ²)^½ and (2 h² + σ²)^½: the same combination is the score of the density blurred by it.

Two classes offer the same call. :class:`DirectSums` adds up every centre: cost n_centres per state.
:class:`GridSums` first shares every sample among the nodes of a lattice around it (linear binning) and convolves
once; a state then costs an interpolation between 2^d nodes. Binning with spacing D adds D^2/6 to the variance of the
kernel, which is taken off it again. Measured against the direct sums, what remains with the spacings used is
2e-4, 2e-3 and 7e-3 of the rms score in one, two and three dimensions, up to four times that for H; the samples' own
noise is ten times as large and more. Where no sample lies within about 6 h the lattice is not trusted, and its nodes
are summed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.ndimage
import scipy.sparse

from gfdt.errors import CheckpointError
from gfdt.scores.whitening import checked_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DirectSums", "GridSums", "bin_linearly", "unpack_sums", "widths"]

_FACTORS = (2.0, -1.0)
_RATIOS = (1.0, math.sqrt(2.0))  # of the widths to h
_RADIUS = 10.0  # kernels are cut at this many h, where they are e^-50
_PADDING = 6.0  # of the lattice beyond the samples, in h
_TRUSTED = math.exp(-(_PADDING**2) / 2)  # least sum of kernels at a node that the cut cannot have falsified
_NODES_PER_WIDTH = {1: 24, 2: 8, 3: 4}
_MOST_NODES = 2**22  # 32 MiB per field
_MATRIX = 1024  # longest side of a lattice that is convolved by a matrix, of 8 MiB
_BLOCK = 2**22  # kernels evaluated at once: 32 MiB


class DirectSums:
    """The sums over all centres, a block of states at a time.

    Parameters
    ----------
    centres : (k, d)
    weights : (k,), positive
    widths : the two kernel widths, h first
    """

    def __init__(self, centres: NDArray[np.float64], weights: NDArray[np.float64], widths: tuple[float, float]) -> None:
        self.centres, self.weights, self.widths = centres, weights, widths

    def blurred(self, blur: float) -> DirectSums:
        """Return the sums for samples with noise of standard deviation ``blur``."""
        narrow, wide = (math.hypot(width, blur) for width in self.widths)
        return DirectSums(self.centres, self.weights, (narrow, wide))

    def score(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s, (n, d), of states y (n, d)."""
        out = np.zeros_like(y)
        for part, factor, width, share in self._shares(y):
            out[part] += factor * (share @ self.centres - y[part]) / width**2
        return out

    def product(self, y: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return H v, (n, d), at states y along v, both (n, d)."""
        out = np.zeros_like(y)
        for part, factor, width, share in self._shares(y):
            along = v[part] @ self.centres.T
            along -= (share * along).sum(axis=1, keepdims=True)
            out[part] += factor * ((share * along) @ self.centres / width**4 - v[part] / width**2)
        return out

    def loss(self, y: NDArray[np.float64]) -> float:
        """Return the score-matching loss <|s|^2/2 + div s> over states y."""
        score, divergence, squares = np.zeros_like(y), 0.0, (self.centres**2).sum(axis=1)
        for part, factor, width, share in self._shares(y):
            mean = share @ self.centres
            score[part] += factor * (mean - y[part]) / width**2
            spread = share @ squares - (mean**2).sum(axis=1)
            divergence += factor * float((spread / width**4 - y.shape[1] / width**2).sum())
        return (float((score**2).sum()) / 2 + divergence) / len(y)

    def pack(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays a score file keeps."""
        return {"centres": self.centres, "weights": self.weights}

    def _shares(self, y: NDArray[np.float64]) -> Iterator[tuple[slice, float, float, NDArray[np.float64]]]:
        """Yield a slice of the states, a factor, its width, and the share of every centre (block, k); rows add to 1."""
        size = max(1, _BLOCK // len(self.centres))
        squares = (self.centres**2).sum(axis=1) / 2
        for start in range(0, len(y), size):
            part = slice(start, start + size)
            # |y|^2 is the same for every centre and drops out.
            exponent = y[part] @ self.centres.T - squares
            for factor, width in zip(_FACTORS, self.widths, strict=True):
                share = exponent / width**2 + np.log(self.weights)
                share -= share.max(axis=1, keepdims=True)
                np.exp(share, out=share)
                share /= share.sum(axis=1, keepdims=True)
                yield part, factor, width, share


class GridSums:
    """The sums on a lattice, up to three dimensions.

    Parameters
    ----------
    counts : (n_1, ..., n_d)
        Weight of every node.
    origin : (d,)
        Its first node.
    spacing : float
        D.
    width : float
        h.
    blur : float
        σ, of noise that is added to the samples.
    """

    def __init__(
        self,
        counts: NDArray[np.float64],
        origin: NDArray[np.float64],
        spacing: float,
        width: float,
        blur: float = 0.0,
    ) -> None:
        self.counts, self.origin, self.spacing, self.width = counts, origin, spacing, width
        narrow, wide = (math.sqrt(size**2 - spacing**2 / 6) for size in widths(width, blur))
        self._widths = narrow, wide

    @classmethod
    def bin(cls, y: NDArray[np.float64], width: float, *, coarseness: float = 1.0) -> GridSums | None:
        """Return the sums of samples y (n, d), or None where the lattice would have too many dims or nodes."""
        d = y.shape[1]
        if d not in _NODES_PER_WIDTH:
            return None
        spacing = coarseness * width / _NODES_PER_WIDTH[d]
        low, high = y.min(axis=0) - _PADDING * width, y.max(axis=0) + _PADDING * width
        sizes = np.ceil((high - low) / spacing) + 2
        if not np.prod(sizes) <= _MOST_NODES:
            return None
        shape = tuple(int(size) for size in sizes)
        return cls(bin_linearly(y, low, spacing, shape), low, spacing, width)

    def blurred(self, blur: float) -> GridSums:
        """Return the sums for samples with noise of standard deviation ``blur``, on a lattice as coarse as that allows.

        Its spacing is k times that here, and its nodes are among those here continued: binning anew adds
        (k² - 1)/6 of the square of this spacing to the variance of the kernels, so that D²/6 stays what is to be
        taken off.
        """
        wide = math.hypot(self.width, blur)
        k = max(1, int(wide / self.width))
        spacing = k * self.spacing
        margin = math.ceil(_PADDING * wide / spacing)
        counts = self.counts
        for axis, size in enumerate(self.counts.shape):
            place = margin + np.arange(size) / k
            node = np.floor(place).astype(np.int64)
            rows = np.concatenate([node, node + 1])
            shares = np.concatenate([1 - (place - node), place - node])
            sharing = scipy.sparse.csr_array(
                (shares, (rows, np.tile(np.arange(size), 2))), shape=(int(node[-1]) + margin + 2, size)
            )
            first = np.moveaxis(counts, axis, 0)
            shared = sharing @ first.reshape(size, -1)
            counts = np.moveaxis(shared.reshape(-1, *first.shape[1:]), 0, axis)
        return GridSums(np.ascontiguousarray(counts), self.origin - margin * spacing, spacing, self.width, blur)

    def score(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return s, (n, d), of states y (n, d)."""
        return self._at(y, self._score, lambda far: self._nodes.score(y[far]))

    def product(self, y: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return H v, (n, d), at states y along v, both (n, d)."""
        d = y.shape[1]
        flat = self._hessian.reshape(d * d, *self.counts.shape)
        hessian = self._at(y, flat, lambda far: np.zeros((int(far.sum()), d * d))).reshape(-1, d, d)
        out = np.einsum("nij,nj->ni", hessian, v)
        far = ~self._trusts(y)
        if far.any():
            out[far] = self._nodes.product(y[far], v[far])
        return out

    def loss(self, other: NDArray[np.float64]) -> float:
        """Return the score-matching loss <|s|^2/2 + div s> over samples binned on the same lattice."""
        used = other > 0
        value = (self._score**2).sum(axis=0) / 2
        for i in range(value.ndim):
            value += self._curvature(i, i)
        # A sample out of reach is at least 6 h from the next, whose kernels alone it feels.
        stiffness = sum(factor / width**2 for factor, width in zip(_FACTORS, self._widths, strict=True))
        value[~self._trusted] = (stiffness * _PADDING * self.width) ** 2 / 2 - self.counts.ndim * stiffness
        return float((other[used] * value[used]).sum() / other[used].sum())

    def pack(self) -> dict[str, NDArray[np.float64]]:
        """Return the arrays a score file keeps."""
        return {"counts": self.counts, "origin": self.origin, "spacing": np.array([self.spacing])}

    # ---- fields on the lattice

    @cached_property
    def _densities(self) -> list[NDArray[np.float64]]:
        """Sums of kernels for both widths; infinite where they are not to be divided by."""
        sums = [self._moment(width, {}) for width in self._widths]
        trusted = sums[0] > _TRUSTED
        return [np.where(trusted, total, np.inf) for total in sums]

    @property
    def _trusted(self) -> NDArray[np.bool_]:
        return np.isfinite(self._densities[0])

    @cached_property
    def _scores(self) -> list[NDArray[np.float64]]:
        return [
            np.stack([self._moment(width, {i: 1}) / density for i in range(self.counts.ndim)]) / width**2
            for width, density in zip(self._widths, self._densities, strict=True)
        ]

    @cached_property
    def _score(self) -> NDArray[np.float64]:
        narrow, wide = self._scores
        return _FACTORS[0] * narrow + _FACTORS[1] * wide

    @cached_property
    def _hessian(self) -> NDArray[np.float64]:
        d = self.counts.ndim
        out = np.empty((d, d, *self.counts.shape))
        for i, j in itertools.combinations_with_replacement(range(d), 2):
            out[i, j] = out[j, i] = self._curvature(i, j)
        return out

    def _curvature(self, i: int, j: int) -> NDArray[np.float64]:
        """H_ij at the nodes."""
        out = np.zeros(self.counts.shape)
        for factor, width, density, score in zip(_FACTORS, self._widths, self._densities, self._scores, strict=True):
            second = self._moment(width, {i: 2} if i == j else {i: 1, j: 1}) / density
            out += factor * (second / width**4 - score[i] * score[j] - (i == j) / width**2)
        return out

    def _moment(self, width: float, powers: dict[int, int]) -> NDArray[np.float64]:
        """Sum over the nodes of weight times kernel times the given powers of the displacements' components."""
        reach = math.ceil(_RADIUS * width / self.spacing)
        t = self.spacing * np.arange(-reach, reach + 1)
        kernel = np.exp(-(t**2) / (2 * width**2))
        out = self.counts
        for axis in range(out.ndim):
            weights = kernel * t ** powers.get(axis, 0)
            out = _correlated(out, weights, axis)
        return out

    @cached_property
    def _nodes(self) -> DirectSums:
        used = np.nonzero(self.counts)
        centres = self.origin + self.spacing * np.stack(used, axis=1)
        return DirectSums(centres, self.counts[used], self._widths)

    # ---- between the nodes

    @cached_property
    def _good_cells(self) -> NDArray[np.bool_]:
        good = self._trusted
        for axis in range(good.ndim):
            good = np.logical_and(*(np.take(good, range(i, good.shape[axis] - 1 + i), axis) for i in (0, 1)))
        return good

    def _cells(self, y: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        place = (y - self.origin) / self.spacing
        cell = np.clip(np.floor(place), 0, np.array(self.counts.shape) - 2)
        return cell.astype(np.int64), place - cell

    def _trusts(self, y: NDArray[np.float64]) -> NDArray[np.bool_]:
        cell, fraction = self._cells(y)
        return ((fraction >= 0) & (fraction <= 1)).all(axis=1) & self._good_cells[tuple(cell.T)]

    def _at(
        self,
        y: NDArray[np.float64],
        fields: NDArray[np.float64],
        beyond: Callable[[NDArray[np.bool_]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Interpolate fields (m, *lattice) linearly at y: (n, m); ``beyond(far)`` gives what the lattice cannot."""
        cell, fraction = self._cells(y)
        flat = fields.reshape(len(fields), -1)
        out = np.zeros((len(y), len(fields)))
        for corner in itertools.product((0, 1), repeat=y.shape[1]):
            weight = np.prod(np.where(corner, fraction, 1 - fraction), axis=1)
            index = np.ravel_multi_index(tuple((cell + corner).T), self.counts.shape)
            for m in range(len(fields)):
                out[:, m] += weight * flat[m, index]
        far = ~self._trusts(y)
        if far.any():
            out[far] = beyond(far)
        return out


def widths(h: float, blur: float = 0.0) -> tuple[float, float]:
    """Return the two kernel widths of an estimate with bandwidth h, for samples with noise of this much."""
    return math.hypot(h * _RATIOS[0], blur), math.hypot(h * _RATIOS[1], blur)


def bin_linearly(
    y: NDArray[np.float64], origin: NDArray[np.float64], spacing: float, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the weights of the nodes when every sample is shared among the 2^d around it; its mean is kept."""
    place = (y - origin) / spacing
    cell = np.floor(place).astype(np.int64)
    fraction = place - cell
    counts = np.zeros(math.prod(shape))
    for corner in itertools.product((0, 1), repeat=y.shape[1]):
        weight = np.prod(np.where(corner, fraction, 1 - fraction), axis=1)
        counts += np.bincount(np.ravel_multi_index(tuple((cell + corner).T), shape), weight, counts.size)
    return counts.reshape(shape)


def _correlated(field: NDArray[np.float64], weights: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return sum_j weights_j field_(i + j - reach) along an axis, the field zero outside, weights (2 reach + 1,)."""
    size, reach = field.shape[axis], len(weights) // 2
    if field.ndim == 1 or size > _MATRIX:
        return np.asarray(scipy.ndimage.correlate1d(field, weights, axis=axis, mode="constant"))
    # As a product with a matrix: more operations, but a fifth of the time.
    reached = min(reach + 1, size)
    row, column = np.zeros(size), np.zeros(size)
    row[:reached], column[:reached] = weights[reach : reach + reached], weights[reach::-1][:reached]
    return np.moveaxis(np.tensordot(scipy.linalg.toeplitz(column, row), field, axes=(1, axis)), 0, axis)


def unpack_sums(arrays: dict[str, NDArray[Any]], size: int, width: float) -> GridSums | DirectSums:
    """Rebuild either from saved arrays, refusing any that do not describe sums over a state of ``size`` components."""
    if "centres" in arrays:
        centres = checked_array(arrays, "centres", (None, size))
        weights = checked_array(arrays, "weights", (len(centres),))
        if not weights.min() > 0:
            raise CheckpointError("the score file holds kernels without weight: it was altered; fit the score anew.")
        return DirectSums(centres, weights, widths(width))
    counts = checked_array(arrays, "counts", (None,) * size)
    origin, spacing = checked_array(arrays, "origin", (size,)), float(checked_array(arrays, "spacing", (1,))[0])
    sound = size in _NODES_PER_WIDTH and min(counts.shape) > 1 and counts.size <= _MOST_NODES
    if not (sound and counts.min() >= 0 < counts.max() and 1e-3 * width <= spacing <= width):
        raise CheckpointError("the score file holds no usable lattice of kernels: it was altered; fit the score anew.")
    return GridSums(counts, origin, spacing, width)
