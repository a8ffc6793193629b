"""The null band: closed forms against brute force, calibration on unlinked data, and links that are found."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde

import gfdt
from gfdt.crosschecks.inputs import load_record
from gfdt.crosschecks.null_band import _moments, null_band
from gfdt.crosschecks.null_variance import autocorrelation_mean, null_variance
from gfdt.crosschecks.red_noise import RedNoise
from gfdt.errors import InputError, ReliabilityWarning

DIMS = ("member", "time", "component")


def unlinked(phi, n_members, n_times, seed, spread=1.0):
    phi = np.asarray(phi, dtype=float)
    null = RedNoise(phi, np.broadcast_to(spread, phi.shape), n_members, n_times, phi.shape, False)
    return spread * null.surrogate(np.random.default_rng(seed))


def gaussian(x, max_lag, **options):
    return gfdt.response(x, gfdt.GaussianScore().fit(x, dims=DIMS), max_lag=max_lag, dims=DIMS, dt=1.0, **options)


def linked(n_members=20, n_times=200):
    """Component 0 drives component 1 one step later; component 2 stands alone."""
    rng = np.random.default_rng(0)
    x = np.zeros((n_members, n_times + 50, 3))
    for t in range(1, n_times + 50):
        x[:, t] = x[:, t - 1] * np.array([0.8, 0.5, 0.8]) + rng.standard_normal((n_members, 3))
        x[:, t, 1] += 0.3 * x[:, t - 1, 0]
    return x[:, 50:]


# --- the closed form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 2, 5, 30])
def test_variance_is_the_sum_over_autocovariances(lag):
    """N var of a mean of y_i x_j is the sum over all k of their autocovariances' product."""
    phi = np.array([0.9, 0.3, -0.5, 0.0])
    k = np.arange(-500, 501)
    got = null_variance(phi, np.array([lag]))[0]
    for i, a in enumerate(phi):
        for j, b in enumerate(phi):
            if i == j:
                continue
            own = a ** np.abs(k) * (1 + a ** (2 * lag)) - a**lag * (a ** np.abs(k + lag) + a ** np.abs(k - lag))
            assert got[i, j] == pytest.approx((own * b ** np.abs(k)).sum(), abs=1e-12)


def test_variance_of_the_diagonal_is_bartletts_sum():
    phi, lag = 0.7, 6
    k = np.arange(1, 2000)

    def rho(s):
        return phi ** np.abs(s)

    bartlett = ((rho(k + lag) + rho(k - lag) - 2 * rho(k) * rho(lag)) ** 2).sum()
    assert null_variance(np.array([phi]), np.array([lag])).item() == pytest.approx(bartlett, rel=1e-12)


def test_lags_may_be_skipped_and_lag_zero_has_no_variance():
    phi = np.array([0.9, 0.3])
    every = null_variance(phi, np.arange(12))
    np.testing.assert_allclose(null_variance(phi, np.array([0, 3, 11])), every[[0, 3, 11]])
    np.testing.assert_array_equal(every[0], 0)


@pytest.mark.parametrize("grid", [None, (4, 5)])
def test_surrogates_have_the_closed_mean_and_variance(grid):
    if grid is None:
        null = RedNoise(np.array([0.9, 0.5, -0.3]), np.array([1.0, 2.0, 0.5]), 4, 1500, (3,), False)
    else:
        null = RedNoise(np.full(20, 0.8), np.ones(20), 2, 500, grid, True)
    lags = np.array([1, 3, 10])
    n = 300
    mean, variance = _moments(null, lags, n, 0, False)
    exact_mean, exact_variance = null.closed_form(lags)
    z = (mean - exact_mean) / np.sqrt(exact_variance / n)
    assert np.abs(z).max() < 4.5
    # Each ratio has a standard error (2/n)^(1/2) = 0.08; those of one lag are nearly independent.
    ratio = variance / exact_variance
    assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / n)
    assert ratio.mean() == pytest.approx(1, abs=0.08)


def test_mean_autocorrelation_has_the_bias_of_a_short_record():
    null = RedNoise(np.array([0.8]), np.ones(1), 1, 60, (1,), False)
    lags = np.array([1, 2, 4])
    values = [null.estimate(null.surrogate(np.random.default_rng(s)), lags)[:, 0, 0] for s in range(2000)]
    expected = autocorrelation_mean(np.array(0.8), lags, 60 - lags)
    # Of order 1/N = 0.15; what is left is of order 1/N^2.
    np.testing.assert_allclose(np.mean(values, axis=0), expected, atol=0.03)
    assert (0.8**lags - expected > 0.05).all()


# --- surrogates -----------------------------------------------------------------------------------------


