"""The likelihood by the probability flow, against densities known in closed form."""

import dataclasses

import numpy as np
import pytest
from reference.exact_families import Mixture, bimodal, corrected_family, dense, gaussian_family, three_peaks
from scipy import stats

import gfdt
from gfdt.covariance import SpectralCovariance
from gfdt.density import likelihood
from gfdt.density.likelihood import log_prob, prior_level
from gfdt.errors import InputError, ReliabilityWarning

MATRIX = np.array([[1.0, 0.5, 0.2, 0.0], [0.5, 2.0, 0.3, 0.1], [0.2, 0.3, 0.5, -0.1], [0.0, 0.1, -0.1, 0.1]])


def field_covariance(n, steepness):
    """C_k = (1 + k²)^(-steepness) of a homogeneous field on n sites."""
    k = np.arange(n // 2 + 1)
    return SpectralCovariance(0.0, (1.0 + k**2) ** -steepness, (n,))


def error(values, exact):
    return np.sqrt(np.mean((values - exact) ** 2))


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_gaussian_is_exact_whatever_the_number_of_steps(level):
    rng = np.random.default_rng(0)
    a = rng.multivariate_normal(np.zeros(4), MATRIX, 50)
    exact = stats.multivariate_normal(np.zeros(4), MATRIX + level**2 * np.eye(4)).logpdf(a)
    values, stderr = log_prob(gaussian_family(dense(MATRIX), (4,), level), a, n_steps=1)
    np.testing.assert_allclose(values, exact, atol=1e-10)
    assert not stderr.any()


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_what_the_gaussian_part_misses_is_integrated(level):
    # The same Gaussians from a C that is too wide by half: now the flow has to squeeze.
    rng = np.random.default_rng(1)
    a = rng.multivariate_normal(np.zeros(4), MATRIX, 50)
    exact = log_prob(gaussian_family(dense(MATRIX), (4,), level), a)[0]
    values, _ = log_prob(corrected_family(dense(MATRIX), dense(1.5 * MATRIX), (4,), level), a)
    # The prior N(0, 1.5 C + top²) is what remains wrong, by d/2 of 0.5/101 at the widest direction: 1e-3 nats each.
    assert error(values, exact) < 4 * 1e-3


def test_a_homogeneous_field():
    covariance, wrong = field_covariance(16, 1.0), field_covariance(16, 0.7)
    a = gaussian_family(covariance, (16,)).gaussian_sample(np.random.default_rng(2).standard_normal((20, 16)), 0.0)
    exact = gaussian_family(covariance, (16,)).gaussian_log_density(a, 0.0)
    np.testing.assert_allclose(
        exact, stats.multivariate_normal(np.zeros(16), covariance.apply(np.eye(16), lambda c: c)).logpdf(a), rtol=1e-9
    )
    assert error(log_prob(corrected_family(covariance, wrong, (16,)), a)[0], exact) < 16 * 1e-3


@pytest.mark.parametrize(("mixture", "level"), [(bimodal(), 0.0), (bimodal(), 0.1), (three_peaks(), 0.0)])
def test_mixtures_to_a_thousandth_of_a_nat(mixture, level):
    a = mixture.sample(200, seed=3)
    values, _ = log_prob(mixture.family(level), a)
    assert error(values, mixture.log_density(a, level)) < 1e-3


@pytest.mark.parametrize("ratio", [0.1, 1e-2, 1e-3])
def test_structure_in_a_narrow_direction_is_resolved_with_and_without_a_derivative(ratio):
    mixture = Mixture([0.3, 0.7], [[0, -ratio], [0, ratio]], [[1, (0.2 * ratio) ** 2]] * 2)
    a, family = mixture.sample(200, seed=14), mixture.family()
    for each in (family, dataclasses.replace(family, product=None)):
        assert error(log_prob(each, a)[0], mixture.log_density(a)) < 3e-3  # measured: up to 7e-4


def test_states_that_violate_a_constraint_have_no_density():
    x = bimodal().sample(500, seed=15)
    closed = np.concatenate([x, x.sum(axis=1, keepdims=True)], axis=1)
    with pytest.warns(ReliabilityWarning, match="carry no variance"):
        score = gfdt.GaussianScore().fit(closed[None], dims=("member", "time", "component"))
    off = closed[:3] + np.array([0.0, 0.0, 0.1])
    for judge in (score.log_prob, score.elbo):
        assert np.isneginf(judge(off)).all()
        # Rounding to single precision is no violation.
        np.testing.assert_allclose(judge(closed[:3].astype(np.float32)), judge(closed[:3]), rtol=1e-5)


def test_the_density_integrates_to_one():
    # An independent check of the constants: no density is compared with.
    x = np.linspace(-3.5, 3.5, 41)
    grid = np.stack(np.meshgrid(x, 1.5 * x, indexing="ij"), axis=-1).reshape(-1, 2)
    values, _ = log_prob(bimodal().family(0.3), grid, n_steps=16)
    total = np.exp(values).sum() * (x[1] - x[0]) ** 2 * 1.5
    # The trapezoidal rule is exact to exp(-2 π² (width/spacing)²) = 1e-12; the tails beyond 3.5 hold less than 1e-4.
    assert total == pytest.approx(1.0, abs=1e-3)


def test_the_steps_are_of_fourth_order():
    mixture = three_peaks()
    a = mixture.sample(50, seed=4)
    fine = log_prob(mixture.family(), a, n_steps=256)[0]
    errors = [error(log_prob(mixture.family(), a, n_steps=n)[0], fine) for n in (32, 64)]
    # Rates between 3.4 and 4.6 leave room for the next order.
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.6)


