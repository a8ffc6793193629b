"""A network that learns the scores at all noise levels: its levels and weights, its family, and the choice by bound."""

import math

import numpy as np
import pytest
import torch

import gfdt
from gfdt.covariance import DenseCovariance
from gfdt.density.family import highest_level
from gfdt.diffusion.objectives import OBJECTIVES, make_objective
from gfdt.diffusion.preconditioning import PRECONDITIONS, Denoiser
from gfdt.errors import InputError
from tests.reference.exact_families import bimodal

VECTOR = ("member", "time", "component")
TOP = 20.0


class Zero(torch.nn.Module):
    def forward(self, x, _):
        return torch.zeros_like(x)


class Half(torch.nn.Module):
    def forward(self, x, _):
        return 0.5 * torch.tanh(x)


def denoiser(network=None, precondition="gaussian", variances=(4.0, 1.0, 0.25)):
    covariance = DenseCovariance(np.zeros(3), np.array(variances), np.eye(3))
    return Denoiser(network or Zero(), covariance, (3,), channel=False, precondition=precondition).double()


def draw(objective, count=6000, seed=0):
    anomalies = torch.zeros(count, 3, dtype=torch.float64)
    return objective.draw_levels(anomalies, torch.Generator().manual_seed(seed)).numpy()


@pytest.fixture(scope="module")
def record():
    """A bimodal plane whose density is known at every noise level."""
    return bimodal().sample(40_000, seed=1).reshape(20, 2000, 2)