def test_surrogates_keep_variance_and_persistence_and_nothing_else():
    x = unlinked([0.9, 0.2, -0.4], 20, 2000, seed=1, spread=np.array([3.0, 1.0, 0.1]))
    null = RedNoise.fitted_to(load_record(x, var=None, dims=DIMS, dt=1.0), periodic=False)
    np.testing.assert_allclose(null.phi, [0.9, 0.2, -0.4], atol=4 / np.sqrt(40_000))
    np.testing.assert_allclose(null.spread, x.std((0, 1)), rtol=1e-12)
    z = null.surrogate(np.random.default_rng(2))
    assert z.shape == (20, 2000, 3)
    # Variance of a sample variance of AR(1): 2 (1 + phi^2)/(1 - phi^2)/N.
    for j, phi in enumerate(null.phi):
        assert z[..., j].var() == pytest.approx(1, abs=4 * np.sqrt(2 * (1 + phi**2) / (1 - phi**2) / 40_000))
        assert z[:, 0, j].var() == pytest.approx(1, abs=4 * np.sqrt(2 / 20))


def test_estimate_of_a_surrogate_is_the_gaussian_response():
    x = unlinked([0.9, 0.5], 4, 300, seed=3)
    null = RedNoise(np.array([0.9, 0.5]), np.ones(2), 4, 300, (2,), False)
    got = null.estimate(x, np.array([0, 2, 4]))
    expected = gaussian(x, 4.0, lag_stride=2, confidence=None)["response"]
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_estimate_of_a_homogeneous_surrogate_is_the_homogeneous_gaussian_response():
    null = RedNoise(np.full(20, 0.6), np.ones(20), 3, 200, (4, 5), True)
    z = null.surrogate(np.random.default_rng(0))
    x = xr.DataArray(z.reshape(3, 200, 4, 5), dims=("member", "time", "y", "x"), coords={"time": np.arange(200.0)})
    score = gfdt.GaussianScore(homogeneous=True).fit(x)
    expected = gfdt.response(x, score, max_lag=3.0, homogeneous=True, confidence=None)["response"]
    np.testing.assert_allclose(null.estimate(z, np.arange(4)), expected, atol=1e-10)


def test_moments_are_those_of_the_surrogates_and_follow_the_seed():
    null = RedNoise(np.array([0.9, 0.5]), np.array([1.0, 3.0]), 2, 100, (2,), False)
    lags = np.array([0, 1, 5])
    mean, variance = _moments(null, lags, 12, 7, False)
    draws = [
        null.estimate(null.surrogate(np.random.default_rng(np.random.SeedSequence(7, spawn_key=(k,)))), lags)
        for k in range(12)
    ]
    np.testing.assert_allclose(mean, np.mean(draws, axis=0), atol=1e-12)
    np.testing.assert_allclose(variance, np.var(draws, axis=0, ddof=1), atol=1e-12)
    x = unlinked([0.9, 0.5], 2, 100, seed=0)
    bands = [null_band(x, max_lag=5.0, n_surrogates=8, seed=s, dims=DIMS, dt=1.0)["null_upper"] for s in (1, 1, 2)]
    assert bands[0].equals(bands[1])
    assert not bands[0].equals(bands[2])


# --- calibration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_surrogates", [0, 30])
def test_false_positives_are_as_many_as_the_level_says(n_surrogates):
    phi = [0.9, 0.8, 0.6, 0.3, 0.0]
    off = ~np.eye(5, dtype=bool)
    rates = []
    for seed in range(80):
        x = unlinked(phi, 2, 400, seed=100 + seed)
        null = RedNoise.fitted_to(load_record(x, var=None, dims=DIMS, dt=1.0), periodic=False)
        response = null.estimate(x / null.spread, np.array([0, 1, 4, 12]))
        response = xr.Dataset({"response": (("lag", "component", "component_src"), response)}, {"lag": [0.0, 1, 4, 12]})
        got = null_band(x, response=response, n_surrogates=n_surrogates, confidence=0.9, seed=seed, dims=DIMS, dt=1.0)
        assert not got["significant"][0].any()
        rates.append(got["significant"].values[1:, off].mean())
    # Records are independent: the error of the rate is that of their mean (0.6 %).
    assert np.mean(rates) == pytest.approx(0.1, abs=3 * np.std(rates, ddof=1) / np.sqrt(80))


@pytest.mark.parametrize("multiplicity", ["bonferroni", "fdr"])
def test_many_entries_together_hold_their_level(multiplicity):
    """Without links any significant entry is false: the probability of one at all is at most 10 %."""
    records = 100
    hits = 0
    for seed in range(records):
        x = unlinked([0.8, 0.6, 0.3, 0.0], 2, 500, seed=seed)
        got = null_band(
            x,
            response=gaussian(x, 6.0, confidence=None),
            n_surrogates=0,
            confidence=0.9,
            multiplicity=multiplicity,
            dims=DIMS,
            dt=1.0,
        )
        # The diagonal has no null hypothesis of its own here: phi was fitted to it.
        hits += bool(got["significant"].values[:, ~np.eye(4, dtype=bool)].any())
    assert hits <= 0.1 * records + 3 * np.sqrt(records * 0.1 * 0.9)


