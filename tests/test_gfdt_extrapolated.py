"""Richardson extrapolation of learned scores: exact on Gaussians, of fourth order, and a score like any other."""

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.errors import InputError, NotFittedError

VECTOR = ("member", "time", "component")
FIELD = ("member", "time", "y", "x")
START = {"max_steps": 1, "batch_size": 64, "network_options": {"width": 8, "depth": 1}, "device": "cpu"}


@pytest.fixture(scope="module")
def record():
    """Three correlated components, and time enough for a response."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 100, 3)) @ np.array([[1.0, 0.0, 0.0], [0.8, 1.0, 0.0], [0.0, 0.5, 0.7]]) + 2.0
    x[:, 1:] = 0.8 * x[:, :-1] + 0.6 * x[:, 1:]
    return xr.DataArray(x, dims=VECTOR, coords={"time": 0.5 * np.arange(100)})


@pytest.fixture(scope="module")
def start(record):
    """A Gaussian start, whose score at every level is known."""
    score = gfdt.DSMScore(sigma=0.3, **START).fit(record)
    assert score.selected_ == "gaussian start"
    return score


@pytest.fixture(scope="module")
def learned():
    """A score with a network, of data with two peaks."""
    rng = np.random.default_rng(1)
    x = rng.choice([-1.0, 1.0], (8, 200, 2)) + 0.3 * rng.normal(size=(8, 200, 2))
    settings = START | {"max_steps": 100, "batch_size": 256, "learning_rate": 0.02, "sigma": 0.3}
    score = gfdt.DSMScore(noise_range="local", **settings).fit(x, dims=VECTOR)
    assert score.selected_ != "gaussian start"
    return score, x


def flat(record):
    return record.values.reshape(-1, 3)


def gaussian(record, sigma):
    """-(C + σ²)⁻¹ (x - m)."""
    x = flat(record) - flat(record).mean(axis=0)
    return -np.linalg.solve(np.cov(x.T, bias=True) + sigma**2 * np.eye(3), x.T).T


@pytest.mark.parametrize("ratio", [2**0.5, 2.0])
def test_of_a_gaussian_it_is_the_combination_of_two_blurred_scores(start, record, ratio):
    extrapolated = start.extrapolated(ratio)
    expected = (ratio**2 * gaussian(record, 0.3) - gaussian(record, 0.3 * ratio)) / (ratio**2 - 1)
    np.testing.assert_allclose(extrapolated(flat(record)), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    assert extrapolated.noise_level_ == 0.0
    assert extrapolated.fingerprint_ == start.fingerprint_
    assert "sigma" not in repr(extrapolated)


def test_its_bias_is_of_fourth_order_in_the_noise_level(start, record):
    exact, levels = gaussian(record, 0.0), (0.1, 0.05, 0.025)
    plain, extrapolated = [], []
    for level in levels:
        there = start.at_noise_level(level)
        plain.append(np.linalg.norm(there(flat(record)) - exact))
        extrapolated.append(np.linalg.norm(there.extrapolated()(flat(record)) - exact))
    # σ² over the smallest eigenvalue of C is below 0.1: the next order bends the slopes by as much
    assert np.log2(np.divide(plain[:-1], plain[1:])) == pytest.approx(2.0, abs=0.2)
    assert np.log2(np.divide(extrapolated[:-1], extrapolated[1:])) == pytest.approx(4.0, abs=0.4)


def test_levels_that_differ_between_components_are_extrapolated_together(record):
    scale = np.array([1.0, 100.0, 0.01])
    score = gfdt.DSMScore(**START).fit(record * xr.DataArray(scale, dims="component"))
    score = score.at_noise_level(0.05 * scale * flat(record).std(axis=0))
    assert score.noise_level_.shape == (3,)
    x = flat(record) - flat(record).mean(axis=0)
    covariance, blur = np.cov(x.T, bias=True), np.diag(0.05**2 * x.var(axis=0))
    fine, coarse = (-np.linalg.solve(covariance + factor * blur, x.T).T for factor in (1, 2))
    found = score.extrapolated()(scale * flat(record)) * scale
    np.testing.assert_allclose(found, 2 * fine - coarse, rtol=0, atol=1e-10 * np.abs(fine).max())


def test_derivatives_are_those_of_the_extrapolated_score(learned):
    score, x = learned
    extrapolated = score.extrapolated()
    states, v, step = x[0, :7], np.random.default_rng(2).normal(size=(7, 2)), 3e-3
    differences = (extrapolated(states + step * v) - extrapolated(states - step * v)) / (2 * step)
    # float32 in the network: as for the score itself
    np.testing.assert_allclose(extrapolated.jvp(states, v), differences, rtol=0, atol=3e-3 * np.abs(differences).max())
    columns = [extrapolated.jvp(states, unit)[:, axis] for axis, unit in enumerate(np.eye(2))]
    np.testing.assert_allclose(extrapolated.divergence(states), sum(columns), rtol=1e-12)


def test_response_is_the_same_combination_of_those_of_the_two_levels(start, record):
    options = {"max_lag": 5.0, "correction": "none"}
    coarse = start.at_noise_level(0.3 * 2**0.5)
    found, a, b = (
        gfdt.response(record, score, **options)["response"] for score in (start.extrapolated(), start, coarse)
    )
    np.testing.assert_allclose(found, 2 * a - b, rtol=0, atol=1e-12)
    labelled = gfdt.response(record, start.extrapolated(), **options)
    assert (labelled.attrs["estimator"], labelled.attrs["noise_level"]) == ("generative", 0.0)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 20.0, "two", np.nan])
def test_ratios_that_cannot_be_used_are_refused(start, ratio):
    with pytest.raises(InputError, match="ratio="):
        start.extrapolated(ratio)


def test_ratios_beyond_the_trained_levels_are_refused_and_near_their_end_reported(learned):
    with pytest.raises(InputError, match="times the highest noise level"):
        learned[0].extrapolated(8.0)
    with pytest.warns(gfdt.ReliabilityWarning, match="times the highest noise level"):
        learned[0].extrapolated(3.0)


def test_there_is_nothing_to_extrapolate_at_level_zero_or_before_a_fit(record):
    with pytest.raises(NotFittedError):
        gfdt.DSMScore().extrapolated()
    score = gfdt.DSMScore(objective="ssm", **START).fit(record)
    with pytest.raises(InputError, match="noise level is 0"):
        score.extrapolated()


def test_it_is_neither_fitted_nor_saved_but_says_what_to_do_instead(start, record, tmp_path):
    extrapolated = start.extrapolated()
    with pytest.raises(InputError, match=r"fit that, then call \.extrapolated\(\)"):
        extrapolated.fit(record)
    with pytest.raises(InputError, match=r"save the score itself and call \.extrapolated\(\)"):
        extrapolated.save(tmp_path / "score.safetensors")
    assert not list(tmp_path.iterdir())
