"""Two-dimensional turbulence: exact solutions, orders of accuracy, conservation, budgets, the law of the forcing."""

import numpy as np
import pytest
import xarray as xr
from reference import simulators_navier_stokes as twin

from simulators import BlowUpError, NavierStokes, ParameterError, engine
from simulators.kernels import navier_stokes as kernel

IDEAL = {"viscosity": 0.0, "hypoviscosity": 0.0, "mean_relaxation": 0.0, "advection": 0.0, "forcing": 0.0}


def grid(n):
    x = 2 * np.pi * np.arange(n) / n
    return x[None, :], x[:, None]


def smooth_field(n, seed=0, top=3):
    """Random vorticity of standard deviation 2 in wavenumbers up to `top`."""
    k = np.abs(n * np.fft.fftfreq(n))
    inside = (k[:, None] <= top) & (k[None, : n // 2 + 1] <= top)
    z = np.fft.irfft2(np.fft.rfft2(np.random.default_rng(seed).standard_normal((n, n))) * inside)
    z -= z.mean()
    return 2 * z / z.std()


def run_from(system, z, dt, n_steps, n_snapshots=2):
    """Snapshots of a run that starts at the field `z`."""
    stepper = system.make_stepper(dt, n_steps)
    rng = np.random.default_rng(1)
    state = stepper.start(rng)
    stepper.displace(state, z)
    out = np.empty((n_snapshots, system.n, system.n))
    stepper.advance(state, rng, out)
    return out


def orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


# ---- shapes and errors


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n": 14}, "n = 14: expected an integer >= 16"),
        ({"n": 33}, "n = 33: expected an even number"),
        ({"viscosity": -1.0}, "viscosity = -1.0: expected"),
        ({"forcing": float("nan")}, "forcing = nan: expected"),
        ({"mean_damping": 1.5}, "mean_damping = 1.5: expected a fraction"),
        ({"dealias": "no"}, "dealias = 'no': expected true or false"),
        ({"save_forcing": 1}, "save_forcing = 1: expected true or false"),
    ],
)
def test_refuses_parameters_that_are_no_flow(bad, message):
    with pytest.raises(ParameterError, match=message):
        NavierStokes(**bad)


def test_record_is_labelled_and_the_forcing_is_a_second_variable():
    arguments = {"n_members": 2, "duration": 0.5, "save_every": 0.125, "spinup": 0.25, "seed": 3}
    plain = NavierStokes(n=16).simulate(**arguments)
    both = NavierStokes(n=16, save_forcing=True).simulate(**arguments)
    assert list(plain) == ["vorticity"]
    assert list(both) == ["vorticity", "forcing"]
    assert both["forcing"].dims == both["vorticity"].dims == ("member", "time", "y", "x")
    np.testing.assert_array_equal(plain["vorticity"], both["vorticity"])  # looking at the forcing changes nothing
    assert NavierStokes(n=16).plan(save_every=1.0).dt == 1 / 64


@pytest.mark.parametrize("n", [16, 18, 32])
@pytest.mark.parametrize("dealias", [False, True])
def test_modes_that_do_not_exist_stay_zero(n, dealias):
    system = NavierStokes(n=n, dealias=dealias)
    u_hat = np.fft.rfft2(system.simulate(1, 1.0, 0.5, spinup=1.0)["vorticity"].values[0])
    assert np.abs(u_hat[:, ~system.kept()]).max() < 1e-13 * np.abs(u_hat).max()
    assert np.abs(u_hat[:, system.forced()]).min() > 0


# ---- the stepper: start, kick, streams, restart


def test_a_kick_moves_the_vorticity_and_leaves_the_phases_alone():
    system = NavierStokes(n=16)
    stepper = system.make_stepper(1 / 64, 4)
    rng = np.random.default_rng(0)
    state = stepper.start(rng)
    phases = state[1].copy()
    kick = 0.1 * smooth_field(16)
    before, after = np.empty((1, 16, 16)), np.empty((1, 16, 16))
    stepper.advance(tuple(a.copy() for a in state), np.random.default_rng(2), before)
    stepper.displace(state, kick)
    np.testing.assert_array_equal(state[1], phases)
    stepper.advance(state, np.random.default_rng(2), after)
    np.testing.assert_allclose(after - before, kick[None], atol=1e-14)
    alternating = np.ones((16, 1)) * (-1.0) ** np.arange(16)  # the Nyquist wave has no place in the state
    stepper.displace(state, alternating)
    changed = np.empty((1, 16, 16))
    other = tuple(a.copy() for a in state)
    stepper.displace(state, -alternating)
    stepper.advance(other, np.random.default_rng(2), changed)
    stepper.advance(state, np.random.default_rng(2), after)
    np.testing.assert_array_equal(changed, after)


