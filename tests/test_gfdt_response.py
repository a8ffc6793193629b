"""The response estimate: kernels against slow twins, exact identities, then statistics on an exact linear system."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from reference import correlations, linear_sde

import gfdt
from gfdt import response
from gfdt.errors import InputError, NotFittedError, ReliabilityWarning, UnreliableScoreWarning
from gfdt.responses.algebra import Algebra
from gfdt.responses.correction import find_correction
from gfdt.responses.correlation import outer_sums, pair_counts, spectral_sums
from gfdt.responses.sums import UnitSums
from gfdt.responses.units import Unit, coherence_time, resampling_units

DIMS = ("member", "time", "component")
INVERSE = np.linalg.inv(linear_sde.stationary_covariance())
EXACT_SCORE = gfdt.AnalyticScore(lambda x: -x @ INVERSE)


def linear(n_members=4, n_times=400, dt=0.25, seed=0):
    return xr.DataArray(
        linear_sde.sample(n_members, n_times, dt, seed), dims=DIMS, coords={"time": dt * np.arange(n_times)}, name="x"
    )


def field(shape=(4, 5), n_members=3, n_times=60, seed=0):
    """AR(1) in time, white in space, moved one cell in +x a step: (member, time, y, x)."""
    rng = np.random.default_rng(seed)
    x = np.empty((n_members, n_times, *shape))
    x[:, 0] = rng.standard_normal((n_members, *shape))
    for t in range(1, n_times):
        x[:, t] = 0.8 * np.roll(x[:, t - 1], 1, axis=-1) + 0.6 * rng.standard_normal((n_members, *shape))
    return xr.DataArray(x, dims=("member", "time", "y", "x"), coords={"time": np.arange(float(n_times))})


# --- kernels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", [(0, 30), (0, 7, 19, 30)])
@pytest.mark.parametrize("components", [2, 11])  # by transforms, and by products
def test_outer_sums_equal_the_loop(edges, components):
    rng = np.random.default_rng(0)
    a, b, lags = rng.standard_normal((1, 30, components)), rng.standard_normal((1, 30, 3)), np.array([0, 1, 5, 12])
    units = [Unit(0, *pair) for pair in pairwise(edges)]
    total = sum(outer_sums(a[0], b[0], unit, lags) for unit in units)
    count = sum(pair_counts(unit, 30, lags) for unit in units)
    for i, lag in enumerate(lags):
        np.testing.assert_allclose(total[i] / count[i], correlations.lagged_outer(a, b, lag), atol=1e-13)


@pytest.mark.parametrize("edges", [(0, 30), (0, 7, 19, 30)])
def test_spectral_sums_never_wrap_around(edges):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((30, 4)) + 1j * rng.standard_normal((30, 4))
    b = rng.standard_normal((30, 4)) + 1j * rng.standard_normal((30, 4))
    lags = np.array([0, 1, 5, 29])
    units = [Unit(0, *pair) for pair in pairwise(edges)]
    total = sum(spectral_sums(a, b, unit, lags) for unit in units)
    for i, lag in enumerate(lags):
        np.testing.assert_allclose(total[i], (a[lag:] * b[: 30 - lag].conj()).sum(axis=0), atol=1e-12)
    assert sum(pair_counts(unit, 30, lags) for unit in units).tolist() == [30, 29, 25, 1]


def test_wrapper_equals_the_slow_twin_for_the_full_matrix():
    x = linear(3, 40)
    got = response(x, EXACT_SCORE, max_lag=2.0, lag_stride=2, correction="none", confidence=None)
    centred = x.values - x.values.mean((0, 1))
    b = centred @ INVERSE
    for lag, value in zip((0, 2, 4, 6, 8), got["response"].values, strict=True):
        np.testing.assert_allclose(value, correlations.lagged_outer(centred, b, lag), atol=1e-12)
    np.testing.assert_allclose(got["lag"], [0.0, 0.5, 1.0, 1.5, 2.0])


def test_homogeneous_response_is_the_full_one_averaged_over_kick_sites():
    x = field() + 1.0
    score = gfdt.AnalyticScore(lambda u: -((u - 1.0) ** 3))
    options = {"max_lag": 3.0, "correction": "none", "confidence": None}
    full = response(x, score, **options)["response"]
    average = response(x, score, homogeneous=("y", "x"), **options)["response"]
    assert full.dims == ("lag", "y", "x", "y_src", "x_src")
    assert average.dims == ("lag", "dy", "dx")
    assert average["dy"].values.tolist() == [-2, -1, 0, 1]
    assert average["dx"].values.tolist() == [-2, -1, 0, 1, 2]
    # One mean for all sites, of the state and of the conjugate variable.
    a = (x.values - x.values.mean()).reshape(3, 60, 20)
    b = (x.values - 1.0).reshape(3, 60, 20) ** 3
    for lag, got in enumerate(average.values):
        matrix = correlations.lagged_outer(a, b - b.mean(), lag)
        np.testing.assert_allclose(got, correlations.displacement_average(matrix, (4, 5)), atol=1e-12)


def test_a_wave_moving_to_plus_x_answers_downstream():
    score = gfdt.GaussianScore(homogeneous=True).fit(field(n_times=2000))
    got = response(field(n_times=2000), score, max_lag=2.0, homogeneous=True)
    assert got["response"].sel(lag=1).argmax(...)["dx"] == 3
    assert float(got["response"].sel(lag=1, dy=0, dx=1)) == pytest.approx(0.8, abs=0.05)


# --- identities ------------------------------------------------------------------------------------------------------


def test_gaussian_response_is_c_of_t_times_inverse_c_of_zero():
    x = linear()
    got = response(x, gfdt.GaussianScore().fit(x), max_lag=5.0)
    centred = x.values - x.values.mean((0, 1))
    c0 = correlations.lagged_outer(centred, centred, 0)
    ct = correlations.lagged_outer(centred, centred, 8)
    np.testing.assert_allclose(got["response"].sel(lag=2.0), ct @ np.linalg.inv(c0), atol=1e-10)


@pytest.mark.parametrize("correction", ["auto", "stein"])
def test_finite_noise_level_is_undone_exactly_on_gaussian_data(correction):
    """R(t) <- R(t) R(0)^-1 acts on the perturbation index; for s = -(C + sigma^2)^-1 x it is exact."""
    x = linear(24, 400)
    centred = x.values - x.values.mean((0, 1))
    covariance = correlations.lagged_outer(centred[:, ::1], centred, 0)
    inverse = np.linalg.inv(covariance + 0.4**2 * np.eye(4))
    blurred = gfdt.AnalyticScore(lambda u: -(u - x.values.mean((0, 1))) @ inverse)
    blurred.noise_level_ = 0.4
    got = response(x, blurred, max_lag=5.0, correction=correction)
    exact = response(x, gfdt.GaussianScore().fit(x), max_lag=5.0)
    np.testing.assert_allclose(got["response"], exact["response"], atol=1e-9)
    raw = response(x, blurred, max_lag=5.0, correction="none")
    assert abs(raw["response"].sel(lag=0) - np.eye(4)).max() > 0.05


@pytest.mark.parametrize("correction", ["auto", "stein"])
def test_response_starts_at_the_identity(correction):
    got = response(linear(24, 300), EXACT_SCORE, max_lag=1.0, correction=correction)
    np.testing.assert_allclose(got["response"].sel(lag=0), np.eye(4), atol=1e-9)


def test_dims_follow_the_trajectory_and_the_order_of_its_axes_does_not_matter():
    x = field()
    score = gfdt.GaussianScore().fit(x)
    one = response(x, score, max_lag=2.0)
    two = response(x.transpose("x", "member", "y", "time"), score, max_lag=2.0)
    xr.testing.assert_allclose(one["response"], two["response"].transpose(*one["response"].dims))
    scalar = response(linear().isel(component=0), gfdt.AnalyticScore(lambda u: -u / 6.5), max_lag=1.0)
    assert scalar["response"].dims == ("lag",)


def test_attributes_say_how_it_was_made():
    got = response(linear(24, 200), EXACT_SCORE, max_lag=1.0)
    assert got.attrs["estimator"] == "analytical"
    assert got.attrs["resampling"] == "24 members"
    moments = {"observable_mean", "observable_std"}
    assert {"response", "stderr", "lower", "upper", "influence"} | moments == set(got.data_vars)
    assert set(response(linear(), EXACT_SCORE, max_lag=1.0, confidence=None).data_vars) == {"response"} | moments


def test_variance_of_a_gaussian_does_not_respond_to_a_push():
    """For Gaussian data <x'^2(t) s(0)> is a third moment: zero within its error."""
    x = linear(64, 2000, seed=3)
    got = response(x, EXACT_SCORE, max_lag=2.0, observable="variance")
    z = (got["response"] / got["stderr"]).isel(lag=slice(1, None))  # at lag 0 the known value, 2 <x'> = 0, is used
    assert float(np.sqrt((z**2).mean())) < 1.6  # 128 strongly correlated cells of unit variance
    np.testing.assert_allclose(got["response"].isel(lag=0), 0.0, atol=1e-12)
    raw = response(x, EXACT_SCORE, max_lag=2.0, observable="second_moment", correction="none")
    same = response(x, EXACT_SCORE, max_lag=2.0, observable="variance", correction="none")
    mean = x.values.mean((0, 1))
    first = response(x, EXACT_SCORE, max_lag=2.0, correction="none")["response"]
    np.testing.assert_allclose(raw["response"], same["response"] + 2 * mean[None, :, None] * first.values, atol=1e-10)


