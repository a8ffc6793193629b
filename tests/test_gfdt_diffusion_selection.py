"""Which weights are kept, by which held-out states, and when training ends early."""

import math
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from reference.small_training import generator, record, training, two_peaks

from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.objectives import make_objective
from gfdt.diffusion.running import Outputs, run
from gfdt.diffusion.selection import HeldOut, Selector, hold_out
from gfdt.diffusion.training import Training
from gfdt.errors import ReliabilityWarning


@pytest.fixture
def bimodal():
    return two_peaks()


def held_out(anomalies, pieces=16, objective="dsm"):
    numbers = np.arange(len(anomalies)) * pieces // len(anomalies)
    return HeldOut(anomalies, numbers, make_objective(objective, 0.3, 0.5), 0.2, generator(7))


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


@pytest.mark.parametrize("objective", ["dsm", "ssm", "fd-ssm"])
def test_gain_of_the_gaussian_start_over_itself_is_zero_with_the_same_noise_every_time(bimodal, objective):
    denoiser, anomalies = bimodal
    holdout = held_out(anomalies, objective=objective)
    sums, relative = holdout.gains(denoiser)
    assert relative == 1.0
    assert holdout.mean_and_error(sums) == (0.0, 0.0)
    torch.nn.init.constant_(denoiser.network.last.weight, 0.1)
    np.testing.assert_array_equal(holdout.gains(denoiser)[0], holdout.gains(denoiser)[0])


@dataclass(frozen=True)
class Separate(Processes):
    """One of several processes whose sums are left to the test."""

    def sum_(self, tensors):
        pass


@pytest.mark.parametrize("top", [0.0, 2.0], ids=["one level", "all levels"])
@pytest.mark.parametrize("objective", ["dsm", "ssm", "fd-ssm"])
@pytest.mark.parametrize(("count", "size"), [(101, 1), (101, 2), (101, 3), (5, 8)])
def test_shares_of_the_held_out_states_add_up_to_what_one_process_finds(
    bimodal, monkeypatch, objective, top, count, size
):
    monkeypatch.setattr("gfdt.diffusion.selection._BATCH_VALUES", 16)
    denoiser, anomalies = bimodal
    torch.nn.init.constant_(denoiser.network.last.weight, 0.1)
    pieces, loss = np.arange(count) * 4 // count, make_objective(objective, 0.3, 0.5, top)
    whole = HeldOut(anomalies[:count], pieces, loss, 0.2, generator(7))
    expected, _ = whole.gains(denoiser)
    places = np.array([0, 3, 4])
    gains, states = 0.0, 0.0
    for rank in range(size):
        share = HeldOut(anomalies[rank:count:size], pieces, loss, 0.2, generator(7), Separate(rank, size))
        gains = gains + share.gains(denoiser)[0]
        states = states + share.some(places)
    np.testing.assert_allclose(gains, expected, atol=1e-5 * np.abs(expected).max())  # sums of single precision
    assert np.ptp(expected) > 0
    torch.testing.assert_close(states, whole.some(places))
    torch.testing.assert_close(states, anomalies[places])


def test_standard_error_of_equal_pieces_is_that_of_the_mean():
    holdout = held_out(torch.zeros(40, 1), pieces=8)
    values = np.random.default_rng(0).normal(size=8)
    mean, error = holdout.mean_and_error(5 * values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(8))


def test_one_piece_gives_no_evidence():
    holdout = held_out(torch.zeros(10, 1), pieces=1)
    assert holdout.mean_and_error(np.ones(1)) == (0.1, math.inf)


def selected(denoiser, steps, holdout, progress=None, **options):
    selector = Selector(denoiser, holdout, **({"decay": 0.9} | options))
    return run(steps, selector, Outputs(progress))


def test_useful_weights_are_kept_and_useless_ones_are_not(bimodal):
    denoiser, anomalies = bimodal
    steps = training(denoiser, anomalies[:256], max_steps=150, learning_rate=0.02)
    kept = selected(denoiser, steps, held_out(anomalies[256:]))
    assert kept.step is not None
    assert kept.weights is not None
    assert len(kept.history) == 20
    # the exact score of the two peaks has 0.54 on these states; measured: 0.57
    assert kept.history[-1]["held_out"] < 0.6
    assert kept.stopped == "budget"

    noise = torch.randn(anomalies.shape, generator=generator(9))
    denoiser.network.reset(generator())
    refused = selected(denoiser, training(denoiser, noise[:32]), held_out(noise[256:]))
    assert refused.step is None
    assert refused.weights is None


