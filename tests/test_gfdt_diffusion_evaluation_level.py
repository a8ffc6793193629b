"""The choice of the noise level of evaluation: J against closed forms, the choice for known errors, and in ``fit``."""

import math

import numpy as np
import pytest
import torch

import gfdt
from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion import evaluation_level
from gfdt.diffusion.evaluation_level import CANDIDATES, choose_level, settle_level, sweep_levels
from gfdt.diffusion.objectives import make_objective
from gfdt.diffusion.preconditioning import Denoiser
from gfdt.diffusion.selection import HeldOut, ratio_mean

VECTOR = ("member", "time", "component")
LEVELS = (0.0, 0.1, 0.3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Zero(torch.nn.Module):
    def forward(self, x, _):
        return torch.zeros_like(x)


class Wave(torch.nn.Module):
    """A fixed smooth F with a Jacobian that is not diagonal."""

    def forward(self, x, c_noise):
        return torch.sin(2 * x + 0.5 * x.roll(1, -1)) * (1 + c_noise[:, None])


class ErrorOfLearning(torch.nn.Module):
    """For data N(0, 1): makes the score of the blurred density wrong by size/σ sin(3 y)."""

    size = 0.02

    def forward(self, x, c_noise):
        level = (4 * c_noise).exp()[:, None]
        y, q = x * (1 + level**2).sqrt(), 1 / (1 + level**2)
        return self.size / level * torch.sin(3 * y) / q

    @classmethod
    def score(cls, y, level):
        return -y / (1 + level**2) + cls.size / level * np.sin(3 * y)


def case(kind):
    """States with mean 0 and the covariance estimated from themselves."""
    x = torch.randn(64, 2, 6, generator=generator(1)).double()
    x[:, 1] += x[:, 0].roll(1, -1)
    if kind == "cross":
        x -= x.mean(dim=(0, 2), keepdim=True)
        return x, CrossSpectralCovariance.estimate(x.numpy(), 0.0)
    if kind == "spectral":
        x = x[:, 1] - x[:, 1].mean()
        return x, SpectralCovariance.estimate(x.numpy(), 0.0)
    x = x[:, 0] - x[:, 0].mean(dim=0)
    return x, DenseCovariance.estimate(x.numpy(), 0.0)


def denoiser_for(kind, network, precondition="gaussian"):
    x, covariance = case(kind)
    return Denoiser(network, covariance, x.shape[1:], channel=False, precondition=precondition).double().eval(), x


def gaussian_loss(covariance, level):
    """J of the score -(C + σ²)⁻¹ x at states with covariance C."""
    half = covariance.trace(lambda c: c / (c + level**2) ** 2) / 2
    return (half - covariance.trace(lambda c: 1 / (c + level**2))) / covariance.trace(lambda c: 1 / c)


# ---- J ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "spectral", "cross"])
def test_loss_of_the_gaussian_start_is_exact_on_states_with_just_its_covariance(kind):
    denoiser, x = denoiser_for(kind, Zero())
    _, covariance = case(kind)
    found = sweep_levels(denoiser, x, LEVELS, generator()).mean(axis=1)
    expected = [gaussian_loss(covariance, level) for level in LEVELS]
    assert expected[0] == pytest.approx(-0.5)
    # float32 in the precision 1/C
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_loss_of_the_exact_gaussian_score_is_minus_one_half_and_that_of_every_blurred_one_is_higher():
    eigenvalues = np.array([3.0, 1.0, 0.2])
    covariance = DenseCovariance(np.zeros(3), eigenvalues, np.eye(3))
    denoiser = Denoiser(Zero(), covariance, (3,), channel=False).eval()
    x = torch.randn(4000, 3, generator=generator(2)) * torch.from_numpy(eigenvalues).sqrt().float()
    losses = sweep_levels(denoiser, x, LEVELS, generator())
    errors = losses.std(axis=1) / math.sqrt(4000)
    expected = [gaussian_loss(covariance, level) for level in LEVELS]
    assert np.all(np.abs(losses.mean(axis=1) - expected) < 4 * errors)
    assert abs(losses[0].mean() + 0.5) < 4 * errors[0]
    assert np.all(np.diff(losses.mean(axis=1)) > 0)


@pytest.mark.parametrize("precondition", ["gaussian", "edm", "none"])
def test_loss_has_the_divergence_of_the_whole_score(precondition):
    """One state many times, each with its own probes, against the trace of the Jacobian."""
    denoiser, x = denoiser_for("dense", Wave(), precondition)
    level, n = 0.3, 2000
    levels = torch.full((1,), level).double()

    def score(state):
        return denoiser.score(state[None], levels)[0]

    trace = torch.func.jacrev(score)(x[0]).diagonal().sum()
    precision = float(denoiser.mean_precision(torch.zeros(1).double()))
    expected = float(score(x[0]).square().sum() / 2 + trace) / (6 * precision)
    found = sweep_levels(denoiser, x[:1].expand(n, -1), [level], generator())[0]
    assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(n) + 1e-6 * abs(expected)


def test_states_keep_their_place_when_they_are_evaluated_in_parts(monkeypatch):
    denoiser, x = denoiser_for("spectral", Zero())  # F = 0: the probes, drawn part by part, have no effect
    whole = sweep_levels(denoiser, x, LEVELS, generator())
    monkeypatch.setattr(evaluation_level, "_BATCH_VALUES", 7 * 6)
    np.testing.assert_allclose(sweep_levels(denoiser, x, LEVELS, generator()), whole, rtol=1e-12)


# ---- the choice ---------------------------------------------------------------------------------------


def known_errors(n=40_000):
    """A denoiser of N(0, I) in two dims whose errors are known, and states."""
    covariance = DenseCovariance(np.zeros(2), np.ones(2), np.eye(2))
    denoiser = Denoiser(ErrorOfLearning(), covariance, (2,), channel=False).eval()
    return denoiser, torch.randn(n, 2, generator=generator(3))


def test_loss_differs_between_levels_as_half_the_true_error_does_and_is_least_where_that_is():
    denoiser, x = known_errors()
    levels = [0.3 * factor for factor in CANDIDATES]
    losses = sweep_levels(denoiser, x, levels, generator())
    y = x.double().numpy()
    true = np.array([np.square(ErrorOfLearning.score(y, level) + y).mean() for level in levels]) / 2
    best = int(true.argmin())
    assert 0 < best < len(levels) - 1  # less blur is worse, and so is more
    sweep = choose_level(levels, losses, lambda values: (values.mean(), values.std() / math.sqrt(len(values))))
    assert sweep.chosen == best
    others = np.delete(np.arange(len(levels)), best)
    assert np.all(np.abs(sweep.difference - (true - true[best]))[others] < 4 * sweep.error[others])
    assert np.all(sweep.difference[others] > 2 * sweep.error[others])


def test_chosen_is_the_smallest_mean_loss_and_differences_are_paired():
    rng = np.random.default_rng(0)
    common, own = 100 * rng.normal(size=500), rng.normal(size=(3, 500))
    losses = np.array([[2.0], [1.0], [1.5]]) + common + own - own.mean(axis=1, keepdims=True)
    sweep = choose_level((0.1, 0.2, 0.3), losses, lambda values: ratio_mean(values, np.ones(500, dtype=int)))
    assert sweep.chosen == 1
    np.testing.assert_allclose(sweep.difference, [1.0, 0.0, 0.5], atol=1e-10)
    # two independent unit normals: what the levels have in common is gone
    np.testing.assert_allclose(sweep.error, [math.sqrt(2 / 500), 0.0, math.sqrt(2 / 500)], rtol=0.15)


def test_settled_level_and_its_table_are_the_same_every_time():
    denoiser, x = known_errors(4000)
    held_out = HeldOut(x, np.arange(4000) // 250, make_objective("dsm", 0.3, 0.5), 0.3, generator(4))
    level, table = settle_level(denoiser, held_out, 0.3, generator(5))
    assert settle_level(denoiser, held_out, 0.3, generator(5)) == (level, table)
    assert [row["level"] for row in table] == [0.0] + [0.3 * factor for factor in CANDIDATES]
    assert [row["level"] for row in table if row["difference"] == 0] == [level]


def test_a_single_piece_decides_but_has_no_error_to_show():
    denoiser, x = known_errors(200)
    held_out = HeldOut(x, np.zeros(200, dtype=int), make_objective("dsm", 0.3, 0.5), 0.3, generator(4))
    _, table = settle_level(denoiser, held_out, 0.3, generator(5))
    assert all(set(row) == {"level", "loss", "difference"} for row in table)


# ---- in fit -------------------------------------------------------------------------------------------

SMALL = {"batch_size": 256, "network_options": {"width": 8, "depth": 1}, "learning_rate": 0.02, "device": "cpu"}


@pytest.fixture(scope="module")
def settled(peaks):
    score = gfdt.DSMScore(max_steps=300, **SMALL).fit(peaks, dims=VECTOR)
    assert score.selected_ != "gaussian start"
    return score


def test_fit_uses_the_level_that_its_table_names(settled, peaks):
    gaussian, *table = settled.noise_sweep_
    assert gaussian["level"] == 0.0
    assert gaussian["difference"] > 2 * gaussian["error"]
    np.testing.assert_allclose([row["level"] for row in table], 0.05 * np.array(CANDIDATES))
    chosen = min(table, key=lambda row: row["loss"])
    assert (chosen["difference"], chosen["error"]) == (0.0, 0.0)
    assert all(row["difference"] > 0 and row["error"] > 0 for row in table if row is not chosen)
    np.testing.assert_allclose(settled.noise_level_, chosen["level"] * peaks.reshape(-1, 2).std(axis=0))


def test_the_level_in_use_and_those_from_it_up_to_the_trained_ones_raise_no_warning(settled, peaks):
    """Whatever level was chosen: it was measured on held-out states, though it may lie below the trained range."""
    lowest = min(CANDIDATES) * 0.05 * peaks.reshape(-1, 2).std(axis=0)
    with pytest.warns(gfdt.ReliabilityWarning, match=r"0\.68 times the lowest"):
        low = settled.at_noise_level(lowest)
    np.testing.assert_array_equal(low.at_noise_level(low.noise_level_)(peaks), low(peaks))
    assert np.isfinite(low.extrapolated()(peaks)).all()
    assert gfdt.check_score(peaks, low, dims=VECTOR, dt=1.0).sweep[0].noise_level == pytest.approx(
        np.sqrt(np.mean(lowest**2))
    )


def test_table_and_level_survive_a_file(settled, peaks, tmp_path):
    loaded = gfdt.load_score(settled.save(tmp_path / "score.safetensors"))
    assert loaded.noise_sweep_ == settled.noise_sweep_
    np.testing.assert_array_equal(loaded.noise_level_, settled.noise_level_)
    np.testing.assert_array_equal(loaded(peaks), settled(peaks))


@pytest.mark.parametrize("settings", [{"sigma": 0.3}, {"objective": "ssm"}, {"max_steps": 1}])
def test_there_is_nothing_to_decide_for_a_given_level_none_at_all_or_a_gaussian(settings, peaks):
    score = gfdt.DSMScore(**({"max_steps": 400} | SMALL | settings)).fit(peaks, dims=VECTOR)
    assert (score.selected_ == "gaussian start") == ("max_steps" in settings)
    assert score.noise_sweep_ == []
    trained = {"sigma": 0.3, "objective": 0.0, "max_steps": 0.0}
    np.testing.assert_allclose(score.noise_level_, trained[next(iter(settings))])
