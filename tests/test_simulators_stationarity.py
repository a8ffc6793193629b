"""``spinup="auto"``: the statistics behind it, the traps it must not fall into, and that it resumes bit for bit."""

import json
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from reference.simulators_toys import ColdWell, Drifting, Exploding, RandomWalk, Relaxing
from scipy.signal import lfilter

from simulators import (
    BlowUpError,
    DoubleWell,
    NotStationaryError,
    OrnsteinUhlenbeck,
    OutputError,
    ParameterError,
    ResumeError,
    engine,
)
from simulators.__main__ import main
from simulators.checkpoint import load_checkpoint, save_checkpoint
from simulators.monitor import Monitor, diagnostic_names, measure
from simulators.schema import component_layout, field_layout
from simulators.stationarity import autocorrelation_time, check_times, compare_windows, z_limit
from simulators.target import part_path, state_path

# ---- the statistics


def ar1(rng, phi, n_members, length):
    """Stationary x_t = phi x_{t-1} + sqrt(1 - phi^2) w: rho(j) = phi^j, tau = (1 + phi) / (1 - phi) / 2."""
    w = np.sqrt(1 - phi**2) * rng.standard_normal((n_members, length))
    w[:, 0] = rng.standard_normal(n_members)
    return lfilter([1.0], [1.0, -phi], w, axis=1)


@pytest.mark.parametrize(("n_members", "length"), [(1, 20_000), (16, 1000), (64, 200)])
@pytest.mark.parametrize("phi", [0.0, 0.8, 0.9])
def test_tau_of_an_autoregressive_process(phi, n_members, length):
    found = autocorrelation_time(ar1(np.random.default_rng(3), phi, n_members, length))
    exact = (1 + phi) / (1 - phi) / 2
    # the window leaves out exp(-5) of the sum
    assert abs(found.tau - exact) < 3 * found.tau_error + np.exp(-5) * exact
    assert found.tau_error < 0.2 * exact
    # <x^4> - 1 = 2, and x^2 has the time tau of phi^2
    variance_error = np.sqrt(2 * 2 * (1 + phi**2) / (1 - phi**2) / 2 / (n_members * length))
    assert abs(found.variance - 1) < 4 * variance_error


def test_tau_of_one_short_series_is_not_lowered_by_its_estimated_mean():
    # 300 times tau = 4.5, 67 tau: uncorrected the mean over series would be 15 % too small
    rng = np.random.default_rng(5)
    taus = [autocorrelation_time(series[None]).tau for series in ar1(rng, 0.8, 400, 300)]
    assert np.mean(taus) == pytest.approx(4.5, abs=3 * np.std(taus) / 20 + 0.05 * 4.5)


@pytest.mark.parametrize("n_members", [1, 16])
def test_the_drift_of_a_stationary_process_has_a_standard_normal_law(n_members):
    rng = np.random.default_rng(7)
    z = [compare_windows("x", ar1(rng, 0.8, n_members, 600), 1.0).z for _ in range(400)]
    assert abs(np.mean(z)) < 4 / 20
    # neighbouring windows are correlated, and tau of one member is uncertain: within 15 %
    assert np.std(z) == pytest.approx(1.0, abs=0.15)


def test_the_ensemble_sees_a_drift_that_no_single_member_shows():
    series = ar1(np.random.default_rng(1), 0.8, 256, 400)
    drifting = series + 0.5 * np.exp(-np.arange(400) / 100)  # half a standard deviation to begin with
    assert abs(compare_windows("x", series, 1.0).z) < z_limit(1)
    assert abs(compare_windows("x", drifting[:1], 1.0).z) < z_limit(1)
    assert abs(compare_windows("x", drifting, 1.0).z) > 2 * z_limit(1)


def test_members_in_different_wells_have_a_long_memory():
    noise = 0.1 * ar1(np.random.default_rng(2), 0.5, 8, 400)
    one_well = compare_windows("x", 1 + noise, 1.0)
    two_wells = compare_windows("x", np.repeat([1.0, -1.0], 4)[:, None] + noise, 1.0)
    assert one_well.passes(400, z_limit(1))
    assert two_wells.tau > 40
    assert not two_wells.passes(400, z_limit(1))


