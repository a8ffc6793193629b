"""Samples of densities that are known: their statistics, their streams, and what is refused."""

import numpy as np
import pytest
import xarray as xr
from reference.exact_families import Mixture, bimodal, dense, gaussian_family

import gfdt
from gfdt.density import sampling
from gfdt.density.family import Family
from gfdt.density.sampling import METHODS, Sampler, decode, levels, sample
from gfdt.density.schedules import LEAST, PowerSchedule
from gfdt.errors import InputError, NotFittedError, ReliabilityWarning
from gfdt.scores.base import Score

DIMS = ("member", "time", "component")
MATRIX = np.array([[4.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.05]])


def sampler(method="heun", *, lam=None, n_steps=None, schedule="edm", decode=True):
    return Sampler.make(method, lam=lam, n_steps=n_steps, schedule=schedule, decode=decode)


def mixture_score(x, sigma=0.0):
    return bimodal().score(np.asarray(x), sigma)


def gaussian(n=5000):
    x = np.random.default_rng(0).multivariate_normal([10.0, 0.0, -1.0], MATRIX, (1, n))
    return gfdt.GaussianScore().fit(x, dims=DIMS), x[0]


def exact_mixture():
    score = gfdt.AnalyticScore(mixture_score, blurred=mixture_score)
    return score.fit(bimodal().sample(50_000, 1)[None], dims=DIMS)


def assert_same_statistics(got, mixture, bound=4.5):
    """Moments to the third, and the share of the upper peak, within ``bound`` standard errors."""
    exact = mixture.sample(400_000, 2)
    got, exact = (np.concatenate([x, x**2, x**3, x[:, :1] > 0], axis=1) for x in (got, exact))
    error = np.sqrt(got.var(axis=0) / len(got) + exact.var(axis=0) / len(exact))
    assert (np.abs(got.mean(axis=0) - exact.mean(axis=0)) < bound * error).all()


# ---- Gaussians


