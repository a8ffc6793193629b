"""Where in σ the bound is won and lost, and how much of the gap data alone reveal."""

import dataclasses

import numpy as np
import pytest
from reference.exact_families import bimodal, dense, gaussian_family, three_peaks

from gfdt.covariance import SpectralCovariance
from gfdt.density.bound import bound, elbo
from gfdt.density.by_sigma import bin_edges
from gfdt.density.family import Diagonal
from gfdt.density.recast import recast
from gfdt.errors import InputError


def strong(factor, level=0.1):
    """The bimodal mixture's family, its f too strong by a factor."""
    family = bimodal().family(level)
    return dataclasses.replace(family, correction=lambda a, sigma: factor * family.correction(a, sigma), product=None)


def tilted(level=0.1):
    """The same with an error of the score that is linear in y."""
    return bimodal().family(level, error=lambda a, sigma: -0.3 * a / (1 + sigma**2))


@pytest.fixture(scope="module")
def states():
    return bimodal().sample(2000, seed=1)


def within(value, expected, stderr, sigmas=4.0):
    return np.abs(value - expected) <= sigmas * stderr


def test_the_bins_add_up(states):
    dataset = bound(bimodal().family(0.1), states)
    assert float(dataset.excess.sum()) == pytest.approx(float(dataset.total_excess))
    assert float(dataset.gaussian - dataset.total_excess) == pytest.approx(float(dataset.elbo))
    np.testing.assert_allclose(dataset.sigma_low[1:], dataset.sigma_high[:-1])
    assert dataset.sigma_low[0] == 0  # the decoder
    values, stderr = elbo(bimodal().family(0.1), states, decode=True)
    # The same states and another noise.
    noise = np.sqrt(2 * np.mean(stderr**2) / len(states))
    assert abs(float(dataset.elbo) - values.mean()) < 4 * noise
    # The standard error is that of drawing other states.
    assert float(dataset.elbo_stderr) == pytest.approx(values.std() / np.sqrt(len(states)), rel=0.1)


def test_densities_are_in_the_units_of_the_data(states):
    # One unit of a is 2 and 5 of x: the density is ten times less.
    family = bimodal().family(0.1)
    stretched = dataclasses.replace(family, units=Diagonal(np.zeros(2), np.array([2.0, 5.0])))
    plain, other = (bound(each, states, n_levels=2) for each in (family, stretched))
    for name in ("elbo", "gaussian"):
        assert float(plain[name] - other[name]) == pytest.approx(np.log(10.0))
    assert float(plain.total_excess) == float(other.total_excess)


def test_an_exact_score_wins_at_every_level_and_nothing_is_found_against_it(states):
    dataset = bound(bimodal().family(0.1), states, reference=bimodal().family())
    assert (dataset.excess < 4 * dataset.excess_stderr).all()
    assert float(dataset.total_excess) < -20 * float(dataset.total_excess_stderr)
    informative = dataset.amplitude_stderr < 0.2
    assert informative.sum() > 6
    assert within(dataset.amplitude, 1.0, dataset.amplitude_stderr).where(informative, True).all()
    assert within(dataset.detected, 0.0, dataset.detected_stderr).all()
    assert within(float(dataset.total_detected), 0.0, float(dataset.total_detected_stderr))
    np.testing.assert_allclose(dataset.gap[1:], 0.0, atol=1e-15)
    assert float(dataset.gap[0]) < 1e-4  # the decoder leaves out a little of f, see gfdt.density.integrand
    assert float(dataset.total_gap - dataset.gap[0]) == pytest.approx(0.0, abs=1e-12)


