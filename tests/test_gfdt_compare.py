"""Errors against a reference, and the score check."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde

import gfdt
from gfdt.errors import InputError

DIMS = ("member", "time", "component")
LAGS = 0.25 * np.arange(9)
EXACT = xr.DataArray(
    linear_sde.exact_response(LAGS),
    dims=("lag", "component", "component_src"),
    coords={"lag": LAGS, "component": np.arange(4), "component_src": np.arange(4)},
    name="response",
)


def shifted(by, stderr=None):
    out = xr.Dataset({"response": EXACT + by})
    if stderr is not None:
        out["lower"], out["upper"] = out["response"] - stderr, out["response"] + stderr
    return out


def record(n_members=24, n_times=2000, seed=0):
    return xr.DataArray(
        linear_sde.sample(n_members, n_times, 0.25, seed), dims=DIMS, coords={"time": 0.25 * np.arange(n_times)}
    )


def test_errors_of_a_known_difference():
    got = gfdt.compare(EXACT, {"same": shifted(0.0, 0.1), "off": shifted(0.3, 0.1), "no band": EXACT - 0.3})
    np.testing.assert_allclose(got["rms"].sel(estimator="off"), 0.3)
    np.testing.assert_allclose(got["max"].sel(estimator="no band"), 0.3)
    assert float(got["rms_overall"].sel(estimator="same")) == 0.0
    expected = 0.3 * np.sqrt(EXACT.size) / np.linalg.norm(EXACT)
    assert float(got["relative"].sel(estimator="off")) == pytest.approx(expected)
    assert got["coverage"].values[:2].tolist() == [1.0, 0.0]
    assert np.isnan(got["coverage"].values[2])


def test_only_common_lags_count_and_the_order_of_dims_does_not():
    longer = xr.concat([EXACT, EXACT.isel(lag=[-1]).assign_coords(lag=[9.0])], "lag")
    got = gfdt.compare(
        longer, {"a": shifted(0.1).isel(lag=slice(None, None, 2)).transpose("component_src", "lag", ...)}
    )
    np.testing.assert_allclose(got["lag"], LAGS[::2])
    np.testing.assert_allclose(got["rms"], 0.1)
    turned = shifted(0.0).isel(component=slice(None, None, -1), component_src=[2, 0, 1, 3])
    np.testing.assert_allclose(gfdt.compare(EXACT, {"a": turned})["max"], 0.0)


@pytest.mark.parametrize(
    ("reference", "responses", "message"),
    [
        (EXACT, {}, "nothing to compare"),
        (EXACT, xr.Dataset({"response": EXACT}), "responses is a Dataset: pass the responses by name"),
        (EXACT, {"a": EXACT.assign_coords(component=[5, 6, 7, 8])}, "other labels along 'component'"),
        (EXACT, {"a": xr.Dataset({"response": EXACT}, attrs={"observable": "variance"})}, "response of the variance"),
        (EXACT, {"a": EXACT.assign_coords(lag=LAGS + 0.1)}, "no lag in common"),
        (EXACT, {"a": EXACT.isel(component=0)}, "'a' has dims"),
        (EXACT, {"a": xr.Dataset({"b": EXACT})}, "'a' has no variable 'response'"),
        (EXACT, {"a": 3.0}, "'a' is a float"),
        (EXACT.isel(lag=0), {"a": EXACT}, "without 'lag'"),
    ],
)
def test_bad_comparisons_are_refused(reference, responses, message):
    with pytest.raises(InputError, match=message):
        gfdt.compare(reference, responses)


INVERSE = np.linalg.inv(linear_sde.stationary_covariance())


def test_exact_score_is_green():
    report = gfdt.check_score(record(), gfdt.AnalyticScore(lambda x: -x @ INVERSE))
    assert report.verdict == "green"
    assert report.ok
    assert "green" in str(report)
    assert report.stein_excess < 0.05


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "green"), (1.2, "amber"), (2.0, "red")])
def test_wrong_amplitude_is_flagged_in_proportion(factor, verdict):
    # M = factor I exactly in the mean, so the rms over the 16 entries of M - I is (factor - 1)/2.
    report = gfdt.check_score(record(), gfdt.AnalyticScore(lambda x: -factor * x @ INVERSE))
    assert report.verdict == verdict
    assert report.stein_excess == pytest.approx((factor - 1) / 2, abs=0.03)


def test_a_gaussian_score_of_data_that_are_not_gaussian_is_red():
    """It satisfies <s> = 0 and the Stein identity by construction; only the third order sees the kurtosis."""
    rng = np.random.default_rng(0)
    x = np.sign(rng.standard_normal((24, 500, 1))) + 0.3 * rng.standard_normal((24, 500, 1))
    report = gfdt.check_score(x, gfdt.GaussianScore().fit(x, dims=DIMS), dims=DIMS, dt=1.0)
    assert report.stein_excess < 1e-6
    # kurtosis/3 of +-1 blurred by 0.3: (1 + 6 0.09 + 3 0.0081)/(3 1.09^2)
    assert report.cubic_excess == pytest.approx(1 - 1.5643 / 3.5643, abs=0.02)
    assert report.verdict == "red"


def test_a_drifting_record_is_not_stationary():
    x = record()
    score = gfdt.AnalyticScore(lambda u: -u @ INVERSE)
    assert "drifts" in " ".join(gfdt.check_score(x + 0.001 * x["time"], score).reasons)
    few = xr.DataArray(np.random.default_rng(0).standard_normal((2, 4000, 1)), dims=DIMS).assign_coords(
        time=np.arange(4000.0)
    )
    assert gfdt.check_score(few, lambda u: -u).verdict == "green"
    assert "drifts" in " ".join(gfdt.check_score(few + 2e-4 * few["time"], lambda u: -u).reasons)


def test_an_exact_score_of_a_short_record_is_not_called_wrong():
    x = np.random.default_rng(3).standard_normal((2, 400, 200))
    report = gfdt.check_score(x, lambda u: -u, dims=DIMS, dt=1.0)
    assert report.verdict == "green", report


def test_a_score_with_a_wrong_centre_has_a_mean():
    report = gfdt.check_score(record(), gfdt.AnalyticScore(lambda x: -(x - 1.0) @ INVERSE))
    assert report.verdict == "amber"
    assert report.mean_score_z > 5
    assert "mean score" in report.reasons[0]


def test_the_known_blur_of_a_noise_level_is_not_held_against_a_score():
    blurred = np.linalg.inv(linear_sde.stationary_covariance() + np.eye(4))
    score = gfdt.AnalyticScore(lambda x: -x @ blurred)
    assert gfdt.check_score(record(), score).verdict == "red"
    score.noise_level_ = 1.0
    assert gfdt.check_score(record(), score).verdict == "green"


def test_homogeneous_score_is_checked_per_wavenumber():
    x = np.random.default_rng(0).standard_normal((24, 200, 4, 6))
    dims = ("member", "time", "y", "x")
    score = gfdt.GaussianScore(homogeneous=True).fit(x, dims=dims)
    report = gfdt.check_score(x, score, dims=dims, dt=1.0)
    assert report.stein.shape == (4 * 4,)
    assert report.verdict == "green"