@pytest.mark.parametrize("lam", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("n_steps", [1, 2])
def test_gaussian_samples_have_the_covariance_exactly_after_any_number_of_steps(n_steps, lam):
    score, x = gaussian()
    n = 40_000
    got = score.sample(n, method="heun", lam=lam, n_steps=n_steps, seed=1).values
    exact = np.cov(x.T, bias=True)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    # an entry of a covariance has a standard error of at most sqrt(2/n) of that scale, a mean of sqrt(1/n)
    assert (np.abs(np.cov(got.T) - exact) < 4 * np.sqrt(2 / n) * scale).all()
    assert (np.abs(got.mean(axis=0) - x.mean(axis=0)) < 4 * np.sqrt(np.diag(exact) / n)).all()


def test_the_flow_of_a_gaussian_is_one_linear_map_however_it_is_cut():
    family = gaussian_family(dense(MATRIX), (3,))
    one, many = (sample(family, 5, sampler("ode", n_steps=n), seed=2) for n in (1, 7))
    np.testing.assert_allclose(one, many, rtol=1e-12)


def test_blurred_gaussians_are_sampled_at_their_level_or_without_its_noise():
    family, n = gaussian_family(dense(MATRIX), (3,), 0.5), 100_000
    for clean, exact in ((True, MATRIX), (False, MATRIX + 0.25 * np.eye(3))):
        got = sample(family, n, sampler(decode=clean), seed=3)
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        assert (np.abs(np.cov(got.T) - exact) < 4 * np.sqrt(2 / n) * scale).all()


def test_decoding_takes_off_the_noise_of_a_narrow_peak():
    """Variance τ² + v of a peak becomes τ² + v²/4(τ² + v), for a peak narrow beside the whole density."""
    mixture, level = bimodal(), 0.1
    rng = np.random.default_rng(4)
    clean = mixture.sample(200_000, 5)
    got = decode(mixture.family(level), clean + level * rng.standard_normal(clean.shape))
    upper = got[got[:, 0] > 0.6, 0]  # the half of the upper peak beyond its middle, where the lower one is not
    exact = clean[clean[:, 0] > 0.6, 0]
    # the standard errors of both, and v²/4(τ² + v) = 2.5e-4 of the variance of 0.09
    assert abs(upper.mean() - exact.mean()) < 4.5 * np.sqrt(exact.var() * 2 / len(exact)) + 1e-3


# ---- an exact score that is not Gaussian


@pytest.mark.parametrize("method", ["heun", "ode", "predictor-corrector"])
def test_an_exact_score_gives_the_density(method):
    assert_same_statistics(exact_mixture().sample(20_000, method=method, seed=6).values, bimodal())


def test_euler_comes_nearer_with_more_steps():
    family = bimodal().family()
    exact = sample(family, 500, sampler("ode", n_steps=400), seed=7)
    few, many = (sample(family, 500, sampler("euler", lam=1.0, n_steps=n), seed=7) for n in (32, 128))
    ratio = np.sqrt(((few - exact) ** 2).mean() / ((many - exact) ** 2).mean())
    # order 1: four times the steps, a quarter of the error, but for the next order
    assert 3 < ratio < 5.5


def test_langevin_dynamics_samples_peaks_that_are_not_far_apart_by_a_score_of_one_level():
    close = bimodal()
    close.centres = close.centres * 0.5
    score = gfdt.AnalyticScore(lambda x: close.score(x), gaussian=gfdt.GaussianScore())
    score.fit(close.sample(20_000, 8)[None], dims=DIMS)
    assert_same_statistics(score.sample(20_000, method="langevin", n_steps=100, seed=9).values, close)


def test_estimators_without_a_family_are_sampled_by_langevin_dynamics():
    x = bimodal().sample(4000, 10)[None]
    score = gfdt.KernelScore(n_inducing=40).fit(x, dims=DIMS)
    with pytest.raises(InputError, match="KernelScore is known at one noise level only"):
        score.sample(10)
    got = score.sample(4000, method="langevin", n_steps=60, seed=11).values
    # a learned score: within a tenth of a standard deviation, two peaks
    assert (np.abs(got.std(axis=0) / x[0].std(axis=0) - 1) < 0.1).all()
    assert np.mean(np.abs(got[:, 0]) < 0.2) < 0.5 * np.mean(np.abs(got[:, 0] - 0.8) < 0.2)


def test_kernel_estimates_are_sampled():
    x = bimodal().sample(5000, 12)
    got = gfdt.KDEScore(bandwidth=0.2).fit(x[None], dims=DIMS).sample(5000, seed=13).values
    # the record's own sampling noise, and a bias of fourth order in h: some percent
    np.testing.assert_allclose(np.cov(got.T), np.cov(x.T), atol=0.08)
    assert abs(np.mean(got[:, 0] > 0) - np.mean(x[:, 0] > 0)) < 0.03


# ---- streams, batches, labels


@pytest.mark.parametrize("method", ["heun", "predictor-corrector", "langevin"])
def test_a_sample_does_not_depend_on_how_many_there_are_nor_on_batches(method, monkeypatch):
    family = bimodal().family()
    many = sample(family, 150, sampler(method, n_steps=8), seed=14)
    few = sample(family, 70, sampler(method, n_steps=8), seed=14)
    monkeypatch.setattr(sampling, "_BATCH_VALUES", 64)
    cut = sample(family, 150, sampler(method, n_steps=8), seed=14)
    # sums over batches of other sizes round differently
    np.testing.assert_allclose(few, many[:70], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cut, many, rtol=1e-9, atol=1e-12)
    assert np.abs(sample(family, 70, sampler(method, n_steps=8), seed=15) - few).min() > 0


def test_samples_are_labelled_states():
    x = np.random.default_rng(16).normal(size=(2, 30, 4, 6))
    score = gfdt.GaussianScore(homogeneous=True).fit(x, dims=("member", "time", "y", "x"))
    got = score.sample(3)
    assert isinstance(got, xr.DataArray)
    assert got.dims == ("sample", "y", "x")
    assert got.shape == (3, 4, 6)
    assert got.sample.values.tolist() == [0, 1, 2]


def test_the_levels_end_at_that_of_the_score_and_do_not_waste_steps_below_it():
    clean, blurred = bimodal().family(), bimodal().family(0.2)
    for schedule in ("edm", "ve", "vp"):
        path = levels(clean, sampler(n_steps=8, schedule=schedule))
        assert len(path) == 9
        assert (np.diff(path) < 0).all()
        np.testing.assert_allclose(path[[0, -2, -1]], [clean.top(), LEAST * clean.top(), 0.0])
        assert levels(blurred, sampler(n_steps=8, schedule=schedule))[-1] == 0.2
    mine = PowerSchedule(0.2, 5 * clean.top(), rho=3.0)
    assert levels(blurred, sampler(schedule=mine))[0] == pytest.approx(5 * clean.top())


def test_the_schedule_of_another_score_does_not_go_below_the_level_of_this_one():
    family = bimodal().family(0.0042)
    path = levels(family, sampler(n_steps=300, schedule=PowerSchedule(0.0012, family.top())))
    assert path.min() == 0.0042


@pytest.mark.parametrize("ratio", [1e-2, 1e-3, 1e-4])
def test_structure_in_a_narrow_direction_is_sampled(ratio):
    """Two peaks a fifth of a standard deviation wide, in a direction ``ratio`` as wide as the other."""
    mixture = Mixture([0.3, 0.7], [[0, -ratio], [0, ratio]], [[1, (0.2 * ratio) ** 2]] * 2)
    n, exact = 4000, mixture.sample(400_000, 21)[:, 1] / ratio
    got = sample(mixture.family(), n, sampler(n_steps=64), seed=22)[:, 1] / ratio
    # A last step from 0.001 of the top made of it, for the smaller two, one broad peak: no peak, nothing between.
    middle = mixture.centres[:, 1].mean() / ratio
    share = (exact < middle).mean()
    assert abs((got < middle).mean() - share) < 4 * np.sqrt(share * (1 - share) / n)
    between = np.abs(got - middle) < 0.4
    assert between.mean() < 0.0013 + 4 * np.sqrt(0.0013 / n)  # of the mixture P(|z| > 3) / 2 = 0.0013, from both sides


def test_a_rare_mode_far_away_keeps_its_weight():
    mixture = Mixture([0.99, 0.01], [[0.0], [10.0]], [[1.0], [0.25]])
    n = 20_000
    for method in ("heun", "ode"):
        got = sample(mixture.family(), n, sampler(method), seed=23)[:, 0]
        # The binomial error of a share of 0.01, and 0.0005 for the prior and the steps.
        assert abs((got > mixture.centres.mean()).mean() - 0.01) < 4 * np.sqrt(0.01 / n) + 0.0005


# ---- denoising


def test_denoising_a_gaussian_is_the_linear_regression_on_the_noisy_state():
    score, x = gaussian()
    covariance = np.cov(x.T, bias=True)
    for noise in (0.3, np.array([0.1, 0.5, 0.02])):
        gain = covariance @ np.linalg.inv(covariance + np.diag(np.broadcast_to(noise, 3) ** 2))
        exact = x.mean(axis=0) + (x[:7] - x.mean(axis=0)) @ gain.T
        np.testing.assert_allclose(score.denoise(x[:7], noise), exact, rtol=1e-9)
    np.testing.assert_array_equal(score.denoise(x[:7].astype(np.float32), 0.0), x[:7].astype(np.float32))


def test_a_denoised_state_is_nearest_to_the_clean_one_on_average():
    """No other function of the noisy state has a smaller mean square: not that of another σ, nor the Gaussian's."""
    score = exact_mixture()
    clean = bimodal().sample(20_000, 17)
    noisy = clean + 0.5 * np.random.default_rng(18).standard_normal(clean.shape)
    plain = gfdt.GaussianScore().fit(clean[None], dims=DIMS)
    errors = [((one.denoise(noisy, s) - clean) ** 2).mean() for one, s in ((score, 0.5), (score, 0.4), (plain, 0.5))]
    assert errors[0] < min(errors[1:])


@pytest.mark.parametrize("sigma", [-0.1, np.nan, "loud", [0.1, 0.2], np.ones((3, 3))])
def test_noise_of_another_kind_is_refused(sigma):
    with pytest.raises(InputError, match=r"(?s)sigma=.* such a multiple"):
        exact_mixture().denoise(np.zeros((1, 2)), sigma)


def test_noise_white_in_the_data_is_not_what_a_kernel_estimate_takes_off():
    score = gfdt.KDEScore(bandwidth=0.3).fit(bimodal().sample(1000, 19)[None], dims=DIMS)
    with pytest.raises(InputError, match="whitened coordinates"):
        score.denoise(np.zeros((1, 2)), 0.1)
    one = gfdt.KDEScore(bandwidth=0.3).fit(bimodal().sample(1000, 19)[None, :, :1], dims=DIMS)
    assert one.denoise(np.zeros((1, 1)), 0.1).shape == (1, 1)


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0 is not an integer from 1"),
        ({"n": 2.5}, r"n=2\.5"),
        ({"lam": 1.5}, r"lam=1\.5 is not a number"),
        ({"lam": np.nan}, "lam=nan"),
        ({"method": "ode", "lam": 0.0}, r'lam=0\.0, and method="ode" means lam=1'),
        ({"method": "sde", "lam": 1.0}, 'method="sde" means lam=0'),
        ({"method": "langevin", "lam": 0.0}, 'method="langevin" has no lam'),
        ({"method": "rk4"}, "method is 'rk4', which this version does not have"),
        ({"schedule": "cosine"}, "schedule is 'cosine'"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"decode": "yes"}, "decode='yes' is neither"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        gaussian(50)[0].sample(**{"n": 2, **options})


def test_scores_are_fitted_before_they_are_sampled():
    with pytest.raises(NotFittedError, match="fit"):
        gfdt.GaussianScore().sample(1)
    unfitted = gfdt.AnalyticScore(mixture_score)
    with pytest.raises(NotFittedError, match="fit"):
        unfitted.sample(1, method="langevin")
    with pytest.raises(InputError, match=r"gaussian=gfdt\.GaussianScore"):
        unfitted.fit(np.random.default_rng(20).normal(size=(1, 20, 2)), dims=DIMS).sample(1, method="langevin")


def test_a_score_that_blows_up_is_reported_with_the_level():
    def pushing(a, level):
        return np.full_like(a, np.inf) if level < 0.5 else 0 * a

    bad = Family(None, dense(np.eye(2)), (2,), 0.0, pushing)
    for method in ("heun", "euler"):
        with pytest.raises(InputError, match=r"no longer finite at the noise level 0\.\d+ .*n_steps"):
            sample(bad, 4, sampler(method))


def test_a_prior_that_is_not_yet_gaussian_is_warned_of():
    narrow = Family(None, dense(np.eye(1)), (1,), 0.1, lambda a, _: 0 * a, highest=0.8)
    with pytest.warns(ReliabilityWarning, match=r"up to the noise level 0\.8 only"):
        sample(narrow, 2, sampler())
    with pytest.raises(InputError, match="there is no noise to take off"):
        sample(Family(None, dense(np.eye(1)), (1,), 0.9, lambda a, _: 0 * a, highest=0.8), 2, sampler())


def test_every_method_is_reached_from_the_score():
    score = exact_mixture()
    assert {method for method in METHODS if score.sample(2, method=method, n_steps=3).shape == (2, 2)} == set(METHODS)
    assert hasattr(Score, "sample")
