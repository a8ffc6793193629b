"""Bisecting k-means: a tree of cuts that leaves less than a given share of the points in every cluster.

Every cluster that is too large is divided by 2-means (a plane halfway between two centroids), all those of one
generation at once, so that the cost is n log2(1/prob) distances. A new point goes down the tree, one cut a generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BisectingTree"]

_ROUNDS = 20  # of 2-means: at most; most cuts stand still after five


@dataclass(frozen=True)
class BisectingTree:
    """The cuts: a point x at node k goes to ``children[k, int(normals[k] @ x > offsets[k])]``.

    Attributes
    ----------
    normals : (n_cuts, d)
    offsets : (n_cuts,)
    children : (n_cuts, 2), a node, or -1 - cluster
    n_clusters : int
    """

    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]
    children: NDArray[np.int64]
    n_clusters: int

    @classmethod
    def grow(cls, points: NDArray[np.float64], prob: float) -> BisectingTree:
        """Divide points (n, d) until every cluster holds fewer than ``prob`` n of them, or equal points only."""
        limit = max(prob * len(points), 2)
        normals: list[NDArray[np.float64]] = []
        offsets: list[float] = []
        children: list[list[int]] = []
        owner, index = np.zeros(len(points), dtype=np.int64), np.arange(len(points))
        parents = np.array([[-1, 0]])  # of the open clusters: the cut and the side they lie on
        n_nodes = n_clusters = 0
        while len(parents):
            normal, offset, side = _two_means(points[index], owner, len(parents))
            counts = np.bincount(2 * owner + side, minlength=2 * len(parents)).reshape(-1, 2)
            divided = (counts.sum(axis=1) >= limit) & (counts.min(axis=1) > 0)
            # What an open cluster turns into: a cut, or a closed cluster.
            name = np.where(divided, n_nodes + np.cumsum(divided) - 1, -(n_clusters + np.cumsum(~divided)))
            for (parent, where), child in zip(parents, name, strict=True):
                if parent >= 0:
                    children[parent][where] = child
            n_nodes, n_clusters = n_nodes + int(divided.sum()), n_clusters + int((~divided).sum())
            normals += list(normal[divided])
            offsets += list(offset[divided])
            children += [[0, 0] for _ in range(int(divided.sum()))]
            parents = np.stack([np.repeat(name[divided], 2), np.tile([0, 1], int(divided.sum()))], axis=1)
            stays = divided[owner]
            rank = np.cumsum(divided) - 1
            owner, index = 2 * rank[owner[stays]] + side[stays], index[stays]
        d = points.shape[1]
        cuts = (np.reshape(normals, (-1, d)), np.asarray(offsets), np.reshape(children, (-1, 2)).astype(np.int64))
        return cls(*cuts, n_clusters)

    def assign(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the cluster of every point, (n,)."""
        out = np.zeros(len(points), dtype=np.int64)
        node, index = np.zeros(len(points), dtype=np.int64), np.arange(len(points))
        while len(self.normals) and len(index):
            beyond = np.einsum("ni,ni->n", points, self.normals[node]) > self.offsets[node]
            node = self.children[node, beyond.astype(np.int64)]
            ended = node < 0
            out[index[ended]] = -1 - node[ended]
            node, index, points = node[~ended], index[~ended], points[~ended]
        return out


def _two_means(
    points: NDArray[np.float64], owner: NDArray[np.int64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return normals, offsets and sides of the cuts of n clusters; the start is across the widest coordinate."""
    counts = np.maximum(np.bincount(owner, minlength=n), 1)[:, None]
    mean = _sums(points, owner, n) / counts
    variance = _sums((points - mean[owner]) ** 2, owner, n) / counts
    normal = np.eye(points.shape[1])[variance.argmax(axis=1)]
    offset = (normal * mean).sum(axis=1)
    side = (np.einsum("ni,ni->n", points, normal[owner]) > offset[owner]).astype(np.int64)
    for _ in range(_ROUNDS):
        label = 2 * owner + side
        size = np.bincount(label, minlength=2 * n)
        centroids = (_sums(points, label, 2 * n) / np.maximum(size, 1)[:, None]).reshape(n, 2, -1)
        both = size.reshape(n, 2).min(axis=1) > 0
        normal = np.where(both[:, None], centroids[:, 1] - centroids[:, 0], normal)
        offset = np.where(both, (normal * centroids.mean(axis=1)).sum(axis=1), offset)
        before, side = side, (np.einsum("ni,ni->n", points, normal[owner]) > offset[owner]).astype(np.int64)
        if np.array_equal(before, side):
            break
    return normal, offset, side


def _sums(values: NDArray[np.float64], label: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(label, column, n) for column in values.T], axis=1)
