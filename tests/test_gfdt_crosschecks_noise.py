"""The response from recorded noise: exact identities, order of accuracy, then statistics against exact responses."""

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from reference import correlations, linear_sde, noisy_records

import gfdt
from gfdt.crosschecks.noise_increments import _controlled, from_boxes, noise_response
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.sums import significance_threshold
from simulators import DoubleWell

DIMS = ("member", "time", "component")


def linear(n_members=4, n_times=1000, h=0.25, seed=0, **options):
    return noisy_records.linear(n_members, n_times, h, seed, **options)


def exact_boxes(h, n_boxes, drift=linear_sde.DRIFT):
    """b_l = B^-1 (exp(B l h) - exp(B (l - 1) h)) / h; b_0 is not used."""
    powers = linear_sde.exact_response(h * np.arange(n_boxes), drift)
    return np.concatenate([np.zeros((1, *drift.shape)), np.linalg.solve(drift, np.diff(powers, axis=0)) / h])


def agrees(response, exact):
    """Whether no entry is beyond what the largest of all entries may be by chance (0.1 %), and z is about 1 rms."""
    z = ((response["response"] - exact) / response["stderr"]).values[1:]
    assert np.abs(z).max() < significance_threshold(z.size, response.sizes["unit"])
    return float(np.sqrt((z**2).mean()))


# --- from boxes to lags ---------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0, 1, 2, 3])
@pytest.mark.parametrize("n_lags", [1, 2, 3, 7])
def test_boxes_of_a_cubic_give_it_back(power, n_lags):
    h = 0.3
    edges = h * np.arange(n_lags + 2)
    boxes = np.append(0.0, np.diff(edges ** (power + 1)) / (power + 1) / h)
    exact = (h * np.arange(n_lags)) ** power
    np.testing.assert_allclose(from_boxes(boxes, np.float64(0.0**power)), exact, atol=1e-12)


def test_lags_are_of_fourth_order_in_the_sample_interval_where_midpoints_are_of_second():
    errors = []
    for h in (0.1, 0.05):
        boxes = exact_boxes(h, round(2 / h) + 3)
        exact = linear_sde.exact_response(h * np.arange(round(2 / h) + 1))
        errors.append(np.abs(from_boxes(boxes, np.eye(4)) - exact).max())
        middle = (boxes[1:-2] + boxes[2:-1]) / 2 - exact[1:]
        np.testing.assert_allclose(middle, h**2 / 6 * exact[1:] @ linear_sde.DRIFT @ linear_sde.DRIFT, atol=5 * h**4)
    assert 3.5 < np.log2(errors[0] / errors[1]) < 4.5


# --- the estimate ---------------------------------------------------------------------------------------


def test_control_variate_is_the_formula_written_out():
    rng = np.random.default_rng(0)
    boxes, coefficients, white, forecast = rng.standard_normal((4, 6, 2, 2))
    got = _controlled(boxes, coefficients, white, forecast)
    for lag in range(6):
        expected = boxes[lag] - forecast[lag] @ boxes[0]
        for k in range(lag):
            expected = expected - coefficients[lag - k] @ white[k]
        np.testing.assert_allclose(got[lag], expected, atol=1e-12)


def test_estimate_equals_the_slow_twin():
    x, noise = linear(2, 120)
    options = {"max_lag": 1.0, "dims": DIMS, "dt": 0.25, "confidence": None}
    got = noise_response(x, noise, noise_covariance=1.0, **options)["response"].values
    h, n_boxes = 0.25, 7
    centred, dn = x - x.mean((0, 1)), noise[:, :-1]
    b = np.stack([correlations.lagged_outer(centred[:, : 119 + lag], dn, lag) for lag in range(1, n_boxes)]) / h
    b = np.concatenate([np.einsum("mti,mtj->ij", centred[:, :-1], dn)[None] / (2 * 119 * h), b])
    g = np.stack([correlations.lagged_outer(dn, dn, lag) for lag in range(n_boxes)]) / h
    g[0] -= np.eye(4)
    c = np.stack([correlations.lagged_outer(centred, centred, lag) for lag in range(n_boxes)])
    forecast, estimate = c @ np.linalg.inv(c[0]), b
    for _ in range(3):
        new = b - forecast @ b[0]
        for lag in range(n_boxes):
            new[lag] = new[lag] - sum(estimate[lag - k] @ g[k] for k in range(lag))
        estimate = new
    np.testing.assert_allclose(got, from_boxes(estimate, np.eye(4)), atol=1e-9)


@pytest.mark.parametrize("h", [0.1, 0.4])
def test_linear_response_within_its_errors_and_far_better_than_the_correlations(h):
    x, noise = linear(8, 1000, h, seed=1)
    got = noise_response(x, noise, max_lag=4.0, dims=DIMS, dt=h)
    exact = linear_sde.exact_response(got["lag"].values)
    assert 0.6 < agrees(got, exact) < 1.5
    assert got.attrs["variance_left"] < 0.05
    gaussian = gfdt.response(x, gfdt.GaussianScore().fit(x, dims=DIMS), max_lag=4.0, dims=DIMS, dt=h, confidence=None)
    table = gfdt.compare(
        xr.DataArray(exact, dims=got["response"].dims, coords={"lag": got["lag"]}), {"n": got, "g": gaussian}
    )
    assert table["rms_overall"].sel(estimator="n") < table["rms_overall"].sel(estimator="g") / 3


