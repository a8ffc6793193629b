"""Twin experiments: exact where the physics is linear, within their own error bars where it is not."""

import inspect
import json
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding, RandomWalk

import gfdt
import simulators
from simulators import BlowUpError, DoubleWell, LinearSDE, OrnsteinUhlenbeck, ParameterError, ScalarClimate
from simulators.engine import Stepper, add_in_place
from simulators.linearity import LinearRangeWarning, find_linear_range
from simulators.lorenz96 import Lorenz96
from simulators.schema import component_layout
from simulators.system import System
from simulators.twins import Twins

# Non-normal, three scales, and a component without noise of its own.
LINEAR = LinearSDE([[-1.0, 2.0, 0.0], [-0.3, -1.0, 1.0], [0.0, 0.1, -0.5]], np.diag([1.0, 0.5, 0.0]))
FIELD = {"lam": 0.5, "kappa": 0.05, "advection": 0.4, "noise": 0.3}


# ---- exact: no error but rounding


@pytest.mark.parametrize("amplitude", [None, 1e-3, 10.0])
def test_every_kick_of_a_linear_system_is_the_matrix_exponential(amplitude):
    twins = LINEAR.direct_response(3.0, 0.5, 4, amplitude, n_restarts=2)
    exact = LINEAR.exact_response(0.5 * np.arange(7))
    assert twins["response"].dims == exact.dims
    xr.testing.assert_allclose(twins["response"], exact, atol=1e-10)
    assert twins["stderr"].max() < 1e-12
    assert twins["nonlinearity"].max() < 1e-12
    assert twins.attrs["linear_range"] == "yes"


@pytest.mark.parametrize("perturbation", ["pixel", "pattern"])
@pytest.mark.parametrize("n", [2, 7, 8])
def test_every_kick_of_a_linear_field_is_the_propagator(n, perturbation):
    system = OrnsteinUhlenbeck(n=n, **FIELD)
    twins = system.direct_response(3.0, 0.5, 4, perturbation=perturbation, n_restarts=2, dt=0.2)
    exact = system.exact_response(twins["lag"])
    assert twins["response"].dims == exact.dims
    xr.testing.assert_allclose(twins["response"].drop_attrs(), exact.drop_attrs(), atol=1e-10)
    assert twins["stderr"].max() < 1e-12