@pytest.fixture(scope="module")
def learned(record):
    score = gfdt.DSMScore(max_steps=300, batch_size=1024, device="cpu").fit(record, dims=VECTOR)
    assert score.selected_ != "gaussian start"
    return score


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_one_example_in_three_is_spread_evenly_over_the_decades_up_to_the_top(name):
    objective = make_objective(name, 0.05, 0.5, TOP)
    levels = draw(objective)
    wide = np.sort(levels)[levels.size * 2 // 3 :]
    # Of the local ones, whose median is 0.05, 0.3 % lie above 0.2; of the wide ones 77 %, as ln(20/0.2)/ln(20/0.05).
    above = (levels > 0.2).mean()
    expected = math.log(TOP / 0.2) / math.log(TOP / 0.05) / 3 + 2 / 3 * 0.0028
    assert above == pytest.approx(expected, abs=0.01)
    assert wide.max() <= TOP * (1 + 1e-9)
    assert np.median(np.log(levels[levels > 0.5])) == pytest.approx(math.log((0.5 * TOP) ** 0.5), abs=0.1)


def test_without_a_top_all_levels_are_about_the_one_asked_for():
    assert draw(make_objective("dsm", 0.05, 0.5)).max() < 0.05 * math.exp(0.5 * 5)


def test_an_objective_without_noise_keeps_two_thirds_of_its_examples_there():
    levels = draw(make_objective("fd-ssm", 0.0, 0.5, TOP))
    assert (levels == 0).mean() == pytest.approx(2 / 3, abs=1e-3)
    assert levels[levels > 0].min() >= 0.02


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("name", ["dsm", "ssm"])
def test_far_levels_weigh_as_the_root_of_the_likelihood_they_hold(name, precondition):
    """Against the loss without a top, which weighs every level alike in F, by omega = (n(sigma)/n(level))^(1/2)."""
    network, level = Half(), 0.1
    local, wide = (make_objective(name, level, 0.5, top) for top in (0.0, TOP))
    model = denoiser(network, precondition)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, _ = wide.draw(x, torch.Generator().manual_seed(1))
    levels = torch.tensor([0.05, 0.1, 0.3, 2.0, 15.0], dtype=torch.float64)
    ratio = (wide.excess(model, x, z, levels) / local.excess(model, x, z, levels)).detach()
    scale = model.output_scale(levels)
    omega = torch.where(levels > level, levels * scale / (level * scale[1]), 1.0)
    if name == "ssm":
        # Its own weight, 1/kappa, is that of the noise where noise is all there is; q takes its place.
        omega = omega * torch.where(levels > level, model.mean_precision(levels) / scale**2, 1.0)
    np.testing.assert_allclose(ratio, omega, rtol=1e-6)
    same = (wide.baseline(model, x, z, levels) / local.baseline(model, x, z, levels)).detach()
    if precondition != "none" or name == "dsm":
        np.testing.assert_allclose(same, omega, rtol=1e-6)


def test_the_second_input_is_the_gaussian_posterior_mean_of_unit_size():
    model = denoiser()
    model.inputs = 2
    rng = torch.Generator().manual_seed(0)
    root = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    for level in (0.0, 0.3, 5.0):
        x = torch.randn(40_000, 3, generator=rng, dtype=torch.float64) * root
        y = x + level * torch.randn(x.shape, generator=rng, dtype=torch.float64)
        shown = model.network_input(y, torch.full((len(y),), level, dtype=torch.float64))[0][:, 3:]
        expected = y * root**2 / (root**2 + level**2)
        size = expected / shown
        np.testing.assert_allclose(size, size[0, 0], rtol=1e-6)
        # The mean square of 120,000 numbers, a third of them independent at worst: 3 standard errors.
        assert float(shown.square().mean()) == pytest.approx(1.0, abs=3 * (2 / 40_000) ** 0.5)


def test_directions_without_variance_show_nothing_at_any_level():
    model = denoiser(variances=(1.0, 1.0, 0.0))
    model.inputs = 2
    y = torch.ones(2, 3, dtype=torch.float64)
    shown = model.network_input(y, torch.tensor([0.0, 1.0], dtype=torch.float64))[0][:, 3:]
    assert torch.isfinite(shown).all()
    assert (shown[:, 2] == 0).all()


def test_the_family_of_a_learned_score_has_its_score_and_derivative(learned, record):
    family = learned.family()
    x = record[0, :50]
    a = family.units.states(x)
    np.testing.assert_allclose(family.units.gradient(family.score(a, family.level)), learned(x), rtol=1e-10)
    twice = learned.at_noise_level(2 * learned.noise_level_)
    np.testing.assert_allclose(family.units.gradient(family.score(a, 2 * family.level)), twice(x), rtol=1e-10)
    v = np.array([0.3, -1.0])
    own = family.product(a, family.level, np.broadcast_to(family.units.directions(v), a.shape))
    own += family.linear_score(np.broadcast_to(family.units.directions(v), a.shape), family.level)
    # Directions of another size: the same up to single precision.
    np.testing.assert_allclose(family.units.gradient(own), learned.jvp(x, v), rtol=1e-5, atol=1e-5)


def test_the_range_of_training_reaches_the_level_that_drowns_the_data(learned):
    top = highest_level(learned._fitted.linear.covariance)
    assert learned._fitted.trained_range()[1] == pytest.approx(top)
    assert learned.family().top() == pytest.approx(top)


def test_it_samples_the_modes_with_their_weights_and_knows_their_likelihood(learned):
    exact = bimodal()
    x = exact.sample(4000, seed=7)
    assert np.mean(learned.log_prob(x[:1000]) - exact.log_density(x[:1000], 0.0)) == pytest.approx(0.0, abs=0.03)
    samples = learned.sample(8000, seed=3).values
    found, error = (samples[:, 0] > 0).mean(), (0.24 / 8000) ** 0.5
    # The weight 0.597 (a part of each peak lies across 0) is learned from 20 x 2000 states: another half of a per cent.
    assert found == pytest.approx((exact.sample(10**6, seed=8)[:, 0] > 0).mean(), abs=3 * error + 0.01)


def test_a_score_of_one_level_says_how_to_get_a_density(record):
    score = gfdt.DSMScore(noise_range="local", max_steps=100, batch_size=1024).fit(record, dims=VECTOR)
    assert score.selected_ != "gaussian start"
    for use in (score.family, lambda: score.sample(3), lambda: score.log_prob(record[0, :2])):
        with pytest.raises(InputError, match="fit with noise_range='all'"):
            use()
    with pytest.raises(InputError, match="noise_range is 'wide'"):
        gfdt.DSMScore(noise_range="wide").fit(record, dims=VECTOR)


@pytest.mark.parametrize("precondition", ["edm", "none"])
def test_other_preconditions_have_the_same_kind_of_family(precondition, record):
    score = gfdt.DSMScore(precondition=precondition, max_steps=60, batch_size=512, sigma=0.1).fit(record, dims=VECTOR)
    family = score.family()
    x = record[0, :20]
    np.testing.assert_allclose(
        family.units.gradient(family.score(family.units.states(x), family.level)), score(x), rtol=1e-9, atol=1e-12
    )


def test_the_range_is_kept_with_the_score(learned, tmp_path):
    loaded = gfdt.load_score(learned.save(tmp_path / "score.safetensors"))
    assert loaded.noise_range == "all"
    np.testing.assert_array_equal(loaded.sample(5, seed=1), learned.sample(5, seed=1))


# ---- choosing among candidates ---------------------------------------------------------------------


def test_the_candidate_with_the_largest_bound_on_held_out_states_is_kept(record, tmp_path):
    short = {"max_steps": 150, "batch_size": 512, "device": "cpu"}
    score = gfdt.DSMScore(sigma=[0.1, 0.43], objective=["dsm"], **short).fit(record, dims=VECTOR)
    rows = score.choices_
    assert [row["sigma"] for row in rows] == [0.1, 0.43]
    assert rows[0]["difference"] == 0.0
    # Noise of 0.43 blurs the two peaks, 0.3 to 0.4 wide, and the decoder has to guess: a loss far beyond its error.
    assert rows[1]["difference"] < -10 * rows[1]["error"] < 0
    assert score.noise_level_ == 0.1
    alone = gfdt.DSMScore(sigma=0.1, **short).fit(record, dims=VECTOR)
    np.testing.assert_array_equal(score(record[0, :9]), alone(record[0, :9]))
    loaded = gfdt.load_score(score.save(tmp_path / "score.safetensors"))
    assert (loaded.sigma, loaded.objective) == (0.1, "dsm")
    np.testing.assert_array_equal(loaded(record[0, :9]), alone(record[0, :9]))


def test_of_candidates_that_are_equally_likely_the_one_with_the_least_noise_is_kept():
    normal = np.random.default_rng(0).normal(size=(4, 500, 2))
    short = {"max_steps": 20, "batch_size": 64, "device": "cpu"}
    for levels in ([0.4, 0.05], [0.05, 0.4]):
        score = gfdt.DSMScore(sigma=levels, **short).fit(normal, dims=VECTOR)
        assert score.selected_ == "gaussian start"
        assert score.noise_level_ == 0.05
        assert [row["difference"] for row in score.choices_] == [0.0, 0.0]


def test_a_chosen_score_is_saved_at_the_level_it_is_used_at(record, tmp_path):
    short = {"max_steps": 60, "batch_size": 512, "device": "cpu", "precondition": "edm"}
    score = gfdt.DSMScore(network=["mlp"], **short).fit(record, dims=VECTOR)
    twice = score.at_noise_level(2 * score.noise_level_)
    loaded = gfdt.load_score(twice.save(tmp_path / "score.safetensors"))
    np.testing.assert_allclose(loaded.noise_level_, 2 * np.asarray(score.noise_level_))


def test_every_candidate_writes_a_log_of_its_own(record, tmp_path):
    gfdt.DSMScore(sigma=[0.1, 0.2], max_steps=20, batch_size=64, log=tmp_path / "run.csv").fit(record, dims=VECTOR)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-0.csv", "run-1.csv"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": []}, "objective=.* offers nothing to choose from"),
        ({"objective": ["dsm", "likelihood"]}, "objective is 'likelihood'"),
        ({"sigma": [0.1, -1.0]}, "sigma=-1.0"),
        ({"sigma": list(np.linspace(0.01, 0.5, 40))}, "40 combinations"),
        ({"sigma": [0.1, 0.2], "noise_range": "local"}, "noise_range='local' gives scores without a likelihood"),
    ],
)
def test_lists_that_offer_no_choice_are_refused_before_any_training(settings, message, record):
    with pytest.raises(InputError, match=message):
        gfdt.DSMScore(**settings).fit(record, dims=VECTOR)
    with pytest.raises(InputError, match=message):
        gfdt.DSMScore(**settings).validate(("component",))
