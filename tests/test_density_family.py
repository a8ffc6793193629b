"""Families of scores: what they say of the density at every level, and the coordinates they are in."""

import numpy as np
import pytest
import xarray as xr
from reference.exact_families import bimodal, dense, gaussian_family

import gfdt
from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.density.family import Diagonal, Family
from gfdt.density.recast import recast
from gfdt.density.standardise import standardised
from gfdt.density.whitened import Whitened, covariance_of_data
from gfdt.errors import InputError, NotFittedError
from gfdt.scores.whitening import Whitening

DIMS = ("member", "time", "component")
MIXING = np.array([[3.0, 0.4], [-0.5, 0.2]])


def states(n=4000, seed=0):
    """States of the mixture, its two components mixed and of unequal size."""
    return bimodal().sample(n, seed) @ MIXING.T + np.array([10.0, -1.0])


def mixture_score(x, sigma=0.0):
    """Score of the density of ``states`` blurred by noise sigma (a number): by the closed form of each Gaussian."""
    mixture = bimodal()
    logs, each = [], []
    for weight, centre, variance in zip(mixture.weights, mixture.centres, mixture.variances, strict=True):
        precision = np.linalg.inv(MIXING @ np.diag(variance) @ MIXING.T + np.square(sigma) * np.eye(2))
        offset = x - (MIXING @ centre + np.array([10.0, -1.0]))
        each.append(-offset @ precision)
        logs.append(np.log(weight) + 0.5 * np.linalg.slogdet(precision)[1] + 0.5 * (offset * each[-1]).sum(axis=1))
    share = np.exp(np.array(logs) - np.logaddexp.reduce(logs, axis=0))
    return np.einsum("kn,kni->ni", share, np.array(each))


def fitted(score, x=None):
    return score.fit((states() if x is None else x)[None], dims=DIMS)


# ---- one family


def test_the_posterior_mean_is_tweedies_formula_and_that_of_the_mixture():
    """D = Σ share_k [μ_k + c_k/(c_k + v) (a - μ_k)], the mean over the posterior of each Gaussian."""
    mixture, level = bimodal(), 0.7
    a = mixture.sample(50, 1)
    share = mixture._shares(a, level)[0]
    gain = mixture.variances / (mixture.variances + level**2)
    each = mixture.centres + gain * (a[:, None] - mixture.centres)
    got = mixture.family().denoised(a, level)
    np.testing.assert_allclose(got, np.einsum("nk,nki->ni", share, each), rtol=1e-11)
    np.testing.assert_allclose(got, a + level**2 * mixture.family().score(a, level), rtol=1e-11)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_gaussian_density_and_samples_agree_with_scipy_style_formulas(level):
    matrix = np.array([[2.0, 0.3], [0.3, 0.5]])
    family = gaussian_family(dense(matrix), (2,), level)
    a, blurred = states(5), matrix + level**2 * np.eye(2)
    quadratic = np.einsum("ni,ij,nj->n", a, np.linalg.inv(blurred), a)
    exact = -0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * blurred)[1])
    np.testing.assert_allclose(family.gaussian_log_density(a, level), exact, rtol=1e-12)
    root = family.gaussian_sample(np.eye(2), level)
    np.testing.assert_allclose(root.T @ root, blurred, atol=1e-13)


def test_directions_without_variance_have_no_density_but_under_noise():
    family = gaussian_family(DenseCovariance(np.zeros(2), np.array([0.0, 4.0]), np.eye(2)), (2,))
    a = np.array([[0.0, 2.0]])
    assert (family.rank(0.0), family.rank(0.1)) == (1, 2)
    np.testing.assert_allclose(family.gaussian_log_density(a, 0.0), -0.5 * (1 + np.log(2 * np.pi * 4)), rtol=1e-14)
    assert family.linear_score(np.array([[1.0, 2.0]]), 0.0).tolist() == [[0.0, -0.5]]


# ---- coordinates


def covariances():
    rng = np.random.default_rng(2)
    root, grid = rng.normal(size=(6, 6)) * np.geomspace(1, 1e3, 6)[:, None], (4, 6)
    spectral = SpectralCovariance(3.0, rng.random((4, 4)), grid)
    two = rng.normal(size=(50, 2, *grid)) * np.array([1.0, 1e3]).reshape(2, 1, 1)
    two[:, 1] += 500 * two[:, 0]
    yield dense(root @ root.T), (2, 3)
    yield spectral, grid
    yield CrossSpectralCovariance.estimate(two, 0.0), (2, *grid)