def test_constants_pass_up_to_rounding():
    rng = np.random.default_rng(0)
    assert compare_windows("x", np.ones((2, 64)), 1.0).passes(64, z_limit(1))
    rounding = compare_windows("x", 1e-17 * np.cumsum(rng.standard_normal((2, 64)), axis=1), 1.0, rounding=1e-12)
    assert rounding.passes(64, z_limit(1))
    assert rounding.describe() == "x: constant"


def test_infinite_diagnostics_never_pass():
    series = np.ones((2, 64))
    series[1, 50] = np.inf
    with np.errstate(invalid="ignore"):
        assert not compare_windows("x", series, 1.0).passes(1e9, z_limit(1))


def test_checks_span_a_quarter_to_ten_times_the_default():
    times = check_times(1000.0, 0.5)
    assert (times[0], times[-1]) == (500, 20_000)
    assert all(1 < later / earlier < 1.26 for earlier, later in pairwise(times))
    assert (check_times(1.0, 10.0)[0], check_times(1.0, 10.0)[-1]) == (32, 128)  # few save intervals


# ---- what is watched


def test_diagnostics_of_a_field_and_of_components():
    rng = np.random.default_rng(0)
    field = rng.standard_normal((7, 6, 6))
    layout = field_layout(np.arange(6.0), "field")
    assert diagnostic_names(layout) == ["mean", "mean square", "mean fourth power", "value at one point"]
    expected = [field.mean((1, 2)), (field**2).mean((1, 2)), (field**4).mean((1, 2)), field[:, 0, 0]]
    np.testing.assert_allclose(measure(layout, field), expected, rtol=1e-12)
    x = rng.standard_normal((7, 20))
    layout = component_layout(20)
    picked = [0, 3, 5, 8, 11, 14, 16, 19]
    assert diagnostic_names(layout)[:2] == ["component 0", "component 3"]
    np.testing.assert_array_equal(measure(layout, x), np.concatenate([x[:, picked].T, x[:, picked].T ** 2]))


def test_the_monitor_is_bounded_and_does_not_see_blocks():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((3, 2, 5000))  # (member, diagnostic, time)
    monitor = Monitor(component_layout(1), 3)
    for start in range(0, 5000, 700):
        monitor.add(values[:, :, start : start + 700])
    length, full = Monitor.bins(5000)
    assert (length, full) == (16, 312)
    expected = values[:, :, : full * length].reshape(3, 2, full, length).sum(-1)
    np.testing.assert_allclose(monitor.sums[:-1].transpose(2, 1, 0), expected, atol=1e-12)
    np.testing.assert_allclose(monitor.sums[-1].T, values[:, :, full * length :].sum(-1), atol=1e-12)
    again = Monitor(component_layout(1), 3)
    for index in range(1234):
        again.add(values[:, :, index : index + 1])
    again = Monitor(component_layout(1), 3, again.done, again.sums.copy())
    again.add(values[:, :, 1234:])
    np.testing.assert_array_equal(again.sums, monitor.sums)
    assert Monitor(component_layout(3), 10**6).n_watched == 1024


# ---- the rule on systems with known answers


def auto(system, n_members=64, save_every=0.5, duration=1.0, **options):
    dataset = system.simulate(n_members, duration, save_every, spinup="auto", **options)
    return dataset, float(dataset.attrs["spinup_time"]), json.loads(dataset.attrs["spinup_check"])


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_relaxation_from_far_away(rate):
    system = Relaxing(rate=rate)
    dataset, time, check = auto(system, seed=1)
    # tau of x is 1 / rate; the check is made at times 1.25 apart, and stationary ensembles fail some of them
    assert 20 * 0.8 / rate < time < 60 / rate
    first = check["diagnostics"][0]
    assert abs(first["tau"] - 1 / rate) < 3 * first["tau_error"]
    assert abs(first["drift_z"]) < check["z_limit"]
    assert abs(dataset["x"][:, 0].mean()) < 4 / np.sqrt(64)  # 64 independent members of variance 1
    assert 10 * np.exp(-rate * time) < 1e-5  # what is left of the start


def test_few_members_take_longer():
    _, alone, check = auto(Relaxing(), n_members=1, seed=3)
    assert check["members"] == 1
    _, together, _ = auto(Relaxing(), n_members=64, seed=3)
    assert alone > together