# --- statistics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["gaussian", "analytic"])
def test_error_bars_agree_with_a_brute_force_bootstrap(estimator):
    """Members drawn with replacement, everything (the fit too) done again: the same standard errors."""
    x = linear(32, 500, seed=5)

    def estimate(sample):
        score = gfdt.GaussianScore().fit(sample) if estimator == "gaussian" else EXACT_SCORE
        return response(sample, score, max_lag=4.0, lag_stride=4, correction="stein")

    rng = np.random.default_rng(7)
    draws = []
    for _ in range(200):
        chosen = x.isel(member=rng.integers(0, 32, 32)).assign_coords(member=np.arange(32))
        draws.append(estimate(chosen)["response"].values)
    ratio = estimate(x)["stderr"].values[1:] / np.std(draws, axis=0)[1:]
    # 200 draws know a standard deviation to 5 %; second-order terms of the ratio are of the order 1/32.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.06)
    assert np.abs(ratio - 1).max() < 0.3


@pytest.mark.parametrize(("n_members", "n_times"), [(24, 600), (3, 4000)])
@pytest.mark.parametrize("score", ["gaussian", "analytic"])
def test_bands_cover_the_exact_response_as_often_as_they_say(n_members, n_times, score):
    """Mean coverage of a 95 % band over 40 independent records, with the standard error of that mean."""
    lags = 0.25 * np.arange(17)
    exact = linear_sde.exact_response(lags)
    coverage = []
    for seed in range(40):
        x = linear(n_members, n_times, seed=seed)
        fitted = gfdt.GaussianScore().fit(x) if score == "gaussian" else EXACT_SCORE
        got = response(x, fitted, max_lag=4.0)
        coverage.append(float(((got.lower <= exact) & (exact <= got.upper)).mean()))
    spread = np.std(coverage) / np.sqrt(len(coverage))
    # First-order errors and block ends may cost two per cent of coverage, not more.
    assert 0.95 - 0.02 - 3 * spread < np.mean(coverage) < 0.95 + 0.02 + 3 * spread