@pytest.mark.parametrize("n", [16, 18])
def test_a_member_does_not_know_how_many_others_workers_or_snapshots_there_are(n):
    system = NavierStokes(n=n)
    few = system.simulate(2, 1.0, 0.25, spinup=0.5, seed=3, workers=1)["vorticity"].values
    many = system.simulate(4, 2.0, 0.25, spinup=0.5, seed=3, workers=2)["vorticity"].values
    np.testing.assert_array_equal(few, many[:2, :4])
    assert not np.any(few[0, 1:] == few[1, 1:])


def test_an_interrupted_run_resumes_bit_for_bit_with_its_hidden_phases(tmp_path, monkeypatch):
    system = NavierStokes(n=16, save_forcing=True)
    arguments = {"n_members": 2, "duration": 2.0, "save_every": 0.125, "spinup": 0.5, "seed": 5}
    expected = system.simulate(**arguments)
    monkeypatch.setattr(engine, "BLOCK_BYTES", 3 * 2 * 2 * 16 * 16 * 8)
    watch, calls = engine._watch, []

    def power_cut(*arguments):
        calls.append(None)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        watch(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(engine, "_watch", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            system.simulate(**arguments, out=tmp_path / "run.nc")
    with system.simulate(**arguments, out=tmp_path / "run.nc", resume=True) as resumed:
        for name in ("vorticity", "forcing"):
            np.testing.assert_array_equal(resumed[name], expected[name])


# ---- exact solutions


@pytest.mark.parametrize("n", [16, 18])
def test_one_wave_moves_with_the_mean_flow_towards_plus_x_and_decays(n):
    # one wave is an exact solution: its velocity is along its crests
    system = NavierStokes(n=n, viscosity=1e-3, hypoviscosity=0.1, advection=0.7, forcing=0.0)
    x, y = grid(n)
    rate = 1e-3 * 5**2 + 0.1 / 5**2
    found = run_from(system, np.cos(x + 2 * y), dt=0.1, n_steps=5, n_snapshots=4)
    for i, z in enumerate(found):
        t = 0.5 * i
        np.testing.assert_allclose(z, np.exp(-rate * t) * np.cos((x - 0.7 * t) + 2 * y), atol=1e-13)


def test_the_spatial_mean_relaxes_and_moves_nothing():
    system = NavierStokes(n=16, forcing=0.0, advection=0.0, mean_relaxation=0.3)
    z = smooth_field(16)
    plain, shifted = run_from(system, z, 0.05, 20), run_from(system, z + 2.0, 0.05, 20)
    np.testing.assert_allclose(shifted[1] - plain[1], 2 * np.exp(-0.3), atol=1e-12)


def manufactured(t, x, y):
    """z* = a(t) cos(x + y) + b(t) sin(2x - y) and dz*/dt + v.grad z*, by hand; |k|^2 = 2 and 5."""
    a, b = 1 + 0.5 * np.sin(3 * t), np.cos(2 * t)
    da, db = 1.5 * np.cos(3 * t), -2 * np.sin(2 * t)
    z = a * np.cos(x + y) + b * np.sin(2 * x - y)
    zx, zy = -a * np.sin(x + y) + 2 * b * np.cos(2 * x - y), -a * np.sin(x + y) - b * np.cos(2 * x - y)
    # psi = -a/2 cos(x + y) - b/5 sin(2x - y), v = (dy psi, -dx psi)
    u = a / 2 * np.sin(x + y) + b / 5 * np.cos(2 * x - y)
    v = -a / 2 * np.sin(x + y) + 2 * b / 5 * np.cos(2 * x - y)
    return z, zx, da * np.cos(x + y) + db * np.sin(2 * x - y) + u * zx + v * zy


def manufactured_forcing(system, t):
    """The forcing that makes z* a solution."""
    z, zx, f = manufactured(t, *grid(system.n))
    d = system.viscosity * 4 + system.hypoviscosity / 4, system.viscosity * 25 + system.hypoviscosity / 25
    first = (1 + 0.5 * np.sin(3 * t)) * np.cos(sum(grid(system.n)))
    return f + system.advection * zx + d[0] * first + d[1] * (z - first)


def flat_spectrum(system, u):
    hat = system._flat(np.fft.rfft2(u), kernel.row_wavenumbers(system.n))
    return np.concatenate([hat.real, hat.imag])


@pytest.mark.parametrize(("n", "dealias"), [(16, True), (18, False)])
def test_manufactured_solution_is_reached_with_order_four(n, dealias):
    system = NavierStokes(n=n, dealias=dealias, viscosity=0.02, hypoviscosity=0.3, advection=0.8)
    errors = []
    for n_steps in (10, 20, 40):
        dt = 1 / n_steps
        tables, work = system._tables(dt), np.empty((7, n * n))
        z = flat_spectrum(system, manufactured(0.0, *grid(n))[0])
        for i in range(n_steps):
            forces = [flat_spectrum(system, manufactured_forcing(system, (i + s) * dt)) for s in (0, 0.5, 1)]
            kernel.step(z, *forces, dt, tables, work)
        found, scratch = np.empty((n, n)), np.empty((2, n * n))
        kernel.save(z, tables, scratch[0], scratch[1], found)
        errors.append(np.abs(found - manufactured(1.0, *grid(n))[0]).max())
    assert errors[-1] < 1e-7
    # 4.02 and 4.01 seen: the next term of the error is that small at these steps
    np.testing.assert_allclose(orders(errors), 4, atol=0.05)


@pytest.mark.parametrize("dealias", [False, True])
def test_drift_is_the_slope_of_an_unforced_run(dealias):
    system = NavierStokes(n=16, forcing=0.0, dealias=dealias, viscosity=1e-3)
    z = smooth_field(16, top=5)
    dt = 1e-4
    before, now, after = run_from(system, z, dt, 1, 3)
    slope = (after - before) / (2 * dt)
    # second-order difference quotient: error dt^2 / 6 times the third derivative
    np.testing.assert_allclose(system.drift(now), slope, atol=2e-6 * np.abs(slope).max())


# ---- conservation


def drift_of_invariants(system, z, dt, n_steps):
    start, end = run_from(system, z, dt, n_steps)
    return [abs(f(end) / f(start) - 1) for f in (system.energy, system.enstrophy)]


@pytest.mark.parametrize("n", [16, 18])
def test_ideal_flow_conserves_energy_and_enstrophy_to_the_error_of_the_scheme(n):
    system = NavierStokes(n=n, dealias=True, **IDEAL)
    z = smooth_field(n, top=4)
    errors = np.array([drift_of_invariants(system, z, 0.5 / m, m) for m in (8, 16, 32)])
    assert errors[-1].max() < 1e-6
    for invariant in errors.T:
        assert orders(invariant).min() > 4.5  # order 5


def test_aliases_break_the_conservation_laws_and_the_budget_says_by_how_much():
    z = smooth_field(16, top=7)  # products reach 14, and 14 - 16 is a wave of the grid
    for dealias in (True, False):
        system = NavierStokes(n=16, dealias=dealias, **IDEAL)
        for total, budget in ((system.energy, system.energy_budget), (system.enstrophy, system.enstrophy_budget)):
            relative = abs(budget(z, np.zeros_like(z))["quadratic"]) / total(z)
            assert relative < 1e-14 if dealias else relative > 1e-4


# ---- forcing


def test_forcing_is_a_sum_of_waves_of_equal_height():
    for n, dealias in ((16, False), (18, True), (32, False)):
        system = NavierStokes(n=n, dealias=dealias, save_forcing=True)
        stepper = system.make_stepper(1 / 64, 1)
        state = stepper.start(np.random.default_rng(4))
        z, f = np.empty((1, n, n)), np.empty((1, n, n))
        expected = twin.forcing_field(state[1], n, dealias, 300.0, 0.9)
        stepper.advance(state, np.random.default_rng(5), z, f)
        np.testing.assert_allclose(f[0], expected, atol=1e-14)
    assert len(twin.forced_wavenumbers(32, dealias=False)) == 405


def test_phases_are_brownian_with_variance_two_per_unit_time():
    system = NavierStokes(n=16)
    stepper = system.make_stepper(1 / 8, 8)
    rng = np.random.default_rng(6)
    moved = []
    for _ in range(40):
        state = stepper.start(rng)
        before = state[1].copy()
        stepper.advance(state, rng, np.empty((1, 16, 16)))
        moved.append(state[1] - before)
    moved = np.concatenate(moved)
    # standard error of the variance of N normals: 2 sqrt(2 / N)
    assert abs(moved.var() - 2) < 4 * 2 * np.sqrt(2 / moved.size)


def test_forcing_has_the_stated_variance_and_memory():
    system = NavierStokes(n=16, save_forcing=True)
    f = system.simulate(48, 20.0, 0.5, spinup=0, dt=0.25, seed=8)["forcing"].values
    waves = [k for k in twin.forced_wavenumbers(16, dealias=False) if k != (0, 0)]
    variance = (300 / 128**2) ** 2 * (len(waves) + 0.1**2) / 2
    for lag in (0, 1, 2):
        product = (f[:, : f.shape[1] - lag] * f[:, lag:]).mean(axis=(1, 2, 3))  # members are independent
        expected = variance * np.exp(-0.5 * lag)
        assert abs(product.mean() - expected) < 4 * product.std(ddof=1) / np.sqrt(len(product))


# ---- budgets and diagnostics


@pytest.mark.parametrize(("n", "dealias"), [(16, True), (18, False)])
def test_energy_and_enstrophy_budgets_close_under_forcing(n, dealias):
    # all terms on every step, trapezoidal rule; the forcing is rough in time, hence the small step
    system = NavierStokes(n=n, dealias=dealias, save_forcing=True)
    dt = 1 / 1024
    run = system.simulate(1, 10.0 + dt, dt, spinup=5.0, dt=dt, seed=9)
    z, f = run["vorticity"][0], run["forcing"][0]
    for total, budget in ((system.energy, system.energy_budget), (system.enstrophy, system.enstrophy_budget)):
        terms = {name: np.trapezoid(rate, dx=dt) for name, rate in budget(z, f).items()}
        change = float(total(z[-1]) - total(z[0]))
        turnover = sum(abs(term) for term in terms.values())
        assert terms["injection"] > 0 > terms["viscosity"]
        assert abs(change - sum(terms.values())) < 1e-3 * turnover
        if dealias:
            assert abs(terms["quadratic"]) < 1e-12 * turnover


def test_diagnostics_agree_with_the_fields():
    system = NavierStokes(n=18)
    z = smooth_field(18, top=6)
    u, v = system.velocity(z)
    x, y = grid(18)
    k = 1j * 18 * np.fft.fftfreq(18)
    divergence = np.fft.ifft2(k[None, :] * np.fft.fft2(u) + k[:, None] * np.fft.fft2(v)).real
    assert np.abs(divergence).max() < 1e-12
    np.testing.assert_allclose(system.energy(z), 0.5 * np.mean(u**2 + v**2), rtol=1e-12)
    np.testing.assert_allclose(system.enstrophy(z), 0.5 * np.mean(z**2), rtol=1e-12)
    np.testing.assert_allclose(system.energy_spectrum(z).sum(), system.energy(z), rtol=1e-12)
    wave = system.energy_spectrum(np.cos(3 * x + 4 * y))
    np.testing.assert_allclose(wave, np.where(np.arange(len(wave)) == 5, 1 / 4 / 25, 0), atol=1e-15)
    # the sign of the PRL: u = dy psi with psi = -z / k2
    u, v = system.velocity(np.cos(y) + 0 * x)
    np.testing.assert_allclose(u, np.sin(y) + 0 * x, atol=1e-14)


def test_diagnostics_keep_labels():
    system = NavierStokes(n=16, save_forcing=True)
    run = system.simulate(2, 0.5, 0.125, spinup=0)
    z, f = run["vorticity"], run["forcing"]
    energy = system.energy(z.transpose("y", "time", "x", "member"))
    assert set(energy.dims) == {"member", "time"}
    xr.testing.assert_allclose(energy.transpose("member", "time"), system.energy(z))
    np.testing.assert_allclose(system.energy(z.values), system.energy(z))
    assert system.energy_spectrum(z).dims == ("member", "time", "wavenumber")
    assert system.energy_budget(z, f)["injection"].dims == ("member", "time")
    assert system.velocity(z)[0].dims == z.dims
    with pytest.raises(ParameterError, match=r"found an array of shape \(3, 3\), expected"):
        system.energy(np.zeros((3, 3)))


def test_a_blow_up_by_aliases_says_what_helps():
    # far too little viscosity for the grid: aliases, not the step, destroy the run
    system = NavierStokes(n=16, viscosity=0.0, hypoviscosity=0.0, forcing=3e4)
    with pytest.raises(BlowUpError, match="aliases can feed the enstrophy without bound: pass dealias=True"):
        system.simulate(1, 20.0, 1.0, spinup=0.0, seed=0)