def test_correlated_noise_needs_the_inverse_of_its_covariance():
    q = np.array([[1.0, 0.6, 0, 0], [0.6, 2.0, 0, 0], [0, 0, 0.5, -0.2], [0, 0, -0.2, 0.3]])
    x, noise = linear(8, 1000, 0.2, seed=2, noise=q)
    for stated in (None, q):
        got = noise_response(x, noise, max_lag=2.0, dims=DIMS, dt=0.2, noise_covariance=stated)
        assert agrees(got, linear_sde.exact_response(got["lag"].values)) < 1.5


def test_double_well_within_its_errors():
    x, noise = noisy_records.double_well(128, 1500, 0.1, seed=3)
    got = noise_response(x, noise, max_lag=10.0, lag_stride=10, dims=DIMS, dt=0.1)
    # Weak order 2 with steps of 0.01: the bias of the record is far below its sampling error.
    exact = DoubleWell().exact_response(got["lag"].values).values
    assert agrees(got, exact) < 1.6
    assert got.attrs["variance_left"] < 0.4
    assert float(got["stderr"].max()) < 0.01


def test_error_bars_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(40):
        x, noise = linear(20, 300, 0.1, seed=seed)  # h = 0.1: what eq. 3 leaves out is a fiftieth of the error bars
        got = noise_response(x, noise, max_lag=2.0, lag_stride=4, dims=DIMS, dt=0.1)
        exact = linear_sde.exact_response(got["lag"].values)
        inside.append(((got["lower"] <= exact) & (exact <= got["upper"])).values[1:].mean())
    # Entries of one record are correlated, records are not: the error is that of 40 independent means.
    assert np.mean(inside) == pytest.approx(0.95, abs=4 * np.std(inside, ddof=1) / np.sqrt(40))


# --- shapes and options ---------------------------------------------------------------------------------


def test_labels_influence_and_bands_are_those_of_a_response():
    x, noise = linear()
    got = noise_response(x, noise, max_lag=1.0, dims=DIMS, dt=0.25, confidence=0.9)
    assert got["response"].dims == ("lag", "component", "component_src")
    np.testing.assert_allclose(got["response"][0], np.eye(4), atol=1e-14)
    n = got.sizes["unit"]
    np.testing.assert_allclose(np.sqrt(n / (n - 1) * (got["influence"] ** 2).sum("unit")), got["stderr"], atol=1e-12)
    np.testing.assert_allclose(got["influence"].sum("unit"), 0, atol=1e-12)
    np.testing.assert_allclose((got["upper"] + got["lower"]) / 2, got["response"], atol=1e-12)
    np.testing.assert_allclose(got["observable_std"], x.std((0, 1)))
    assert (got.attrs["observable_dims"], got.attrs["perturbation_dims"]) == ("component", "component_src")
    bare = noise_response(x, noise, max_lag=1.0, dims=DIMS, dt=0.25, confidence=None)
    assert "stderr" not in bare
    assert bare.attrs["confidence"] == "none"


def test_a_dataset_a_file_and_a_shorter_noise_give_the_same(tmp_path):
    x, noise = linear(4, 400)
    options = {"max_lag": 2.0, "lag_stride": 2}
    expected = noise_response(x, noise, dims=DIMS, dt=0.25, **options)
    dataset = xr.Dataset({"x": (DIMS, x), "noise": (DIMS, noise)}, coords={"time": 0.25 * np.arange(400)})
    dataset.to_netcdf(tmp_path / "run.nc")
    shorter = dataset["noise"].isel(time=slice(0, -1)).transpose("component", "time", "member")
    for got in (
        noise_response(dataset, "noise", **options),
        noise_response(dataset, "noise", var="x", **options),
        noise_response(tmp_path / "run.nc", "noise", **options),
        noise_response(dataset["x"], shorter, **options),
    ):
        xr.testing.assert_allclose(got.drop_attrs(), expected.drop_attrs())
    np.testing.assert_allclose(expected["lag"], [0, 0.5, 1, 1.5, 2])
    every = noise_response(dataset, "noise", max_lag=2.0)["response"].isel(lag=slice(None, None, 2))
    np.testing.assert_allclose(expected["response"], every, atol=1e-12)
    expected.to_netcdf(tmp_path / "response.nc")


def test_noise_saved_by_the_simulators_is_understood():
    system = DoubleWell()
    run = system.simulate(64, 60, 0.2, seed=5, save_noise=True)
    q = run["noise_covariance"].values
    got = noise_response(run, "noise", max_lag=3.0, noise_covariance=q)
    assert agrees(got, system.exact_response(got["lag"].values).values) < 1.7


