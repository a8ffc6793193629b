"""The noise saved beside the state: it is what drove the state, and saving it changes nothing."""

import json

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import simpson

import gfdt
from simulators import (
    AllenCahn,
    CharneyDeVore,
    DoubleWell,
    LinearSDE,
    Lorenz96,
    NavierStokes,
    OrnsteinUhlenbeck,
    ParameterError,
    Potential2D,
    ResumeError,
    ScalarClimate,
    Triad,
    engine,
    run,
)
from simulators.__main__ import main

DRIVEN = [DoubleWell(), ScalarClimate(), Potential2D(), Lorenz96(n=5, forcing=2.0), CharneyDeVore()]
driven = pytest.mark.parametrize("system", DRIVEN, ids=[system.name for system in DRIVEN])


@driven
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trajectory_is_the_same_with_and_without(system, dtype):
    arguments = {"n_members": 2, "duration": 2.0, "save_every": 0.1, "spinup": 0.5, "dtype": dtype}
    plain, noisy = system.simulate(**arguments), system.simulate(**arguments, save_noise=True)
    xr.testing.assert_identical(plain["x"], noisy["x"])
    assert noisy["noise"].dims == plain["x"].dims
    assert noisy["noise"].dtype == dtype
    assert "increments between this snapshot and the next" in noisy["noise"].attrs["long_name"]
    assert set(plain.data_vars) == {"x"}
    assert "save_noise" not in plain.attrs["config_json"]


@driven
def test_noise_takes_each_snapshot_to_the_next(system):
    # one Heun step between snapshots, repeated outside
    dt = 0.005
    record = system.simulate(2, 20 * dt, dt, dt=dt, save_noise=True)
    x, noise = record["x"].values, record["noise"].values
    predictor = x + system.drift(x) * dt + noise
    following = x + (system.drift(x) + system.drift(predictor)) * dt / 2 + noise
    np.testing.assert_allclose(following[:, :-1], x[:, 1:], rtol=1e-12, atol=1e-12)


@driven
def test_noise_of_a_long_interval_is_the_sum_over_its_steps(system):
    fine = system.simulate(2, 1.0, 0.01, dt=0.01, save_noise=True)["noise"].values
    coarse = system.simulate(2, 1.0, 0.1, dt=0.01, save_noise=True)["noise"].values
    np.testing.assert_allclose(coarse, fine.reshape(2, 10, 10, -1).sum(axis=2), rtol=1e-12, atol=1e-14)


@driven
def test_noise_is_white_with_the_covariance_it_says(system):
    record = system.simulate(40, 25.0, 0.1, save_noise=True, seed=1, dt=0.05)
    covariance = record["noise_covariance"]
    assert covariance.dims == ("component", "component_2")
    root = np.sqrt(np.diag(covariance) * 0.1)
    noise = record["noise"].values / root
    d, n = noise.shape[-1], noise[..., 0].size
    np.testing.assert_array_equal(covariance, np.diag(np.diag(covariance)))
    flat = noise.reshape(-1, d)
    assert np.abs(flat.T @ flat / n - np.eye(d)).max() < 4.5 * np.sqrt(2 / n)
    later = np.einsum("mti,mtj->ij", noise[:, 1:], noise[:, :-1]) / n
    assert np.abs(later).max() < 4.5 / np.sqrt(n)
    # and knows nothing of the state it is about to meet
    x = record["x"].values
    x = (x - x.mean((0, 1))) / x.std((0, 1))
    assert np.abs(np.einsum("mti,mtj->ij", x, noise) / n).max() < 4.5 / np.sqrt(n)


def test_noise_gives_the_response_without_a_score():
    # <x(t + h) dW> = Q int_0^h R(s) ds for the interval before, exact at any h (Novikov's theorem)
    system, h = DoubleWell(), 0.5
    record = system.simulate(400, 50.0, h, save_noise=True, seed=2, dt=0.05)
    x, noise = record["x"].values[..., 0], record["noise"].values[..., 0]
    for lag in (1, 3):
        products = (x[:, lag:] * noise[:, :-lag]).mean(axis=1)
        s = np.linspace((lag - 1) * h, lag * h, 51)
        exact = system.noise**2 * simpson(system.exact_response(s).values[:, 0, 0], x=s)
        assert abs(products.mean() - exact) < 4 * products.std(ddof=1) / np.sqrt(len(products))
        assert exact > 20 * products.std(ddof=1) / np.sqrt(len(products))


def test_file_and_memory_agree_and_a_failed_run_resumes_bit_for_bit(tmp_path, monkeypatch):
    system, arguments = Potential2D(), {"n_members": 2, "duration": 2.0, "save_every": 0.1, "seed": 4}
    memory = system.simulate(**arguments, save_noise=True)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 1)  # one snapshot
    calls = iter(range(100))

    def watch(*arguments):
        if next(calls) == 7:
            raise RuntimeError("power cut")

    out = tmp_path / "run.nc"
    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", watch)
        with pytest.raises(RuntimeError, match="power cut"):
            system.simulate(**arguments, save_noise=True, out=out)
    with pytest.raises(ResumeError, match=r"save_noise = None \(the file has True\)"):
        system.simulate(**arguments, out=out, resume=True)
    with system.simulate(**arguments, save_noise=True, out=out, resume=True) as file:
        xr.testing.assert_identical(file.load().drop_attrs(deep=False), memory.drop_attrs(deep=False))
    # what the estimators read
    state = gfdt.load_trajectory(out, var="x")
    np.testing.assert_array_equal(state, memory["x"])
    np.testing.assert_array_equal(gfdt.load_trajectory(out, var="noise"), memory["noise"])


def test_configuration_repeats_the_record():
    record = ScalarClimate().simulate(2, 2.0, 0.5, save_noise=True, seed=None)
    config = json.loads(record.attrs["config_json"])
    assert config["simulate"]["save_noise"] is True
    again = run(config["system"], config["parameters"], config["simulate"])
    xr.testing.assert_identical(record.drop_attrs(), again.drop_attrs())


def test_command_line_saves_noise(tmp_path, capsys):
    out = tmp_path / "run.nc"
    options = ["double-well", "--duration", "2", "--save-every", "0.5", "--save-noise"]
    assert main([*options, "--dry-run"]) == 0
    assert "x, noise(member=1, time=4, component=1)" in capsys.readouterr().err
    assert main([*options, "--out", str(out)]) == 0
    with xr.open_dataset(out) as record:
        assert set(record.data_vars) == {"x", "noise", "noise_covariance"}
    config = tmp_path / "run.toml"
    config.write_text("[simulate]\nsave_noise = true\nduration = 1.0\n")
    assert main(["ou", "--n", "4", "--config", str(config), "--dry-run"]) == 2
    assert "OrnsteinUhlenbeck has no noise increments to save" in capsys.readouterr().err


@pytest.mark.parametrize(
    "system",
    [LinearSDE([[-1.0]], [[1.0]]), OrnsteinUhlenbeck(n=4), AllenCahn(n=8), NavierStokes(n=16), Triad()],
    ids=lambda system: system.name,
)
def test_systems_without_increments_say_why(system):
    with pytest.raises(ParameterError, match=r"has no noise increments to save.*leave save_noise out"):
        system.simulate(1, 1.0, 0.5, save_noise=True)


def test_refuses_a_choice_that_is_none():
    with pytest.raises(ParameterError, match="save_noise = 'no': expected true or false"):
        DoubleWell().simulate(1, 1.0, 0.5, save_noise="no")
