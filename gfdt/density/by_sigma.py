r"""The variational bound by noise level: sums over resampling units, tests of the residual, and their standard errors.

For φ_j, j = 1 to m, the averages over a bin of σ are M_j = ∫ E[(s - t).φ_j] dv and G_jk = ∫ E[φ_j.φ_k] dv. The largest
(∫ E[(s - t).φ] dv)²/∫ E|φ|² dv of all combinations φ of them is M' G⁻¹ M, and with Σ the covariance of the errors of M

    detected = 1/2 [M' G⁻¹ M - tr(G⁻¹ Σ)],    variance  M' G⁻¹Σ G⁻¹ M - 1/2 tr (G⁻¹Σ)²  (at least 1/2 tr (G⁻¹Σ)²).

The second term makes it unbiased: M' G⁻¹ M is positive even if no M_j differs from 0. (In the bin of the decoder Λ
weighs the products; see :mod:`gfdt.density.integrand`.) Bins share their states, so that the variance of a total has
the terms of all pairs of bins b, b', with Σ_bb' the covariance of the errors of M_b and M_b':

    Σ_bb' [M_b' G_b⁻¹ Σ_bb' G_b'⁻¹ M_b' - 1/2 tr(G_b⁻¹ Σ_bb' G_b'⁻¹ Σ_b'b)].

Besides f the tests are, each in bands of eigenvalues of C,

- linear, φ = w⁻¹ y with w = C + v: a covariance that is wrong;
- quadratic and cubic, φ = A' (m² - <m²>) and A' (m³ - 3 <m²> m) with m = A y, <m²> its variance under the Gaussian. For
  components A = C^½ w⁻¹ in the eigenbasis of C; for fields A = C w⁻¹, the Wiener filter, and powers are those of every
  site. They are what f is, to first order in g, for a density exp(-g Σ ξ³) or exp(-g Σ ξ⁴) times the Gaussian,
  ξ = C^-½ a or the field itself: the mean of such a power of ξ given y is a Hermite polynomial of m.

An f that is zero where it should not be has no amplitude and may leave the covariance right: only the last two see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Self

import numpy as np
import xarray as xr

from gfdt.covariance import DenseCovariance
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
_KINDS = ("linear", "quadratic", "cubic")  # of tests besides f, in this order
TESTS = ("amplitude", *_KINDS, "all")


def bin_edges(low: float, high: float) -> NDArray[np.float64]:
    """Return the edges of the bins: equal in ln σ, the first down to 0 if ``low`` is."""
    edges = np.geomspace(max(low, LEAST * high), high, _BINS + 1)
    edges[0], edges[-1] = low, high
    return edges


@dataclass(frozen=True)
class Comparison:
    """What the residual of a family is compared with: polynomials in y, and exact scores.

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
        """Return the linear, quadratic and cubic φ(y), (3, 2 batch, m), of which every band takes its directions."""
        family, modes, v = self.family, self.family.modes, draw.level**2
        precision = inverse(modes.values + v)
        if isinstance(family.covariance, DenseCovariance):
            a = np.sqrt(modes.values) * precision
            higher = _hermite(a * draw.coefficients, modes.values * precision)
        else:
            a = modes.values * precision
            # Sites are alike; the mean over the variables is enough, as the linear tests take up what is left.
            variance = family.covariance.trace(lambda c: c**2 * inverse(c + v)) / family.size
            higher = [modes.forward(each) for each in _hermite(modes.back(a * draw.coefficients), variance)]
        return np.stack([precision * draw.coefficients, *(a * each for each in higher)])

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
    moments : (bin, unit, 1 + 3 band)
        M, of f and of the tests of each kind.
    gram : (bin, 1 + 3 band, 1 + 3 band)
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
        count = 1 + len(_KINDS) * len(comparison.bands)
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
        tests, in_bands = self.comparison.tests(draw), self.comparison.in_bands
        # (kind, state, band), then one column for each test.
        products = (((weighted + draw.rest) * tests) @ in_bands).reshape(len(_KINDS), 2, len(units), -1).mean(axis=1)
        np.add.at(self.moments[index, :, 1:], units, weight * np.hstack([*products]))
        both = weight * ((weighted * tests).sum(axis=1) @ in_bands).ravel() / 2
        self.gram[index, 0, 1:] += both
        self.gram[index, 1:, 0] += both
        # Bands have no direction in common: a test of one has products with the other kinds there, and with itself.
        column = 1 + np.arange(len(both)).reshape(len(_KINDS), -1)
        for first, second in product(range(len(_KINDS)), repeat=2):
            own = weight * (draw.weight * (tests[first] * tests[second]).sum(axis=0)) @ in_bands / 2
            self.gram[index, column[first], column[second]] += own
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
    by_bin = _amplitude(sums.squares, sums.cross)
    pooled = _amplitude(sums.squares.sum(axis=0, keepdims=True), sums.cross.sum(axis=0, keepdims=True))
    for name, each, total in zip(("amplitude", "amplitude_stderr"), by_bin, pooled, strict=True):
        out[name], out[f"total_{name}"] = (("sigma",), each), ((), total[0])
    detected = [_detected(sums, counts, test) for test in TESTS]
    for k, name in enumerate(("detected", "detected_stderr")):
        out[name] = ("test", "sigma"), np.stack([each[k] for each, _ in detected])
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


