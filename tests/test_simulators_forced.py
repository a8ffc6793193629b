"""Ensembles under a finite forcing: exact for linear systems, the convolution of R where the forcing is small."""

import inspect
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import Exploding
from scipy.integrate import solve_ivp

import simulators
from simulators import AllenCahn, BlowUpError, DoubleWell, LinearSDE, ParameterError, Potential2D, ScalarClimate
from simulators.forced_runs import ForcedRuns
from simulators.forcing import find_pattern
from simulators.lorenz96 import Lorenz96
from simulators.moments import MOMENTS
from simulators.system import System

# Non-normal, three scales, and a component without noise of its own.
LINEAR = LinearSDE([[-1.0, 2.0, 0.0], [-0.3, -1.0, 1.0], [0.0, 0.1, -0.5]], np.diag([1.0, 0.5, 0.0]))
W = np.array([1.0, -0.5, 2.0])
STEP, RAMP, SINE = 1.0, lambda t: t / 5, lambda t: np.sin(1.3 * t)


def solution(drift, force, times, start):
    """The state driven by drift(x) + force(t, x), without noise."""
    start = np.asarray(start, dtype=float)
    found = solve_ivp(
        lambda t, x: (drift(x.reshape(start.shape)) + force(t, x.reshape(start.shape))).ravel(),
        (0, times[-1]),
        start.ravel(),
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
    )
    return found.y.T.reshape(len(times), *start.shape)


def convolved(system, observable, perturbation, forcing, times):
    """Return int R(t - t') f(t') dt' by the trapezoidal rule with 100 points in a time unit."""
    fine = np.linspace(0, times[-1], round(100 * times[-1]) + 1)
    response = system.exact_response(fine, observable, perturbation).values.reshape(len(fine))
    f = np.array([forcing(t) if callable(forcing) else forcing for t in fine])
    h = fine[1]
    full = h * (np.convolve(response, f)[: len(fine)] - (response[0] * f + response * f[0]) / 2)
    return np.interp(times, fine, full)


# ---- exact: linear systems


@pytest.mark.parametrize("amplitude", [1e-3, 3.0, -50.0])
@pytest.mark.parametrize("forcing", [STEP, RAMP, SINE])
def test_linear_system_is_the_convolution_at_any_amplitude(forcing, amplitude):
    found = LINEAR.forced_response(forcing, 6.0, 0.5, n_members=3, perturbation=W, amplitude=amplitude, seed=1)
    f = forcing if callable(forcing) else lambda t: forcing + 0 * t
    exact = amplitude * solution(lambda x: LINEAR.drift_matrix @ x, lambda t, _: W * f(t), found["time"], np.zeros(3))
    assert found["response"].dims == ("time", "component")
    # the splitting, at most (|B| dt)^2 / 12 = 2e-4 for a constant force at the default step
    np.testing.assert_allclose(found["response"], exact, atol=2e-4 * np.abs(exact).max())
    # every pair is exact: the noise drops out but for rounding
    assert found["stderr"].max() < 1e-13 * max(1, abs(amplitude))


def test_forcing_may_be_switched_between_steps():
    # on for 2 time units: the same error as if it stayed, not dt times the jump
    found = LINEAR.forced_response(lambda t: 1.0 * (t < 2), 6.0, 1.0, n_members=2, perturbation=W)
    step = LINEAR.forced_response(STEP, 6.0, 1.0, n_members=2, perturbation=W)["response"].values
    expected = step.copy()
    expected[2:] -= step[:-2]
    np.testing.assert_allclose(found["response"], expected, atol=1e-12)


def test_splitting_is_of_second_order():
    errors = []
    for dt in (0.1, 0.05, 0.025):
        found = LINEAR.forced_response(SINE, 4.0, 0.5, n_members=2, perturbation=W, dt=dt)
        exact = solution(lambda x: LINEAR.drift_matrix @ x, lambda t, _: W * SINE(t), found["time"], np.zeros(3))
        errors.append(np.abs(found["response"] - exact).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.05)