@pytest.mark.parametrize("index", range(3))
def test_standardised_coordinates_have_unit_variance_and_the_same_density(index):
    covariance, shape = list(covariances())[index]
    units, rescaled = standardised(covariance, shape)
    matrix = rescaled.apply(np.eye(np.prod(shape)).reshape(-1, *shape), lambda c: c).reshape(-1, np.prod(shape))
    np.testing.assert_allclose(np.diag(matrix), 1.0, rtol=1e-9)
    x = np.random.default_rng(3).normal(size=(3, *shape))
    a = units.states(x)
    np.testing.assert_allclose(units.data(a), x, atol=1e-12)

    def quadratic(c, y):
        return (y * c.apply(y, lambda e: 1 / e)).reshape(3, -1).sum(axis=1)

    # condition numbers to 1e7 cost that much of the rounding
    np.testing.assert_allclose(quadratic(rescaled, a), quadratic(covariance, covariance.centre(x)), rtol=1e-6)
    determinant = covariance.trace(np.log)
    assert abs(rescaled.trace(np.log) + 2 * units.log_volume(shape) - determinant) < 1e-6 * abs(determinant)


def test_given_noise_fixes_the_proportions_and_the_variance_the_size():
    covariance = dense(np.array([[4.0, 1.0], [1.0, 0.25]]))
    units, rescaled = standardised(covariance, (2,), noise=[2.0, 1.0])
    np.testing.assert_allclose(units.scale[0] / units.scale[1], 2.0)
    assert abs(rescaled.trace(lambda c: c) - 2) < 1e-12
    with pytest.raises(InputError, match="positive"):
        standardised(covariance, (2,), noise=[1.0, 0.0])
    with pytest.raises(InputError, match=r"shape \(3,\) does not fit"):
        standardised(covariance, (2,), noise=np.ones(3))
    field = SpectralCovariance(0.0, np.ones(3), (4,))
    with pytest.raises(InputError, match="not the same at all sites"):
        standardised(field, (4,), noise=[1.0, 1.0, 1.0, 2.0])


def test_whitened_coordinates_go_there_and_back_and_know_their_volume():
    x = states()
    units = Whitened(Whitening.estimate(x), (2,))
    a = units.states(x)
    np.testing.assert_allclose(np.cov(a.T, bias=True), units.covariance.apply(np.eye(2), lambda c: c), atol=1e-10)
    np.testing.assert_allclose(units.data(a), x, rtol=1e-10)
    matrix = np.cov(x.T, bias=True)
    assert abs(2 * units.log_volume((2,)) - np.linalg.slogdet(matrix)[1]) < 1e-9
    known = covariance_of_data(units.whitening)
    np.testing.assert_allclose(known.apply(np.eye(2), lambda c: c), matrix, rtol=1e-9)


def test_a_family_seen_in_other_coordinates_is_the_same_density():
    """s_b(b; σ) = k s_a(a; k σ) at the same states, also if the means differ."""
    family = fitted(gfdt.AnalyticScore(mixture_score, blurred=mixture_score)).family()
    shifted = Diagonal(family.units.mean + 0.7, 2.5 * family.units.scale)
    other = recast(family, Family(shifted, family.covariance, (2,), 0.0))
    x = states(20)
    for level in (0.0, 0.4):
        got = shifted.gradient(other.score(shifted.states(x), level))
        np.testing.assert_allclose(got, mixture_score(x, level * shifted.scale.item(0)), rtol=1e-9, atol=1e-9)


def test_the_derivative_is_seen_in_other_coordinates_too():
    mixture, k, offset = bimodal(), 2.0, np.array([0.3, -0.2])
    other = recast(mixture.family(), Family(Diagonal(offset, np.full(2, k)), dense(np.eye(2)), (2,), 0.0))
    b, u = np.random.default_rng(6).normal(size=(2, 20, 2))
    linear = other.filtered(u, lambda c: -1 / (c + 0.4**2))
    exact = k**2 * mixture.derivative(k * b + offset, 0.4 * k, u)
    np.testing.assert_allclose(linear + other.product(b, 0.4, u), exact, rtol=1e-10, atol=1e-10)
    assert recast(gaussian_family(dense(np.eye(2)), (2,)), mixture.family()).gaussian


def test_scores_whose_noise_differs_are_not_compared():
    one, other = fitted(gfdt.GaussianScore()), fitted(gfdt.AnalyticScore(mixture_score, blurred=mixture_score))
    with pytest.raises(InputError, match=r"shared differently .* noise="):
        recast(other.family(), one.family())
    with pytest.raises(InputError, match="KDEScore"):
        recast(fitted(gfdt.KDEScore(bandwidth=0.3)).family(), one.family())
    with pytest.raises(InputError, match=r"shape \(2,\) and \(3,\)"):
        recast(one.family(), gaussian_family(dense(np.eye(3)), (3,)))


# ---- those of the estimators


