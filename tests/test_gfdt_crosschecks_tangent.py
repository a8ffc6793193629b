"""The response from the linearised drift: exact for linear systems, second order in the interval, and known limits."""

import numpy as np
import pytest
import scipy.linalg
import xarray as xr
from reference import linear_sde, noisy_records

import gfdt
from gfdt.crosschecks import walk
from gfdt.crosschecks.inputs import load_record
from gfdt.crosschecks.linearised import Drift, exponential_action, exponentials
from gfdt.crosschecks.tangent import tangent_response
from gfdt.crosschecks.walk import Walk
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.sums import significance_threshold
from simulators import DoubleWell

DIMS = ("member", "time", "component")


def cubic(x):
    return x - x**3


def coupled(x):
    """A non-linear drift of two components."""
    return np.stack([x[..., 0] - x[..., 0] ** 3 + x[..., 1], -2 * x[..., 1] + np.sin(x[..., 0])], axis=-1)


def coupled_jacobian(x):
    one = np.ones(x.shape[:-1])
    rows = [[1 - 3 * x[..., 0] ** 2, one], [np.cos(x[..., 0]), -2 * one]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


# --- products and exponentials --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_exponentials_are_those_of_scipy(size):
    a = size * np.random.default_rng(0).standard_normal((5, 3, 3)) - 2 * size * np.eye(3)
    expected = scipy.linalg.expm(a)
    np.testing.assert_allclose(exponentials(a), expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    v = np.random.default_rng(1).standard_normal((5, 3))
    got = exponential_action(lambda u: np.einsum("nij,nj->ni", a, u), v)
    np.testing.assert_allclose(
        got, np.einsum("nij,nj->ni", expected, v), rtol=1e-8, atol=1e-10 * np.abs(expected).max()
    )


def test_a_stiff_decay_is_not_lost_in_rounding():
    """exp(-300): terms of the Taylor series reach 10^129, unless the step is halved."""
    rates = np.array([[1.0, 30.0, 300.0]])
    np.testing.assert_allclose(exponential_action(lambda u: -rates * u, np.ones((1, 3))), np.exp(-rates), atol=1e-10)


def test_central_differences_are_the_derivative():
    x = np.random.default_rng(0).standard_normal((20, 2))
    flow = Drift(coupled, None, (2,), np.array([1.0, 0.5]))
    exact = coupled_jacobian(x)
    np.testing.assert_allclose(flow.matrices(x), exact, atol=1e-9)
    v = np.random.default_rng(1).standard_normal((20, 2))
    np.testing.assert_allclose(flow.product(x, v), np.einsum("nij,nj->ni", exact, v), atol=1e-8)
    np.testing.assert_array_equal(Drift(coupled, coupled_jacobian, (2,), np.ones(2)).matrices(x), exact)
    np.testing.assert_array_equal(flow.product(x, 0 * v), 0)


# --- exact answers --------------------------------------------------------------------------------------


def test_linear_system_is_exact_on_any_record():
    x = linear_sde.sample(20, 40, 0.25, 0)
    got = tangent_response(x, lambda u: u @ linear_sde.DRIFT.T, max_lag=4.0, lag_stride=2, dims=DIMS, dt=0.25)
    exact = linear_sde.exact_response(got["lag"].values)
    assert got["response"].dims == ("lag", "component", "component_src")
    np.testing.assert_allclose(got["response"], exact, atol=1e-9)
    np.testing.assert_allclose(got["stderr"], 0, atol=1e-9)
    assert got.attrs["trusted_lag"] == 4.0
    assert got.attrs["interval_error"] < 1e-9
    table = gfdt.compare(got["response"].copy(data=exact), {"tangent": got})
    assert float(table["relative"].item()) < 1e-9


@pytest.mark.parametrize("size", [4, 70])  # as matrices, and by products alone
def test_pattern_of_a_field_spreads_as_the_heat_kernel(size):
    """du/dt = u(i+1) - 2 u(i) + u(i-1) - u: a pattern w becomes expm(B t) w."""
    laplacian = np.roll(np.eye(size), 1, 0) + np.roll(np.eye(size), -1, 0) - 3 * np.eye(size)
    x = xr.DataArray(np.random.default_rng(0).standard_normal((20, 10, size)), dims=("member", "time", "x"))
    pattern = xr.DataArray(np.exp(-(np.linspace(-2, 2, size) ** 2)), dims="x")

    def drift(u):
        return np.roll(u, 1, -1) + np.roll(u, -1, -1) - 3 * u

    got = tangent_response(x, drift, max_lag=3.0, perturbation=pattern, dt=1.0)
    assert got["response"].dims == ("lag", "x")
    assert got.attrs["perturbation_dims"] == ""
    for lag, value in zip(got["lag"].values, got["response"].values, strict=True):
        np.testing.assert_allclose(value, scipy.linalg.expm(laplacian * lag) @ pattern.values, atol=1e-8)


def test_fields_of_two_dims_keep_their_labels():
    values = np.random.default_rng(0).standard_normal((20, 10, 2, 3))
    x = xr.DataArray(values, dims=("member", "time", "y", "x"), coords={"x": [1, 2, 5]})
    got = tangent_response(x, lambda u: -u * np.array([1.0, 2.0, 3.0]), max_lag=2.0, dt=1.0)
    assert got["response"].dims == ("lag", "y", "x", "y_src", "x_src")
    assert got["x_src"].values.tolist() == [1, 2, 5]
    decay = got["response"].sel(lag=1.0).values
    np.testing.assert_allclose(decay.reshape(6, 6), np.diag(np.exp([-1, -2, -3] * 2)), atol=1e-9)
    with pytest.raises(InputError, match="has shape"):
        tangent_response(x, lambda u: -u, max_lag=2.0, dt=1.0, perturbation=np.ones((3, 2)))


def test_a_scalar_series_has_a_scalar_response():
    x = noisy_records.double_well(20, 10, 0.5, seed=0)[0][..., 0]
    got = tangent_response(x, lambda u: -0.5 * u, max_lag=2.0, dims=("member", "time"), dt=0.5)
    assert got["response"].dims == ("lag",)
    np.testing.assert_allclose(got["response"], np.exp(-0.5 * got["lag"]), atol=1e-9)


def test_jacobian_of_the_user_and_differences_give_the_same():
    x = 0.7 * np.random.default_rng(0).standard_normal((20, 100, 2))
    options = {"max_lag": 1.0, "dims": DIMS, "dt": 0.25}
    one = tangent_response(x, coupled, jacobian=coupled_jacobian, **options)
    other = tangent_response(x, coupled, **options)
    np.testing.assert_allclose(one["response"], other["response"], atol=1e-7)
    w = np.array([1.0, -2.0])
    pattern = tangent_response(x, coupled, perturbation=w, **options)
    np.testing.assert_allclose(pattern["response"], one["response"].values @ w, atol=1e-7)


# --- order, statistics, limits --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine_path():
    return noisy_records.double_well(512, 800, 0.025, seed=4, dt=0.0125)[0]


def integrated_variance(t, h):
    """Variance of the trapezoidal integral over t of a process with <x x(s)> = exp(-s)/4; h = 0: the integral."""
    if h == 0:
        return (t - 1 + np.exp(-t)) / 2
    times = np.arange(0, t + h / 2, h)
    weights = np.full(times.size, h)
    weights[[0, -1]] = h / 2
    return weights @ np.exp(-np.abs(times[:, None] - times)) @ weights / 4


def test_the_mean_errs_as_the_trapezoid_does_and_so_at_second_order():
    r"""dx = -x dt + dN, dy = -(1 + x) y dt: M_yy = exp(-t - int x), <M_yy> = exp(-t + var(int x)/2), in closed form.

    With samples h apart the integral becomes the trapezoidal sum, whose variance is in closed form too.
    """
    t, h = 2.0, 1.0

    def expected(interval):
        return np.exp(-t + integrated_variance(t, interval) / 2)

    errors = [expected(interval) - expected(0) for interval in (h / 4, h / 8, h / 16)]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, abs=0.05)

    x = linear_sde.sample(20, 30, h, 0, np.array([[-1.0]]), np.array([[0.5]]))
    record = np.concatenate([x, np.random.default_rng(1).standard_normal(x.shape)], axis=-1)

    def drift(u):
        return np.stack([-u[..., 0], -(1 + u[..., 0]) * u[..., 1]], axis=-1)

    got = tangent_response(record, drift, max_lag=t, dims=DIMS, dt=h)["response"]
    trapezoid = h * (x[:, :-2, 0] / 2 + x[:, 1:-1, 0] + x[:, 2:, 0] / 2)
    assert float(got.sel(lag=t, component=1, component_src=1)) == pytest.approx(np.exp(-t - trapezoid).mean(), rel=1e-8)


def test_double_well_within_its_errors_up_to_the_trusted_lag(fine_path):
    with pytest.warns(ReliabilityWarning, match="trusted_lag"):
        got = tangent_response(fine_path[:, ::2], cubic, max_lag=8.0, lag_stride=8, n_starts=20_000, dims=DIMS, dt=0.05)
    exact = DoubleWell().exact_response(got["lag"].values).values
    good = got["lag"] <= got.attrs["trusted_lag"]
    z = ((got["response"] - exact) / got["stderr"]).values[good.values][1:]
    assert np.abs(z).max() < significance_threshold(z.size, got.sizes["unit"])
    assert 2.0 < got.attrs["trusted_lag"] < 8.0  # rare, slow passages over the barrier carry the mean beyond
    assert got.attrs["interval_error"] < 0.01
    assert got["growth"].values[0] == pytest.approx(1)


def test_interval_error_says_what_a_coarse_record_costs(fine_path):
    coarse = tangent_response(fine_path[:, ::16], cubic, max_lag=2.0, dims=DIMS, dt=0.4, n_starts=20_000)
    fine = tangent_response(fine_path, cubic, max_lag=2.0, lag_stride=16, dims=DIMS, dt=0.025, n_starts=20_000)
    found = float(np.abs(coarse["response"] - fine["response"]).max())
    assert found / 4 < coarse.attrs["interval_error"] < 4 * found
    assert fine.attrs["interval_error"] < found / 10


def lorenz63(n_times, dt, rng):
    def slope(u):
        return lorenz_drift(u)

    u, out = np.array([1.0, 1.0, 25.0]) + rng.standard_normal(3), np.empty((n_times, 3))
    for t in range(-500, n_times):
        k1 = slope(u)
        k2 = slope(u + dt / 2 * k1)
        k3 = slope(u + dt / 2 * k2)
        u = u + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(u + dt * k3))
        if t >= 0:
            out[t] = u
    return out


