"""Every compiled kernel equals its slow twin, number for number of the same stream."""

import numpy as np
import pytest
from reference import (
    simulators_heun,
    simulators_lanes,
    simulators_linear,
    simulators_navier_stokes,
    simulators_ou,
    simulators_zoo,
)

from simulators import (
    CharneyDeVore,
    DoubleWell,
    LinearSDE,
    Lorenz96,
    NavierStokes,
    OrnsteinUhlenbeck,
    Potential2D,
    ScalarClimate,
)
from simulators.kernels import lanes, linear, noise, ou, scalar, triad
from simulators.spectral import inverse_transform, white_noise_hat
from simulators.streams import member_stream

# Without the compiler the random generators are NumPy integers, which warn when they wrap around as they should.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_white_noise_is_hermitian_and_matches_the_explicit_mirror(n):
    w_hat = np.empty((n, n // 2 + 1), dtype=complex)
    white_noise_hat(np.random.default_rng(n), w_hat)
    np.testing.assert_allclose(w_hat, simulators_ou.white_noise_hat(np.random.default_rng(n), n), rtol=1e-14)
    # a spectrum of a real field survives the round trip; any asymmetry would be projected away
    np.testing.assert_allclose(np.fft.rfft2(np.fft.irfft2(w_hat, s=(n, n))), w_hat, atol=1e-12)


@pytest.mark.parametrize("n", [4, 5])
def test_white_noise_in_space_has_unit_covariance(n):
    rng = np.random.default_rng(1)
    n_draws = 4000
    fields = np.empty((n_draws, n * n))
    w_hat = np.empty((n, n // 2 + 1), dtype=complex)
    for draw in fields:
        white_noise_hat(rng, w_hat)
        draw[:] = np.fft.irfft2(w_hat, s=(n, n)).ravel()
    covariance = fields.T @ fields / n_draws
    # standard error of a covariance of unit normals: sqrt((1 + delta_ij) / n_draws)
    z = (covariance - np.eye(n * n)) / np.sqrt((1 + np.eye(n * n)) / n_draws)
    assert np.abs(z).max() < 4.5  # 200-300 independent entries: P(|z| > 4.5) = 7e-6 each


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_inverse_transform_casts_to_the_output(dtype):
    u_hat = np.fft.rfft2(np.random.default_rng(0).standard_normal((6, 6)))
    u = np.empty((6, 6), dtype=dtype)
    inverse_transform(u_hat, u)
    np.testing.assert_allclose(u, np.fft.irfft2(u_hat, s=(6, 6)), rtol=4 * np.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("n", [4, 5])
def test_ou_kernel_equals_its_twin(n):
    rng = np.random.default_rng(3)
    shape = (n, n // 2 + 1)
    u_hat = np.fft.rfft2(rng.standard_normal((n, n)))
    # even in ky with real self-conjugate columns, as the system makes them
    k2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n) ** 2
    propagator = np.exp(-k2).astype(complex)
    amplitude = 0.1 * np.exp(-2 * k2)
    expected, final = simulators_ou.advance(u_hat.copy(), np.random.default_rng(4), propagator, amplitude, 3, 7)
    out = np.empty((7, n, n))
    ou.advance(u_hat, np.empty(shape, complex), np.random.default_rng(4), propagator, amplitude, 3, out)
    np.testing.assert_allclose(out, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(u_hat, final, rtol=1e-11, atol=1e-12)


def test_linear_kernel_equals_its_twin():
    rng = np.random.default_rng(5)
    propagator, root, x = 0.3 * rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal(3)
    expected, final = simulators_linear.advance(x.copy(), np.random.default_rng(6), propagator, root, 2, 9)
    out = np.empty((9, 3))
    linear.advance(x, np.random.default_rng(6), propagator, root, 2, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    np.testing.assert_allclose(x, final, rtol=1e-12)


def test_scalar_kernel_equals_its_twin():
    coefficients = np.array([0.6, -0.02, -0.2, -0.05])
    x, y = np.array([0.4]), 0.4
    rng = np.random.default_rng(7)
    out = np.empty((20, 1))
    scalar.advance(x, np.random.default_rng(7), coefficients, 0.7, 0.02, 5, out)
    for row in out:
        assert row[0] == pytest.approx(y, rel=1e-12)
        for _ in range(5):
            y = simulators_heun.heun_step(y, rng.standard_normal(), coefficients, 0.7, 0.02)
    assert x[0] == pytest.approx(y, rel=1e-12)


# Through simulate(): the step, its number per snapshot and the member's stream reach the kernel unchanged.
REQUEST = {"n_members": 3, "duration": 3.0, "save_every": 0.6, "dt": 0.25, "seed": 21}
N_STEPS, DT, N_SNAPSHOTS = 3, 0.2, 5


@pytest.mark.parametrize("system", [DoubleWell(), ScalarClimate()], ids=lambda system: system.name)
def test_simulated_scalar_paths_are_heun_steps(system):
    rng = member_stream(21, 2)
    x = system.law.draw(rng)
    for found in system.simulate(**REQUEST)["x"].values[2, :, 0]:
        assert found == pytest.approx(x, rel=1e-11)
        for _ in range(N_STEPS):
            x = simulators_heun.heun_step(x, rng.standard_normal(), system.law.coefficients, system.noise, DT)


@pytest.mark.parametrize("n", [4, 5])
def test_simulated_fields_take_the_exact_transition(n):
    system = OrnsteinUhlenbeck(n=n, lam=0.5, kappa=0.1, advection=0.7)
    rng = member_stream(21, 2)
    start = np.sqrt(system.spectrum()) * simulators_ou.white_noise_hat(rng, n)
    amplitude = np.sqrt(system.spectrum() * (1 - np.exp(-2 * system.rate() * DT)))
    expected, _ = simulators_ou.advance(start, rng, system.propagator(DT), amplitude, N_STEPS, N_SNAPSHOTS)
    np.testing.assert_allclose(system.simulate(**REQUEST)["u"][2], expected, rtol=1e-10, atol=1e-12)


def test_simulated_linear_paths_take_the_exact_transition():
    # d = 1, where eigh returns +1 as the eigenvector, so the square roots are the positive ones
    system = LinearSDE([[-0.7]], [[0.5]])
    variance, decay = 0.5 / 1.4, np.exp(-0.7 * DT)
    rng = member_stream(21, 2)
    expected, _ = simulators_linear.advance(
        np.array([np.sqrt(variance)]) * rng.standard_normal(1),
        rng,
        np.array([[decay]]),
        np.array([[np.sqrt(variance * (1 - decay**2))]]),
        N_STEPS,
        N_SNAPSHOTS,
    )
    np.testing.assert_allclose(system.simulate(**REQUEST)["x"][2], expected, rtol=1e-10)


# n = 16 is an even number of radix-4 stages, 32 has the radix-2 stage
@pytest.mark.parametrize("n", [16, 32])
def test_lane_transform_equals_its_twin(n):
    rows, columns = lanes.size_type(n), lanes.size_type(n // 2)
    position = np.argsort(lanes.row_wavenumbers(n) % n)
    u = np.random.default_rng(n).standard_normal((n, n))
    field, spectrum = np.empty(n * n), np.empty(n * n)
    lanes.to_field(u, field)
    np.testing.assert_array_equal(field, simulators_lanes.field(u))
    lanes.forward(field, spectrum, rows, columns, lanes.twiddles(n), position)
    np.testing.assert_allclose(spectrum, simulators_lanes.spectrum(u), atol=1e-12)
    lanes.inverse(spectrum, field, rows, columns, lanes.twiddles(n), position)
    back = np.empty((n, n), dtype=np.float32)
    lanes.from_field(field, 1 / n**2, back)
    np.testing.assert_allclose(back, u, atol=1e-6)


def test_lane_normals_equal_their_twin():
    words = noise.seed_words(np.random.default_rng(9))
    before = words.reshape(4, noise.STREAMS).T.copy()
    numbers = np.empty(4 * noise.STREAMS)
    noise.fill_normals(words, numbers)
    found = numbers.reshape(2, 2, noise.STREAMS)
    for stream, start in enumerate(before):
        raw = simulators_lanes.sfc64(start, 4)
        for pair in range(2):
            expected = simulators_lanes.box_muller(raw[2 * pair], raw[2 * pair + 1])
            # the series of the kernel end at 1e-11
            np.testing.assert_allclose(found[pair, :, stream], expected, atol=2e-11)


# n = 16 runs on the lane transform, 18 on numpy.fft
@pytest.mark.parametrize(("n", "dealias"), [(16, False), (16, True), (18, True)])
def test_simulated_turbulence_equals_its_twin(n, dealias):
    system = NavierStokes(n=n, dealias=dealias, save_forcing=True, viscosity=1e-4)
    rng = member_stream(21, 2)
    phases = 2 * np.pi * rng.random(len(simulators_navier_stokes.forced_wavenumbers(n, dealias)))
    normals = simulators_lanes.Normals(noise.seed_words(rng))
    expected = simulators_navier_stokes.advance(phases, normals, system, DT, N_STEPS, 3)
    run = system.simulate(**REQUEST | {"duration": 1.8}, spinup=0)
    # the series of the normals end at 1e-11
    np.testing.assert_allclose(run["vorticity"][2], expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(run["forcing"][2], expected[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("system", "drift"),
    [
        (Potential2D(), lambda x, system: system.drift(x)),
        (CharneyDeVore(), simulators_zoo.charney_devore),
        (Lorenz96(n=5, forcing=1.0, noise=0.3), simulators_zoo.lorenz96),  # calm enough for steps of 0.2
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_simulated_polynomial_systems_take_heun_steps(system, drift):
    stepper = system.make_stepper(DT, N_STEPS)
    rng = member_stream(21, 2)
    (start,) = stepper.start(rng)
    noise = np.sqrt(2 * system.diffusivity) if isinstance(system, Potential2D) else system.noise
    expected, _ = simulators_zoo.heun(lambda x: drift(x, system), start, rng, noise, DT, N_STEPS, N_SNAPSHOTS)
    found = system.simulate(**REQUEST, spinup=0)["x"].values[2]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


def test_triad_kernel_equals_its_twin():
    rng = np.random.default_rng(8)
    propagator, x = 0.4 * rng.standard_normal((3, 3)), rng.standard_normal(3)
    slow_root, burst_root = rng.standard_normal((3, 2)), rng.standard_normal((3, 3))
    arguments = (propagator, slow_root, burst_root, 0.7, 4)
    expected, final = simulators_zoo.triad(x.copy(), np.random.default_rng(9), *arguments, 6)
    out = np.empty((6, 3))
    triad.advance(x, np.random.default_rng(9), *arguments, out)
    np.testing.assert_allclose(out, expected, rtol=1e-10)
    np.testing.assert_allclose(x, final, rtol=1e-10)


@pytest.mark.parametrize("n", [16, 32])
def test_ou_lane_kernel_equals_the_twin_of_the_other(n):
    # without noise the two draw nothing; the noise in the packed layout is tested with the transform and the sampler
    k2 = (n * np.fft.fftfreq(n))[:, None] ** 2 + (n * np.fft.rfftfreq(n)) ** 2
    kx = np.broadcast_to(n * np.fft.rfftfreq(n) % (n // 2), k2.shape)
    propagator = np.exp(-0.01 * k2 - 0.3j * kx)
    u = np.random.default_rng(n).standard_normal((n, n))
    tables, rows, columns = ou.make_lane_tables(propagator, np.zeros(k2.shape))
    spectrum = lanes.transform(u, rows, columns, tables.twiddle, tables.position)
    expected, _ = simulators_ou.advance(np.fft.rfft2(u), np.random.default_rng(0), propagator, np.zeros(k2.shape), 2, 3)
    words = noise.seed_words(np.random.default_rng(0))
    out = np.empty((3, n, n))
    ou.advance_lanes(spectrum, words, tables, rows, columns, 2, out)
    np.testing.assert_allclose(out, expected, atol=1e-13)


@pytest.mark.parametrize(
    "system",
    [ScalarClimate(), Potential2D(), LinearSDE([[-1.0, 2.0], [-0.3, -1.0]], [[1.0, 0.2], [0.2, 0.5]])],
    ids=lambda system: system.name,
)
def test_kernels_of_many_members_take_the_steps_of_one(system):
    # step by step: a kick, then the step of `advance` with the same numbers
    n_members, n_steps, (d,) = 3, 5, system.layout().shape
    stepper = system.make_stepper(0.05, 1)
    rng = np.random.default_rng(4)
    x, kicks = rng.standard_normal((n_members, d)), 0.1 * rng.standard_normal((n_steps, d))
    normals = np.array([np.random.default_rng(member).standard_normal((n_steps, d)) for member in range(n_members)])
    expected = x.copy()
    for member, one in enumerate(expected):
        stream = np.random.default_rng(member)
        for kick in kicks:
            one += kick
            stepper.advance((one,), stream, np.empty((1, d)))
    stepper.advance_many(x, normals, kicks)
    np.testing.assert_allclose(x, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("system", [ScalarClimate(), Potential2D()], ids=lambda system: system.name)
def test_kernels_sum_the_noise_of_an_interval(system):
    d, dt = system.layout().shape[0], 0.05
    stepper = system.make_stepper(dt, 3)
    (x,), stream = stepper.start(np.random.default_rng(1)), np.random.default_rng(2)
    out, increments = np.empty((4, d)), np.empty((4, d))
    stepper.advance((x,), stream, out, increments)
    normals = np.random.default_rng(2).standard_normal((4, 3, d))
    root = np.sqrt(dt * np.diag(system.increment_covariance()))
    np.testing.assert_allclose(increments, root * normals.sum(axis=1), rtol=1e-12)
