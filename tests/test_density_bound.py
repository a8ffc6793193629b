"""The variational bound: tight for an exact score, short of it by the error of the score, honest about its noise."""

import dataclasses

import numpy as np
import pytest
from reference.exact_families import bimodal, corrected_family, dense, gaussian_family, three_peaks

from gfdt.covariance import SpectralCovariance
from gfdt.density import bound as module
from gfdt.density.bound import bound, elbo
from gfdt.density.learned_schedule import learn_schedule
from gfdt.density.likelihood import log_prob, prior_level
from gfdt.density.schedules import make_schedule
from gfdt.errors import InputError

MATRIX = np.array([[1.0, 0.5, 0.2, 0.0], [0.5, 2.0, 0.3, 0.1], [0.2, 0.3, 0.5, -0.1], [0.0, 0.1, -0.1, 0.2]])
FIELD = SpectralCovariance(0.0, 1.0 / (1.0 + np.arange(9) ** 2), (16,))
CASES = {"dense": (dense(MATRIX), (4,)), "field": (FIELD, (16,))}


def scaled(covariance, factor):
    return dataclasses.replace(covariance, eigenvalues=factor * covariance.eigenvalues)


def states_with(covariance, shape, n, level=0.0):
    """States whose second moments are C + v exactly, so that averages of quadratic forms have no sampling error."""
    size = int(np.prod(shape))
    z = np.random.default_rng(0).standard_normal((n, size))
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n)).T
    return gaussian_family(covariance, shape).gaussian_sample(z.reshape(n, *shape), level)


def strong(factor):
    """The bimodal mixture's family, its f too strong by a factor."""
    family = bimodal().family()
    return dataclasses.replace(family, correction=lambda a, level: factor * family.correction(a, level), product=None)


def blurred(mixture, n, level, seed):
    return mixture.sample(n, seed) + level * np.random.default_rng(seed + 100).standard_normal(
        (n, mixture.centres.shape[1])
    )


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(("level", "decode"), [(0.0, False), (0.3, False), (0.3, True)])
def test_a_gaussian_is_exact(kind, level, decode):
    covariance, shape = CASES[kind]
    a = states_with(covariance, shape, 50)
    values, stderr = elbo(gaussian_family(covariance, shape, level), a, decode=decode)
    exact = gaussian_family(covariance, shape).gaussian_log_density(a, 0.0 if decode else level)
    np.testing.assert_allclose(values, exact, atol=1e-10)
    assert not stderr.any()


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_an_exact_score_makes_the_bound_tight_though_its_gaussian_part_is_wrong(kind, level):
    covariance, shape = CASES[kind]
    family = corrected_family(covariance, scaled(covariance, 1.5), shape, level)
    a = states_with(covariance, shape, 400, level)
    exact = gaussian_family(covariance, shape).gaussian_log_density(a, level)
    likelihood = log_prob(family, a)[0]
    d = family.size
    # The prior, 1.5 C, is off by d/2 of 0.5/101 at most, times u²: the rarest of 400 states has four times the mean.
    assert np.abs(likelihood - exact).max() < 1e-3 * d * 4
    assert np.abs(likelihood - exact).mean() < 1e-3 * d
    values, stderr = elbo(family, a)
    # The mean has the noise of 400 states; tight, and not above, within four times that.
    assert abs((values - likelihood).mean()) < 4 * np.sqrt(np.mean(stderr**2) / len(a))


@pytest.mark.parametrize("kind", CASES)
def test_the_gap_is_the_integral_of_the_squared_error_of_the_score(kind):
    # s = -(1.5 C + v)⁻¹ a for data of covariance C: 1/2 ∫ E|s - s*|² dv + the prior's own error is KL(C, 1.5 C).
    covariance, shape = CASES[kind]
    exact, wrong = gaussian_family(covariance, shape), gaussian_family(scaled(covariance, 1.5), shape)
    a = states_with(covariance, shape, 2000)
    divergence = 0.5 * exact.size * (np.log(1.5) - 1 + 1 / 1.5)

    # In C itself the bound is closed-form; in f it is averaged. Both fall short by the same.
    gap = (exact.gaussian_log_density(a, 0.0) - elbo(wrong, a)[0]).mean()
    assert gap == pytest.approx(divergence, rel=1e-9)
    in_f = corrected_family(scaled(covariance, 1.5), covariance, shape)
    values, stderr = elbo(in_f, a)
    noise = np.sqrt(np.mean(stderr**2) / len(a))
    assert (exact.gaussian_log_density(a, 0.0) - values).mean() == pytest.approx(divergence, abs=4 * noise)
    assert noise < 0.02 * divergence  # or else the line above would say little

    dataset = bound(wrong, a, reference=exact)
    assert float(dataset.total_gap) == pytest.approx(divergence, rel=0.05)
    # All of it is linear, so all of it can be seen in the data.
    assert float(dataset.detected.sel(test="linear").sum()) == pytest.approx(divergence, rel=0.1)
    assert bool((dataset.gap >= 0).all())