def test_control_variate_removes_the_noise_of_a_slow_mode():
    """A mode that hardly moves in a member offsets R(t) at every lag alike; the known R(0) = 1 takes it out."""
    rng = np.random.default_rng(0)
    level = rng.standard_normal(40)[:, None, None]
    x = level + 0.05 * rng.standard_normal((40, 50, 1))
    score = gfdt.AnalyticScore(lambda u: -u / 1.0025)
    plain = response(x, score, max_lag=10.0, dims=DIMS, dt=1.0, correction="none")
    auto = response(x, score, max_lag=10.0, dims=DIMS, dt=1.0, correction="auto")
    assert float(auto["stderr"].sel(lag=5).squeeze()) < 0.05 * float(plain["stderr"].sel(lag=5).squeeze())
    assert float(auto["response"].sel(lag=5).squeeze()) == pytest.approx(1 / 1.0025, abs=0.02)


def test_noisy_modes_are_not_divided_by_their_noise():
    rng = np.random.default_rng(1)
    noisy = UnitSums(0.9 + 2.0 * rng.standard_normal((30, 1)), np.ones((30, 1)))
    found = find_correction("auto", noisy, parametric=np.array([0.9]), scale=np.ones(1), algebra=Algebra("numbers", 1))
    assert found.divisor[0] == pytest.approx(0.9, abs=0.1)
    assert found.weight[0] < 0.05