def test_the_prior_is_taken_where_the_score_still_is_known():
    family = bimodal().family()
    widest = np.sqrt(np.linalg.eigvalsh(bimodal().covariance)[-1])
    assert prior_level(family) == pytest.approx(10 * widest)
    assert prior_level(dataclasses.replace(family, highest=2.0)) == 2.0


def test_probes_are_unbiased_and_their_standard_error_is_honest(monkeypatch):
    # d = 128, where probes are the default; two steps, the same for both.
    covariance = field_covariance(128, 0.5)
    family = corrected_family(covariance, field_covariance(128, 0.35), (128,))
    a = gaussian_family(covariance, (128,)).gaussian_sample(np.random.default_rng(5).standard_normal((200, 128)), 0.0)
    values, stderr = log_prob(family, a, n_steps=2)
    np.testing.assert_array_equal(values, log_prob(family, a, n_steps=2, n_probes=16)[0])
    monkeypatch.setattr(likelihood, "_EXACT_SIZE", 128)
    exact, none = log_prob(family, a, n_steps=2)
    assert not none.any()
    deviation = values - exact
    assert abs(deviation.mean()) < 4 * np.sqrt(np.mean(stderr**2) / 200)
    # Squares of 200 normal deviates, against variances estimated from 16 probes each: relative error (2/200)^½.
    assert np.mean(deviation**2) / np.mean(stderr**2) == pytest.approx(1.0, abs=4 * 0.1)


