r"""The third-order identity of single modes.

The sites of a field may look Gaussian to a score that is wrong about a single large-scale mode, so the third moment is
also taken of each principal component (of the components in units of their sd) or wavenumber z_a, real or complex:

    K_a = <|z_a|^2 z_a B_a*>/(n_a <|z_a|^2>) = <z_a B_a*>,        n_a = 3 (real), 2 (complex),

both sides being 1 for an exact score: as a difference it is not troubled by what the Stein identity sees anyway, nor by
components that were made from few states. Of several variables at each site the principal components are those of
their correlation matrix at each wavenumber.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.diagnostics.sample import blocks_of, present_ranks, spread_of
from gfdt.responses.departure import Departure, departure_of
from gfdt.responses.layout import FullMatrix, Homogeneous
from gfdt.responses.prepare import Prepared
from gfdt.responses.sums import UnitSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Coordinates = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]

__all__ = ["mode_departure"]


def mode_departure(ready: Prepared) -> tuple[Departure, NDArray[np.int64]]:
    """Return K_a - <z_a B_a*> + 1 against 1, for every mode with variance, and where these modes are.

    Where: (mode, 1) number of the principal component, 1 for the one with the largest variance; for a homogeneous field
    (mode, 1) index of the wavenumber in the half plane, and with several variables (mode, 2) also the variable that has
    most of it.
    """
    coordinates, degree, where = _modes(ready)
    sums = np.zeros((3, len(ready.units), degree.size))
    fourth, second, product = sums
    if np.iscomplexobj(ready.covariance):
        fourth, product = fourth.astype(np.complex128), product.astype(np.complex128)
    for index, unit in enumerate(ready.units):
        for centred, b in blocks_of(ready, unit):
            state, source = coordinates(ready.layout.transform(centred), ready.layout.transform(b))
            power, cross = state.real**2 + state.imag**2, state * source.conj()
            fourth[index] += (power * cross).sum(axis=0) / degree
            second[index] += power.sum(axis=0)
            product[index] += cross.sum(axis=0)
    total = ready.conjugate_units.counts
    typical = second.sum(axis=0) / total.sum()
    ratio = fourth.sum(axis=0) / total.sum() / typical
    # The last two terms add to zero; they carry the error of <|z|^2> into that of the ratio.
    units = UnitSums(fourth / typical - product - ratio * (second / typical - total), total)
    ones = np.ones(typical.size)
    return departure_of(units.mean() + ones, units.influence(), ones), where


def _modes(ready: Prepared) -> tuple[Coordinates, NDArray[np.float64], NDArray[np.int64]]:
    """Return how series of x and B become z and its B (inverse matrices: a change of coordinates), n_a, and where."""
    layout, algebra = ready.layout, ready.algebra
    if isinstance(layout, FullMatrix):
        sd = spread_of(ready).ravel()
        vectors = np.linalg.eigh(ready.covariance / np.outer(sd, sd))[1][:, sd.size - algebra.n_present :]
        basis, dual = vectors / sd[:, None], vectors * sd[:, None]
        numbers = np.arange(algebra.n_present, 0, -1)[:, None]
        return lambda x, b: (x @ basis, b @ dual), np.full(algebra.n_present, 3.0), numbers
    degree = np.where(_self_conjugate(layout), 3.0, 2.0)
    if not layout.several:
        present = np.flatnonzero(algebra.identity > 0)
        return lambda x, b: (x[:, present], b[:, present]), degree[present], present[:, None]
    sd = spread_of(ready).reshape(layout.n_variables, -1)[:, 0]
    vectors = np.linalg.eigh(ready.covariance / np.outer(sd, sd))[1]  # (n_modes, v, principal component)
    mode, component = np.nonzero(present_ranks(algebra.identity))
    left, inverse = vectors.conj() / sd[:, None], vectors.conj() * sd[:, None]

    def turned(x: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        state, source = (np.einsum("tkv,kvj->tkj", *pair) for pair in ((x, left), (b, inverse)))
        return state[:, mode, component], source[:, mode, component]

    most = np.abs(vectors[mode, :, component]).argmax(axis=1)
    return turned, degree[mode], np.stack([mode, most], axis=1)


def _self_conjugate(layout: Homogeneous) -> NDArray[np.bool_]:
    """Which wavenumbers of the half plane have real amplitudes: those with k = -k on the grid."""
    real = [(2 * np.arange(kept)) % size == 0 for kept, size in zip(layout.half, layout.grid, strict=True)]
    return np.logical_and.reduce(np.meshgrid(*real, indexing="ij")).ravel()
