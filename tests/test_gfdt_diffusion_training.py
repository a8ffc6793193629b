"""Objective, training loop and model selection, each by itself."""

import itertools
import math

import numpy as np
import pytest
import torch

from gfdt.covariance import DenseCovariance
from gfdt.diffusion.networks import make_network, network_options
from gfdt.diffusion.objectives import DenoisingObjective, squared_errors
from gfdt.diffusion.preconditioning import Denoiser
from gfdt.diffusion.selection import HeldOut, hold_out, train_and_select
from gfdt.diffusion.training import StepRecord, average_weights, train
from gfdt.errors import ReliabilityWarning

STEPS = 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def bimodal():
    """A denoiser with a small network, and 512 anomalies with two peaks."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (512, 1)) + 0.2 * rng.normal(size=(512, 1))
    covariance = DenseCovariance.estimate(x, 0.0)
    network = make_network("mlp", (1,), network_options("mlp", {"width": 16, "depth": 1}), generator())
    denoiser = Denoiser(network, covariance, (1,), channel=False)
    return denoiser, torch.tensor((x - covariance.mean) / denoiser.scale, dtype=torch.float32)


def training(denoiser, anomalies, **changes):
    settings = {"batch_size": 64, "learning_rate": 5e-3, "max_steps": STEPS, "max_seconds": None} | changes
    return train(denoiser, anomalies, DenoisingObjective(0.3, 0.5), generator=generator(1), **settings)


def test_objective_of_the_gaussian_start_is_one_on_average(bimodal):
    denoiser, anomalies = bimodal
    loss = DenoisingObjective(0.3, 0.5)(denoiser, anomalies, generator(2)).item()
    # F = 0 leaves the unit-variance target: 512 states with antithetic noise are about 512 squared normals
    assert loss == pytest.approx(1.0, abs=4 * math.sqrt(2 / 512))


def test_noise_levels_are_lognormal_about_the_stated_median():
    levels = DenoisingObjective(0.1, 0.5).draw_levels(1000, generator()).log()
    assert levels.mean().item() == pytest.approx(math.log(0.1), abs=1e-3)  # stratified: error of order 1/n
    assert levels.std().item() == pytest.approx(0.5, rel=0.01)


def test_antithetic_errors_are_the_mean_over_both_signs(bimodal):
    denoiser, anomalies = bimodal
    torch.nn.init.ones_(denoiser.network.last.weight)
    z, level = torch.randn(anomalies.shape, generator=generator(3)), torch.full((len(anomalies),), 0.2)
    expected = []
    for sign in (1, -1):
        error = denoiser.target(anomalies, sign * z, level) - denoiser.residual(anomalies + 0.2 * sign * z, level)
        expected.append(error.square().mean(dim=1))
    torch.testing.assert_close(squared_errors(denoiser, anomalies, z, level)[0], sum(expected) / 2)


def test_train_yields_one_record_per_step_with_warm_up_and_decay(bimodal):
    records = list(training(*bimodal, max_steps=100))
    assert [r.step for r in records] == list(range(1, 101))
    assert all(isinstance(r, StepRecord) and math.isfinite(r.loss) and r.samples_per_second > 0 for r in records)
    rates = np.array([r.learning_rate for r in records])
    assert rates[0] < 0.1 * rates.max()
    assert rates[-1] < 0.01 * rates.max()
    assert records[-1].progress == 1.0


def test_training_lowers_the_loss_of_bimodal_data(bimodal):
    losses = [r.loss for r in training(*bimodal, max_steps=200)]
    assert np.mean(losses[-50:]) < 0.9


def test_training_stops_at_the_wall_clock_budget(bimodal):
    records = list(training(*bimodal, max_steps=None, max_seconds=0.2))
    assert records[-1].progress == 1.0
    assert all(r.progress < 1 for r in records[:-1])


def test_a_loss_that_is_not_finite_does_not_change_the_weights(bimodal):
    denoiser, anomalies = bimodal

    def broken(denoiser, batch, generator):
        return math.nan * denoiser.residual(batch, torch.full((len(batch),), 0.1)).mean()

    before = [p.clone() for p in denoiser.network.parameters()]
    settings = {"batch_size": 8, "learning_rate": 1e-3, "max_steps": 1, "max_seconds": None}
    records = list(train(denoiser, anomalies, broken, generator=generator(), **settings))
    assert math.isnan(records[0].loss)
    assert all(torch.equal(p, q) for p, q in zip(before, denoiser.network.parameters(), strict=True))


def test_weight_average_forgets_its_start(bimodal):
    network = bimodal[0].network
    average = average_weights(network, 0.9)
    torch.nn.init.ones_(network.last.weight)
    for _ in range(60):
        average.update_parameters(network)
    # the first update copies, and constant weights are their own average
    torch.testing.assert_close(average.module.last.weight, network.last.weight)


@pytest.mark.parametrize(("n_members", "n_times"), [(1, 8), (1, 1000), (3, 57), (64, 100), (200, 20)])
def test_held_out_times_are_whole_blocks_and_about_a_tenth(n_members, n_times):
    block = hold_out(n_members, n_times)
    held = np.flatnonzero(block >= 0)
    assert 0 < held.size <= 0.2 * n_times
    for number in np.unique(block[held]):
        times = np.flatnonzero(block == number)
        np.testing.assert_array_equal(times, np.arange(times[0], times[-1] + 1))
    if n_times >= 100:
        assert np.unique(block[held]).size * n_members >= 8
        # fewer blocks than held-out times: neighbours stay together
        assert np.unique(block[held]).size <= max(2, held.size / 2)


def held_out(anomalies, pieces=16):
    return HeldOut(anomalies, np.arange(len(anomalies)) * pieces // len(anomalies), 0.2, generator(7))


def test_gain_of_the_gaussian_start_over_itself_is_zero_with_the_same_noise_every_time(bimodal):
    denoiser, anomalies = bimodal
    holdout = held_out(anomalies)
    sums, relative = holdout.gains(denoiser)
    assert relative == 1.0
    assert holdout.mean_and_error(sums) == (0.0, 0.0)
    torch.nn.init.constant_(denoiser.network.last.weight, 0.1)
    np.testing.assert_array_equal(holdout.gains(denoiser)[0], holdout.gains(denoiser)[0])


def test_standard_error_of_equal_pieces_is_that_of_the_mean():
    holdout = held_out(torch.zeros(40, 1), pieces=8)
    values = np.random.default_rng(0).normal(size=8)
    mean, error = holdout.mean_and_error(5 * values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(8))


def test_one_piece_gives_no_evidence():
    holdout = held_out(torch.zeros(10, 1), pieces=1)
    assert holdout.mean_and_error(np.ones(1)) == (0.1, math.inf)


def test_useful_weights_are_kept_and_useless_ones_are_not(bimodal):
    denoiser, anomalies = bimodal
    kept = train_and_select(
        denoiser, training(denoiser, anomalies[:256], max_steps=150), held_out(anomalies[256:]), decay=0.9
    )
    assert kept.step is not None
    assert kept.weights is not None
    assert len(kept.history) == 20
    assert kept.history[-1]["held_out"] < 0.95

    noise = torch.randn(anomalies.shape, generator=generator(9))
    denoiser.network.reset(generator())
    refused = train_and_select(denoiser, training(denoiser, noise[:32]), held_out(noise[256:]), decay=0.9)
    assert refused.step is None
    assert refused.weights is None


def test_interruption_keeps_the_best_so_far(bimodal):
    denoiser, anomalies = bimodal

    def interrupted():
        yield from itertools.islice(training(denoiser, anomalies, max_steps=200), 150)
        raise KeyboardInterrupt

    with pytest.warns(ReliabilityWarning, match="interrupted by Ctrl-C: the weights of step"):
        selection = train_and_select(denoiser, interrupted(), held_out(anomalies), decay=0.9)
    assert selection.step is not None


def test_a_training_loss_that_is_not_finite_falls_back_and_says_so(bimodal):
    denoiser, anomalies = bimodal
    steps = iter([StepRecord(1, math.nan, math.nan, 1e-3, 1.0, 0.1)])
    with pytest.warns(ReliabilityWarning, match="loss became nan at step 1: the Gaussian start was kept"):
        selection = train_and_select(denoiser, steps, held_out(anomalies), decay=0.9)
    assert selection.step is None


def test_progress_bar_is_silent_without_a_terminal_and_goes_to_stderr(bimodal, capsys):
    denoiser, anomalies = bimodal
    for progress in (None, False):
        train_and_select(denoiser, training(denoiser, anomalies), held_out(anomalies), decay=0.9, progress=progress)
        assert capsys.readouterr() == ("", "")
    train_and_select(denoiser, training(denoiser, anomalies), held_out(anomalies), decay=0.9, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "of the Gaussian start's" in err