def test_probes_of_another_seed_are_others():
    family, a = bimodal().family(), bimodal().sample(5, seed=6)
    first, again, other = (log_prob(family, a, n_steps=4, n_probes=2, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.isnan(log_prob(family, a, n_steps=4, n_probes=1)[1]).all()


def test_a_score_without_its_derivative_is_differenced():
    family, a = bimodal().family(), bimodal().sample(50, seed=7)
    differenced = dataclasses.replace(family, product=None)
    # A step of 0.001 of peaks 0.3 wide: (0.001/0.3)²/6 = 2e-6 of a trace of about 10, over ∫ dv of some units.
    for probes in (None, 4):
        expected = log_prob(family, a, n_probes=probes)[0]
        np.testing.assert_allclose(log_prob(differenced, a, n_probes=probes)[0], expected, atol=1e-4)


def test_batches_do_not_matter(monkeypatch):
    family, a = three_peaks().family(), three_peaks().sample(20, seed=8)
    whole = log_prob(family, a, n_steps=8)[0]
    monkeypatch.setattr(likelihood, "CHUNK_VALUES", 50)  # five states at a time, of three components with three probes
    np.testing.assert_allclose(log_prob(family, a, n_steps=8)[0], whole, rtol=1e-12)


def test_a_direction_without_variance_has_no_density():
    # A bimodal component beside a constant one: the density is that of the first.
    mixture = bimodal()
    family, a = mixture.family(), mixture.sample(20, seed=9)
    with_dead = dataclasses.replace(
        family,
        shape=(3,),
        covariance=dense(np.block([[mixture.covariance, np.zeros((2, 1))], [np.zeros((1, 3))]])),
        correction=lambda x, level: np.concatenate([family.correction(x[:, :2], level), 0 * x[:, :1]], axis=1),
        product=lambda x, level, u: np.concatenate([family.product(x[:, :2], level, u[:, :2]), 0 * x[:, :1]], axis=1),
    )
    states = np.concatenate([a, np.zeros((20, 1))], axis=1)
    np.testing.assert_allclose(log_prob(with_dead, states)[0], log_prob(family, a)[0], atol=1e-9)


def test_paths_that_diverge_are_refused():
    wild = dataclasses.replace(bimodal().family(), correction=lambda a, level: np.full_like(a, np.nan))
    with pytest.raises(InputError, match="NaN or inf for 3 of 3 states"):
        log_prob(wild, np.zeros((3, 2)))


# Surface pressure in pascal and specific humidity in kg/kg: eight decades between the units.
CENTRE, SCALES = np.array([1e5, 8e-3]), np.array([500.0, 1e-3])


def physical(n, seed):
    matrix = np.array([[1.0, -0.6], [-0.6, 1.0]])
    return CENTRE + SCALES * np.random.default_rng(seed).multivariate_normal(np.zeros(2), matrix, n)


def gaussian_of(x):
    """Mean and covariance in SCALES, in which they can be inverted safely."""
    return (x / SCALES).mean(axis=0), np.cov((x / SCALES).T, bias=True)


def physical_log_density(mean, covariance, x):
    return stats.multivariate_normal(mean, covariance).logpdf(x / SCALES) - np.log(SCALES).sum()


def test_densities_are_those_of_the_units_of_the_data():
    x, judged = physical(4000, 10), physical(60, 11)
    score = gfdt.GaussianScore().fit(x[None], dims=("member", "time", "component"))
    exact = physical_log_density(*gaussian_of(x), judged)
    for values in (score.log_prob(judged), score.elbo(judged), score.elbo(judged, decode=True)):
        np.testing.assert_allclose(values, exact, rtol=1e-8)
    dataset = score.bound(judged)
    assert float(dataset.elbo) == pytest.approx(exact.mean(), rel=1e-8)
    assert float(dataset.gaussian) == pytest.approx(exact.mean(), rel=1e-8)
    np.testing.assert_allclose(score.log_prob(judged, unit="bits/dim"), -exact / (2 * np.log(2)), rtol=1e-8)


def test_densities_are_those_of_the_units_of_the_data_where_f_has_to_be_integrated():
    # The same density from the Gaussian part of states spread half as far again, with noise of physical proportions.
    x, judged = physical(4000, 10), physical(60, 11)
    mean, covariance = gaussian_of(x)

    def blurred(states, sigma):
        noisy = covariance + np.diag(np.broadcast_to(sigma / SCALES, 2) ** 2)
        return -(states / SCALES - mean) @ np.linalg.inv(noisy) / SCALES

    wide = gfdt.GaussianScore().fit((x + 0.5 * (x - x.mean(axis=0)))[None], dims=("member", "time", "component"))
    score = gfdt.AnalyticScore(lambda states: blurred(states, 0.0), blurred=blurred, noise=SCALES, gaussian=wide)
    score.fit(x[None], dims=("member", "time", "component"))
    exact = physical_log_density(mean, covariance, judged)
    # The prior at ten standard deviations, 2.25 C for C: 1.25/101 of u²/2 for each of two components, u² up to 10.
    assert np.abs(score.log_prob(judged) - exact).max() < 1.25 / 101 / 2 * 2 * 10
    values, stderr = score.elbo(judged, return_stderr=True, n_levels=256)
    noise = np.sqrt(np.mean(stderr**2) / len(judged))
    prior = 2 * 1.25 / 101
    assert abs((values - exact).mean()) < 4 * noise + prior
    assert abs(float(score.bound(judged, n_levels=256).elbo) - exact.mean()) < 4 * noise + prior


def test_a_network_is_pulled_back_to_the_same_trace():
    # z'(∇f)z by the reverse of one evaluation, as log_prob asks for it, and from the product of the forward direction.
    x = bimodal().sample(2000, seed=12)
    score = gfdt.DSMScore("mlp", max_steps=40, seed=0, device="cpu", progress=False)
    family = score.fit(x.reshape(4, 500, 2), dims=("member", "time", "component")).family()
    assert not family.gaussian
    a, z = x[:20], np.random.default_rng(13).choice([-1.0, 1.0], (20, 2))
    forward, back = ((z * each(a, 0.5, z)).sum(axis=1) for each in (family.product, family.pull_back))
    np.testing.assert_allclose(back, forward, rtol=1e-4, atol=1e-5)  # in float32


@pytest.mark.parametrize("wrong", [{"n_steps": 0}, {"n_steps": 2.5}, {"n_probes": 0}, {"seed": -1}, {"n_steps": True}])
def test_counts_are_counts(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        log_prob(gaussian_family(dense(MATRIX), (4,)), np.zeros((1, 4)), **wrong)