def test_detected_is_unbiased_where_there_is_nothing_to_detect():
    # Thirty small records: were the noise not taken off, each would show half a nat per test and 1/n.
    found = [bound(bimodal().family(0.1), bimodal().sample(100, seed=k), n_levels=32, seed=k) for k in range(30)]
    totals = np.array([float(each.total_detected) for each in found])
    errors = np.array([float(each.total_detected_stderr) for each in found])
    assert abs(totals.mean()) < 4 * totals.std() / np.sqrt(30)
    assert 0.5 < np.sqrt(np.mean(errors**2)) / totals.std() < 2.0  # the spread of 30 values is known to 13 %


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_the_amplitude_tells_an_overfitted_score_from_one_learned_halfway(states, factor):
    dataset = bound(strong(factor), states, reference=bimodal().family())
    informative = dataset.amplitude_stderr < 0.1
    assert informative.sum() > 4
    assert within(dataset.amplitude, 1 / factor, dataset.amplitude_stderr).where(informative, True).all()
    # An error proportional to f itself is found completely.
    detected = dataset.detected.sel(test="amplitude")
    stderr = np.hypot(dataset.detected_stderr.sel(test="amplitude"), dataset.gap_stderr)
    assert within(detected, dataset.gap, stderr).all()
    assert float(detected.sum()) > 10 * float(np.sqrt((stderr**2).sum()))


def test_a_linear_error_is_found_where_it_is(states):
    dataset = bound(tilted(), states, reference=bimodal().family())
    detected, stderr = (dataset[name].sel(test="linear") for name in ("detected", "detected_stderr"))
    assert (detected <= dataset.gap + 4 * np.hypot(stderr, dataset.gap_stderr)).all()
    assert float(detected.sum()) > 0.95 * float(dataset.total_gap)
    assert float(detected.sum()) > 10 * float(np.sqrt((stderr**2).sum()))