class Gains:
    """Held-out evaluations with given gains per piece."""

    def __init__(self, values):
        self.values = iter(np.asarray(values, dtype=float))
        self.piece = np.arange(8)

    def gains(self, _):
        return next(self.values), 1.0

    mean_and_error = HeldOut.mean_and_error


def evaluate(denoiser, values, patience, slope=-0.01):
    """Feed gains (evaluations, 8 pieces), with a loss in training that changes by ``slope``, to a selector."""
    selector = Selector(denoiser, Gains(values), decay=0.9, patience=patience)
    for number in range(1, len(values) + 1):
        selector.observe(record(number, number / 20, loss=1 + slope * number))
        if selector.selection.stopped:
            break
    return selector.selection, len(selector.selection.history)


def test_training_ends_early_only_when_evaluations_are_significantly_worse(bimodal):
    rng = np.random.default_rng(0)
    pieces = 1 + 0.1 * rng.normal(size=8)
    good, bad = pieces, pieces - 0.5 + 0.05 * rng.normal(size=8)
    selection, seen = evaluate(bimodal[0], [good, *[bad] * 10], patience=3)
    assert (selection.stopped, seen, selection.step) == ("patience", 4, 1)
    # one good evaluation in between starts the count anew
    selection, seen = evaluate(bimodal[0], [good, bad, bad, good, bad, bad, bad, bad], patience=3)
    assert (selection.stopped, seen) == ("patience", 7)
    # as low on average, but no lower than the pieces scatter about the best
    noisy = [pieces - 0.1 + rng.normal(size=8) for _ in range(18)]
    selection, seen = evaluate(bimodal[0], [good, *noisy], patience=3)
    assert (selection.stopped, seen) == ("", 19)
    # worse than the Gaussian start from the beginning
    selection, seen = evaluate(bimodal[0], [-pieces] * 10, patience=3)
    assert (selection.stopped, seen, selection.step) == ("patience", 3, None)
    # but not if the training states fare no better, as after large first steps
    selection, seen = evaluate(bimodal[0], [-pieces] * 10 + [pieces], patience=3, slope=0.01)
    assert (selection.stopped, seen, selection.step) == ("", 11, 11)


# ---- interruption and warnings ------------------------------------------------------------------------


class Interrupted(Training):
    """Ctrl-C in the middle of a step."""

    after = 150

    def _step(self):
        if self.step == self.after:
            os.kill(os.getpid(), signal.SIGINT)
        return super()._step()


def test_interruption_ends_after_a_whole_step_and_keeps_the_best_so_far(bimodal):
    denoiser, anomalies = bimodal
    steps = training(denoiser, anomalies, max_steps=200)
    steps.__class__ = Interrupted
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(ReliabilityWarning, match="training was interrupted: the weights of step"):
        selection = selected(denoiser, steps, held_out(anomalies))
    assert selection.step is not None
    assert selection.stopped == "interrupted"
    assert steps.step == 151
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_training_loss_that_is_not_finite_falls_back_and_says_so(bimodal):
    denoiser, anomalies = bimodal
    with pytest.warns(ReliabilityWarning, match="no longer finite at step 1: the Gaussian start was kept"):
        selection = selected(denoiser, training(denoiser, math.nan * anomalies), held_out(anomalies))
    assert selection.step is None
    assert selection.stopped == "not finite"


def test_progress_bar_is_silent_without_a_terminal_and_goes_to_stderr(bimodal, capsys):
    denoiser, anomalies = bimodal
    for progress in (None, False):
        selected(denoiser, training(denoiser, anomalies), held_out(anomalies), progress)
        assert capsys.readouterr() == ("", "")
    selected(denoiser, training(denoiser, anomalies), held_out(anomalies), True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "of the Gaussian start's" in err
