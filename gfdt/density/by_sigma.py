r"""The variational bound by noise level: sums over resampling units, tests of the residual, and their standard errors.

For φ_j, j = 1 to m, the averages over a bin of σ are M_j = ∫ E[(s - t).φ_j] dv and G_jk = ∫ E[φ_j.φ_k] dv. The largest
(∫ E[(s - t).φ] dv)²/∫ E|φ|² dv of all combinations φ of them is M' G⁻¹ M, and with Σ the covariance of the errors of M

    detected = 1/2 [M' G⁻¹ M - tr(G⁻¹ Σ)],    variance  M' G⁻¹Σ G⁻¹ M - 1/2 tr (G⁻¹Σ)²  (at least 1/2 tr (G⁻¹Σ)²).

The second term makes it unbiased: M' G⁻¹ M is positive even if no M_j differs from 0. (In the bin of the decoder Λ
weighs the products; see :mod:`gfdt.density.integrand`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import xarray as xr

from gfdt.density.family import inverse
from gfdt.density.schedules import LEAST
from gfdt.errors import InputError
from gfdt.responses.sums import UnitSums, standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.density.family import Family
    from gfdt.density.integrand import Draw

__all__ = ["Comparison", "LevelSums", "as_dataset", "bin_edges"]

_BINS = 12
_BANDS = 8  # of eigenvalues: more would only add noise to what is detected
_RANK = 1e-9  # tests that are combinations of others to this accuracy are left out
TESTS = ("amplitude", "linear", "both")


def bin_edges(low: float, high: float) -> NDArray[np.float64]:
    """Return the edges of the bins: equal in ln σ, the first down to 0 if ``low`` is."""
    edges = np.geomspace(max(low, LEAST * high), high, _BINS + 1)
    edges[0], edges[-1] = low, high
    return edges


@dataclass(frozen=True)
class Comparison:
    """What the residual of a family is compared with: linear functions of y, and exact scores.

    Attributes
    ----------
    family : Family
    bands : list of array
        The eigenvalues of C in each band.
    reference : Family or None
        In the coordinates of the family.
    """

    family: Family
    bands: list[NDArray[np.float64]]
    reference: Family | None = None

    @classmethod
    def of(cls, family: Family, reference: Family | None, top: float) -> Self:
        """Divide the eigenvalues in bands, and look whether the reference can be compared."""
        eigenvalues = np.unique(family.covariance.eigenvalues)
        eigenvalues = eigenvalues[eigenvalues > 0]
        bands = np.array_split(eigenvalues, min(_BANDS, len(eigenvalues)))
        if reference is None:
            return cls(family, bands)
        if reference.shape != family.shape:
            raise InputError(f"the reference has states {reference.shape}, the score {family.shape}: pass one like it.")
        # Rounding: a recast reference has its ends from a division.
        if not (reference.lowest <= family.level * (1 + 1e-9) and top <= reference.highest * (1 + 1e-9)):
            raise InputError(
                f"the reference is known at noise levels {reference.lowest:.4g} to {reference.highest:.4g}, needed are "
                f"{family.level:.4g} to {top:.4g}: pass an exact score."
            )
        return cls(family, bands, reference)

    def tests(self, draw: Draw) -> NDArray[np.float64]:
        """Return φ(y) of all linear tests in one: w⁻¹ y, of which every band takes its own directions, (2 batch, m)."""
        values = self.family.modes.values
        return np.asarray(draw.coefficients * inverse(values + draw.level**2))

    @cached_property
    def in_bands(self) -> NDArray[np.float64]:
        """Products summed within bands: the matrix (m, band) of the counts of each mode."""
        modes = self.family.modes
        return modes.counts[:, None] * np.stack([np.isin(modes.values, band) for band in self.bands], axis=1)

    def error(self, draw: Draw) -> NDArray[np.float64]:
        """Return s - s* at a draw, in the eigenbasis of C."""
        assert self.reference is not None
        modes = self.family.modes
        exact = modes.forward(self.reference.score(draw.y, draw.level))
        return draw.f - inverse(modes.values + draw.level**2) * draw.coefficients - exact

    def prior_gap(self, a: NDArray[np.float64], start: float, top: float) -> NDArray[np.float64]:
        """Return E[ln N*(y) - ln N(y)] at the top for every state, N* and N the priors: (n,)."""
        assert self.reference is not None
        return _cross_entropy(self.family, a, start, top) - _cross_entropy(self.reference, a, start, top)


@dataclass(frozen=True)
class LevelSums:
    """Sums over states, by bin of σ and resampling unit.

    Attributes
    ----------
    squares, cross, gap : (bin, unit)
        Of ∫ f'Λ f dv, ∫ f'Λ h dv and 1/2 ∫ |s - s*|² dv.
    moments : (bin, unit, 1 + band)
        M, of f and of the linear tests.
    gram : (bin, 1 + band, 1 + band)
        G, of all units.
    """

    comparison: Comparison
    squares: NDArray[np.float64]
    cross: NDArray[np.float64]
    gap: NDArray[np.float64]
    moments: NDArray[np.float64]
    gram: NDArray[np.float64]

    @classmethod
    def zeros(cls, n_bins: int, n_units: int, comparison: Comparison) -> Self:
        """Return sums of nothing."""
        count = 1 + len(comparison.bands)
        squares, cross, gap = np.zeros((3, n_bins, n_units))
        return cls(
            comparison, squares, cross, gap, np.zeros((n_bins, n_units, count)), np.zeros((n_bins, count, count))
        )

    def add(self, index: int, units: NDArray[np.int64], weight: float, draw: Draw) -> None:
        """Add a draw for states of these units, with its weight in ∫ dv, to a bin."""
        squares, cross = draw.squares(), draw.cross()
        np.add.at(self.squares[index], units, weight * squares)
        np.add.at(self.cross[index], units, weight * cross)
        np.add.at(self.moments[index, :, 0], units, weight * (squares + cross))
        self.gram[index, 0, 0] += weight * squares.sum()
        weighted = draw.weight * draw.f
        test, in_bands = self.comparison.tests(draw), self.comparison.in_bands
        linear = (((weighted + draw.rest) * test) @ in_bands).reshape(2, len(units), -1).mean(axis=0)
        np.add.at(self.moments[index, :, 1:], units, weight * linear)
        both = weight * ((weighted * test) @ in_bands).sum(axis=0) / 2
        self.gram[index, 0, 1:] += both
        self.gram[index, 1:, 0] += both
        # Bands have no direction in common, so that G is diagonal but for f.
        own = np.arange(1, len(both) + 1)
        self.gram[index, own, own] += weight * (draw.weight * (test * test).sum(axis=0)) @ in_bands / 2
        if self.comparison.reference is not None:
            error = self.comparison.error(draw)
            np.add.at(self.gap[index], units, 0.5 * weight * draw.per_state(error, draw.weight * error))


def as_dataset(
    sums: LevelSums,
    edges: NDArray[np.float64],
    gaussian: NDArray[np.float64],
    prior: NDArray[np.float64] | None,
    units: NDArray[np.int64],
) -> xr.Dataset:
    """Return means over states and their standard errors, the variables of :func:`gfdt.density.bound.bound`.

    Parameters
    ----------
    sums : LevelSums
    edges : (n_bins + 1,)
    gaussian, prior : (n,)
        Of every state: the Gaussian's bound, and what the priors differ by.
    units : (n,)
        Resampling units.
    """
    counts = np.bincount(units).astype(np.float64)
    out: dict[str, tuple[tuple[str, ...], NDArray[np.float64]]] = {}

    def put(name: str, per_unit: NDArray[np.float64], dims: tuple[str, ...] = ()) -> None:
        means = UnitSums(per_unit, counts.reshape(-1, *[1] * (per_unit.ndim - 1)))
        out[name] = dims, np.asarray(means.mean())
        out[f"{name}_stderr"] = dims, np.asarray(standard_error(means.influence()))

    def over_units(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(units, weights=values, minlength=len(counts)).astype(np.float64)

    excess = (0.5 * sums.squares + sums.cross).T
    put("gaussian", over_units(gaussian))
    put("elbo", over_units(gaussian) - excess.sum(axis=1))
    put("excess", excess, ("sigma",))
    put("total_excess", excess.sum(axis=1))
    for name, values in zip(("amplitude", "amplitude_stderr"), _amplitude(sums), strict=True):
        out[name] = ("sigma",), values
    detected = [_detected(sums, counts, test) for test in TESTS]
    for k, name in enumerate(("detected", "detected_stderr")):
        out[name] = ("test", "sigma"), np.stack([by_bin[k] for by_bin, _ in detected])
    out["total_detected"], out["total_detected_stderr"] = (((), np.asarray(value)) for value in detected[-1][1])
    if prior is not None:
        put("gap", sums.gap.T, ("sigma",))
        put("gap_prior", over_units(prior))
        put("total_gap", sums.gap.sum(axis=0) + over_units(prior))
    dataset = xr.Dataset(out, coords={"test": list(TESTS), **_sigma(edges)})
    return dataset.assign_attrs(n_states=len(units), n_units=len(counts), units="nats per state")


def _sigma(edges: NDArray[np.float64]) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """Coordinates of the bins: their middles in ln σ (half the upper edge where the lower is 0), and their edges."""
    low, high = edges[:-1], edges[1:]
    middle = np.where(low > 0, np.sqrt(low * high), high / 2)
    return {"sigma": ("sigma", middle), "sigma_low": ("sigma", low), "sigma_high": ("sigma", high)}


def _amplitude(sums: LevelSums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return c = -cross/squares for each bin, and its standard error; NaN where f is zero."""
    squares, cross = sums.squares.sum(axis=1), sums.cross.sum(axis=1)
    known = squares > 0
    safe = np.where(known, squares, 1.0)
    slope = np.where(known, -cross / safe, np.nan)
    influence = -(sums.cross + slope[:, None] * sums.squares) / safe[:, None]
    return slope, standard_error(influence.T)


