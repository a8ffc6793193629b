"""KGMM: clusters, averages of noise, and the score they give."""

import numpy as np
import pytest

import gfdt
import simulators
from gfdt.errors import ReliabilityWarning
from gfdt.scores import kgmm
from gfdt.scores.bisecting import BisectingTree

DIMS = ("member", "time", "component")


def relative(got, exact):
    return float(np.sqrt(((got - exact) ** 2).sum() / (exact**2).sum()))


@pytest.mark.parametrize(("d", "prob"), [(1, 0.3), (1, 0.01), (3, 0.05)])
def test_every_cluster_holds_less_than_the_given_share(d, prob):
    points = np.random.default_rng(0).standard_normal((5000, d))
    tree = BisectingTree.grow(points, prob)
    counts = np.bincount(tree.assign(points), minlength=tree.n_clusters)
    assert counts.min() > 0
    assert counts.max() < prob * 5000
    # Two halves of a cluster too large cannot both be below a quarter of the limit for long.
    assert 1 / prob < tree.n_clusters < 8 / prob


def test_clusters_are_where_the_points_are():
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    which = np.tile(np.arange(4), 100)
    points = centres[which] + 0.1 * np.random.default_rng(0).standard_normal((400, 2))
    cluster = BisectingTree.grow(points, 0.26).assign(points)
    assert {(which[i], cluster[i]) for i in range(400)} == {(k, cluster[k]) for k in range(4)}
    assert len(set(cluster)) == 4


def test_equal_points_stay_one_cluster_and_few_points_are_not_divided():
    points = np.repeat([[0.0], [1.0]], [90, 10], axis=0)
    tree = BisectingTree.grow(points, 0.05)
    assert tree.n_clusters == 2
    assert len(set(tree.assign(points[:90]))) == 1
    assert BisectingTree.grow(np.ones((50, 2)), 0.1).n_clusters == 1
    assert (BisectingTree.grow(np.ones((50, 2)), 0.1).assign(np.zeros((3, 2))) == 0).all()


def test_one_sample_gives_the_score_of_the_noise_exactly():
    score = gfdt.KGMMScore(prob=0.05, n_draws=2)
    score.sigma_ = 0.3
    centres, scores, counts = score._averages(np.zeros((5000, 2)), np.random.default_rng(0))
    # y = sigma z here, so that -<z>/sigma = -<y>/sigma^2 in every cluster.
    np.testing.assert_allclose(scores, -centres / 0.3**2, rtol=1e-9, atol=1e-12)
    assert counts.sum() == 2 * 26 * 5000


def test_cluster_averages_scatter_about_the_score_as_the_stated_noise_says():
    rng = np.random.default_rng(0)
    score = gfdt.KGMMScore(prob=0.01, n_draws=8)
    score.sigma_ = 0.5
    centres, scores, counts = score._averages(rng.standard_normal((100_000, 1)), rng)
    z = (scores + centres / (1 + 0.5**2)) / np.sqrt(1 / (0.5**2 * counts))[:, None]
    # Var(z | y) is 1/(1 + sigma^2) = 0.8 from the noise; samples reused in 8 draws add up to as much again.
    assert 0.4 < (z**2).mean() < 2.5
    noise = np.sqrt(len(counts) / (0.5**2 * counts.sum()) / np.average((centres / 1.25) ** 2, weights=counts[:, None]))
    assert score.cluster_noise_ == pytest.approx(noise, rel=0.05)


def test_correlated_gaussian_data_of_unequal_units():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 20_000, 2)) @ np.array([[2.0, 0.0], [30.0, 40.0]]).T
    score = gfdt.KGMMScore(sigma=0.3, prob=0.01).fit(x, dims=DIMS)
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(score.noise_level_, 0.3 * flat.std(axis=0))
    blurred = np.cov(flat.T, bias=True) + np.diag(score.noise_level_**2)
    exact = -(flat - flat.mean(0)) @ np.linalg.inv(blurred)
    # The wanted noise of the regression is 0.02, of which the samples' own is the larger part: 1/(n h^4)^(1/2) = 0.04.
    assert relative(score(flat) * flat.std(0), exact * flat.std(0)) < 0.08
    assert "sigma = 0.6" in repr(score)
    response = gfdt.response(x, score, max_lag=0.0, dims=DIMS, dt=1.0)
    np.testing.assert_allclose(response["response"].values[0], np.eye(2), atol=0.05 * 25)


def test_one_level_for_components_of_equal_size():
    x = np.random.default_rng(0).standard_normal((1, 2000, 1))
    score = gfdt.KGMMScore(sigma=0.3, prob=0.05, n_draws=1, max_steps=1).fit(x, dims=DIMS)
    assert type(score.noise_level_) is float
    assert score.noise_level_ == pytest.approx(0.3 * x.std())


def test_the_seed_fixes_the_score():
    x = np.random.default_rng(0).standard_normal((1, 2000, 1))
    scores = [
        gfdt.KGMMScore(prob=0.05, n_draws=1, max_steps=5, seed=seed).fit(x, dims=DIMS)(x[0, :50]) for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).any()


def test_too_few_draws_are_reported(monkeypatch):
    monkeypatch.setattr(kgmm, "_MOST_DRAWS", 2)
    x = np.random.default_rng(0).standard_normal((1, 2000, 1))
    with pytest.warns(ReliabilityWarning, match="cluster averages still hold noise"):
        gfdt.KGMMScore(sigma=0.1, prob=0.02, max_steps=1).fit(x, dims=DIMS)


@pytest.mark.parametrize("system", ["DoubleWell", "Potential2D"])
def test_response_against_the_exact_one(system):
    system = getattr(simulators, system)()
    run = system.simulate(n_members=64, duration=500.0, save_every=0.4, seed=1)
    response = gfdt.response(run, gfdt.KGMMScore(prob=0.004).fit(run), max_lag=6.0)
    compared = gfdt.compare(system.exact_response(response["lag"].values), {"a": response})
    assert float(compared["relative"][0]) < 0.06