def test_splitting_is_of_second_order_where_the_force_depends_on_the_state():
    # next to no noise: a stable steady state x = F, whose motion is known
    system = Lorenz96(n=5, forcing=0.5, noise=1e-9)

    def force(x):
        return np.cos(x) + 0.5 * np.roll(x, 1, axis=-1)

    errors = []
    for dt in (0.1, 0.05, 0.025):
        found = system.forced_response(SINE, 3.0, 0.5, n_members=2, perturbation=force, dt=dt, spinup=0.0)
        moved = solution(system.drift, lambda t, x: force(x) * SINE(t), found["time"], np.full(5, 0.5))
        errors.append(np.abs(found["response"] - (moved - 0.5)).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.05)


def test_splitting_is_of_second_order_in_a_two_step_scheme():
    # Allen-Cahn in a well, next to no noise, forced by a pattern strong enough to feel the cubic
    system = AllenCahn(n=8, noise=1e-9)
    pattern = np.random.default_rng(0).standard_normal((8, 8))
    mean = system.forced_response(0, 0.5, 0.5, n_members=2, spinup=0.0)["unperturbed_mean"].values[0, 0]
    starts = [-1.0, 1.0] if abs(mean) < 0.5 else [np.sign(mean)]  # the wells of the two members
    moved = [
        solution(system.drift, lambda t, _: 0.5 * pattern * SINE(t), [0.0, 0.5, 1.0], np.full((8, 8), start)) - start
        for start in starts
    ]
    exact = np.mean(moved, axis=0)
    errors = []
    for dt in (1 / 16, 1 / 32, 1 / 64):
        found = system.forced_response(
            SINE, 1.0, 0.5, n_members=2, perturbation=pattern, amplitude=0.5, dt=dt, spinup=0.0
        )
        errors.append(np.abs(found["response"] - exact).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 2, atol=0.1)


# ---- small forcing: linear response


@pytest.mark.parametrize("forcing", [STEP, RAMP, SINE])
def test_small_forcing_of_the_wells_is_the_convolution(forcing):
    system = DoubleWell()
    found = system.forced_response(forcing, 8.0, 0.5, n_members=6000, amplitude=0.02, dt=0.05, seed=3)
    exact = 0.02 * convolved(system, "mean", "drift", forcing, found["time"].values)
    z = (found["response"][1:, 0] - exact[1:]) / found["stderr"][1:, 0]
    assert np.abs(z).max() < 4
    assert (np.abs(exact) > 10 * found["stderr"][:, 0]).any()  # not lost in noise
    np.testing.assert_array_equal(found["response"][0], 0)


@pytest.mark.parametrize("observable", ["second_moment", "variance", "moment3", "moment4"])
def test_small_forcing_moves_the_moments_of_the_climate_as_it_should(observable):
    system = ScalarClimate()
    found = system.forced_response(
        STEP, 4.0, 0.5, n_members=3000, amplitude=0.03, dt=0.05, seed=4, observable=observable, antithetic=True
    )
    exact = 0.03 * convolved(system, observable, "drift", STEP, found["time"].values)
    z = (found["response"][1:, 0] - exact[1:]) / found["stderr"][1:, 0]
    assert np.abs(z).max() < 4
    assert (np.abs(exact) > 5 * found["stderr"][:, 0]).any()


def test_force_that_depends_on_the_state_is_the_convolution():
    system = ScalarClimate()
    found = system.forced_response(
        STEP, 4.0, 0.5, n_members=3000, amplitude=0.02, dt=0.05, seed=5, perturbation=lambda x: -x, antithetic=True
    )
    exact = 0.02 * convolved(system, "mean", lambda x: -x, STEP, found["time"].values)
    z = (found["response"][1:, 0] - exact[1:]) / found["stderr"][1:, 0]
    assert np.abs(z).max() < 4
    assert (np.abs(exact) > 10 * found["stderr"][:, 0]).any()


