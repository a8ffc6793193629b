"""Jacobian-vector products and divergence of any score."""

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.errors import InputError, NotFittedError

DIMS = ("member", "time", "component")


def record(d, seed=0):
    return np.random.default_rng(seed).standard_normal((2, 50, d))


def fitted(function, d, **options):
    return gfdt.AnalyticScore(function, **options).fit(record(d), dims=DIMS)


def matrix(d, seed=1):
    return np.random.default_rng(seed).standard_normal((d, d)) - 2 * np.eye(d)


def test_differences_are_exact_for_a_linear_score():
    a, x = matrix(5), record(5)
    v = np.random.default_rng(2).standard_normal(x.shape)
    score = fitted(lambda u: u @ a.T, 5)
    # Rounding of s, 1e-16, over the step, 1e-3.
    np.testing.assert_allclose(score.jvp(x, v), v @ a.T, atol=1e-11)
    np.testing.assert_allclose(score.jvp(x, v[0, 0]), np.broadcast_to(v[0, 0] @ a.T, x.shape), atol=1e-11)
    np.testing.assert_allclose(score.divergence(x), np.full((2, 50), np.trace(a)), atol=1e-11)
    np.testing.assert_array_equal(score.jvp(x, np.zeros(5)), np.zeros(x.shape))


def test_differences_of_a_cubic_score_are_off_by_the_stated_third_derivative():
    x = record(2)
    score = fitted(lambda u: u - u**3, 2)
    step = 1e-3 * x.std(axis=(0, 1))
    # (s(x + e) - s(x - e))/(2 e) = s' + e^2 s'''/6, s''' = -6.
    np.testing.assert_allclose(score.divergence(x), (1 - 3 * x**2 - step**2).sum(axis=-1), atol=1e-11)


def test_the_step_follows_each_component_whatever_its_unit():
    scale = np.array([1e-9, 1e6])
    score = gfdt.AnalyticScore(lambda u: -np.sin(u / scale) / scale).fit(record(2) * scale, dims=DIMS)
    x = record(2, seed=3)
    expected = -np.cos(x) / scale**2
    got = np.stack([score.jvp(x * scale, e) for e in np.eye(2)], axis=-1)
    np.testing.assert_allclose(got[..., 0, 0], expected[..., 0], rtol=1e-6, atol=1e-9 / scale[0] ** 2)
    np.testing.assert_allclose(got[..., 1, 1], expected[..., 1], rtol=1e-6, atol=1e-9 / scale[1] ** 2)


def test_gaussian_divergence_is_minus_the_trace_of_the_inverse_covariance():
    x = record(3) @ matrix(3)
    score = gfdt.GaussianScore().fit(x, dims=DIMS)
    precision = np.linalg.inv(np.cov(x.reshape(-1, 3).T, bias=True))
    np.testing.assert_allclose(score.divergence(x), np.full((2, 50), -np.trace(precision)), rtol=1e-9)
    np.testing.assert_allclose(score.jvp(x, x), -x @ precision, rtol=1e-8, atol=1e-8)


def test_hutchinson_is_unbiased_and_its_standard_error_is_right():
    a = matrix(100) / 10
    score = fitted(lambda u: u @ a.T, 100)
    value, stderr = score.divergence(np.zeros((600, 100)), n_probes=64, seed=4, return_stderr=True)
    z = (value - np.trace(a)) / stderr
    # 600 independent Student t with 63 degrees of freedom: mean 0, variance 63/61, fourth moment 3.2.
    assert abs(z.mean()) < 4 * np.sqrt(63 / 61 / 600)
    assert abs((z**2).mean() - 63 / 61) < 4 * np.sqrt(2.2 / 600)
    off = a + a.T - 2 * np.diag(np.diagonal(a))
    np.testing.assert_allclose(np.sqrt((stderr**2).mean()), np.sqrt((off**2).sum() / 2 / 64), rtol=0.05)