def lorenz_drift(u):
    x, y, z = u[..., 0], u[..., 1], u[..., 2]
    return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=-1)


def test_chaos_ends_the_trust_at_a_few_lyapunov_times():
    x = lorenz63(6000, 0.02, np.random.default_rng(0))[None]
    with pytest.warns(ReliabilityWarning, match="trusted_lag"):
        got = tangent_response(x, lorenz_drift, max_lag=10.0, lag_stride=5, dims=DIMS, dt=0.02)
    # Largest Lyapunov exponent 0.906 (Sprott, Chaos and Time-Series Analysis, 2003); the rms grows at least so fast.
    assert 0.8 < got.attrs["growth_rate"] < 2.0
    assert got["growth"].values[-1] > 1e3
    assert 0.1 <= got.attrs["trusted_lag"] < 5.0


def test_error_bars_are_the_spread_of_the_units():
    x = noisy_records.double_well(40, 100, 0.1, seed=5)[0]
    got = tangent_response(x, cubic, max_lag=1.0, dims=DIMS, dt=0.1, n_starts=2000)
    assert got.sizes["unit"] == 40
    n = 40
    np.testing.assert_allclose(np.sqrt(n / (n - 1) * (got["influence"] ** 2).sum("unit")), got["stderr"], atol=1e-12)
    np.testing.assert_allclose(got["influence"].sum("unit"), 0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 37, 500])
