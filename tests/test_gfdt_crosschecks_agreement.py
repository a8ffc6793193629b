"""Where estimates agree: z of known differences, and independent or common errors."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde, noisy_records

import gfdt
from gfdt.crosschecks.agreement import agreement
from gfdt.crosschecks.noise_increments import noise_response
from gfdt.crosschecks.tangent import tangent_response
from gfdt.errors import InputError

DIMS = ("member", "time", "component")
KICK = ("lag", "component", "component_src")


def made(value, stderr=None, lags=(0.0, 1.0, 2.0), influence=None):
    shape = (len(lags), 2, 2)
    data = {"response": (KICK, np.broadcast_to(value, shape).copy())}
    if stderr is not None:
        data["stderr"] = (KICK, np.broadcast_to(stderr, shape).copy())
    if influence is not None:
        data["influence"] = (("unit", *KICK), influence)
    return xr.Dataset(data, coords={"lag": list(lags)})


def test_z_is_the_difference_over_the_combined_error():
    got = agreement({"a": made(1.0, 0.3), "b": made(2.0, 0.4), "exact": made(1.5)})
    assert got["pair"].values.tolist() == ["a - b", "a - exact", "b - exact"]
    np.testing.assert_allclose(got["z"].sel(pair="a - b"), -1 / 0.5)
    np.testing.assert_allclose(got["rms_z"].sel(pair="a - exact"), 0.5 / 0.3)
    np.testing.assert_allclose(got["max_z"].sel(pair="b - exact"), 0.5 / 0.4)
    np.testing.assert_allclose(got["difference"], [1, 0.5, 0.5])
    assert got["first"].values.tolist() == ["a", "a", "b"]


def test_errors_in_common_cancel_unit_by_unit():
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((2, 10, 3, 2, 2))
    one = made(1.0, 1.0, influence=common + 0.1 * own)
    other = made(2.0, 1.0, influence=common)
    got = agreement({"a": one, "b": other})
    expected = np.sqrt(10 / 9 * ((0.1 * own) ** 2).sum(0))
    np.testing.assert_allclose(got["z"][0], -1 / expected)
    assert bool(got["shared_units"].item())
    assert not agreement({"a": one, "b": made(2.0, 1.0)})["shared_units"].item()


def test_equal_entries_do_not_count_as_agreement():
    one, other = made(1.0, 0.5), made(1.0, 0.5)
    other["response"][1:] += 1.0
    got = agreement({"a": one, "b": other})
    np.testing.assert_array_equal(got["z"].sel(lag=0.0), 0)
    assert np.isnan(got["rms_z"].sel(lag=0.0)).all()
    assert got["rms_z_overall"].item() == pytest.approx(np.sqrt(2))


def test_common_lags_and_any_order_of_dims():
    one = made(1.0, 0.5, lags=(0.0, 1.0, 2.0))
    other = made(2.0, lags=(1.0, 2.0, 3.0)).transpose("component_src", "lag", "component")
    got = agreement({"a": one, "b": other})
    assert got["lag"].values.tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="no lag in common"):
        agreement({"a": one, "b": made(1.0, lags=(7.0, 8.0))})


def test_independent_estimates_of_one_system_agree_and_a_biased_one_does_not():
    x, noise = noisy_records.linear(24, 400, 0.25, seed=0)
    other, _ = noisy_records.linear(24, 400, 0.25, seed=1)
    options = {"max_lag": 3.0, "dims": DIMS, "dt": 0.25}
    estimates = {
        "gaussian": gfdt.response(other, gfdt.GaussianScore().fit(other, dims=DIMS), **options),
        "noise": noise_response(x, noise, **options),
        "tangent": tangent_response(x, lambda u: u @ linear_sde.DRIFT.T, **options),
    }
    exact = estimates["noise"]["response"].copy(data=linear_sde.exact_response(estimates["noise"]["lag"].values))
    got = agreement(estimates | {"exact": exact})
    assert got.sizes["pair"] == 6
    known = got["pair"].values != "tangent - exact"  # both without error to rounding
    # 192 correlated entries: a chi-square of effectively a few dozen.
    assert (got["rms_z_overall"].values[known] < 1.6).all()
    assert (got["rms_z_overall"].values[known] > 0.5).all()
    biased = estimates["noise"].copy()
    biased["response"] = biased["response"] * 1.1
    assert agreement({"noise": biased, "gaussian": estimates["gaussian"]})["max_z"].max() > 4
    table = gfdt.compare(exact, estimates)
    assert table["rms_overall"].sel(estimator="noise") < table["rms_overall"].sel(estimator="gaussian")


def test_one_record_two_estimates_differ_less_than_their_errors_suggest():
    """The Gaussian response and its GFDT with the exact score share most of their sampling error."""
    x = linear_sde.sample(24, 300, 0.25, 0)
    options = {"max_lag": 2.0, "dims": DIMS, "dt": 0.25}
    inverse = np.linalg.inv(linear_sde.stationary_covariance())
    one = gfdt.response(x, gfdt.GaussianScore().fit(x, dims=DIMS), **options)
    other = gfdt.response(x, gfdt.AnalyticScore(lambda u: -u @ inverse), correction="none", **options)
    shared = agreement({"a": one, "b": other})
    apart = agreement({"a": one.drop_vars("influence"), "b": other})
    assert shared["shared_units"].item()
    assert shared["rms_z_overall"].item() >= apart["rms_z_overall"].item()


def test_result_can_be_written(tmp_path):
    agreement({"a": made(1.0, 0.3), "b": made(2.0)}).to_netcdf(tmp_path / "agreement.nc")


def test_refuses_what_cannot_be_compared():
    one = made(1.0, 0.3)
    for bad, match in (
        ({"a": one}, "two or more"),
        (one, "two or more"),
        ({"a": made(1.0), "b": made(2.0)}, "has error bars"),
        ({"a": one, "b": one.isel(component=0)}, "one kind and state"),
        ({"a": one, "b": one.assign_attrs(observable="variance")}, "like with like"),
        ({"a": one, "b": xr.Dataset()}, "no variable 'response'"),
    ):
        with pytest.raises(InputError, match=match):
            agreement(bad)
