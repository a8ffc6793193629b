"""The kernel score: its linear system, its choice of smoothness, and the score it gives."""

import numpy as np
import pytest

import gfdt
import simulators
from gfdt.scores import kernel

DIMS = ("member", "time", "component")


def relative(got, exact):
    return float(np.sqrt(((got - exact) ** 2).sum() / (exact**2).sum()))


def slow_averages(y, centres, size):
    """G and b of the module docstring, term by term."""
    away = centres[None] - y[:, None]
    k = np.exp(-(away**2).sum(-1) / (2 * size**2))
    gradient = k[..., None] * away / size**2
    laplacian = k * ((away**2).sum(-1) / size**4 - y.shape[1] / size**2)
    gram = np.einsum("nmi,nli->ml", gradient, gradient) / len(y)
    return gram, (laplacian - np.einsum("ni,nmi->nm", y, gradient)).mean(axis=0), k


def test_averages_are_those_of_the_slow_twin():
    rng = np.random.default_rng(0)
    y, centres = rng.standard_normal((400, 3)), rng.standard_normal((7, 3))
    gram, linear, _ = slow_averages(y, centres, 0.8)
    got = kernel._averages(y, centres, 0.8)
    np.testing.assert_allclose(got[0], gram, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(got[1], linear, rtol=1e-10, atol=1e-14)


def test_the_coefficients_minimise_the_penalised_loss():
    x = np.random.default_rng(0).standard_normal((2, 500, 2)) ** 3
    score = gfdt.KernelScore(bandwidth=1.0, penalty=1e-3, n_inducing=12).fit(x, dims=DIMS)
    y = score._whitening.states(x.reshape(-1, 2))
    gram, linear, _ = slow_averages(y, score._centres, 1.0)
    _, _, k = slow_averages(score._centres, score._centres, 1.0)
    slope = gram @ score._coefficients + linear + 1e-3 * k @ score._coefficients
    # The jitter adds 1e-7 of 1e-3 to the penalty.
    assert np.abs(slope).max() < 1e-8 * np.abs(linear).max()


def test_inducing_points_are_samples_and_cover_them():
    y = np.random.default_rng(0).standard_normal((500, 2))
    chosen = kernel._farthest(y, 30, np.random.default_rng(1))
    assert {tuple(point) for point in chosen} <= {tuple(point) for point in y}
    gaps = np.sqrt(((chosen[:, None] - chosen[None]) ** 2).sum(-1))[~np.eye(30, dtype=bool)]
    reach = np.sqrt(((y[:, None] - chosen[None]) ** 2).sum(-1)).min(axis=1)
    assert reach.max() <= gaps.min() + 1e-12
    assert len(kernel._farthest(np.repeat(y[:3], 5, axis=0), 30, np.random.default_rng(0))) == 3


def test_gaussian_data_need_nothing_beyond_the_gaussian():
    x = np.random.default_rng(0).standard_normal((2, 5000, 3)) @ np.diag([1.0, 5.0, 0.1])
    score = gfdt.KernelScore(n_inducing=64).fit(x, dims=DIMS)
    gaussian = gfdt.GaussianScore().fit(x, dims=DIMS)
    # The noise of a Gaussian fit itself is (d/n)^(1/2) = 0.02 relative.
    assert relative(score(x) * x.std((0, 1)), gaussian(x) * x.std((0, 1))) < 0.05
    far = np.array([[1e4, 0.0, 0.0]])
    np.testing.assert_allclose(score(far), gaussian(far))


def test_the_seed_fixes_the_score():
    x = np.random.default_rng(0).standard_normal((2, 500, 1)) ** 3
    scores = [gfdt.KernelScore(n_inducing=9, seed=seed).fit(x, dims=DIMS)(x[0, :50]) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


@pytest.mark.parametrize("system", ["DoubleWell", "Potential2D"])
def test_score_and_response_against_the_exact_ones(system):
    system = getattr(simulators, system)()
    run = system.simulate(n_members=64, duration=500.0, save_every=0.2, seed=1)
    score = gfdt.KernelScore(n_inducing=128).fit(run)
    x = gfdt.load_trajectory(run)
    # 160,000 samples, some 5,000 of them independent in the slowest mode: a few per cent.
    assert relative(score(x).values, system.score(x).values) < 0.08
    response = gfdt.response(run, score, max_lag=6.0)
    compared = gfdt.compare(system.exact_response(response["lag"].values), {"a": response})
    assert float(compared["relative"][0]) < 0.06