def test_large_forcing_leaves_the_linear_range():
    system = DoubleWell()
    found = system.forced_response(STEP, 8.0, 1.0, n_members=2000, amplitude=1.0, dt=0.05)
    linear = convolved(system, "mean", "drift", STEP, found["time"].values)
    excess = (linear - found["response"][:, 0]) / found["stderr"][:, 0]
    assert excess[-1] > 50  # the wells saturate
    # and so does the splitting of an asymmetric system into odd and even part show its even one
    arguments = {"n_members": 2000, "dt": 0.05, "amplitude": 0.6}
    one, odd = (ScalarClimate().forced_response(STEP, 4.0, 1.0, **arguments, antithetic=flag) for flag in (False, True))
    even = one["response"][-1, 0] - odd["response"][-1, 0]
    assert abs(even) > 10 * np.hypot(one["stderr"][-1, 0], odd["stderr"][-1, 0])


# ---- error bars


def test_band_covers_and_the_mean_of_the_anomaly_is_part_of_it():
    # linear: x_a - x_0 = d(t) exactly, so the variance moves by d^2 + 2 d (<x_0(t)> - m): all of the error comes from
    # the mean at time t and from m, which nearly cancel in a record shorter than the correlation time
    system = LinearSDE([[-1.0]], [[2.0]])
    z, naive = [], []
    d = float(system.forced_response(STEP, 1.0, 0.25, n_members=2, dt=0.05)["response"][-1, 0])
    for seed in range(80):
        found = system.forced_response(STEP, 1.0, 0.25, n_members=40, observable="variance", seed=seed, dt=0.05)
        z.append(float((found["response"][-1, 0] - d**2) / found["stderr"][-1, 0]))
        naive.append(float(found["stderr"][-1, 0]) / (2 * d / np.sqrt(40)))
    # the spread of 80 values of t_39 is 1.03 +- 0.08
    assert 0.7 < np.std(z) < 1.36
    assert abs(np.mean(z)) < 4 / np.sqrt(80)
    assert np.mean(naive) < 0.8  # what it would be with m known
    assert (found["lower"] <= found["response"]).all()
    assert (found["upper"] >= found["response"]).all()