def _amplitude(
    squares: NDArray[np.float64], cross: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return c = -cross/squares for each row of (bin, unit), and its standard error; NaN where f is zero.

    Over several bins c is the ratio of their sums, not a mean of theirs: bins share states and units, and how they are
    correlated is then in the influence -(cross_u + c squares_u)/squares of a unit.
    """
    total = squares.sum(axis=1)
    known = total > 0
    safe = np.where(known, total, 1.0)
    slope = np.where(known, -cross.sum(axis=1) / safe, np.nan)
    influence = -(cross + slope[:, None] * squares) / safe[:, None]
    return slope, standard_error(influence.T)


def _detected(
    sums: LevelSums, counts: NDArray[np.float64], test: str
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], tuple[float, float]]:
    """Return what is detected in each bin and in all, with standard errors."""
    bands = len(sums.comparison.bands)
    chosen = {"amplitude": slice(0, 1), "all": slice(None)}
    chosen |= {kind: slice(1 + k * bands, 1 + (k + 1) * bands) for k, kind in enumerate(_KINDS)}
    columns = chosen[test]
    n_units, n_bins = len(counts), len(sums.gram)
    value, variance = np.zeros(n_bins), np.zeros(n_bins)
    shift, scaled = np.zeros(n_units), []
    for index in range(n_bins):
        moments = UnitSums(sums.moments[index][:, columns], counts[:, None])
        mean, influence = moments.mean(), moments.influence()
        root = _inverse_root(sums.gram[index][columns, columns] / counts.sum())
        whitened = influence @ root  # G^-½ of the errors, of which tr(G⁻¹ Σ) is the mean square
        errors = whitened.T @ whitened * n_units / (n_units - 1)
        first = mean @ root
        value[index] = (first @ first - np.trace(errors)) / 2
        noise = float((errors**2).sum()) / 2
        variance[index] = max(float(first @ errors @ first) - noise, noise)
        shift += whitened @ first
        scaled.append(whitened)
    everything = np.hstack(scaled)
    noise = float(((everything.T @ everything) ** 2).sum()) / 2 * (n_units / (n_units - 1)) ** 2
    total = max(float(standard_error(shift)) ** 2 - noise, noise)
    return (value, np.sqrt(variance)), (float(value.sum()), float(np.sqrt(total)))


def _inverse_root(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return r with r r' the pseudo-inverse of G, of tests brought to unit size."""
    size = np.sqrt(inverse(np.diagonal(gram)))
    values, vectors = np.linalg.eigh(size[:, None] * gram * size)
    values = np.where(values > _RANK * values[-1], values, 0.0)
    return np.asarray(size[:, None] * vectors * np.sqrt(inverse(values)))


def _hermite(m: NDArray[np.float64], variance: NDArray[np.float64] | float) -> list[NDArray[np.float64]]:
    """Return m² - <m²> and m³ - 3 <m²> m."""
    return [m * m - variance, m * (m * m - 3 * variance)]


def _cross_entropy(family: Family, a: NDArray[np.float64], start: float, top: float) -> NDArray[np.float64]:
    """Return -E ln N(y; 0, C + v) at the top, y the states a of the level ``start`` with the noise there."""
    added = (top**2 - start**2) * family.covariance.trace(lambda c: 1 / (c + top**2))
    return added / 2 - family.gaussian_log_density(a, top)