def test_dividing_by_a_noisy_identity_warns_with_the_condition_number():
    """Levels that hardly move, in 20 members: <x s> is known to a third."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((20, 1, 2)) + 0.01 * rng.standard_normal((20, 50, 2))
    score = gfdt.AnalyticScore(lambda u: -u)
    options = {"max_lag": 5.0, "dims": DIMS, "dt": 1.0}
    with pytest.warns(ReliabilityWarning, match=r"noise up to .* times its size; condition number .*amplified noise"):
        response(x, score, correction="stein", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        response(x, score, correction="auto", **options)


def test_coherence_time_of_ar1():
    """tau = 1/2 + 2 sum rho^2s = 1/2 + 2 rho^2/(1 - rho^2); Sokal's error is about tau sqrt(2 (2 W + 1) tau / n)."""
    rng = np.random.default_rng(0)
    x = np.zeros((4, 20000))
    for t in range(1, 20000):
        x[:, t] = 0.9 * x[:, t - 1] + rng.standard_normal(4)
    tau = 0.5 + 2 * 0.81 / 0.19
    error = tau * np.sqrt(22 * tau / 80000)
    assert coherence_time(x - x.mean()) == pytest.approx(tau, abs=3 * error)


def test_units_are_members_when_many_and_blocks_when_few():
    rng = np.random.default_rng(0)
    units, text = resampling_units(rng.standard_normal((20, 50, 1)))
    assert (len(units), text) == (20, "20 members")
    units, text = resampling_units(rng.standard_normal((2, 1000, 1)))
    assert "blocks" in text
    for member in (0, 1):
        mine = sorted((u.start, u.stop) for u in units if u.member == member)
        assert mine[0][0] == 0
        assert mine[-1][1] == 1000
        assert all(a[1] == b[0] for a, b in pairwise(mine))
    with pytest.warns(ReliabilityWarning, match="bands are rough"):
        resampling_units(np.cumsum(rng.standard_normal((1, 100, 1)), axis=1))