def test_given_displacement_is_carried_by_the_propagator():
    field = OrnsteinUhlenbeck(n=6, **FIELD)
    w = np.random.default_rng(0).standard_normal((6, 6))
    twins = field.direct_response(2.0, 1.0, 2, perturbation=w)
    assert twins["response"].dims == ("lag", "y", "x")
    np.testing.assert_array_equal(twins["perturbation"], w)
    expected = [np.fft.irfft2(field.propagator(t) * np.fft.rfft2(w)) for t in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(twins["response"], expected, atol=1e-12)
    vector = LINEAR.direct_response(2.0, 1.0, 2, perturbation=[1, 0, -2])
    expected = LINEAR.exact_response([0.0, 1.0, 2.0]).values @ [1.0, 0.0, -2.0]
    np.testing.assert_allclose(vector["response"], expected, atol=1e-12)


def test_response_at_lag_zero_is_the_kick():
    # also where nothing is linear
    for system, perturbation in ((DoubleWell(), "pixel"), (DoubleWell(), "pattern"), (LINEAR, "pixel")):
        start = system.direct_response(0.5, 0.5, 2, perturbation=perturbation)["response"][0]
        np.testing.assert_allclose(start, np.eye(len(start)), atol=1e-12)
    pulled = DoubleWell().direct_response(0.5, 0.5, 500, perturbation=lambda x: x**3)
    # <x^3> = 0, and <x^3> of 500 states within 4.5 standard errors of it
    assert abs(pulled["response"][0, 0]) < 4.5 * pulled["stderr"][0, 0]
    assert pulled["stderr"][0, 0] > 0


# ---- statistics


def test_random_patterns_of_a_vector_give_the_matrix_within_their_error():
    twins = LINEAR.direct_response(1.0, 0.5, 2000, perturbation="pattern", check_amplitude=False)
    z = (twins["response"] - LINEAR.exact_response(twins["lag"])) / twins["stderr"]
    # 27 entries, 9 independent ones (the 3 x 3 moments <p_i p_j>, whose trace is fixed): P(chi2 > 3.5 a dof) < 1e-3
    assert float((z**2).mean()) < 3.5
    assert abs(z).max() < 4.5
    size = twins["amplitude"].rename(component_src="component")
    stderr = twins["stderr"] * twins["amplitude"] / size  # a pure number, whatever the units
    assert 0.01 < float(stderr.max()) < 0.1  # 1 / sqrt(2000) is 0.02


@pytest.mark.parametrize("system", [DoubleWell(), ScalarClimate()], ids=lambda system: system.name)
def test_nonlinear_response_agrees_with_fokker_planck(system):
    twins = system.direct_response(3.0, 0.5, 800, n_restarts=2, seed=5, check_amplitude=False)
    exact = system.exact_response(twins["lag"])
    error, stderr = (twins["response"] - exact)[1:], twins["stderr"][1:]
    # P(|z| > 4) = 6e-5 at each of six correlated lags; the amplitude bias is below 1e-3
    assert (abs(error) < 4 * stderr + 1e-3).all()
    assert stderr.max() < 0.03
    table = gfdt.compare(exact, {"direct": twins})
    assert float(table["rms_overall"][0]) < 0.04
    assert float(table["coverage"][0]) > 0
    assert float(gfdt.compare(twins, {"exact": exact})["relative"][0]) < 0.1


def test_kick_along_a_function_is_the_sum_of_what_it_does_in_each_state():
    # GFDT with the exact score s: R(t) = -<x(t) [w' + w s](x(0))>, here w = 1 + x^2
    system = DoubleWell()
    twins = system.direct_response(2.0, 1.0, 1500, 0.05, perturbation=lambda x: 1 + x**2, check_amplitude=False)
    run = system.simulate(200, 300.0, 0.5, seed=8)["x"].values[..., 0]
    observable = -(2 * run + (1 + run**2) * system.score(run[..., None])[..., 0])
    for lag in (0, 1, 2):
        series = (run[:, 2 * lag :] * observable[:, : run.shape[1] - 2 * lag]).mean(axis=1)
        error = np.hypot(series.std(ddof=1) / np.sqrt(len(series)), float(twins["stderr"][lag, 0]))
        assert abs(series.mean() - float(twins["response"][lag, 0])) < 4 * error


def test_standard_error_is_that_of_independent_members():
    short = [DoubleWell().direct_response(2.0, 1.0, 60, 0.1, seed=s, check_amplitude=False) for s in range(30)]
    responses = np.array([twins["response"].values.ravel() for twins in short])[:, 1:]
    claimed = np.mean([twins["stderr"].values.ravel()[1:] for twins in short], axis=0)
    ratio = responses.std(axis=0, ddof=1) / claimed
    # a standard deviation from 30 draws is known to 13 %; tails add to it
    assert ((ratio > 0.6) & (ratio < 1.6)).all()


# ---- twins are twins


@dataclass(frozen=True)
class HiddenPhase(System):
    """dx = -x dt + cos(phase) dt with a phase that diffuses, saved beside x and never kicked; Euler steps."""

    name: ClassVar[str] = "hidden-phase"
    title: ClassVar[str] = "Forced by a hidden phase"
    references: ClassVar[str] = "none"
    default_dt: ClassVar[float | None] = 0.01

    def layout(self):
        return replace(component_layout(1), extra={"phase": "hidden phase"})

    def _drift_array(self, u):
        return -u

    def make_stepper(self, dt, n_steps):
        def start(rng):
            return (rng.standard_normal(1), rng.uniform(0, 2 * np.pi, 1))

        def advance(state, rng, out, out_phase):
            x, phase = state
            for row, row_phase in zip(out, out_phase, strict=True):
                row[:], row_phase[:] = x, phase
                for _ in range(n_steps):
                    x += dt * (np.cos(phase) - x)
                    phase += np.sqrt(dt) * rng.standard_normal(1)

        return Stepper(start, advance, add_in_place)


def test_twins_share_hidden_variables_and_noise():
    twins = HiddenPhase().direct_response(1.0, 0.5, 2, 0.5, n_restarts=2)
    np.testing.assert_allclose(twins["response"][:, 0, 0], 0.99 ** np.array([0, 50, 100]), rtol=1e-12)


def test_member_depends_on_seed_and_number_alone(monkeypatch):
    original = Twins.run

    def members(n, workers, seed=3):
        found = {}

        def run(self, member, position, amplitude):
            found[member] = original(self, member, position, amplitude).response
            return original(self, member, None, amplitude)

        monkeypatch.setattr(Twins, "run", run)
        twins = DoubleWell().direct_response(1.0, 0.5, n, n_restarts=2, seed=seed, workers=workers)
        np.testing.assert_allclose(twins["response"], np.mean(list(found.values()), axis=0), rtol=1e-12)
        assert sorted(found) == list(range(n))
        return found, float(twins["amplitude"][0])

    few, amplitude = members(2, 1)
    many, same = members(10, 3)  # more than the pilot
    assert amplitude == same
    for member, response in few.items():
        np.testing.assert_array_equal(response, many[member])
    assert len({float(response[2, 0, 0]) for response in many.values()}) == 10
    assert members(2, 1, seed=4)[0][0][2, 0, 0] != few[0][2, 0, 0]


def test_base_trajectory_is_the_simulated_one():
    # restarts `decorrelate` apart: a function of the state sees the states of simulate()
    seen = []

    def look(x):
        seen.append(float(x[0]))
        return np.ones(1)

    DoubleWell().direct_response(
        1.0, 0.5, 2, 0.1, look, n_restarts=3, decorrelate=0.7, spinup=2.0, seed=6, workers=1, check_amplitude=False
    )
    record = DoubleWell().simulate(2, 100.0, 0.5, spinup=2.0, seed=6)["x"].values[..., 0]
    # pairs are 3 snapshots long (lags 0, 0.5, 1), 0.7 is rounded up to 2 intervals
    np.testing.assert_array_equal(np.sort(seen), np.sort(record[:, [0, 5, 10]].ravel()))


def test_blocks_in_time_are_invisible(monkeypatch):
    system = OrnsteinUhlenbeck(n=4, **FIELD)
    whole = system.direct_response(3.0, 0.5, 2, 0.1, spinup=2.0)
    monkeypatch.setattr("simulators.twins._BLOCK_BYTES", 1)
    xr.testing.assert_identical(
        whole.drop_attrs()["response"], system.direct_response(3.0, 0.5, 2, 0.1, spinup=2.0).drop_attrs()["response"]
    )


# ---- linear range


def test_too_large_a_kick_is_noticed():
    # symmetric: the even part vanishes for every amplitude, only the doubled kick can tell
    with pytest.warns(
        LinearRangeWarning, match=r"doubling the kick changes the response by \d\d % .*amplitude of about"
    ):
        twins = DoubleWell().direct_response(2.0, 0.5, 200, 2.5)
    assert twins.attrs["linear_range"] == "no"
    assert twins["amplitude_change"][-1] > 0.3 > twins["even_part"][-1]
    # skewed: the even part tells too
    with pytest.warns(LinearRangeWarning) as caught:
        twins = ScalarClimate().direct_response(2.0, 0.5, 200, 2.0, check_amplitude=False)
    assert caught[0].filename == __file__
    assert twins["even_part"][-1] > 0.3
    assert np.isnan(twins["amplitude_change"]).all()


def test_default_amplitude_is_in_the_linear_range():
    twins = ScalarClimate().direct_response(2.0, 0.5, 200)
    assert twins.attrs["linear_range"] == "yes"
    assert twins["nonlinearity_limit"].max() < 0.1
    assert 0.3 < float(twins["amplitude"][0]) / (0.1 * ScalarClimate().exact_covariance().values[0, 0] ** 0.5) < 2
    # unknown is not "yes": no doubled kick, or too few members for an error
    for arguments in ({"check_amplitude": False}, {"n_members": 3}):
        twins = ScalarClimate().direct_response(2.0, 0.5, **({"n_members": 50} | arguments))
        assert twins.attrs["linear_range"] == "undetermined"


def test_doubling_shows_three_times_the_bias():
    # R_a = R + b a^2. Relative bias at a = 0.3161 from the Fokker-Planck equation, kicked by finite amounts (no
    # sampling): 3.6e-3 at lag 1, 1.02e-2 at lag 2. Twins share their noise, so few members see it.
    twins = ScalarClimate().direct_response(2.0, 1.0, 300, 0.3161, check_amplitude=True, seed=2)
    np.testing.assert_allclose(twins["amplitude_change"][1:] / 3, [3.6e-3, 1.02e-2], rtol=0.15)


def test_linear_range_needs_a_response_and_is_not_fooled_by_noise():
    rng = np.random.default_rng(0)
    signal = np.zeros((8, 1, 50)) + 1.0
    noise = rng.standard_normal((8, 1, 50))
    # pure noise of the size of the response in the even part: no verdict against the kick
    assert find_linear_range(signal, noise, 0 * noise).verdict == "undetermined"
    assert find_linear_range(signal, 0.001 * noise, 0 * noise).verdict == "yes"
    assert find_linear_range(signal, 0.3 + 0.01 * noise, 0 * noise).verdict == "no"
    # the identity at lag 0 alone says nothing
    both = [np.concatenate([first, second], axis=1) for first, second in ((signal, noise), (0 * noise, 0 * noise))]
    assert find_linear_range(both[0], both[1], both[1]).verdict == "undetermined"
    # no response, no verdict, whatever the even part
    assert find_linear_range(noise, signal, 0 * noise).verdict == "undetermined"
    # sampling noise adds nothing on average: (0.5^2 / 8)^(1/2) = 0.18 in each part if squares of means were taken
    noise = rng.standard_normal((3, 8, 1, 5000))
    found = find_linear_range(1 + noise[0], 0.1 + 0.5 * noise[1], 0.5 * noise[2])
    np.testing.assert_allclose(found.nonlinearity, 0.1, atol=0.02)
    np.testing.assert_allclose(found.even, 0.1, atol=0.02)
    assert found.change < 0.05


def test_chaos_shows_in_the_error_not_in_the_verdict():
    twins = Lorenz96(n=8).direct_response(4.0, 1.0, 32, spinup=5.0)
    stderr = np.sqrt((twins["stderr"] ** 2).mean(("component", "component_src")))
    assert stderr[3] > 2 * stderr[1]
    assert twins.attrs["linear_range"] != "no"


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_members": 1}, "n_members = 1: expected an integer >= 2"),
        ({"n_members": 2.0}, "n_members = 2.0"),
        ({"max_lag": 0}, "max_lag = 0: expected a finite number > 0"),
        ({"max_lag": 0.3}, "max_lag = 0.3 is shorter than save_every = 0.5: expected .*save_every of 0.3"),
        ({"max_lag": 1e50}, "max_lag = 1e.50 .*pass a larger save_every"),
        ({"save_every": -1}, "save_every = -1"),
        ({"amplitude": 0}, "amplitude = 0: expected a finite number > 0"),
        ({"amplitude": "small"}, "amplitude = 'small'"),
        ({"amplitude": [0.1]}, "amplitude = "),
        ({"amplitude": 1e-20}, "the kick is 1e-20 on a state.*expected at least .*rounding; pass a larger amplitude"),
        ({"n_restarts": 0}, "n_restarts = 0"),
        ({"decorrelate": -1}, "decorrelate = -1"),
        ({"check_amplitude": "no"}, "check_amplitude = 'no'"),
        ({"confidence": 1.0}, "confidence = 1: expected a level below 1"),
        ({"confidence": 0}, "confidence = 0"),
        ({"spinup": -1}, "spinup = -1"),
        ({"spinup": "auto"}, "spinup = 'auto': expected a finite number"),
        ({"dt": 0}, "dt = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"workers": 0}, "workers = 0"),
        ({"progress": "yes"}, "progress = 'yes'"),
        ({"perturbation": "pixels"}, r"perturbation = 'pixels': expected 'pixel', 'pattern', an array of shape \(1,\)"),
        ({"perturbation": None}, "perturbation = None: expected 'pixel'"),
        ({"perturbation": [1.0, 2.0]}, r"an array of shape \(2,\), largest magnitude 2: expected"),
        ({"perturbation": [0.0]}, "not all 0"),
        ({"perturbation": [np.nan]}, "finite numbers"),
        ({"perturbation": ["1"]}, "perturbation = .*expected"),
        ({"perturbation": lambda x: [1.0, 2.0]}, r"displacement of .*lambda.* has shape \(2,\).*return that"),
        ({"perturbation": lambda x: x * np.nan}, "finite numbers of shape"),
        ({"perturbation": lambda x: "no"}, r"displacement of .* = 'no': expected an array of shape \(1,\)"),
        ({"perturbation": lambda x: 0 * x}, "is 0 in 8 states"),
    ],
)
def test_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ParameterError, match=message):
        DoubleWell().direct_response(**({"max_lag": 1.0, "save_every": 0.5, "n_members": 2} | arguments))