@pytest.mark.parametrize("multiplicity", ["none", "bonferroni", "fdr"])
@pytest.mark.parametrize("n_surrogates", [0, 40])
def test_a_link_is_found_and_its_direction_told(multiplicity, n_surrogates):
    x = linked()
    response = gaussian(x, 4.0)
    got = null_band(x, response=response, multiplicity=multiplicity, n_surrogates=n_surrogates, dims=DIMS, dt=1.0)
    assert got["significant"].sel(component=1, component_src=0)[1:].all()
    if multiplicity != "none":
        assert not got["significant"].sel(component=0, component_src=1).any()
        assert not got["significant"].sel(component=2, component_src=[0, 1]).any()
    assert float(got["p_value"].sel(component=1, component_src=0, lag=1.0)) < 1e-6
    xr.testing.assert_identical(got["response"], response["response"])
    assert got.attrs["estimator"] == "gaussian"


def test_rules_against_many_entries_are_ordered():
    x = linked(20, 60)
    response = gaussian(x, 4.0)
    found = {
        rule: null_band(x, response=response, multiplicity=rule, n_surrogates=0, dims=DIMS, dt=1.0)
        for rule in ("none", "bonferroni", "fdr")
    }
    strict, middle, loose = (found[rule]["significant"] for rule in ("bonferroni", "fdr", "none"))
    assert not (strict & ~middle).any()
    assert not (middle & ~loose).any()
    wide, narrow = (found[rule]["null_upper"] - found[rule]["null_lower"] for rule in ("bonferroni", "none"))
    assert (wide >= narrow).all()
    assert (wide > 1.3 * narrow)[1:].all()  # 3.2 standard deviations instead of 2 for 36 entries
    outside = (response["response"] < found["bonferroni"]["null_lower"]) | (
        response["response"] > found["bonferroni"]["null_upper"]
    )
    np.testing.assert_array_equal(outside[1:], strict[1:])


def test_homogeneous_link_downstream_is_found():
    rng = np.random.default_rng(0)
    x = np.zeros((3, 200, 4, 6))
    x[:, 0] = rng.standard_normal((3, 4, 6))
    for t in range(1, 200):
        x[:, t] = 0.8 * np.roll(x[:, t - 1], 1, axis=-1) + 0.6 * rng.standard_normal((3, 4, 6))
    x = xr.DataArray(x + 5, dims=("member", "time", "y", "x"), coords={"time": np.arange(200.0)})
    score = gfdt.GaussianScore(homogeneous=True).fit(x)
    response = gfdt.response(x, score, max_lag=2.0, homogeneous=True)
    for n_surrogates in (0, 20):
        got = null_band(x, response=response, n_surrogates=n_surrogates, multiplicity="bonferroni")
        assert got["significant"].dims == ("lag", "dy", "dx")
        assert got["significant"].sel(lag=1, dy=0, dx=1)
        assert not got["significant"].sel(lag=1, dy=[-2, -1, 1]).any()
        alone = null_band(x, max_lag=2.0, homogeneous=True, n_surrogates=n_surrogates, multiplicity="bonferroni")
        np.testing.assert_allclose(alone["null_upper"], got["null_upper"])
        assert alone["dx"].values.tolist() == response["dx"].values.tolist()


def test_units_of_the_components_scale_the_band():
    x = linear_sde.sample(20, 100, 0.5, 0)
    scale = np.array([1.0, 10.0, 0.1, 1.0])
    one, other = (null_band(v, max_lag=2.0, n_surrogates=8, dims=DIMS, dt=0.5) for v in (x, x * scale))
    expected = one["null_upper"] * scale[:, None] / scale
    np.testing.assert_allclose(other["null_upper"][1:], expected[1:], rtol=1e-9)


# --- what is refused ------------------------------------------------------------------------------------


def test_refuses_what_does_not_fit():
    x = linked(20, 60)
    options = {"dims": DIMS, "dt": 1.0}
    response = gaussian(x, 4.0)
    for bad, match in (
        ({}, "max_lag is missing"),
        ({"max_lag": 4.0, "response": response}, "come with the response"),
        ({"max_lag": 4.0, "n_surrogates": 3}, "at least 8"),
        ({"max_lag": 4.0, "multiplicity": "fdr"}, "pass response="),
        ({"max_lag": 4.0, "multiplicity": "sidak"}, "multiplicity"),
        ({"max_lag": 4.0, "score": "kgmm"}, "score"),
        ({"max_lag": 4.0, "confidence": None}, "confidence"),
        ({"response": response.isel(component=slice(2))}, "the same record"),
        ({"response": response["response"]}, "pass what gfdt.response returned"),
        ({"response": response.assign_coords(lag=response["lag"] + 0.5)}, "not multiples"),
        ({"response": response.assign_attrs(observable="variance")}, "variance"),
        ({"response": response, "homogeneous": True}, "contradicts"),
    ):
        with pytest.raises(InputError, match=match):
            null_band(x, **options, **bad)
    with pytest.warns(ReliabilityWarning, match="'dsm'"):
        null_band(x, response=response.assign_attrs(estimator="dsm"), n_surrogates=0, **options)


def test_result_can_be_written(tmp_path):
    x = linked(20, 60)
    null_band(x, response=gaussian(x, 4.0), n_surrogates=0, dims=DIMS, dt=1.0).to_netcdf(tmp_path / "band.nc")