def test_wells_that_are_left_rarely():
    # all members start on the right; the sign of x has tau about 5, a fluctuation inside a well about 0.5
    dataset, time, check = auto(ColdWell(), seed=2)
    exact = DoubleWell()
    x = exact.simulate(64, 500.0, 0.5, seed=9)["x"].values[:, :, 0]
    tau = 0.5 * autocorrelation_time(x).tau
    assert time > 15 * tau
    assert check["diagnostics"][0]["tau"] > 0.7 * tau
    variance = float(exact.exact_covariance().item())
    assert abs(dataset["x"][:, 0].mean()) < 4 * np.sqrt(variance / 64)


def test_an_ensemble_waits_for_a_slow_drift_that_one_member_cannot_tell_from_its_noise():
    _, alone, _ = auto(Drifting(), n_members=1, seed=4)
    assert 0.5 * np.exp(-alone / 50) > 0.05
    _, time, _ = auto(Drifting(), n_members=256, seed=4)
    assert 0.5 * np.exp(-time / 50) < 0.02  # a third of the standard error of the mean of one snapshot


def test_an_exact_start_needs_no_spin_up():
    for system in (OrnsteinUhlenbeck(n=4), DoubleWell()):
        dataset, time, check = auto(system, n_members=2)
        assert time == 0
        assert "stationary law" in check
        name = system.layout().variable
        np.testing.assert_array_equal(dataset[name], system.simulate(2, 1.0, 0.5)[name])


def test_a_run_that_is_not_stationary_is_refused_with_the_numbers(tmp_path):
    with pytest.raises(NotStationaryError, match=r"after a spin-up of 400.*component 0: tau .* sd.*pass a length, for"):
        auto(Relaxing(rate=1e-3), n_members=4, out=tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


def test_spinup_is_a_number_or_auto():
    with pytest.raises(ParameterError, match="spinup = 'automatic': expected a finite number >= 0, or 'auto'"):
        Relaxing().plan(spinup="automatic")


# ---- the run around it


def test_a_fixed_spin_up_of_the_time_found_is_the_same_record():
    system = Relaxing()
    dataset, time, _ = auto(system, n_members=8, duration=10.0, seed=5)
    np.testing.assert_array_equal(dataset["x"], system.simulate(8, 10.0, 0.5, spinup=time, seed=5)["x"])
    assert json.loads(dataset.attrs["config_json"])["simulate"]["spinup"] == "auto"


def test_the_time_found_depends_on_neither_workers_blocks_precision_nor_duration(monkeypatch):
    system = Relaxing()
    first, time, check = auto(system, n_members=8, duration=10.0, workers=1)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 8 * 8 * 3)  # three snapshots
    second, *again = auto(system, n_members=8, duration=5.0, workers=2, dtype="float32")
    assert again == [time, check]
    np.testing.assert_array_equal(first["x"][:, :10].astype("float32"), second["x"])


@pytest.mark.parametrize("done", [0.05, 0.4, 0.7, 0.98])
def test_an_interrupted_spin_up_resumes_bit_for_bit(tmp_path, monkeypatch, done):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 8 * 8 * 7)  # seven snapshots
    system = Relaxing(rate=0.4)
    expected, time, _ = auto(system, n_members=8, duration=20.0, seed=6)
    out = tmp_path / "run.nc"

    def fails(block, plan, first, advice, real=engine._watch):
        if plan.spinup_checks == () or first + 7 > done * time / 0.5:
            raise KeyboardInterrupt
        real(block, plan, first, advice)

    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", fails)
        with pytest.raises(KeyboardInterrupt):
            auto(system, n_members=8, duration=20.0, seed=6, out=out)
    assert load_checkpoint(out).spinup is None
    resumed, time_again, _ = auto(system, n_members=8, duration=20.0, seed=6, out=out, resume=True)
    with resumed:
        np.testing.assert_array_equal(resumed["x"], expected["x"])
        assert {key: resumed.attrs[key] for key in ("spinup_time", "spinup_check")} == {
            key: expected.attrs[key] for key in ("spinup_time", "spinup_check")
        }
    assert time_again == time
    assert [path.name for path in tmp_path.iterdir()] == ["run.nc"]