def test_the_bound_of_an_exact_mixture_is_tight_at_every_level_of_noise():
    for level, seed in ((0.0, 1), (0.1, 2), (0.5, 3)):
        a = blurred(three_peaks(), 500, level, seed)
        values, stderr = elbo(three_peaks().family(level), a)
        deviation = values - three_peaks().log_density(a, level)
        assert abs(deviation.mean()) < 4 * np.sqrt(np.mean(stderr**2) / len(a)) + 3e-4  # the prior


def test_standard_errors_are_honest_for_every_state():
    family, a = bimodal().family(0.1), blurred(bimodal(), 5, 0.1, 4)
    exact = bimodal().log_density(a, 0.1)
    values, stderr = (
        np.array(each) for each in zip(*(elbo(family, a, n_levels=64, seed=k) for k in range(200)), strict=True)
    )
    # Variances from 200 repeats, relative error (2/200)^½ and as much again from the few strata that are noisy;
    # mirrored levels may make the estimate a little too large.
    ratio = np.mean((values - exact) ** 2, axis=0) / np.mean(stderr**2, axis=0)
    assert (ratio < 1.5).all()
    assert (ratio > 0.5).all()
    # Student's t with few degrees of freedom: about 92 % within two.
    assert np.mean(np.abs(values - exact) < 2 * stderr) > 0.88


def test_the_standard_error_falls_with_the_square_root_of_the_levels():
    family, a = bimodal().family(0.1), blurred(bimodal(), 300, 0.1, 5)
    few, many = (np.sqrt(np.mean(elbo(family, a, n_levels=n)[1] ** 2)) for n in (32, 512))
    assert few / many == pytest.approx(4.0, rel=0.25)  # 300 states and 16 strata leave an error of some per cent


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_the_schedule_does_not_change_the_bound(level):
    mixture = bimodal()
    family = dataclasses.replace(strong(1.3), level=level)
    a = blurred(mixture, 500, level, 6)
    learned = learn_schedule(family, a[:100])
    results = [elbo(family, a, schedule=name, seed=k) for k, name in enumerate(("edm", "ve", "vp", learned))]
    means = np.array([values.mean() for values, _ in results])
    noise = np.array([np.sqrt(np.mean(stderr**2) / len(a)) for _, stderr in results])
    assert (np.abs(means[1:] - means[0]) < 4 * np.hypot(noise[1:], noise[0])).all()


def test_decoding_gives_the_density_of_the_data():
    mixture = bimodal()
    a = mixture.sample(2000, seed=7)
    exact = mixture.log_density(a)
    shortfall = []
    for level in (0.05, 0.2, 0.4):
        values, stderr = elbo(mixture.family(level), a, decode=True)
        shortfall.append((exact - values).mean())
        assert shortfall[-1] > -4 * np.sqrt(np.mean(stderr**2) / len(a)) - 3e-4
        # Without it the density is the blurred one, another function of the state.
        plain, stderr = elbo(mixture.family(level), a)
        other = mixture.log_density(a, level)
        assert abs((plain - other).mean()) < 4 * np.sqrt(np.mean(stderr**2) / len(a)) + 3e-4
    # Peaks 0.3 wide, taken for Gaussians of all the data when 0.4 of noise is removed at once: a tenth of a nat.
    assert shortfall[0] < 0.02
    assert shortfall[2] > 0.1