def test_hutchinson_has_no_noise_where_the_jacobian_is_diagonal():
    score = fitted(lambda u: -(u**3), 70)
    x = record(70)
    value, stderr = score.divergence(x, n_probes=3, return_stderr=True)
    np.testing.assert_allclose(value, -3 * (x**2).sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(stderr, 0, atol=1e-8)


@pytest.mark.parametrize(("d", "exact"), [(64, True), (65, False)])
def test_states_of_more_than_64_components_get_probes_unless_the_trace_is_known(d, exact):
    a = matrix(d)
    value, stderr = fitted(lambda u: u @ a.T, d).divergence(record(d), return_stderr=True)
    assert (stderr == 0).all() == exact
    assert np.allclose(value, np.trace(a)) == exact
    known = fitted(lambda u: u @ a.T, d, divergence=lambda u: np.full(len(u), np.trace(a)))
    np.testing.assert_array_equal(known.divergence(record(d)), np.full((2, 50), np.trace(a)))
    assert not np.allclose(known.divergence(record(d), n_probes=2), np.trace(a))


def test_the_seed_fixes_the_probes():
    a = matrix(8)
    score, x = fitted(lambda u: u @ a.T, 8), record(8)
    first = score.divergence(x, n_probes=2, seed=5)
    np.testing.assert_array_equal(first, score.divergence(x, n_probes=2, seed=5))
    assert (first != score.divergence(x, n_probes=2, seed=6)).any()


def test_labelled_states_keep_their_labels_and_lose_the_state_dims():
    a = matrix(3)
    score = fitted(lambda u: np.sin(u @ a.T), 3)
    x = xr.DataArray(record(3), dims=DIMS, coords={"time": np.arange(50.0)})
    turned = x.transpose("component", "time", "member")
    value, stderr = score.divergence(turned, return_stderr=True)
    assert value.dims == stderr.dims == ("time", "member")
    assert (value.name, stderr.name) == ("divergence", "stderr")
    np.testing.assert_array_equal(value.transpose("member", "time").values, score.divergence(x.values))
    np.testing.assert_array_equal(value["time"], x["time"])
    v = xr.DataArray([1.0, 0.0, 2.0], dims="component")
    product = score.jvp(turned, v)
    assert product.dims == turned.dims
    np.testing.assert_array_equal(product.transpose(*DIMS).values, score.jvp(x.values, v.values))
    np.testing.assert_array_equal(score.jvp(turned, np.ones(turned.shape)), score.jvp(turned, xr.ones_like(turned)))


def test_scalar_states_and_fields():
    x = np.random.default_rng(0).standard_normal((2, 50))
    score = gfdt.AnalyticScore(lambda u: -(u**2)).fit(x, dims=("member", "time"))
    np.testing.assert_allclose(score.divergence(x), -2 * x, atol=1e-11)
    field = np.random.default_rng(0).standard_normal((2, 20, 3, 4))
    score = gfdt.AnalyticScore(lambda u: np.roll(u, 1, -1) - 2 * u).fit(field, dims=("member", "time", "y", "x"))
    np.testing.assert_allclose(score.divergence(field), np.full((2, 20), -24.0), atol=1e-10)


def test_float32_in_float32_out_with_float64_differences():
    score = fitted(lambda u: -u, 3)
    x = record(3).astype(np.float32)
    assert score.jvp(x, x).dtype == score.divergence(x).dtype == np.float32
    np.testing.assert_allclose(score.divergence(x), -3, rtol=1e-6)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda s, x: gfdt.AnalyticScore(np.negative).divergence(x), NotFittedError, r"call \.fit\(trajectory\)"),
        (lambda s, x: gfdt.GaussianScore().jvp(x, x), NotFittedError, "state dims"),
        (lambda s, x: s.jvp(x, np.ones(2)), InputError, r"v of shape \(2,\) does not fit"),
        (lambda s, x: s.jvp(x, np.full(3, np.nan)), InputError, "v holds NaN"),
        (lambda s, x: s.jvp(x, np.array(["a"])), InputError, "v holds <U1 values"),
        (lambda s, x: s.divergence(x[..., :2]), InputError, r"expected \(\.\.\., 3\)"),
        (lambda s, x: s.divergence(x, n_probes=0), InputError, "n_probes=0"),
        (lambda s, x: s.divergence(x, n_probes=1, return_stderr=True), InputError, "no spread"),
        (lambda s, x: s.divergence(x, seed=-1), InputError, "seed=-1"),
        (
            lambda s, x: s.jvp(xr.DataArray(x, dims=DIMS), xr.DataArray(np.ones((3, 2)), dims=("component", "k"))),
            InputError,
            "dims k, which x lacks",
        ),
        (lambda s, x: gfdt.AnalyticScore(np.negative, divergence=3.0), InputError, "divergence is a float"),
        (lambda s, x: fitted(np.negative, 3, divergence=lambda u: u).divergence(x), InputError, "one number per state"),
    ],
)
def test_misuse_is_refused_in_one_sentence(act, error, message):
    with pytest.raises(error, match=message) as caught:
        act(fitted(np.negative, 3), record(3))
    assert "\n" not in str(caught.value)