def test_refuses_a_response_larger_than_memory():
    with pytest.raises(simulators.SimulatorError, match=r"GB of memory: use fewer lags"):
        OrnsteinUhlenbeck(n=1024).direct_response(1e6, 1.0, 2)


def test_refuses_an_amplitude_from_states_that_do_not_differ():
    quiet = Exploding(culprit=-1)
    with pytest.raises(ParameterError, match=r"same state after the spin-up: expected a spread.*pass amplitude="):
        quiet.direct_response(1.0, 0.5, 2)


def test_blow_up_names_member_time_and_kick():
    with pytest.raises(BlowUpError, match=r"member 2 .*dt = 0\.1") as caught:
        Exploding().direct_response(4.0, 0.5, 4, 0.1)
    assert caught.value.time > 0
    # the base state stays at 0, the twin kicked by +1 is the one that explodes
    with pytest.raises(BlowUpError, match="member 0") as caught:
        Exploding(culprit=-1).direct_response(4.0, 0.5, 2, 1.0)
    assert caught.value.__notes__ == ["it was kicked by 1: a smaller amplitude may do"]
    with pytest.raises(BlowUpError) as caught:
        Exploding().direct_response(1.0, 0.5, 4, 0.1, spinup=10.0)
    assert caught.value.time < 0