@pytest.mark.parametrize("factor", [1.0, 1.5, 5.0])
def test_a_score_of_wrong_amplitude_is_corrected_as_bias_not_as_noise(factor):
    """M = factor is known well: "auto" must divide by it like "stein", and say so where it is gross."""
    x = linear(24, 2000, seed=2)
    score = gfdt.AnalyticScore(lambda u: -factor * u @ INVERSE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        auto = response(x, score, max_lag=4.0)
    assert [item.category for item in caught] == ([UnreliableScoreWarning] if factor > 1.4 else [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stein = response(x, score, max_lag=4.0, correction="stein")
    difference = float(np.sqrt(((auto["response"] - stein["response"]) ** 2).mean()))
    assert difference < float(auto["stderr"].mean())


def test_blocks_are_longer_than_the_coherence_of_an_oscillation():
    """sum rho cancels for an oscillation; blocks cut by it gave 50 % coverage of a 95 % band (here: one member)."""
    drift = np.array([[-0.02, 1.0], [-1.0, -0.02]])
    noise = 0.04 * np.eye(2)
    lags = 5.0 * np.arange(1, 9)
    exact = linear_sde.exact_response(lags, drift)
    inverse = np.linalg.inv(linear_sde.stationary_covariance(drift, noise))
    coverage = []
    for seed in range(12):
        x = linear_sde.sample(2, 8000, 0.5, seed, drift, noise)
        got = response(x, gfdt.AnalyticScore(lambda u: -u @ inverse), max_lag=40.0, lag_stride=10, dims=DIMS, dt=0.5)
        got = got.isel(lag=slice(1, None))
        coverage.append(float(((got.lower <= exact) & (exact <= got.upper)).mean()))
    spread = np.std(coverage) / np.sqrt(len(coverage))
    assert 0.95 - 0.02 - 3 * spread < np.mean(coverage) < 0.95 + 0.02 + 3 * spread
    assert np.mean(coverage) > 0.8


def test_errors_are_those_of_a_known_score_when_it_was_fitted_elsewhere():
    """-<x s^T> is tied to the record only if the score was fitted on it; elsewhere R(0) fluctuates and says so."""
    here, there = linear(24, 200, seed=1), linear(24, 200, seed=2)
    score = gfdt.DSMScore(max_steps=1, sigma=0.05, progress=False).fit(here)
    options = {"max_lag": 1.0, "correction": "none"}
    assert float(response(here, score, **options)["stderr"].sel(lag=0).mean()) < 0.01
    assert float(response(there, score, **options)["stderr"].sel(lag=0).mean()) > 0.02


def test_a_score_function_that_works_in_place_does_no_harm():
    x = linear(24, 100)
    before = x.values.copy()

    def in_place(u):
        u @= -INVERSE
        return u

    got = response(x, in_place, max_lag=1.0)
    np.testing.assert_array_equal(x.values, before)
    np.testing.assert_allclose(got["response"], response(x, EXACT_SCORE, max_lag=1.0)["response"])


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_lag": -1.0}, "max_lag=-1 is negative"),
        ({"max_lag": 1e6}, r"max_lag=1e\+06 is not shorter than the record"),
        ({"max_lag": np.nan}, "not a finite number"),
        ({"max_lag": "long"}, "not a finite number"),
        ({"lag_stride": 0}, "lag_stride=0 is not a positive whole number"),
        ({"lag_stride": 1.5}, "lag_stride=1.5"),
        ({"correction": "best"}, "correction='best' is not known: choose among auto, stein, none"),
        ({"confidence": 95}, "confidence=95 is not a level"),
        ({"observable": "entropy"}, "observable='entropy' is not known: choose among mean"),
        ({"perturbation": np.ones(3)}, r"perturbation has shape \(3,\)"),
        ({"perturbation": lambda x: x}, "bare function: wrap it"),
        ({"perturbation": "all"}, "perturbation='all' is not known"),
        ({"homogeneous": ("y", "x")}, "does not match the state dims"),
        ({"score": 3.0}, "score is a float"),
        ({"score": gfdt.GaussianScore()}, "not fitted"),
        ({"score": gfdt.GaussianScore}, "score is the class GaussianScore"),
        ({"score": lambda x: 0 * x}, "singular"),
        ({"score": lambda x: x * 1j}, "complex128 values"),
        ({"score": gfdt.AnalyticScore(lambda x: x * np.nan)}, "returned NaN or inf for member 0"),
        ({"score": gfdt.GaussianScore().fit(field())}, "the score belongs to states.*'y': 4"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    options = {"score": EXACT_SCORE, "max_lag": 2.0} | arguments
    with pytest.raises((InputError, NotFittedError), match=message) as caught:
        response(linear(), options.pop("score"), **options)
    assert len(str(caught.value).splitlines()) == 1 or "perturbation" in arguments


def test_too_large_a_matrix_is_refused_with_the_way_out():
    x = np.random.default_rng(0).standard_normal((20, 40, 64, 64)).astype(np.float32)
    with pytest.raises(InputError, match=r"GiB.*homogeneous=\('y', 'x'\)"):
        response(x, gfdt.AnalyticScore(lambda u: -u), max_lag=10.0, dims=("member", "time", "y", "x"), dt=1.0)


def test_lags_beyond_half_the_record_warn():
    with pytest.warns(ReliabilityWarning, match="more than half the record"):
        response(linear(24, 40), EXACT_SCORE, max_lag=8.0)


# --- scores that a correction would dress up -------------------------------------------------------------------------


def caught_by(*arguments, **options):
    """The result and the classes of the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = response(*arguments, **options)
    return got, [item.category for item in caught]


@pytest.mark.parametrize("seed", range(10))
def test_an_exact_score_is_not_called_unreliable(seed):
    for shape in ((24, 400), (3, 3000)):
        got, categories = caught_by(linear(*shape, seed=seed), EXACT_SCORE, max_lag=1.0)
        assert categories == []
        assert got.attrs["score_verdict"] == "green"
        assert got.attrs["correction_condition"] < 1.5


def test_the_score_of_another_system_warns_with_its_numbers():
    x = linear(24, 2000)
    other = np.linalg.inv(np.diag([1.0, 4.0, 1.0, 0.5]))
    with pytest.warns(UnreliableScoreWarning, match=r"misses the Stein identity.*index \(\d, \d\).*condition number"):
        got = response(x, lambda u: -u @ other, max_lag=1.0)
    # The corrected response starts at I all the same: only the attributes and the warning tell.
    np.testing.assert_allclose(got["response"].sel(lag=0), np.eye(4), atol=1e-9)
    assert got.attrs["score_verdict"] == "red"
    assert got.attrs["stein_departure"] > 0.2
    assert got.attrs["stein_worst"] > 10 * got.attrs["stein_worst_stderr"]
    assert got.attrs["correction_condition"] > 5


def test_one_lost_wavenumber_among_many_is_not_averaged_away():
    """A score that has a tenth of one of 144 wavenumbers departs by 8 % rms: dividing by 0.1 would hide it."""
    x = field((16, 16), n_members=24, n_times=100)

    def score(u):
        spectrum = np.fft.rfft2(u)
        spectrum[..., 0, 1] *= 0.1
        return -np.fft.irfft2(spectrum, s=u.shape[-2:])

    got, categories = caught_by(x, score, max_lag=1.0, homogeneous=True)
    assert got.attrs["stein_departure"] < 0.2
    assert categories == [UnreliableScoreWarning]
    assert got.attrs["correction_condition"] == pytest.approx(10, rel=0.3)
    assert caught_by(x, lambda u: -u, max_lag=1.0, homogeneous=True)[1] == []


def test_a_score_far_below_its_noise_level_is_not_called_unreliable():
    """At sigma = 3 only a tenth of s is left, as known beforehand, and divided out."""
    x = linear(24, 1000)
    blurred = gfdt.AnalyticScore(lambda u: -u @ np.linalg.inv(linear_sde.stationary_covariance() + 9 * np.eye(4)))
    blurred.noise_level_ = 3.0
    got, categories = caught_by(x, blurred, max_lag=1.0)
    assert categories == []
    assert got.attrs["score_verdict"] == "green"


# --- where there is no variance --------------------------------------------------------------------------------------


def band_limited(shape=(6, 8), **options):
    """The travelling field without its wavenumbers beyond 2 in either direction."""
    x = field(shape, **options)
    keep = [np.abs(np.fft.fftfreq(n) * n) <= 2 for n in shape]
    spectrum = np.fft.rfft2(x.values) * (keep[0][:, None] & keep[1][None, : shape[1] // 2 + 1])
    return x.copy(data=np.fft.irfft2(spectrum, s=shape))


@pytest.mark.parametrize("correction", ["auto", "stein", "none"])
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_directions_without_variance_do_not_respond(correction, sigma):
    """25 of 48 wavenumbers are there: R(0) is the projector on them, 25/48 at displacement zero, in both layouts."""
    x = band_limited(n_members=24, n_times=300)
    options = {"max_lag": 2.0, "correction": correction}
    with pytest.warns(ReliabilityWarning, match="23 of the 48 directions"):
        dense_score = gfdt.GaussianScore().fit(x)
    field_score = gfdt.GaussianScore(homogeneous=True).fit(x)
    if sigma:
        covariance = dense_score.covariance_
        matrix = (covariance.eigenvectors / (covariance.eigenvalues + sigma**2)) @ covariance.eigenvectors.T
        dense_score = gfdt.AnalyticScore(lambda u: -(u.reshape(-1, 48) @ matrix).reshape(u.shape))
        power = field_score.covariance_.eigenvalues
        field_score = gfdt.AnalyticScore(lambda u: -np.fft.irfft2(np.fft.rfft2(u) / (power + sigma**2), s=u.shape[-2:]))
        dense_score.noise_level_ = field_score.noise_level_ = sigma
    full, none = caught_by(x, dense_score, **options)
    average, nothing = caught_by(x, field_score, homogeneous=True, **options)
    assert none == nothing == []
    start = full["response"].sel(lag=0).values.reshape(48, 48)
    assert np.isfinite(full["response"]).all()
    assert np.isfinite(average["response"]).all()
    if correction != "none":
        np.testing.assert_allclose(start @ start, start, atol=1e-8)
        assert np.trace(start) == pytest.approx(25, abs=1e-8)
        assert float(average["response"].sel(lag=0, dy=0, dx=0)) == pytest.approx(25 / 48, abs=1e-9)
        assert "have no variance and no response" in average.attrs["correction_summary"]
    # What is not there before the kick is not there after it: checkerboard kicks do nothing at any lag.
    checkerboard = (-1.0) ** np.add.outer(np.arange(6), np.arange(8)).ravel()
    later = full["response"].values.reshape(-1, 48, 48)
    np.testing.assert_allclose(later @ checkerboard, 0, atol=1e-7)
    np.testing.assert_allclose((average["response"] * checkerboard.reshape(6, 8)).sum(("dy", "dx")), 0, atol=1e-7)


def test_a_dependent_component_is_a_missing_direction():
    """z = x + y in other units: the response to a kick off the plane is zero, along it as without z."""
    x = linear(24, 500).isel(component=[0, 1])
    values = np.concatenate([x.values, 1e3 * x.values.sum(-1, keepdims=True)], axis=-1)
    both = xr.DataArray(values, dims=DIMS, coords={"time": x["time"]})
    inverse = np.linalg.inv(np.cov(x.values.reshape(-1, 2).T))

    def score(u):
        return np.concatenate([-u[..., :2] @ inverse, 0 * u[..., :1]], axis=-1)

    # "auto" mixes entry by entry, which depends on the basis; "stein" does not.
    with_it = response(both, score, max_lag=1.0, correction="stein")["response"]
    without = response(x, lambda u: -u @ inverse, max_lag=1.0, correction="stein")["response"]
    along = np.array([[1.0, 0.0, 1e3], [0.0, 1.0, 1e3]]).T
    np.testing.assert_allclose((with_it.values @ along)[:, :2], without.values, atol=1e-6)
    off = np.array([1.0, 1.0, -1e-3])
    np.testing.assert_allclose(with_it.values @ off, 0, atol=1e-6)


# --- a noise level for each component --------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["auto", "stein"])
def test_noise_levels_of_the_components_are_undone_exactly_on_gaussian_data(correction, tmp_path):
    x = linear(24, 400)
    level = np.array([0.1, 0.4, 0.2, 0.05])
    mean = x.values.mean((0, 1))
    covariance = correlations.lagged_outer(x.values - mean, x.values - mean, 0)
    inverse = np.linalg.inv(covariance + np.diag(level**2))
    blurred = gfdt.AnalyticScore(lambda u: -(u - mean) @ inverse)
    blurred.noise_level_ = level
    got = response(x, blurred, max_lag=5.0, correction=correction)
    exact = response(x, gfdt.GaussianScore().fit(x), max_lag=5.0)
    np.testing.assert_allclose(got["response"], exact["response"], atol=1e-9)
    assert got.attrs["stein_departure"] < 1e-6
    got.to_netcdf(tmp_path / "response.nc")
    np.testing.assert_array_equal(xr.open_dataset(tmp_path / "response.nc").attrs["noise_level"], level)


def test_a_homogeneous_field_has_one_noise_level():
    x = field(n_members=24)
    score = gfdt.AnalyticScore(lambda u: -u / 1.04)
    score.noise_level_ = np.full((1, 1), 0.2)
    got = response(x, score, max_lag=1.0, homogeneous=True)
    assert got.attrs["noise_level"] == 0.2
    score.noise_level_ = np.linspace(0.1, 0.2, 20).reshape(4, 5)
    with pytest.raises(InputError, match=r"from 0.1 to 0.2 between sites.*homogeneous=None"):
        response(x, score, max_lag=1.0, homogeneous=True)
    assert np.isfinite(response(x, score, max_lag=1.0)["response"]).all()


def test_automatic_shrinkage_of_a_gaussian_score_decides_the_correction():
    x = linear(24, 100)
    score = gfdt.GaussianScore(shrinkage="ledoit-wolf").fit(x)
    assert response(x, score, max_lag=1.0).attrs["correction"] == "none"
