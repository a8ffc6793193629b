"""A schedule learned from the score: the same bound, with less noise."""

import dataclasses

import numpy as np
import pytest
from reference.exact_families import Mixture, bimodal, dense, gaussian_family

from gfdt.density.bound import bound, elbo
from gfdt.density.learned_schedule import LearnedSchedule, learn_schedule
from gfdt.density.likelihood import prior_level
from gfdt.density.schedules import Schedule, make_schedule
from gfdt.density.strata import strata, time_of
from gfdt.errors import InputError


def variance(family, a, schedule):
    return float(np.mean(elbo(family, a, schedule=schedule, n_levels=64, seed=1)[1] ** 2))


def concentrated():
    """Peaks 0.02 wide in one of six components: f matters in one decade of σ."""
    centres = np.zeros((2, 6))
    centres[:, 0] = [1.0, -1.0]
    return Mixture([0.5, 0.5], centres, np.array([[4e-4, 1, 1, 1, 1, 1]] * 2))


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_it_is_not_noisier_than_the_others(level):
    family, a = bimodal().family(level), bimodal().sample(300, seed=1)
    learned = learn_schedule(family, bimodal().sample(200, seed=2))
    least = min(variance(family, a, name) for name in ("edm", "ve", "vp"))
    assert variance(family, a, learned) < 1.1 * least  # the variances are known to some per cent


def test_it_is_far_less_noisy_where_only_few_levels_matter():
    mixture = concentrated()
    # An error of the score about one level, in an interval an eighth of a decade wide.
    family = mixture.family(0.01, error=lambda a, sigma: 3 * np.sin(9 * a) * np.exp(-32 * np.log(sigma / 0.3) ** 2))
    a = mixture.sample(300, seed=3)
    learned = learn_schedule(family, mixture.sample(200, seed=4))
    assert variance(family, a, learned) < 0.5 * variance(family, a, "edm")


def test_it_can_be_asked_for_by_name():
    family, a = bimodal().family(0.1), bimodal().sample(150, seed=7)
    values, stderr = elbo(family, a, schedule="learned", n_levels=64)
    fixed, noise = elbo(family, a, n_levels=64)
    assert abs((values - fixed).mean()) < 4 * np.sqrt((np.mean(stderr**2) + np.mean(noise**2)) / len(a))
    assert np.mean(stderr**2) < np.mean(noise**2)
    by_sigma = bound(family, a, schedule="learned", n_levels=64)
    assert abs(float(by_sigma.excess.sum() - by_sigma.total_excess)) < 1e-12
    plain = gaussian_family(dense(np.eye(2)), (2,), 0.1)
    np.testing.assert_array_equal(elbo(plain, a, schedule="learned")[0], plain.gaussian_log_density(a, 0.1))


def test_weights_are_the_slope_of_the_variance_of_the_noise():
    learned = learn_schedule(bimodal().family(0.1), bimodal().sample(50, seed=5))
    t = np.linspace(0.005, 0.995, 500)
    t = t[np.abs(t[:, None] - learned.times).min(axis=1) > 1e-4]
    slope = (learned.level(t + 1e-6) ** 2 - learned.level(t - 1e-6) ** 2) / 2e-6
    np.testing.assert_allclose(learned.weight(t), slope, rtol=1e-6)
    assert isinstance(learned, Schedule)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_its_ends_are_those_of_the_bound(level):
    family = bimodal().family(level)
    learned = learn_schedule(family, bimodal().sample(20, seed=6), n_cells=5)
    assert make_schedule(learned, level, prior_level(family)) is learned
    assert (np.diff(learned.level(np.linspace(0, 1, 200))) > 0).all()


def test_a_gaussian_has_nothing_to_learn_from():
    learned = learn_schedule(gaussian_family(dense(np.eye(2)), (2,), 0.1), np.ones((5, 2)))
    geometric = make_schedule("ve", 0.1, 10.0)
    t = np.linspace(0, 1, 30)
    np.testing.assert_allclose(learned.level(t), geometric.level(t), rtol=1e-9)


def test_a_schedule_is_monotone_and_complete():
    good = [0.0, 0.5, 1.0], [4.0, 1.0, -3.0]
    assert float(LearnedSchedule(*good).level(1.0)) == pytest.approx(np.exp(1.5))
    with pytest.raises(InputError, match="of one length"):
        LearnedSchedule([0.0, 1.0], [1.0])
    for times, log_snr in (([0.0, 0.5, 0.9], good[1]), ([0.0, 0.6, 0.5], good[1]), (good[0], [4.0, 5.0, -3.0])):
        with pytest.raises(InputError, match="increase from 0 to 1"):
            LearnedSchedule(times, log_snr)
    with pytest.raises(InputError, match="n_cells"):
        learn_schedule(bimodal().family(), np.zeros((3, 2)), n_cells=0)
    with pytest.raises(InputError, match="no states"):
        learn_schedule(bimodal().family(), np.zeros((0, 2)))


@pytest.mark.parametrize("name", ["edm", "ve", "vp"])
def test_strata_integrate_over_each_bin(name):
    edges = np.array([0.0, 0.5, 2.0, 10.0])
    places = strata(make_schedule(name, 0.0, 10.0), 200, np.random.default_rng(0), edges)
    found = np.zeros(3)
    for place in places:
        assert (place.levels >= edges[place.bin]).all()
        assert (place.levels <= edges[place.bin + 1]).all()
        found[place.bin] += np.mean(place.weights / (1 + place.levels**2))
    # ∫ dv/(1 + v) = ln (1 + v); mirrored pairs leave the third derivative of the stratum's width.
    np.testing.assert_allclose(found, np.diff(np.log(1 + edges**2)), rtol=0.02)


def test_the_time_of_a_level_inverts_the_schedule():
    schedule = make_schedule("edm", 0.0, 10.0)
    t = np.linspace(0, 1, 11)
    np.testing.assert_allclose(time_of(schedule, schedule.level(t)), t, atol=1e-12)
    narrow = dataclasses.replace(schedule, low=0.1, high=5.0)
    np.testing.assert_array_equal(time_of(narrow, np.array([0.01, 0.1, 5.0, 8.0])), [0, 0, 1, 1])