# ---- the record


def test_result_says_how_it_was_made_and_repeats(tmp_path):
    system = OrnsteinUhlenbeck(n=4, **FIELD)
    twins = system.direct_response(1.0, 0.5, 3, perturbation="pattern", n_restarts=2, seed=None)
    assert {"response", "stderr", "lower", "upper", "nonlinearity", "amplitude"} <= set(twins.data_vars)
    assert (twins["lower"] <= twins["response"]).all()
    assert (twins["upper"] >= twins["response"]).all()
    np.testing.assert_array_equal(twins["lag"], [0.0, 0.5, 1.0])
    assert twins["dx"].attrs["units"] == "grid cells"
    assert "Phys. Rev. Lett. 133, 267302" in twins.attrs["references"]
    assert {"method", "seed_entropy", "package_versions", "n_pairs", "linear_range", "created"} <= twins.attrs.keys()
    config = json.loads(twins.attrs["config_json"])
    assert str(config["direct_response"]["seed"]) == twins.attrs["seed_entropy"]
    again = simulators.registry.build_system(config["system"], config["parameters"])
    again = again.direct_response(**config["direct_response"])
    xr.testing.assert_identical(twins.drop_attrs(), again.drop_attrs())
    twins.to_netcdf(tmp_path / "twins.nc")
    with xr.open_dataset(tmp_path / "twins.nc") as back:
        xr.testing.assert_identical(back.load(), twins)