def _detected(
    sums: LevelSums, counts: NDArray[np.float64], test: str
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], tuple[float, float]]:
    """Return what is detected in each bin and in all, with standard errors."""
    chosen = {"amplitude": slice(0, 1), "linear": slice(1, None), "both": slice(None)}[test]
    n_units, n_bins = len(counts), len(sums.gram)
    value, variance, noise = (np.zeros(n_bins) for _ in range(3))
    shift = np.zeros(n_units)
    for index in range(n_bins):
        moments = UnitSums(sums.moments[index][:, chosen], counts[:, None])
        mean, influence = moments.mean(), moments.influence()
        precision = _inverse(sums.gram[index][chosen, chosen] / counts.sum())
        errors = influence.T @ influence * n_units / (n_units - 1)
        first = precision @ mean
        value[index] = (mean @ first - np.trace(precision @ errors)) / 2
        noise[index] = np.trace(precision @ errors @ precision @ errors) / 2
        variance[index] = max(first @ errors @ first - noise[index], noise[index])
        shift += influence @ first
    total = max(float(standard_error(shift)) ** 2 - noise.sum(), noise.sum())
    return (value, np.sqrt(variance)), (float(value.sum()), float(np.sqrt(total)))


def _inverse(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pseudo-inverse of G, of tests brought to unit size."""
    size = np.sqrt(inverse(np.diagonal(gram)))
    return size[:, None] * np.linalg.pinv(size[:, None] * gram * size, rcond=_RANK, hermitian=True) * size


def _cross_entropy(family: Family, a: NDArray[np.float64], start: float, top: float) -> NDArray[np.float64]:
    """Return -E ln N(y; 0, C + v) at the top, y the states a of the level ``start`` with the noise there."""
    added = (top**2 - start**2) * family.covariance.trace(lambda c: 1 / (c + top**2))
    return added / 2 - family.gaussian_log_density(a, top)