@pytest.mark.parametrize(
    "score",
    [
        gfdt.GaussianScore(),
        gfdt.KDEScore(bandwidth=0.3),
        gfdt.AnalyticScore(mixture_score, blurred=mixture_score),
        gfdt.AnalyticScore(mixture_score, blurred=mixture_score, noise=[3.0, 0.4]),
    ],
    ids=["gaussian", "kde", "analytic", "analytic-noise"],
)
def test_at_its_own_level_a_family_is_the_score(score):
    family, x = fitted(score).family(), states(30, 1)
    a = family.units.states(x)
    np.testing.assert_allclose(family.units.gradient(family.score(a, 0.0)), score(x), rtol=1e-8, atol=1e-9)
    if family.product is not None:
        v = np.ones_like(x)
        linear = family.filtered(family.units.directions(v), lambda c: -1 / c)
        product = family.units.gradient(linear + family.product(a, 0.0, family.units.directions(v)))
        np.testing.assert_allclose(product, score.jvp(x, v), rtol=1e-8, atol=1e-9)


def test_a_homogeneous_gaussian_is_known_in_units_of_each_variable():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 50, 2, 8)) * np.array([1.0, 100.0]).reshape(2, 1)
    score = gfdt.GaussianScore(homogeneous=("x",)).fit(x, dims=("member", "time", "variable", "x"))
    family, states_ = score.family(), x.reshape(-1, 2, 8)[:5]
    assert family.units.scale.shape == (2, 1)
    got = family.units.gradient(family.score(family.units.states(states_), 0.0))
    np.testing.assert_allclose(got, score(states_), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("level", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_noise_on_a_kernel_estimate_only_widens_its_kernels(d, level):
    """The coarser lattices of large noise against the sum over all samples, at blurred samples."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2000, d)) + (rng.random((2000, 1)) > 0.5) * 3.0
    score = gfdt.KDEScore(bandwidth=0.4).fit(x[None], dims=DIMS)
    whitening, family = score._whitening, score.family()
    y = whitening.states(x)
    a = y[:100] + level * rng.standard_normal((100, d))
    exact = np.zeros((100, d))
    for factor, variance in ((2.0, 0.4**2 + level**2), (-1.0, 2 * 0.4**2 + level**2)):
        t = y - a[:, None]
        kernel = np.exp(-(t**2).sum(axis=-1) / (2 * variance))
        exact += factor * np.einsum("nk,nki->ni", kernel, t) / kernel.sum(axis=1)[:, None] / variance
    error = np.sqrt(((family.score(a, level) - exact) ** 2).mean() / (exact**2).mean())
    # what the lattice was measured to cost in one and two dimensions; none of five
    assert error < {1: 5e-4, 2: 4e-3, 5: 1e-12}[d]
    if d == 2:
        u, step = rng.standard_normal((2, 100, d))[0], 1e-4
        slope = (family.remainder(a + step * u, level) - family.remainder(a - step * u, level)) / (2 * step)
        got = family.product(a, level, u)
        # between the nodes the score is linear and its derivative jumps: a twentieth of the cell's own variation
        assert np.sqrt(((got - slope) ** 2).mean() / (slope**2).mean()) < 0.05


def test_scores_known_at_one_level_say_so():
    one = fitted(gfdt.AnalyticScore(mixture_score))
    with pytest.raises(InputError, match=r"AnalyticScore is known at one noise level only.*blurred"):
        one.family()
    with pytest.raises(NotFittedError, match=r"\.fit\(trajectory\)"):
        gfdt.AnalyticScore(mixture_score, blurred=mixture_score).family()


@pytest.mark.parametrize("options", [{"blurred": 3}, {"gaussian": "all"}, {"blurred": mixture_score, "noise": [1, -1]}])
def test_unusable_descriptions_of_a_formula_are_refused(options):
    with pytest.raises(InputError, match=r"blurred|gaussian|noise"):
        fitted(gfdt.AnalyticScore(mixture_score, **options)).family()


def test_a_formula_takes_its_gaussian_from_elsewhere():
    known = fitted(gfdt.GaussianScore())
    other = fitted(gfdt.AnalyticScore(mixture_score, blurred=mixture_score, gaussian=known), states(100, 9))
    assert other.covariance_ is known.covariance_
    fresh = gfdt.GaussianScore(shrinkage=0.1)
    fitted(gfdt.AnalyticScore(mixture_score, blurred=mixture_score, gaussian=fresh))
    assert not hasattr(fresh, "covariance_")


def test_a_labelled_state_is_denoised_in_its_own_order():
    score = fitted(gfdt.GaussianScore())
    x = xr.DataArray(states(6).T, dims=("component", "run"))
    got = score.denoise(x, 0.5)
    assert got.dims == x.dims
    np.testing.assert_allclose(got.values.T, score.denoise(x.values.T, 0.5))