def test_progress_is_silent_without_a_terminal(capsys):
    RandomWalk().direct_response(1.0, 0.5, 2, 0.1)
    assert capsys.readouterr().err == ""
    RandomWalk().direct_response(1.0, 0.5, 2, 0.1, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_method_passes_every_argument_on():
    ours = inspect.signature(System.direct_response).parameters.keys()
    theirs = inspect.signature(sys.modules["simulators.direct"].direct_response).parameters.keys()
    assert ours - {"self"} == theirs - {"system"}


SMALL = {"ou": {"n": 4}, "allen-cahn": {"n": 8}, "navier-stokes": {"n": 16}, "lorenz-96": {"n": 5}}
NEEDED = {"linear": {"drift_matrix": [[-1.0, 2.0], [0.0, -2.0]], "noise_covariance": [[1.0, 0.0], [0.0, 1.0]]}}


@pytest.mark.parametrize("perturbation", ["pixel", "pattern"])
@pytest.mark.parametrize("name", simulators.SYSTEMS)
def test_every_system_has_a_direct_response(name, perturbation):
    system = simulators.registry.build_system(name, SMALL.get(name, {}) | NEEDED.get(name, {}))
    interval = 0.1
    twins = system.direct_response(2 * interval, interval, 4, perturbation=perturbation, spinup=1.0, workers=2)
    layout = system.layout()
    assert np.isfinite(twins["response"]).all()
    if "component" in layout.dims:
        assert twins["response"].dims == ("lag", "component", "component_src")
        if perturbation == "pixel":
            np.testing.assert_allclose(twins["response"][0], np.eye(*layout.shape), atol=1e-9)
    else:
        assert twins["response"].dims == ("lag", "dy", "dx")
        # a unit kick of one site, less the modes that the state does not have
        start = twins["response"][0]
        spectrum = np.fft.fft2(np.fft.ifftshift(start.values))
        np.testing.assert_allclose(spectrum * (spectrum - 1), 0, atol=1e-9)
        assert float(start.sel(dy=0, dx=0)) > 0.7


def test_a_labelled_perturbation_keeps_its_labels():
    system = simulators.OrnsteinUhlenbeck(n=8)
    kick = xr.zeros_like(system.simulate(1, 1.0, 1.0)["u"].isel(member=0, time=0))
    kick[0, 3] = 1.0
    arguments = {"max_lag": 1.0, "n_members": 2, "amplitude": 0.1}
    plain = system.direct_response(perturbation=kick.values, **arguments)["response"]
    for given in (kick.transpose("x", "y"), lambda _: kick.transpose("x", "y")):
        np.testing.assert_array_equal(system.direct_response(perturbation=given, **arguments)["response"], plain)
    with pytest.raises(simulators.ParameterError, match=r"dims \('a', 'x'\): expected \('y', 'x'\)"):
        system.direct_response(perturbation=kick.rename(y="a"), **arguments)