def test_forms_of_the_covariance_are_the_same():
    x, noise = linear()
    options = {"max_lag": 1.0, "dims": DIMS, "dt": 0.25}
    results = [
        noise_response(x, noise, noise_covariance=q, **options)["response"] for q in (1.0, np.ones(4), np.eye(4))
    ]
    np.testing.assert_allclose(results[0], results[1])
    np.testing.assert_allclose(results[0], results[2])


# --- what is refused ------------------------------------------------------------------------------------


def test_refuses_noise_of_another_interval():
    x, noise = linear()
    with pytest.raises(InputError, match="store at sample n the increments between samples n and n"):
        noise_response(x, np.roll(noise, 1, axis=1), max_lag=1.0, dims=DIMS, dt=0.25)
    with pytest.warns(ReliabilityWarning, match=r"does not start at R\(0\) = I"):
        noise_response(x, np.roll(noise, -1, axis=1), max_lag=1.0, dims=DIMS, dt=0.25)


def test_refuses_a_covariance_that_is_not_of_these_increments():
    x, noise = linear()
    for wrong, ratio in ((0.25, "4"), (2.0, "0.4|0.5")):
        with pytest.raises(InputError, match=f"{ratio}.* times the variance per unit time"):
            noise_response(x, noise, max_lag=1.0, dims=DIMS, dt=0.25, noise_covariance=wrong)
    for wrong in (np.eye(3), np.triu(np.ones((4, 4))), "one", np.nan):
        with pytest.raises(InputError, match="noise_covariance"):
            noise_response(x, noise, max_lag=1.0, dims=DIMS, dt=0.25, noise_covariance=wrong)


def test_warns_of_noise_in_other_units_and_of_coloured_noise():
    x, noise = linear(8, 1000)
    with pytest.warns(ReliabilityWarning, match="not in the units of x"):
        noise_response(x, 3 * noise, max_lag=1.0, dims=DIMS, dt=0.25)
    rng = np.random.default_rng(0)
    white = np.sqrt(0.25) * rng.standard_normal((8, 1001, 4))
    coloured = white[:, 1:] + 0.5 * white[:, :-1]
    with (
        pytest.warns(ReliabilityWarning, match="correlated from one sample to the next"),
        pytest.warns(ReliabilityWarning, match="does not start"),
    ):
        noise_response(x, coloured, max_lag=1.0, dims=DIMS, dt=0.25)


def test_a_component_without_noise_cannot_be_kicked_by_it():
    x, noise = linear()
    silent = noise.copy()
    silent[..., 2] = 0
    with pytest.raises(InputError, match=r"noise increments cannot be used: .*component"):
        noise_response(x, silent, max_lag=1.0, dims=DIMS, dt=0.25)
    silent[..., 2] = noise[..., 1]
    with pytest.raises(InputError, match="a direction without noise"):
        noise_response(x, silent, max_lag=1.0, dims=DIMS, dt=0.25)


def test_refuses_other_shapes_lags_and_names():
    x, noise = linear(2, 60)
    options = {"dims": DIMS, "dt": 0.25}
    with pytest.raises(InputError, match="one increment for every sample"):
        noise_response(x, noise[:, :40], max_lag=1.0, **options)
    with pytest.raises(InputError, match="one increment for every sample"):
        noise_response(x, noise[:1], max_lag=1.0, **options)
    with pytest.raises(InputError, match="not shorter than the usable record"):
        noise_response(x, noise, max_lag=14.5, **options)
    with pytest.raises(InputError, match="names a variable"):
        noise_response(x, "noise", max_lag=1.0, **options)
    with pytest.raises(InputError, match="no variable 'noise'"):
        noise_response(xr.Dataset({"x": (DIMS, x)}), "noise", max_lag=1.0, dt=0.25)
    with pytest.raises(InputError, match="pass the increments"):
        noise_response(x, 3.0, max_lag=1.0, **options)
    with pytest.raises(InputError, match="confidence"):
        noise_response(x, noise, max_lag=1.0, confidence=2, **options)


def test_the_reference_record_has_the_covariances_of_the_theory():
    # The joint sampler is the ground the statistics above stand on: its state alone has the exact covariance.
    x, noise = noisy_records.linear(400, 60, 0.3, seed=0)
    covariance = linear_sde.stationary_covariance()
    product = np.einsum("mti,mtj->mij", x, x) / 60
    z = (product.mean(0) - covariance) / (product.std(0, ddof=1) / 20)
    assert np.abs(z).max() < 4.5
    # <x_{n+1} Delta_n> = int_0^h expm(B u) du Q
    expected = np.linalg.solve(linear_sde.DRIFT, scipy.linalg.expm(0.3 * linear_sde.DRIFT) - np.eye(4))
    product = np.einsum("mti,mtj->mij", x[:, 1:], noise[:, :-1]) / 59
    assert np.abs((product.mean(0) - expected) / (product.std(0, ddof=1) / 20)).max() < 4.5