def test_parts_and_sparse_starts_change_nothing(chunk, monkeypatch):
    x = 0.7 * np.random.default_rng(0).standard_normal((20, 10, 2))
    options = {"max_lag": 1.0, "dims": DIMS, "dt": 0.25, "n_starts": 60}
    whole = tangent_response(x, coupled, **options)
    monkeypatch.setattr(walk, "_CHUNK", chunk)
    parts = tangent_response(x, coupled, **options)
    xr.testing.assert_allclose(whole.drop_attrs(), parts.drop_attrs())
    record = load_record(x, var=None, dims=DIMS, dt=0.25)
    walker = Walk(record, Drift(coupled, None, (2,), record.spread), np.eye(2), np.arange(5), dense=True)
    dense, sparse = np.arange(150), np.array([0, 140])  # propagators shared, and made for each start
    shared = walker.sums(dense, dense)[0][sparse]
    np.testing.assert_allclose(walker.sums(sparse, np.arange(2))[0], shared, atol=1e-12)


# --- what is refused ------------------------------------------------------------------------------------


def test_refuses_what_it_cannot_use():
    x = np.random.default_rng(0).standard_normal((2, 50, 2))
    options = {"max_lag": 2.0, "dims": DIMS, "dt": 0.25}
    with pytest.raises(InputError, match="must map"):
        tangent_response(x, lambda u: u[..., :1], **options)
    with pytest.raises(InputError, match="NaN or inf"):
        tangent_response(x, lambda u: u * np.nan, **options)
    with pytest.raises(InputError, match="expected a function"):
        tangent_response(x, np.eye(2), **options)
    with pytest.raises(InputError, match="jacobian returned shape"):
        tangent_response(x, coupled, jacobian=lambda u: u, **options)
    for pattern in (np.ones(3), np.zeros(2), [np.nan, 1], "w", lambda u: u):
        with pytest.raises(InputError, match="pattern"):
            tangent_response(x, coupled, perturbation=pattern, **options)
    with pytest.raises(InputError, match="n_starts"):
        tangent_response(x, coupled, n_starts=0, **options)
    with pytest.raises(InputError, match="not shorter"):
        tangent_response(x, coupled, max_lag=13.0, dims=DIMS, dt=0.25)
    many = np.random.default_rng(0).standard_normal((1, 20, 65))
    with pytest.raises(InputError, match="pass perturbation="):
        tangent_response(many, lambda u: -u, max_lag=2.0, dims=DIMS, dt=1.0)
