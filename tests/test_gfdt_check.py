"""The score check: identities, loss, curl and verdicts, on systems whose exact score is known."""

import contextlib
import warnings

import numpy as np
import pytest
import scipy.fft
import xarray as xr
from reference import linear_sde

import gfdt
import simulators
from gfdt.covariance import DenseCovariance
from gfdt.diagnostics import derivatives
from gfdt.errors import InputError

DIMS = ("member", "time", "component")
FIELD = ("member", "time", "y", "x")
INVERSE = np.linalg.inv(linear_sde.stationary_covariance())


def record(n_members=24, n_times=2000, seed=0):
    return xr.DataArray(
        linear_sde.sample(n_members, n_times, 0.25, seed), dims=DIMS, coords={"time": 0.25 * np.arange(n_times)}
    )


def exact(x):
    return -x @ INVERSE


def gaussian_plane(n_members=24, n_times=500, seed=0):
    x = np.random.default_rng(seed).standard_normal((n_members, n_times, 2))
    return xr.DataArray(x, dims=DIMS, coords={"time": np.arange(float(n_times))})


def band_limited(n_members=24, n_times=400, n=8, cut=2, seed=0):
    """AR(1) in time, white up to the wavenumber ``cut`` of each axis and zero beyond: 25 of 64 modes."""
    rng = np.random.default_rng(seed)
    keep = np.abs(np.fft.fftfreq(n) * n) <= cut
    mask = keep[:, None] & keep[None, : n // 2 + 1]
    noise = rng.standard_normal((n_members, n_times, n, n))
    noise = scipy.fft.irfftn(scipy.fft.rfftn(noise, axes=(2, 3)) * mask, s=(n, n), axes=(2, 3))
    x = np.empty_like(noise)
    x[:, 0] = noise[:, 0]
    for t in range(1, n_times):
        x[:, t] = 0.8 * x[:, t - 1] + 0.6 * noise[:, t]
    return xr.DataArray(x, dims=FIELD, coords={"time": np.arange(float(n_times))}), mask


def verdicts(report):
    return {finding.check: finding.verdict for finding in report.findings}


# --- exact scores are green ------------------------------------------------------------------------------------------


def test_exact_score_of_a_linear_system_is_green():
    report = gfdt.check_score(record(), exact)
    assert report.verdict == "green"
    assert report.ok
    assert "green" in str(report)
    assert report.stein_excess < 0.05
    assert report.reasons == ()


def test_exact_score_of_the_double_well_is_green_and_far_better_than_the_gaussian():
    system = simulators.DoubleWell()
    run = system.simulate(n_members=32, duration=400.0, save_every=0.2, seed=0, progress=False)
    report = gfdt.check_score(run, system.score)
    assert report.verdict == "green"
    assert report.loss.z < -10
    assert "better than the Gaussian" in str(report)


def test_exact_score_of_a_field_is_green_and_a_gaussian_one_is_red():
    """Every site of this field looks Gaussian to C^-1; only its spatial mean is bimodal."""
    system = simulators.AllenCahn(n=16, advection=0.0)
    run = system.simulate(n_members=24, duration=60.0, save_every=1.0, spinup=50.0, seed=0, progress=False)
    assert gfdt.check_score(run, system.score, homogeneous=True).verdict == "green"
    report = gfdt.check_score(run, gfdt.GaussianScore(homogeneous=True).fit(run))
    assert report.cubic_excess < 0.05
    assert verdicts(report)["modes"] == "red"
    assert int(np.argmax(report.modes.identity - report.modes.measured.real)) == 0


@pytest.mark.parametrize(("n_members", "n_times"), [(24, 300), (3, 2000)])
def test_an_exact_score_is_never_called_wrong(n_members, n_times):
    """Twenty records, with members and with blocks as units: at 0.1 % per check all of them pass."""
    found = [gfdt.check_score(record(n_members, n_times, seed), exact) for seed in range(20)]
    assert [report.verdict for report in found] == ["green"] * 20
    z = np.array([report.loss.z for report in found])
    # The Gaussian is fitted on other states than it is judged on, so it does not win by its parameters.
    assert z.max() < 3
    assert z.mean() < 0


def test_an_exact_score_of_a_short_record_is_not_called_wrong():
    x = np.random.default_rng(3).standard_normal((2, 400, 200))
    report = gfdt.check_score(x, lambda u: -u, dims=DIMS, dt=1.0)
    assert report.verdict == "green", report


def test_a_scalar_series_without_state_dims_is_checked():
    x = np.random.default_rng(0).standard_normal((24, 300))
    report = gfdt.check_score(x, lambda u: -u, dims=("member", "time"), dt=1.0)
    assert report.verdict == "green"
    assert report.to_dataset()["stein"].dims == ()


# --- wrong scores are red --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "green"), (1.08, "amber"), (1.5, "red"), (0.5, "red")])
def test_wrong_amplitude_is_flagged_in_proportion(factor, verdict):
    # M = factor I exactly in the mean, so the rms over the 16 entries of M - I is (factor - 1)/2.
    report = gfdt.check_score(record(), lambda x: factor * exact(x))
    assert report.verdict == verdict
    assert report.stein_excess == pytest.approx(abs(factor - 1) / 2, abs=0.03)
    # The loss of a Gaussian score times a is a^2/2 - a: worse than the Gaussian by (a - 1)^2/2.
    assert report.loss.difference == pytest.approx((factor - 1) ** 2 / 2, abs=0.02)


def test_a_gaussian_score_of_data_that_are_not_gaussian_is_red():
    """It satisfies <s> = 0 and the Stein identity by construction; only the third order sees the kurtosis."""
    rng = np.random.default_rng(0)
    x = np.sign(rng.standard_normal((24, 500, 1))) + 0.3 * rng.standard_normal((24, 500, 1))
    report = gfdt.check_score(x, gfdt.GaussianScore().fit(x, dims=DIMS), dims=DIMS, dt=1.0)
    assert report.stein_excess < 1e-6
    # kurtosis/3 of +-1 blurred by 0.3: (1 + 6 0.09 + 3 0.0081)/(3 1.09^2)
    assert report.cubic_excess == pytest.approx(1 - 1.5643 / 3.5643, abs=0.02)
    assert report.verdict == "red"
    assert abs(report.loss.difference) < 1e-9


def test_skewness_shows_in_the_variance():
    """For x = g^2 - 1 the Gaussian score has <x^2 B> = <x^3>/<x^2> = 4 instead of 0."""
    x = np.random.default_rng(0).standard_normal((24, 2000, 1)) ** 2 - 1
    report = gfdt.check_score(x, gfdt.GaussianScore().fit(x, dims=DIMS), dims=DIMS, dt=1.0, observables="variance")
    found = report.observables["variance"]
    assert float(found.measured[0, 0]) - 1 == pytest.approx(4 / (2 * np.abs(x).mean()), rel=0.1)
    assert found.verdict == "red"
    assert np.isnan(report.cubic_excess)


def test_the_score_of_another_system_is_red():
    other = np.linalg.inv(np.diag([1.0, 4.0, 1.0, 0.5]))
    report = gfdt.check_score(record(), lambda x: -x @ other)
    assert report.verdict == "red"
    assert not report.ok


def test_the_known_blur_of_a_noise_level_is_not_held_against_a_score():
    blurred = np.linalg.inv(linear_sde.stationary_covariance() + np.eye(4))
    score = gfdt.AnalyticScore(lambda x: -x @ blurred)
    assert gfdt.check_score(record(), score).verdict == "red"
    score.noise_level_ = 1.0
    assert gfdt.check_score(record(), score).verdict == "green"
    sharp = gfdt.AnalyticScore(exact)
    sharp.noise_level_ = 1.0
    assert gfdt.check_score(record(), sharp).verdict == "red"


def test_one_noise_level_for_each_component():
    level = np.array([0.2, 1.0, 0.5, 0.1])
    blurred = np.linalg.inv(linear_sde.stationary_covariance() + np.diag(level**2))
    score = gfdt.AnalyticScore(lambda x: -x @ blurred)
    score.noise_level_ = level
    report = gfdt.check_score(record(), score)
    assert report.verdict == "green"
    assert "sigma = 0.1 to 1" in str(report)


def test_a_rotation_that_no_average_shows_is_seen_by_its_curl():
    """s = -x + a (|x|^2 - 4) Jx has <s> = 0, M = I exactly; curl^2 = 32 a^2/(2 + 48 a^2) for a normal density."""
    x, a = gaussian_plane(), 0.3

    def rotating(u):
        return -u + a * ((u**2).sum(-1, keepdims=True) - 4) * np.stack([-u[..., 1], u[..., 0]], -1)

    report = gfdt.check_score(x, rotating)
    assert verdicts(report)["Stein identity"] == "green"
    assert report.curl == pytest.approx(np.sqrt(32 * a**2 / (2 + 48 * a**2)), rel=0.05)
    assert verdicts(report)["curl"] == "red"
    assert gfdt.check_score(x, lambda u: -u).curl < 1e-6


def test_a_drifting_record_is_not_stationary():
    x = record()
    report = gfdt.check_score(x + 0.001 * x["time"], exact)
    assert verdicts(report)["stationarity"] == "amber"
    assert "drifts" in " ".join(report.reasons)
    few = xr.DataArray(np.random.default_rng(0).standard_normal((2, 4000, 1)), dims=DIMS).assign_coords(
        time=np.arange(4000.0)
    )
    assert gfdt.check_score(few, lambda u: -u).verdict == "green"
    assert "drifts" in " ".join(gfdt.check_score(few + 2e-4 * few["time"], lambda u: -u).reasons)


def test_a_score_with_a_wrong_centre_has_a_mean():
    report = gfdt.check_score(record(), lambda x: exact(x - 0.5))
    assert verdicts(report)["mean score"] == "amber"
    assert report.mean_score_z > 5
    assert any("mean score" in reason for reason in report.reasons)


def test_derivatives_that_are_not_finite_are_said_not_to_be():
    """A formula that is sound at the states and not beside them."""
    x = np.sign(np.random.default_rng(0).standard_normal((24, 200, 1)))
    edge = gfdt.AnalyticScore(lambda u: np.where(np.abs(u) > 1 + 1e-9, np.nan, -u))
    report = gfdt.check_score(x, edge, dims=DIMS, dt=1.0)
    assert verdicts(report)["loss"] == "amber"


# --- loss and derivatives --------------------------------------------------------------------------------------------


def test_loss_does_not_depend_on_units():
    scale = np.array([1.0, 1e6, 1e-5, 10.0])
    x = record()
    plain = gfdt.check_score(x, lambda u: 1.2 * exact(u)).loss
    scaled = gfdt.check_score(x * scale, lambda u: 1.2 * exact(u / scale) / scale).loss
    assert scaled.difference == pytest.approx(plain.difference, rel=1e-6)
    assert scaled.stderr == pytest.approx(plain.stderr, rel=1e-6)


def test_the_report_says_when_it_is_in_sample():
    here, there = record(seed=0), record(seed=1)
    score = gfdt.GaussianScore().fit(here)
    inside, outside = gfdt.check_score(here, score), gfdt.check_score(there, score)
    assert inside.in_sample
    assert "on the record the score was fitted on" in str(inside)
    assert inside.loss.difference == pytest.approx(0.0, abs=1e-9)
    assert not outside.in_sample
    assert "new to the score" in str(outside)
    assert 0 < abs(outside.loss.difference) < 0.01


def test_probes_find_trace_and_curl_of_a_known_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    matrix = -np.eye(6) + 0.3 * rng.standard_normal((6, 6))
    half = 0.5 * rng.standard_normal((6, 6))
    values, vectors = np.linalg.eigh(half @ half.T + np.eye(6))
    covariance = DenseCovariance(np.zeros(6), values, vectors)
    root = (vectors * np.sqrt(values)) @ vectors.T
    white = root @ matrix @ root
    states = rng.standard_normal((20000, 6))
    score = gfdt.AnalyticScore(lambda u: u @ matrix.T).fit(states[None], dims=DIMS)
    expected = np.linalg.norm(white - white.T) / 2 / np.linalg.norm(white)
    full = derivatives.differentiate(score, states[:50], covariance, covariance, rng)
    np.testing.assert_allclose(full.trace, np.trace(white), rtol=1e-6)
    assert full.curl == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(derivatives, "_EXACT_SIZE", 0)
    probed = derivatives.differentiate(score, states, covariance, covariance, rng)
    error = probed.trace.std() / np.sqrt(len(states))
    assert probed.trace.mean() == pytest.approx(np.trace(white), abs=4 * error)
    # Squares of bilinear forms scatter by about three times their mean: 2 % from 20,000 states.
    assert probed.curl == pytest.approx(expected, rel=0.05)


# --- where there is no variance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("homogeneous", [True, None])
def test_modes_without_variance_are_not_called_wrong(homogeneous):
    x, mask = band_limited()
    with pytest.warns(gfdt.ReliabilityWarning) if homogeneous is None else contextlib.nullcontext():
        score = gfdt.GaussianScore(homogeneous=homogeneous).fit(x)
    report = gfdt.check_score(x, score, homogeneous=homogeneous)
    assert report.verdict == "green", report
    identity = report.departure.identity
    if homogeneous:
        np.testing.assert_array_equal(identity > 0, mask.ravel())
    else:
        assert np.linalg.matrix_rank(identity) == 25
    assert report.loss.score == pytest.approx(-0.5, abs=0.02)


def test_the_score_off_the_support_is_zero_for_navier_stokes_too():
    """Nyquist modes and those cut by dealiasing carry nothing: 121 of 256 are left at n = 16."""
    system = simulators.NavierStokes(n=16, dealias=True)
    run = system.simulate(n_members=24, duration=20.0, save_every=0.5, spinup=20.0, seed=0, progress=False)
    score = gfdt.GaussianScore(homogeneous=True).fit(run)
    assert verdicts(gfdt.check_score(run, score))["Stein identity"] == "green"
    got = gfdt.response(run, score, max_lag=1.0, homogeneous=True)
    assert float(got["response"].sel(lag=0, dy=0, dx=0)) == pytest.approx(121 / 256, abs=1e-9)
    assert np.isfinite(got["response"]).all()


# --- noise levels ----------------------------------------------------------------------------------------------------


class ManyLevels(gfdt.AnalyticScore):
    """Exact for the linear system at every noise level, plus an error that grows as 1/sigma."""

    def __init__(self, level):
        self.noise_level_ = level
        inverse = np.linalg.inv(linear_sde.stationary_covariance() + level**2 * np.eye(4))
        super().__init__(lambda u: -u @ inverse - 0.03 / level * np.tanh(u))
        self.fit(record(2, 20))

    def at_noise_level(self, sigma):
        if sigma > 1.0:
            raise InputError("not learned there")
        if sigma < 0.35:
            warnings.warn("extrapolated", gfdt.ReliabilityWarning, stacklevel=2)
        return ManyLevels(sigma)


def test_sweep_shows_the_noise_of_learning_grow_as_sigma_falls():
    report = gfdt.check_score(record(), ManyLevels(0.4))
    assert [item.noise_level for item in report.sweep] == pytest.approx([0.4, 0.6, 0.8])
    difference = [item.loss.difference for item in report.sweep]
    assert difference == sorted(difference, reverse=True)
    assert report.sweep[0].loss.difference == pytest.approx(report.loss.difference, rel=1e-9)
    out = report.to_dataset()
    np.testing.assert_allclose(out["sweep_loss_difference"].sel(sigma=0.4), difference[0])
    assert "at sigma = 0.6" in str(report)
    with pytest.warns(gfdt.ReliabilityWarning, match="extrapolated"):
        chosen = gfdt.check_score(record(), ManyLevels(0.4), noise_levels=[0.3])
    assert [item.noise_level for item in chosen.sweep] == [0.3]
    assert gfdt.check_score(record(), ManyLevels(0.4), noise_levels=()).sweep == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_levels": [0.1]}, "has only the level 0.0: leave noise_levels out"),
        ({"score": ManyLevels(0.4), "noise_levels": [-1.0]}, "noise_levels holds -1.0: give positive"),
        ({"score": ManyLevels(0.4), "noise_levels": 0.1}, "noise_levels=0.1 is not a list"),
        ({"observables": ("entropy",)}, "observable='entropy' is not known"),
        ({"observables": 3}, "observables=3 does not name any"),
        ({"seed": -1}, "seed=-1 is not an integer"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    options = {"score": exact} | options
    with pytest.raises(InputError, match=message):
        gfdt.check_score(record(2, 100), options.pop("score"), **options)


# --- the report ------------------------------------------------------------------------------------------------------


def test_homogeneous_score_is_checked_per_wavenumber(tmp_path):
    x = np.random.default_rng(0).standard_normal((24, 200, 4, 6))
    score = gfdt.GaussianScore(homogeneous=True).fit(x, dims=FIELD)
    report = gfdt.check_score(x, score, dims=FIELD, dt=1.0)
    assert report.stein.shape == (4 * 4,)
    assert report.verdict == "green"
    out = report.to_dataset()
    assert out["stein"].dims == ("k_y", "k_x")
    assert out["k_y"].values.tolist() == [0, 1, -2, -1]
    assert out["k_x"].values.tolist() == [0, 1, 2, 3]
    gfdt.check_score(x, score, dims=FIELD, dt=1.0)
    out.to_netcdf(tmp_path / "report.nc")
    again = xr.open_dataset(tmp_path / "report.nc").load()
    xr.testing.assert_allclose(out, again)


def test_dataset_of_a_vector_has_its_labels():
    x = record().assign_coords(component=list("abcd"))
    out = gfdt.check_score(x, exact, observables=("variance", "moment3", "moment4")).to_dataset()
    assert out["stein"].dims == ("component", "component_src")
    assert float(out["stein"].sel(component="b", component_src="b")) == pytest.approx(1.0, abs=0.1)
    assert out["observable"].values.tolist() == ["variance", "moment3", "moment4"]
    assert set(out["finding_verdict"].values) == {"green"}


@pytest.mark.parametrize("kind", ["matrix", "spectrum", "scalar", "sweep"])
def test_the_figure_has_four_panels(kind):
    from matplotlib.figure import Figure

    if kind == "spectrum":
        x = band_limited(n_times=100)[0]
        report = gfdt.check_score(x, gfdt.GaussianScore(homogeneous=True).fit(x))
    elif kind == "scalar":
        report = gfdt.check_score(gaussian_plane().isel(component=[0]), lambda u: -u)
    else:
        report = gfdt.check_score(record(), ManyLevels(0.4) if kind == "sweep" else exact)
    figure = report.plot(Figure(figsize=(10, 7), layout="constrained"))
    figure.canvas.draw()
    assert len([ax for ax in figure.axes if ax.get_title() or not ax.axison]) == 4
    assert report.verdict in figure.get_suptitle()
    with pytest.raises(InputError, match="plot_check draws what"):
        gfdt.plot_check(3)


def test_the_command_draws_the_report_and_says_red_in_its_exit_code(tmp_path, capsys):
    from gfdt.cli.commands import main

    rng = np.random.default_rng(0)
    x = np.sign(rng.standard_normal((24, 200, 1))) + 0.3 * rng.standard_normal((24, 200, 1))
    data, picture = tmp_path / "run.nc", tmp_path / "check.png"
    xr.DataArray(x, dims=DIMS, coords={"time": np.arange(200.0)}, name="x").to_netcdf(data)
    with pytest.raises(SystemExit) as left:
        main(["check", str(data), "gaussian", "--plot", str(picture)])
    assert left.value.code == 1
    assert "score check: red" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(SystemExit) as left:
        main(["check", str(data), "gaussian", "--plot", str(picture)])
    assert left.value.code == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["check", str(data), "gaussian", "--plot", str(tmp_path / "check.doc")])
    assert "no known picture format" in capsys.readouterr().err


def test_a_trend_does_not_hide_in_the_errors_it_makes():
    """One member: a trend lengthens the blocks and scatters them; without one, the check stays green."""
    verdicts = {0.0: [], 3.0: []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.zeros((1, 8000, 1))
        for t in range(1, 8000):
            x[0, t] = 0.95 * x[0, t - 1] + rng.standard_normal(1)
        for size, found in verdicts.items():
            trend = size * x.std() * np.linspace(0, 1, 8000)[None, :, None]
            run = xr.DataArray(x + trend, dims=("member", "time", "component"), coords={"time": np.arange(8000.0)})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = gfdt.check_score(run, gfdt.GaussianScore().fit(run))
            (finding,) = (item for item in report.findings if item.check == "stationarity")
            found.append(finding.verdict)
    assert verdicts[3.0] == ["amber"] * 20
    assert verdicts[0.0].count("amber") <= 1  # 0.2 % each, and those called uncertain