def test_a_quartic_term_that_a_field_lacks_is_found_where_it_is():
    """Sites with the density exp(-x²/2 - g x⁴), against the Gaussian of their variance: the gap is known by quadrature.

    To first order in g the missing f is the cubic test itself.
    """
    g, level, n_sites = 0.05, 0.3, 8
    x = np.linspace(-8, 8, 3201)
    density = np.exp(-(x**2) / 2 - g * x**4)
    blurred = np.convolve(density, np.exp(-((x / level) ** 2) / 2), mode="same")
    density, blurred = (each / each.sum() for each in (density, blurred))
    variance = float(density @ x**2)
    gaussian = np.exp(-(x**2) / 2 / (variance + level**2))
    gap = n_sites * float(blurred @ np.log(np.maximum(blurred, 1e-300) / (gaussian / gaussian.sum())))
    rng = np.random.default_rng(0)
    a = rng.choice(x, (4000, n_sites), p=density) + level * rng.standard_normal((4000, n_sites))
    covariance = SpectralCovariance(0.0, np.full(n_sites // 2 + 1, variance), (n_sites,))
    dataset = bound(gaussian_family(covariance, (n_sites,), level), a, n_levels=32, decode=False)
    detected = dataset.detected.sel(test="cubic")
    stderr = float(np.sqrt((dataset.detected_stderr.sel(test="cubic") ** 2).sum()))
    assert 0.8 * gap - 4 * stderr < float(detected.sum()) < gap + 4 * stderr
    assert 5 * stderr < gap


def test_the_gap_is_what_the_bound_falls_short_of_the_exact_one():
    # From the blurred states, where both bounds are of the same density; the states' own scatter is large, and common.
    level, mixture = 0.1, bimodal()
    a = mixture.sample(8000, seed=2) + level * np.random.default_rng(3).standard_normal((8000, 2))
    exact, wrong = mixture.family(level), tilted(level)
    dataset = bound(wrong, a, reference=exact, decode=False)
    difference = elbo(exact, a)[0] - elbo(wrong, a)[0]
    stderr = np.hypot(difference.std() / np.sqrt(len(a)), float(dataset.total_gap_stderr))
    assert float(dataset.total_gap) == pytest.approx(difference.mean(), abs=4 * stderr)
    assert 4 * stderr < 0.2 * float(dataset.total_gap)


def test_a_wrong_prior_is_part_of_the_gap():
    # Known only up to twice the spread, the Gaussian is not yet what the density has become.
    matrix = np.diag([1.0, 0.5])
    exact = gaussian_family(dense(matrix), (2,))
    wrong = dataclasses.replace(gaussian_family(dense(1.5 * matrix), (2,)), highest=2.0)
    a = np.random.default_rng(4).standard_normal((4000, 2)) * np.sqrt(np.diag(matrix))
    dataset = bound(wrong, a, reference=exact)
    ratio = (np.diag(matrix) + 4.0) / (1.5 * np.diag(matrix) + 4.0)
    prior = 0.5 * np.sum(ratio - 1 - np.log(ratio))
    assert within(float(dataset.gap_prior), prior, float(dataset.gap_prior_stderr))
    assert float(dataset.total_gap) == pytest.approx(float(dataset.gap.sum() + dataset.gap_prior))
    assert float(dataset.total_gap) == pytest.approx(np.log(1.5) - 1 + 1 / 1.5, rel=0.1)


def test_states_that_are_copies_of_one_another_count_once(states):
    copies = np.repeat(states[:400], 5, axis=0)
    alone = bound(bimodal().family(0.1), copies, n_levels=32)
    together = bound(bimodal().family(0.1), copies, n_levels=32, unit_of=np.repeat(np.arange(400), 5))
    assert together.attrs["n_units"] == 400
    # Default: each of 1000 parts has two states, often copies; five copies then count as 2.5.
    assert float(together.gaussian_stderr / alone.gaussian_stderr) == pytest.approx(np.sqrt(5 / 2), rel=0.1)


def test_the_reference_may_have_coordinates_of_its_own(states):
    there, half = bimodal().family(), np.full(2, 0.5)
    rescaled = dataclasses.replace(
        there,
        units=Diagonal(np.full(2, 3.0), half),
        covariance=there.covariance.rescaled(half),
        correction=lambda a, level: 0.5 * there.correction(0.5 * a, 0.5 * level),
    )
    here = dataclasses.replace(tilted(), units=Diagonal(np.full(2, 3.0), np.ones(2)))
    expected = bound(here, states, reference=there, n_levels=32)
    found = bound(here, states, reference=recast(rescaled, here), n_levels=32)
    np.testing.assert_allclose(found.gap, expected.gap, rtol=1e-9, atol=1e-12)
    assert float(found.gap_prior) == pytest.approx(float(expected.gap_prior), abs=1e-9)


def test_a_score_without_any_correction_has_no_amplitude(states):
    gaussian = gaussian_family(dense(bimodal().covariance), (2,), 0.1)
    dataset = bound(gaussian, states, reference=bimodal().family())
    assert np.isnan(dataset.amplitude).all()
    assert not dataset.excess.any()
    # What a Gaussian misses of a mixture is not linear, but of second and third order.
    known, stderr = dataset.detected.sum("sigma"), np.sqrt((dataset.detected_stderr**2).sum("sigma"))
    assert within(known.sel(test="linear"), 0.0, stderr.sel(test="linear"))
    for test in ("quadratic", "cubic", "all"):
        assert float(known.sel(test=test)) > 2 * float(stderr.sel(test=test))
    assert 0.1 < float(dataset.total_detected) / float(dataset.total_gap) < 1


@pytest.mark.parametrize("schedule", ["edm", "ve", "vp"])
def test_bins_do_not_depend_on_the_schedule(states, schedule):
    dataset = bound(tilted(0.0), states, schedule=schedule, n_levels=256)
    base = bound(tilted(0.0), states, n_levels=256, seed=1)
    assert within(dataset.excess, base.excess, np.hypot(dataset.excess_stderr, base.excess_stderr)).all()


def test_edges_reach_from_level_to_top():
    for low in (0.0, 0.2):
        edges = bin_edges(low, 10.0)
        assert edges[0] == low
        assert edges[-1] == 10.0
        np.testing.assert_allclose(np.diff(np.log(edges[1:])), np.log(edges[2] / edges[1]))


def test_what_cannot_be_compared_is_refused(states):
    family = bimodal().family(0.1)
    with pytest.raises(InputError, match="unit_of has shape"):
        bound(family, states, unit_of=np.zeros(3, dtype=int))
    with pytest.raises(InputError, match="are of 1 unit"):
        bound(family, states, unit_of=np.zeros(len(states), dtype=int))
    with pytest.raises(InputError, match="pass one like it"):
        bound(family, states, reference=three_peaks().family())
    with pytest.raises(InputError, match="is known at noise levels"):
        bound(family, states, reference=dataclasses.replace(family, highest=1.0))