def test_an_interrupted_record_keeps_the_result_of_its_spin_up(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 8 * 8 * 7)
    expected, time, check = auto(Relaxing(), n_members=8, duration=20.0, seed=6)
    out = tmp_path / "run.nc"

    def fails(block, plan, first, advice, real=engine._watch):
        if plan.spinup_checks == () and first == 14:
            raise KeyboardInterrupt
        real(block, plan, first, advice)

    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", fails)
        with pytest.raises(KeyboardInterrupt):
            auto(Relaxing(), n_members=8, duration=20.0, seed=6, out=out)
    assert load_checkpoint(out).done == round(time / 0.5) + 14
    resumed, *again = auto(Relaxing(), n_members=8, duration=20.0, seed=6, out=out, resume=True)
    with resumed:
        np.testing.assert_array_equal(resumed["x"], expected["x"])
    assert again == [time, check]


def test_a_kill_while_the_end_of_the_spin_up_is_noted_is_harmless(tmp_path, monkeypatch):
    out = tmp_path / "run.nc"
    expected, _, _ = auto(Relaxing(), n_members=8, seed=6)

    def spoil(sink, schema):
        part_path(out).write_bytes(b"half a file")
        raise OutputError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(engine.FileSink, "label", spoil)
        with pytest.raises(OutputError, match="power cut"):
            auto(Relaxing(), n_members=8, seed=6, out=out)
    with auto(Relaxing(), n_members=8, seed=6, out=out, resume=True)[0] as resumed:
        np.testing.assert_array_equal(resumed["x"], expected["x"])


@pytest.mark.parametrize(
    "change",
    [
        {"sums": np.zeros((3, 2, 8))},
        {"sums": None},
        {"sums": np.zeros((8, 2, 8), dtype="f4")},
        {"sums": None, "spinup": (5, "")},
        {"spinup": (32, "")},
    ],
)
def test_a_checkpoint_with_another_spin_up_is_refused(tmp_path, monkeypatch, change):
    monkeypatch.setattr(engine, "BLOCK_BYTES", 8 * 8 * 7)
    out = tmp_path / "run.nc"
    calls = iter(range(1, 10**9))

    def fails(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", fails)
        with pytest.raises(KeyboardInterrupt):
            auto(Relaxing(), n_members=8, out=out)
    if "spinup" in change:
        change = change | {"spinup": engine.SpinupResult(*change["spinup"])}
    checkpoint = load_checkpoint(out)
    assert checkpoint.sums.shape == (8, 2, 8)
    save_checkpoint(state_path(out), replace(checkpoint, **change))
    with pytest.raises(ResumeError, match="its spin-up is not one that these arguments lead to"):
        auto(Relaxing(), n_members=8, out=out, resume=True)


def test_blow_up_during_the_spin_up_is_counted_from_its_beginning(monkeypatch):
    monkeypatch.setattr(Exploding, "default_spinup", 10.0)
    with pytest.raises(BlowUpError) as caught:
        Exploding().simulate(4, 20.0, 1.0, spinup="auto")
    assert 1 <= caught.value.time <= 3


def test_the_command_line_says_when_the_spin_up_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(main.__globals__["SYSTEMS"], "relaxing", Relaxing)
    out = tmp_path / "run.nc"
    config = tmp_path / "run.toml"
    config.write_text('[simulate]\nspinup = "auto"\nn_members = 8\nduration = 3.0\nsave_every = 0.5\n')
    assert main(["relaxing", "--config", str(config), "--dry-run", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "32 to 800 snapshots of spin-up, until stationary" in said
    assert " s of spin-up on " in said
    assert main(["relaxing", "--config", str(config), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert "spin-up ended after time" in captured.err
    assert "component 0: tau" in captured.err
    assert main(["relaxing", "--spinup", "auto", "--members", "2", "--save-every", "0.5", "--dry-run"]) == 0
    os.remove(out)


def test_a_random_walk_without_a_default_is_taken_at_its_word():
    # default_spinup = 0 is the claim that the start is stationary; nothing is simulated to test it
    assert RandomWalk().plan(spinup="auto").n_spinup == 0
