"""Homogeneous fields, of one and of several variables: each answer is an average of the full matrix over sites."""

import numpy as np
import pytest
import xarray as xr

import gfdt
import simulators
from gfdt import Drift, NoiseAmplitude, response
from gfdt.errors import InputError

MIX = np.array([[0.6, 0.3], [-0.2, 0.7]])
COUPLING = np.array([[1.0, 0.3], [0.3, 2.0]])
DIMS = {1: ("y", "x"), 2: ("variable", "y", "x")}


def field(n_variables, shape=(3, 4), n_members=1, n_times=80, seed=0):
    """AR(1) in time, moved one cell in +x a step, the variables mixed: (member, time[, variable], y, x)."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n_members, n_times, 2, *shape))
    for t in range(1, n_times):
        noise = 0.6 * rng.standard_normal((n_members, 2, *shape))
        x[:, t] = np.einsum("vw,mw...->mv...", MIX, np.roll(x[:, t - 1], 1, axis=-1)) + noise
    labels = {"time": np.arange(float(n_times)), "variable": ["u", "w"]}
    run = xr.DataArray(x, dims=("member", "time", "variable", "y", "x"), coords=labels)
    return run if n_variables == 2 else run.isel(variable=0, drop=True)


def with_all_shifts(run):
    """The record and every translation of it, as members: its sites are then exactly alike."""
    ny, nx = run.sizes["y"], run.sizes["x"]
    moved = [np.roll(run.values, (i, j), (-2, -1)) for i in range(ny) for j in range(nx)]
    values = np.concatenate(moved)
    return xr.DataArray(values, dims=run.dims, coords={k: v for k, v in run.coords.items() if k != "member"})


def score(n_variables):
    """Not exact, not Gaussian, and the same at every site."""
    if n_variables == 1:
        return gfdt.AnalyticScore(lambda u: -1.3 * u - 0.1 * u**3 - 0.05 * np.roll(u, 1, -1))
    return gfdt.AnalyticScore(
        lambda u: -np.einsum("vw,...wyx->...vyx", COUPLING, u) - 0.1 * u**3 - 0.05 * np.roll(u, 1, -1)
    )


def sites_averaged(full, n_variables, shape):
    """(lag, *state, *state) to (lag[, v], dy, dx[, w]): the mean over kick sites of what lies (dy, dx) from each."""
    ny, nx = shape
    full = full.reshape(len(full), n_variables, ny, nx, n_variables, ny, nx)
    out = np.zeros((len(full), n_variables, ny, nx, n_variables))
    for i, dy in enumerate(range(-(ny // 2), ny - ny // 2)):
        for j, dx in enumerate(range(-(nx // 2), nx - nx // 2)):
            for y in range(ny):
                for x in range(nx):
                    out[:, :, i, j] += full[:, :, (y + dy) % ny, (x + dx) % nx, :, y, x] / (ny * nx)
    return out if n_variables == 2 else out[:, 0, ..., 0]


def under_pattern(response_, pattern, shape):
    """Sum over sources of R(x - x') p(x'): (..., v, dy, dx, w), (w, y, x) to (..., v, y, x)."""
    ny, nx = shape
    out = np.zeros((*response_.shape[:-3], ny, nx))
    for y in range(ny):
        for x in range(nx):
            for b in range(ny):
                for a in range(nx):
                    piece = response_[..., (y - b + ny // 2) % ny, (x - a + nx // 2) % nx, :]
                    out[..., y, x] += piece @ pattern[:, b, a]
    return out


quiet = pytest.mark.filterwarnings(
    "ignore::gfdt.errors.UnreliableScoreWarning", "ignore::gfdt.errors.ReliabilityWarning"
)


@quiet
@pytest.mark.parametrize("shape", [(3, 4), (2, 5)])
@pytest.mark.parametrize("n_variables", [1, 2])
@pytest.mark.parametrize("correction", ["none", "stein"])
def test_the_homogeneous_kick_is_the_full_matrix_averaged_over_kick_sites(correction, n_variables, shape):
    run = with_all_shifts(field(n_variables, shape, n_times=40))
    options = {"max_lag": 2.0, "correction": correction, "confidence": None}
    for observable in ("mean", "moment3"):
        full = response(run, score(n_variables), observable=observable, **options)
        average = response(run, score(n_variables), observable=observable, homogeneous=("y", "x"), **options)
        variables = ("variable",) * (n_variables - 1)
        sources = ("variable_src",) * (n_variables - 1)
        assert average["response"].dims == ("lag", *variables, "dy", "dx", *sources)
        expected = sites_averaged(full["response"].values, n_variables, shape)
        np.testing.assert_allclose(average["response"], expected, atol=1e-12)
        # The spread of A at a site, not that of its mean over sites.
        for name in ("observable_mean", "observable_std"):
            assert average[name].dims == variables
            np.testing.assert_allclose(average[name], full[name].mean(("y", "x")), atol=1e-12)
    if n_variables == 2:
        assert average["variable_src"].values.tolist() == ["u", "w"]


@quiet
@pytest.mark.parametrize("n_variables", [1, 2])
@pytest.mark.parametrize("correction", ["none", "stein", "auto"])
@pytest.mark.parametrize("n_members", [3, 24])
def test_a_homogeneous_pattern_is_the_convolution_with_its_error(n_members, correction, n_variables):
    run = field(n_variables, n_members=n_members)
    pattern = np.random.default_rng(1).standard_normal((n_variables, 3, 4))
    options = {"max_lag": 2.0, "correction": correction, "homogeneous": ("y", "x")}
    kick = response(run, score(n_variables), **options)
    one = response(run, score(n_variables), perturbation=pattern.reshape(run.shape[2:]), **options)
    assert one["response"].dims == ("lag", *DIMS[n_variables])
    for name in ("response", "influence"):
        lead = kick[name].values.shape[: 2 if name == "influence" else 1]
        values = kick[name].values.reshape(*lead, n_variables, 3, 4, n_variables)
        expected = under_pattern(values, pattern, (3, 4)).reshape(one[name].shape)
        np.testing.assert_allclose(one[name], expected, atol=1e-12)
    error, n = one["influence"].values, one.sizes["unit"]
    np.testing.assert_allclose(one["stderr"], np.sqrt(n / (n - 1) * (error**2).sum(axis=0)), atol=1e-13)
    both = response(
        run, score(n_variables), perturbation={"a": pattern.reshape(run.shape[2:]), "b": 0 * run[0, 0] + 1}, **options
    )
    np.testing.assert_allclose(both["response"].sel(perturbation="a"), one["response"], atol=1e-12)


@quiet
@pytest.mark.parametrize("n_variables", [1, 2])
@pytest.mark.parametrize("correction", ["none", "stein"])
def test_a_homogeneous_pattern_is_the_full_one_where_all_sites_are_alike(correction, n_variables):
    run = with_all_shifts(field(n_variables, n_times=40))
    pattern = np.random.default_rng(1).standard_normal(run.shape[2:])
    options = {"max_lag": 2.0, "correction": correction, "confidence": None, "perturbation": pattern}
    for observable in ("mean", "second_moment", gfdt.Exceedance(0.2)):
        full = response(run, score(n_variables), observable=observable, **options)
        average = response(run, score(n_variables), observable=observable, homogeneous=("y", "x"), **options)
        np.testing.assert_allclose(average["response"], full["response"], atol=1e-11)


def _reaction(u):
    if u.ndim == 4:
        return np.stack([-u[:, 0] + 0.3 * u[:, 1] ** 2, 0.5 * u[:, 0]], axis=1)
    return -(u**3) + 0.2 * np.roll(u, 1, -1)


@quiet
@pytest.mark.parametrize("n_variables", [1, 2])
@pytest.mark.parametrize("what", ["drift", "noise of each variable"])
def test_an_amplitude_that_is_the_same_everywhere_is_the_full_answer_averaged_over_sites(what, n_variables):
    run = with_all_shifts(field(n_variables, (2, 3), n_times=30))
    each = 0.6 if n_variables == 1 else xr.DataArray([0.5, 0.7], dims="variable")
    perturbation = Drift(_reaction) if what == "drift" else NoiseAmplitude(each, change=0.3)
    for correction in ("none", "stein"):
        options = {"max_lag": 2.0, "correction": correction, "confidence": None, "perturbation": perturbation}
        for observable in ("mean", "second_moment", gfdt.Density([0.0, 0.5], bandwidth=0.3), lambda d: d**3):
            full = response(run, score(n_variables), observable=observable, **options)
            average = response(run, score(n_variables), observable=observable, homogeneous=("y", "x"), **options)
            expected = full["response"].mean(("y", "x"))
            assert average["response"].dims == expected.dims
            np.testing.assert_allclose(average["response"], expected, atol=1e-11)
            np.testing.assert_allclose(average["observable_mean"], full["observable_mean"].mean(("y", "x")), atol=1e-11)


@quiet
@pytest.mark.parametrize("n_variables", [1, 2])
def test_a_function_of_the_users_own_is_corrected_at_lag_zero_like_the_named_one(n_variables):
    """<w . grad A> is averaged over the sites for both; with 24 members it is used by the control."""
    run = field(n_variables, (2, 3), n_members=24, n_times=40)
    for perturbation in (Drift(_reaction), np.ones(run.shape[2:]), NoiseAmplitude(0.6)):
        options = {"max_lag": 2.0, "homogeneous": ("y", "x"), "perturbation": perturbation}
        named = response(run, score(n_variables), observable="second_moment", **options)
        own = response(run, score(n_variables), observable=lambda d: d**2, **options)
        assert own["response"].dims == named["response"].dims
        if isinstance(perturbation, Drift):
            np.testing.assert_allclose(own["response"], named["response"], atol=1e-7)
            np.testing.assert_allclose(own["stderr"], named["stderr"], atol=1e-7)
        np.testing.assert_allclose(own["observable_mean"], named["observable_mean"])
        np.testing.assert_allclose(own["observable_std"], named["observable_std"])


@quiet
def test_tiles_of_an_amplitude_change_nothing(monkeypatch):
    """Columns (variable, value) of a density in tiles that end in the middle of a variable."""
    run = field(2, n_members=24, n_times=40)
    options = {"max_lag": 2.0, "homogeneous": ("y", "x"), "observable": gfdt.Density([-1.0, 0.0, 1.0], bandwidth=0.5)}
    whole = response(run, score(2), perturbation=Drift(_reaction), **options)
    monkeypatch.setattr("gfdt.responses.accumulate._TILE_BYTES", 2 * 8 * run.sizes["time"])
    parts = response(run, score(2), perturbation=Drift(_reaction), **options)
    xr.testing.assert_allclose(parts, whole)


@quiet
def test_observables_of_a_whole_field_answer_a_kick_of_any_site():
    """Spectrum, covariance by separation and functions without site dims: averaged over the kicked site."""
    run = with_all_shifts(field(1, (3, 4), n_times=40))
    values = run.values
    options = {"max_lag": 2.0, "correction": "none", "confidence": None}

    def power(d):
        hat = np.abs(np.fft.fft2(d.values)) ** 2 / 144
        ky, kx = np.meshgrid(np.fft.fftfreq(3, 1 / 3), np.fft.fftfreq(4, 1 / 4), indexing="ij")
        shell = np.rint(np.hypot(ky, kx))
        return np.stack([hat[:, shell == k].sum(1) for k in range(int(shell.max()) + 1)], axis=1)

    def lagged(d):
        u = d.values
        each = [[(np.roll(u, (-r, -q), (1, 2)) * u).mean((1, 2)) for q in range(-2, 2)] for r in range(-1, 2)]
        return np.moveaxis(np.array(each), -1, 0)

    mean = values.mean()
    for name, twin in (("spectrum", power), ("covariance", lagged), (lambda d: d.max(("y", "x")), None)):
        got = response(run, score(1), observable=name, homogeneous=True, **options)
        function = name if twin is None else (lambda d, twin=twin: twin(d - mean))
        slow = response(run, score(1), observable=function, **options)["response"]
        np.testing.assert_allclose(got["response"].values, slow.mean(("y_src", "x_src")).values, atol=1e-11)
    assert response(run, score(1), observable="spectrum", homogeneous=True, **options)["response"].dims == (
        "lag",
        "wavenumber",
    )
    spectrum = response(run, score(1), observable="spectrum", homogeneous=True, **options)
    np.testing.assert_allclose(spectrum["observable_mean"].sum(), ((values - mean) ** 2).mean(), rtol=1e-12)


@quiet
def test_a_flat_spectrum_of_the_noise_is_the_noise_of_every_component():
    for n_variables in (1, 2):
        run = field(n_variables, n_members=3)
        options = {"max_lag": 2.0, "homogeneous": ("y", "x"), "observable": "second_moment"}
        plain = response(run, score(n_variables), perturbation=NoiseAmplitude(0.6, change=0.3), **options)
        for noise in (0.6, np.full((3, 3), 0.6), lambda k2: 0.6 + 0 * k2):
            flat = NoiseAmplitude(noise, change=0.3, basis="wavenumber")
            got = response(run, score(n_variables), perturbation=flat, **options)
            np.testing.assert_allclose(got["response"], plain["response"], atol=1e-12)
            np.testing.assert_allclose(got["stderr"], plain["stderr"], atol=1e-12)
    with pytest.raises(InputError, match=r"shape \(4, 4\).*shape \(3, 3\)"):
        response(run, score(2), perturbation=NoiseAmplitude(np.ones((4, 4)), basis="wavenumber"), **options)


def test_relative_change_of_the_noise_of_a_field_adds_twice_its_variance():
    """OU field: u is linear in the noise, so <u^2> -> (1 + f)^2 <u^2>, and mode k gets there as 1 - exp(-2 r_k t)."""
    system = simulators.OrnsteinUhlenbeck(n=8, lam=1.0, kappa=0.05, advection=-0.3, noise=0.5)
    run = system.simulate(n_members=40, duration=400.0, save_every=0.5, seed=3)
    wavenumber = np.add.outer(np.fft.fftfreq(8, 1 / 8) ** 2, np.arange(5.0) ** 2)
    amplitude = system.noise * system.n / np.sqrt(1 + wavenumber)
    noise = NoiseAmplitude(amplitude, change=amplitude, basis="wavenumber", n_probes=1)
    got = response(
        run,
        gfdt.AnalyticScore(system.score),
        max_lag=12.0,
        homogeneous=("y", "x"),
        observable="second_moment",
        perturbation=noise,
    )
    lag = got["lag"].values
    spectrum, rate = np.broadcast_to(system.spectrum(), (8, 5)), np.broadcast_to(system.rate(), (8, 5))
    weights = np.array([1, 2, 2, 2, 1]) / 64
    exact = ((4 * spectrum * rate * weights)[None] * np.exp(-2 * rate[None] * lag[:, None, None])).sum((1, 2))
    z = (got["response"].values - exact)[1:] / got["stderr"].values[1:]
    # 24 strongly correlated lags, t with 39 degrees of freedom.
    assert np.abs(z).max() < 3.3
    # Simpson's rule leaves 0.3 % at this spacing; the tail beyond lag 12 is 1e-4.
    step = np.abs(np.diff(lag))[0] / 3 * (np.r_[1, np.tile([4, 2], 11), 4, 1] * exact).sum()
    assert step == pytest.approx(2 * (spectrum * weights).sum(), rel=0.02)
    variance = float((run["u"] ** 2).mean())
    rule = np.abs(np.diff(lag))[0] / 3 * np.r_[1, np.tile([4, 2], 11), 4, 1]
    error = np.sqrt(40 / 39 * ((got["influence"].values @ rule) ** 2).sum())
    assert abs(got["response"].values @ rule - 2 * variance) < 3.3 * error + 0.02 * variance


@quiet
def test_odd_grids_lines_and_single_cells_of_several_variables():
    for shape in ((3, 5), (1, 4), (1, 1), (4, 1)):
        run = field(2, shape, n_members=20, n_times=60)
        got = response(run, score(2), max_lag=1.0, homogeneous=("y", "x"), correction="stein")
        start = got["response"].sel(lag=0)
        np.testing.assert_allclose(start.sel(dy=0, dx=0), np.eye(2), atol=1e-9)
        assert abs(start).sum() == pytest.approx(2.0, abs=1e-7)
    line = field(2, (1, 6), n_members=20).isel(y=0, drop=True)
    got = response(line, lambda u: -u, max_lag=1.0, homogeneous="x")
    assert got["response"].dims == ("lag", "variable", "dx", "variable_src")
    with pytest.raises(InputError, match="must then be the first"):
        response(line.transpose("member", "time", "x", "variable"), lambda u: -u, max_lag=1.0, homogeneous="x")


def test_something_added_to_a_slow_mode_is_taken_away_and_not_divided_by():
    """A score off by a x in one wavenumber, enough to turn M round: R(t) is off by -a C(t), not by a factor."""
    system = simulators.OrnsteinUhlenbeck(n=8)
    run = system.simulate(n_members=64, duration=1000.0, save_every=5.0, seed=0)
    covariance = system.exact_covariance().values.sum()  # C of the mean of the field

    def score(u):
        return system.score(u) + 6.0 / covariance * u.mean(axis=(-2, -1), keepdims=True)

    exact = system.exact_response(np.arange(0.0, 51.0, 5.0))
    # It says that the score is bad, and that what it misses at lag 0 is large.
    with pytest.warns(gfdt.UnreliableScoreWarning), pytest.warns(gfdt.ReliabilityWarning, match="misses the known"):
        got = gfdt.response(run, score, max_lag=50.0, homogeneous=("y", "x"))
    right = gfdt.response(run, system.score, max_lag=50.0, homogeneous=("y", "x"))

    def of_the_mean(response):
        return response.sum(("dy", "dx")).values

    # The error of the exact score's own estimate, and a tenth for the coefficient c(t) from 64 members.
    noise = np.abs(of_the_mean(right["response"]) - of_the_mean(exact)).max()
    assert np.abs(of_the_mean(got["response"]) - of_the_mean(exact)).max() < noise + 0.1