@pytest.mark.parametrize("kind", CASES)
def test_what_decoding_costs_is_the_error_of_the_posterior(kind):
    # The exact score, with 1.5 C for C: the variance of the decoder is wrong, and its mean where it uses only κ of f.
    covariance, shape = CASES[kind]
    v = 0.3**2
    exact = gaussian_family(covariance, shape)
    family = corrected_family(covariance, scaled(covariance, 1.5), shape, 0.3)
    a = states_with(covariance, shape, 3000)
    values, stderr = elbo(family, a, decode=True)

    def divergence(c):  # of N(., C v/(C + v)) from the same with 1.5 C
        ratio = (c / (c + v)) / (1.5 * c / (1.5 * c + v))
        return 0.5 * (ratio - 1 - np.log(ratio))

    wrong = 1.5 * covariance.eigenvalues
    strength = covariance.trace(lambda c: 1.5 * c / (1.5 * c + v) ** 2) / family.size
    assert 0.01 < strength * v * (1 + v / wrong).max() < 3  # κ is neither 1 nor 0 in every direction

    def distance(c):  # |v (1 - κ) f|²/V over two, f = [(1.5 C + v)⁻¹ - (C + v)⁻¹] y
        c, w = 1.5 * c, 1.5 * c + v
        left = strength * v * w / (c + strength * v * w)
        return 0.5 * (v * left * (1 / w - 1 / (c / 1.5 + v))) ** 2 * (c / 1.5 + v) / (c * v / w)

    shortfall = (exact.gaussian_log_density(a, 0.0) - values).mean()
    noise = np.sqrt(np.mean(stderr**2) / len(a))
    expected = covariance.trace(divergence) + covariance.trace(distance)
    assert shortfall == pytest.approx(expected, abs=4 * noise + 1e-3)


def test_errors_in_directions_of_no_variance_do_not_rule_the_decoder():
    # C_k = (1 + k²)⁻⁴, with noise four decades above the least: an f of error only, as large in every direction.
    covariance = SpectralCovariance(0.0, (1.0 + np.arange(17) ** 2) ** -4.0, (32,))
    v, strength = 1e-6, covariance.trace(lambda c: c / (c + 1e-6) ** 2) / 32
    size = 0.2 * np.sqrt(strength)
    plain = gaussian_family(covariance, (32,), np.sqrt(v))
    # White, and without correlation with what it is added to.
    family = dataclasses.replace(plain, correction=lambda a, _: size * np.sqrt(2) * np.sin(1e6 * np.roll(a, 7, -1)))
    a = plain.gaussian_sample(np.random.default_rng(1).standard_normal((400, 32)), 0.0)
    cost = float(bound(family, a, n_levels=26)["excess"][0])
    unlimited = 0.5 * size**2 * covariance.trace(lambda c: v * (1 + v / c))
    assert unlimited > 1.0
    assert cost < 32 / 8 * 0.2**2  # the bound for κ: 1/8 (error/q)² for each direction


def test_batches_change_nothing_but_the_noise(monkeypatch):
    family, a = bimodal().family(0.1), blurred(bimodal(), 200, 0.1, 8)
    values, stderr = elbo(family, a, decode=True)
    monkeypatch.setattr(module, "CHUNK_VALUES", 120)  # 30 states at a time
    others, noise = elbo(family, a, decode=True)
    assert not np.array_equal(values, others)
    deviation = (values - others).mean()
    assert abs(deviation) < 4 * np.sqrt((np.mean(stderr**2) + np.mean(noise**2)) / len(a))


def test_families_are_judged_on_the_same_noise():
    a = bimodal().sample(200, seed=9)
    (exact, noise), (other, _) = (elbo(each, a) for each in (strong(1.0), strong(1.02)))
    assert np.std(other - exact) < 0.2 * np.sqrt(np.mean(noise**2))


@pytest.mark.parametrize("wrong", [{"n_levels": 1}, {"seed": 0.5}, {"schedule": "cosine"}])
def test_settings_are_checked(wrong):
    family = bimodal().family()
    for function in (elbo, bound):
        with pytest.raises(InputError, match=next(iter(wrong))):
            function(family, np.zeros((4, 2)), **wrong)


def test_a_standard_error_of_few_levels_is_not_given():
    with pytest.raises(InputError, match="n_levels=8 is not an integer from 16"):
        elbo(bimodal().family(), np.zeros((4, 2)), n_levels=8)


def test_a_schedule_with_other_ends_is_refused():
    family = bimodal().family(0.1)
    with pytest.raises(InputError, match="the schedule goes from"):
        elbo(family, np.zeros((2, 2)), schedule=make_schedule("edm", 0.1, 0.5 * prior_level(family)))