def test_moments_about_a_distant_mean_keep_their_digits():
    # the same system far from 0: x -> x + 1e5; raw fourth powers would leave no digit
    law = LinearSDE([[-1.0]], [[2.0]])
    near = law.forced_response(STEP, 1.0, 0.5, n_members=30, observable="moment4")

    class Moved(LinearSDE):
        def make_stepper(self, dt, n_steps):
            stepper = super().make_stepper(dt, n_steps)

            def advance_many(x, normals, kicks):
                x -= 1e5
                stepper.advance_many(x, normals, kicks)
                x += 1e5

            return replace(stepper, start=lambda rng: (stepper.start(rng)[0] + 1e5,), advance_many=advance_many)

    far = Moved([[-1.0]], [[2.0]]).forced_response(STEP, 1.0, 0.5, n_members=30, observable="moment4")
    np.testing.assert_allclose(far["unperturbed_mean"] - 1e5, near["unperturbed_mean"], atol=1e-8)
    np.testing.assert_allclose(far["response"], near["response"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(far["stderr"], near["stderr"], rtol=1e-6, atol=1e-8)


# ---- the runs


def runs(system, perturbation="uniform", antithetic=True, together=True, n_members=5, spinup=0.7, observable="moment3"):
    plan = replace(system.plan(n_members, 2.0, 0.5, spinup=spinup, dt=0.05), n_snapshots=5)
    stepper = system.make_stepper(plan.dt, 1)
    return ForcedRuns(
        stepper=stepper if together else replace(stepper, advance_many=None),
        plan=plan,
        pattern=find_pattern(perturbation, system.layout()),
        kicks=0.05 * np.cos(np.arange(4 * plan.n_steps) / 7),
        signs=(0, 1, -1) if antithetic else (0, 1),
        moment=MOMENTS[observable],
        entropy=9,
    )


VECTORS = [DoubleWell(), Potential2D(), LINEAR, Lorenz96(n=5, forcing=1.0)]
names = [type(system).__name__ for system in VECTORS]


@pytest.mark.parametrize("perturbation", ["uniform", lambda x: np.sin(x)], ids=["uniform", "of the state"])
@pytest.mark.parametrize("system", VECTORS, ids=names)
def test_many_members_in_one_call_are_the_members_one_by_one(system, perturbation):
    origin = np.zeros(system.layout().shape)
    together = runs(system, perturbation).run(range(5), origin)
    alone = runs(system, perturbation, together=False)
    assert [list(batch) for batch in alone.batches()] == [[0], [1], [2], [3], [4]]
    for member in range(5):
        for one, all_of_them in zip(alone.run(range(member, member + 1), origin), together, strict=True):
            np.testing.assert_allclose(one[0], all_of_them[member], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("system", [*VECTORS, AllenCahn(n=6), AllenCahn(n=16)], ids=[*names, "odd field", "field"])
def test_unforced_copy_is_the_simulated_trajectory(system):
    _, means = runs(system).run(range(3), np.zeros(system.layout().shape))
    record = system.simulate(3, 2.5, 0.5, spinup=0.7, dt=0.05, seed=9)[system.layout().variable].mean("time")
    if "y" in record.dims:
        record = record.mean(("y", "x")).expand_dims({"y": means.shape[1], "x": means.shape[2]}, axis=(1, 2))
    np.testing.assert_allclose(means, record, rtol=1e-12, atol=1e-13)


def test_member_depends_on_seed_and_number_alone(monkeypatch):
    whole = runs(DoubleWell(), n_members=5).run(range(5), np.zeros(1))
    monkeypatch.setattr("simulators.forced_runs._BLOCK_DRAWS", 3)  # blocks of normals are invisible too
    part = runs(DoubleWell(), n_members=40).run(range(3, 5), np.zeros(1))
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[3:5], other)


def test_batches_and_workers_are_invisible(monkeypatch):
    arguments = {"duration": 1.0, "save_every": 0.5, "n_members": 30, "observable": "variance", "dt": 0.05}
    whole = DoubleWell().forced_response(STEP, **arguments, workers=1)
    monkeypatch.setattr("simulators.forced_runs._MAX_BATCH", 7)
    parts = [DoubleWell().forced_response(STEP, **arguments, workers=workers) for workers in (1, 3)]
    xr.testing.assert_identical(parts[0].drop_attrs(), parts[1].drop_attrs())
    xr.testing.assert_allclose(whole, parts[0], rtol=1e-9, atol=1e-12)


# ---- fields


@pytest.mark.parametrize("pattern", ["uniform", np.cos(2 * np.pi * np.arange(16) / 16) * np.ones((16, 1))])
def test_field_answers_a_small_forcing_antisymmetrically(pattern):
    system = AllenCahn(n=16)
    arguments = {"n_members": 3, "perturbation": pattern, "spinup": 1.0, "dt": 1 / 16}
    plus, minus = (
        system.forced_response(STEP, 0.5, 0.25, **arguments, amplitude=amplitude) for amplitude in (1e-3, -1e-3)
    )
    assert plus["response"].dims == ("time", "y", "x")
    size = np.abs(plus["response"]).max()
    assert size > 1e-5
    assert np.abs(plus["response"] + minus["response"]).max() < 2e-3 * size  # the even part is of order amplitude
    odd = system.forced_response(STEP, 0.5, 0.25, **arguments, amplitude=1e-3, antithetic=True)
    np.testing.assert_allclose(odd["response"], (plus["response"] - minus["response"]) / 2, atol=1e-15)
    # along the pattern, and less than without relaxation
    w = plus["perturbation"]
    projected = float((plus["response"][-1] * w).mean() / (w**2).mean())
    assert 0 < projected < 1e-3 * 0.5


def test_linear_field_is_exact_in_the_mean_and_unbiased_in_the_variance():
    system = simulators.OrnsteinUhlenbeck(n=4, lam=0.5, kappa=0.05, advection=0.4, noise=0.3)
    arguments = {"duration": 2.0, "save_every": 0.5, "n_members": 40, "amplitude": 0.7, "seed": 2}
    mean = system.forced_response(STEP, **arguments)
    d = 0.7 * (1 - np.exp(-0.5 * mean["time"])) / 0.5  # only the mean mode moves
    np.testing.assert_allclose(mean["response"], d.broadcast_like(mean["response"]), atol=2e-4 * float(d[-1]))
    # d^2 + 2 d (<u(t)> - m), with one m for all sites
    variance = system.forced_response(STEP, **arguments, observable="variance")
    assert np.ptp(variance["unperturbed_mean"].values) == 0
    z = ((variance["response"] - d**2) / variance["stderr"])[1:]
    assert np.abs(z).max() < 4
    assert 0.5 < np.sqrt((z**2).mean()) < 1.5  # 64 numbers, correlated in space and time


@pytest.fixture(params=simulators.SYSTEMS)
def any_system(request):
    small = {"ou": {"n": 4}, "allen-cahn": {"n": 8}, "navier-stokes": {"n": 16}, "lorenz-96": {"n": 5}}
    needed = {"linear": {"drift_matrix": [[-1.0, 2.0], [0.0, -2.0]], "noise_covariance": [[1.0, 0.0], [0.0, 1.0]]}}
    name = request.param
    return simulators.registry.build_system(name, small.get(name, {}) | needed.get(name, {}))


def test_every_system_can_be_forced(any_system):
    pattern = np.zeros(any_system.layout().shape)
    pattern.flat[0] = 1.0  # a uniform force on the vorticity of a periodic box turns nothing
    found = any_system.forced_response(STEP, 0.2, 0.1, n_members=2, perturbation=pattern, spinup=1.0)
    assert found["response"].dims == ("time", *any_system.layout().dims)
    assert np.isfinite(found["response"]).all()
    np.testing.assert_array_equal(found["response"][0], 0)
    first = found["response"].values[1].flat[0]
    assert 0.04 < first < 0.11  # about 0.1, less what relaxes in that time and the modes that do not exist


# ---- what may be asked


def test_forcing_may_be_written_in_many_ways():
    arguments = {"duration": 2.0, "save_every": 0.5, "n_members": 3, "perturbation": W, "dt": 0.05}

    def answer(forcing):
        return LINEAR.forced_response(forcing, **arguments)["response"].values

    ramp = answer(lambda t: t / 5)
    np.testing.assert_allclose(answer(np.linspace(0, 0.4, 5)), ramp, atol=1e-12)
    knots = xr.DataArray([0.0, 0.2, 0.6], dims="time", coords={"time": [0.0, 1.0, 3.0]})  # longer than the record
    np.testing.assert_allclose(answer(knots), ramp, atol=1e-12)
    np.testing.assert_array_equal(answer(2), answer(lambda t: 2.0))
    np.testing.assert_array_equal(answer(2), answer(np.full(5, 2.0)))
    labelled = xr.DataArray(W, dims="component")
    given = LINEAR.forced_response(2, **(arguments | {"perturbation": labelled}))
    np.testing.assert_array_equal(given["response"], answer(2))
    np.testing.assert_array_equal(given["perturbation"], W)
    np.testing.assert_array_equal(given["forcing"], 2.0)


GAP = xr.DataArray([0.0, 1.0], dims="time", coords={"time": [0.0, 0.5]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_members": 1}, "n_members = 1: expected an integer >= 2"),
        ({"duration": 0}, "duration = 0"),
        ({"duration": 0.2}, "duration = 0.2 is shorter than save_every = 0.5"),
        ({"amplitude": "big"}, "amplitude = 'big'"),
        ({"observable": "median"}, "observable = 'median': expected 'mean', 'second_moment'"),
        ({"antithetic": "yes"}, "antithetic = 'yes'"),
        ({"confidence": 1.0}, "confidence = 1: expected a level below 1"),
        ({"spinup": "auto"}, "spinup = 'auto': expected a finite number"),
        ({"dt": 0}, "dt = 0"),
        ({"progress": "no"}, "progress = 'no'"),
        ({"perturbation": "pixel"}, r"perturbation = 'pixel': expected 'uniform', an array of shape \(1,\)"),
        ({"perturbation": [1.0, 2.0]}, r"array of shape \(2,\)"),
        ({"perturbation": [0.0]}, "not all 0"),
        ({"perturbation": lambda x: x[..., 0]}, r"has shape \(2,\) .* for states of shape \(2, 1\).*write w with"),
        ({"perturbation": lambda x: x - x.mean()}, r"of 2 states at once differs from that of each by"),
        ({"perturbation": lambda x: x * np.nan}, "largest magnitude nan"),
        ({"forcing": np.nan}, "forcing = nan"),
        ({"forcing": "volcano"}, "forcing = 'volcano'"),
        ({"forcing": [1.0, 2.0]}, r"forcing is an array of shape \(2,\): expected \(3,\), one value for each"),
        ({"forcing": [1.0, np.nan, 1.0]}, r"forcing is nan at time 0\.5: expected finite"),
        ({"forcing": lambda t: np.where(t < 0.5, 1.0, np.inf)}, r"forcing is inf at time 0\.5"),
        ({"forcing": lambda t: t[:-1]}, r"forcing\(t\) has shape"),
        ({"forcing": GAP}, r"forcing is given at 2 times from 0 to 0\.5: expected .* reach from 0 to the end 1"),
        ({"forcing": GAP.drop_vars("time")}, "expected the one dim time with its coordinate"),
        ({"forcing": GAP.rename(time="t")}, r"forcing has dims \('t',\)"),
        ({"forcing": None}, "forcing = None"),
    ],
)
def test_refuses_what_it_cannot_do(arguments, message):
    with pytest.raises(ParameterError, match=message):
        DoubleWell().forced_response(
            **({"forcing": STEP, "duration": 1.0, "save_every": 0.5, "n_members": 2, "dt": 0.05} | arguments)
        )


def test_refuses_a_response_larger_than_memory():
    with pytest.raises(simulators.SimulatorError, match=r"GB of memory: save less often"):
        simulators.OrnsteinUhlenbeck(n=1024).forced_response(STEP, 1e6, 1.0, n_members=2, dt=1.0)


def test_blow_up_names_member_time_and_whether_it_was_the_forcing():
    with pytest.raises(BlowUpError, match=r"member 2 .*dt = 0\.1") as caught:
        Exploding().forced_response(STEP, 4.0, 0.5, n_members=4, amplitude=1e-6)
    assert not getattr(caught.value, "__notes__", [])
    with pytest.raises(BlowUpError, match="member 0") as caught:
        Exploding(culprit=-1).forced_response(STEP, 10.0, 0.5, n_members=2, amplitude=5.0)
    assert caught.value.__notes__ == ["its copy without the forcing is finite: a smaller amplitude may do"]
    with pytest.raises(BlowUpError) as caught:
        Exploding().forced_response(STEP, 1.0, 0.5, n_members=4, spinup=10.0)
    assert caught.value.time < 0
    # the arrays of the many-member path, and a force that depends on the state
    with np.errstate(all="ignore"), pytest.raises(BlowUpError) as caught:
        DoubleWell().forced_response(STEP, 4.0, 0.5, n_members=2, amplitude=1e7, perturbation=lambda x: -(x**3))
    assert caught.value.__notes__


def test_result_says_how_it_was_made(tmp_path):
    found = ScalarClimate().forced_response(np.cos, 1.0, 0.5, n_members=3, seed=None, observable="variance")
    assert {"response", "stderr", "lower", "upper", "forcing", "perturbation", "unperturbed_mean"} == set(
        found.data_vars
    )
    np.testing.assert_array_equal(found["time"], [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(found["forcing"], np.cos(found["time"]))
    assert {"seed_entropy", "package_versions", "method", "n_members", "created"} <= found.attrs.keys()
    request = json.loads(found.attrs["config_json"])["forced_response"]
    assert request["forcing"] == "cos"
    assert str(request["seed"]) == found.attrs["seed_entropy"]
    again = ScalarClimate().forced_response(**(request | {"forcing": np.cos}))
    xr.testing.assert_identical(found.drop_attrs(), again.drop_attrs())
    found.to_netcdf(tmp_path / "forced.nc")
    with xr.open_dataset(tmp_path / "forced.nc") as back:
        xr.testing.assert_identical(back.load(), found)


def test_progress_is_silent_without_a_terminal(capsys):
    DoubleWell().forced_response(STEP, 0.5, 0.5, n_members=2)
    assert capsys.readouterr().err == ""
    DoubleWell().forced_response(STEP, 0.5, 0.5, n_members=2, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_method_passes_every_argument_on():
    ours = inspect.signature(System.forced_response).parameters.keys()
    theirs = inspect.signature(sys.modules["simulators.forced"].forced_response).parameters.keys()
    assert ours - {"self"} == theirs - {"system"}
