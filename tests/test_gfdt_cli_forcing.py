"""Responses to any perturbation of any observable, predictions and spectra from the shell."""

import numpy as np
import pytest
import xarray as xr

import gfdt
import simulators
from gfdt.cli.words import in_words_of_the_shell


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "linear.nc"
    system = simulators.LinearSDE([[-1.0, 0.5], [0.0, -0.5]], np.eye(2))
    system.simulate(n_members=20, duration=100.0, save_every=0.5, seed=0, out=path).close()
    return path


@pytest.fixture(scope="module")
def matrix(trajectory, tmp_path_factory):
    """The response matrix of the linear system, as gfdt respond writes it, with influences."""
    path = tmp_path_factory.mktemp("matrix") / "R.nc"
    R = gfdt.response(trajectory, gfdt.GaussianScore().fit(trajectory), max_lag=12.0)
    R.to_netcdf(path)
    return path


@pytest.fixture
def relaxation(tmp_path):
    """R = exp(-t) in days: what is predicted from it is known."""
    lag = xr.DataArray(np.linspace(0.0, 20.0, 401), dims="lag", attrs={"units": "days"})
    path = tmp_path / "relaxation.nc"
    xr.Dataset({"response": ("lag", np.exp(-lag.values))}, coords={"lag": lag}).to_netcdf(path)
    return path


def test_observables_and_perturbations_of_the_shell_are_those_of_the_library(run, tmp_path, trajectory):
    """Every option gives the numbers of the Python call it stands for."""
    score = gfdt.GaussianScore().fit(trajectory)
    pattern = xr.DataArray([0.5, -2.0], dims="component", coords={"component": [0, 1]}, name="w")
    xr.Dataset({"w": pattern, "other": pattern}).to_netcdf(tmp_path / "push.nc")
    calls = {
        "variance": (("--observable", "variance"), {"observable": "variance"}),
        "variance-exceedance-0.5": (
            ("--observable", "variance, exceedance:0.5"),
            {"observable": ["variance", gfdt.Exceedance(0.5)]},
        ),
        "push": (("--pattern", f"{tmp_path / 'push.nc'}:w"), {"perturbation": pattern}),
        "noise": (("--noise-amplitude", 1.0), {"perturbation": gfdt.NoiseAmplitude(1.0)}),
    }
    for name, (options, expected) in calls.items():
        target = trajectory.with_name(f"linear-response-gaussian-{name}.nc")
        assert run("respond", trajectory, "gaussian", "--max-lag", 3, *options)[:2] == (0, f"{target}\n")
        R = gfdt.response(trajectory, score, max_lag=3.0, **expected)
        with xr.open_dataset(target) as got:
            assert got["response"].dims == R["response"].dims
            np.testing.assert_array_equal(got["response"], R["response"])
            np.testing.assert_array_equal(got["stderr"], R["stderr"])
            assert got.attrs["observable"] == R.attrs["observable"]


def test_several_scores_are_averaged_and_their_spread_is_kept(run, tmp_path, trajectory):
    other = tmp_path / "other.safetensors"
    gfdt.GaussianScore(shrinkage=0.3).fit(trajectory).save(other)
    target = tmp_path / "two.nc"
    code, _, err = run(
        "respond", trajectory, f"gaussian,{other}", "--max-lag", 2, "--correction", "none", "--out", target
    )
    assert code == 0
    assert "spread of 2 scores added" in err
    one, two = (
        gfdt.response(trajectory, score, max_lag=2.0, correction="none")["response"]
        for score in (gfdt.GaussianScore().fit(trajectory), gfdt.load_score(other))
    )
    with xr.open_dataset(target) as got:
        np.testing.assert_allclose(got["response"], (one + two) / 2, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(got["score_spread"], np.abs(one - two) / np.sqrt(2), rtol=1e-9, atol=1e-14)
    code, out, _ = run("respond", trajectory, f"gaussian,{other}", "--max-lag", 2, "--dry-run")
    assert (code, out) == (0, "")


def test_several_variables_and_gaps_from_the_shell(run, tmp_path, trajectory):
    """Two variables of a file are one state, and samples left out are no reason to refuse a record."""
    with xr.open_dataset(trajectory, decode_times=False) as whole:
        x = whole["x"].load()
    parts = xr.Dataset({name: x.isel(component=index, drop=True) for index, name in enumerate("uv")})
    times = np.r_[:60, 75:200]
    parts.isel(time=times).to_netcdf(tmp_path / "parts.nc")
    learned, target = tmp_path / "kernel.safetensors", tmp_path / "R.nc"
    options = ("--var", "u,v", "--out")
    assert run("train", tmp_path / "parts.nc", "--score", "gaussian", *options, learned)[0] == 0
    assert run("respond", tmp_path / "parts.nc", learned, "--max-lag", 3, *options, target)[0] == 0
    expected = gfdt.response(x.isel(time=times), gfdt.GaussianScore().fit(x.isel(time=times)), max_lag=3.0)
    with xr.open_dataset(target) as got:
        assert got["response"].dims == ("lag", "variable", "variable_src")
        assert got["variable"].values.tolist() == ["u", "v"]
        np.testing.assert_allclose(got["response"], expected["response"], rtol=1e-12, atol=1e-14)


def test_a_predicted_step_is_the_integrated_response(run, tmp_path, matrix):
    """gfdt predict step:A and A times gfdt step: two ways through one integral, errors and all."""
    code, out, err = run("step", matrix)
    step = matrix.with_name("R-step.nc")
    assert (code, out) == (0, f"{step}\n")
    assert "quadrature rules differ" in err
    code, out, err = run("predict", matrix, "step:0.03", "--at", "component_src=1")
    prediction = matrix.with_name("R-prediction-step.nc")
    assert (code, out) == (0, f"{prediction}\n")
    assert "linear range: inside" in err
    with xr.open_dataset(step) as S, xr.open_dataset(prediction) as got:
        wanted = 0.03 * S.sel(component_src=1)
        np.testing.assert_allclose(got["prediction"], wanted["response"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got["stderr"], wanted["stderr"], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(got["time"], S["lag"])
    for file, word in ((prediction, "prediction"), (step, "response")):
        code, out, _ = run("info", file)
        assert code == 0
        assert f"{file}: {word}" in out
    assert run("plot", prediction, "--out", tmp_path / "p.png")[:2] == (0, f"{tmp_path / 'p.png'}\n")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_forcings_in_a_word_and_from_a_file(run, tmp_path, relaxation):
    """Step, ramp and sine against the integrals of exp(-t); a pulse from a file is followed by its decay."""
    t = np.linspace(0.0, 10.0, 41)
    omega = 2 * np.pi / 4.0
    exact = {
        "step:0.5": 0.5 * (1 - np.exp(-t)),
        "ramp:0.5": 0.05 * (t - 1 + np.exp(-t)),
        "sine:0.5:4": 0.5 * (np.sin(omega * t) - omega * np.cos(omega * t) + omega * np.exp(-t)) / (1 + omega**2),
    }
    target = tmp_path / "p.nc"
    for word, change in exact.items():
        arguments = ("predict", relaxation, word, "--duration", 10, "--dt", 0.25, "--out", target, "--overwrite")
        assert run(*arguments)[0] == 0
        with xr.open_dataset(target, decode_timedelta=False) as got:
            np.testing.assert_allclose(got["time"], t)
            # The spline through exp(-t) at spacing 0.05 errs by about 1e-8 of the amplitude.
            np.testing.assert_allclose(got["prediction"], change, atol=2e-7)
            assert got.attrs["linear_range"] == "undetermined"
    pulse = xr.DataArray([0.3, 0.3], dims="time", coords={"time": ("time", [0.0, 1.0], {"units": "days"})})
    pulse.to_dataset(name="f").to_netcdf(tmp_path / "pulse.nc")
    code, out, _ = run("predict", relaxation, tmp_path / "pulse.nc", "--duration", 5, "--dt", 1)
    assert code == 0
    with xr.open_dataset(out.strip(), decode_timedelta=False) as got:
        decay = 0.3 * (np.e - 1) * np.exp(-np.arange(1.0, 6.0))
        np.testing.assert_allclose(got["prediction"][1:], decay, atol=2e-7)
    truth = tmp_path / "truth.nc"
    xr.Dataset({"response": ("time", exact["step:0.5"]), "time": t}).to_netcdf(truth)
    assert run("plot", target, truth, "--out", tmp_path / "p.svg")[0] == 0


def test_a_field_is_forced_at_a_cell_or_by_a_pattern(run, tmp_path):
    """R = exp(-t) at displacement 0: a cell answers its own forcing alone, and a pattern is answered by itself."""
    lag = np.linspace(0.0, 10.0, 101)
    values = np.zeros((101, 4, 6))
    values[:, 2, 3] = np.exp(-lag)
    response, target = tmp_path / "field.nc", tmp_path / "p.nc"
    coords = {"lag": lag, "dy": np.arange(4) - 2, "dx": np.arange(6) - 3}
    attrs = {"observable_dims": "", "perturbation_dims": "", "displacement_dims": "dy dx"}
    xr.Dataset({"response": (("lag", "dy", "dx"), values)}, coords=coords, attrs=attrs).to_netcdf(response)
    pattern = np.random.default_rng(0).standard_normal((6, 4))
    xr.Dataset({"w": (("x", "y"), pattern)}).to_netcdf(tmp_path / "w.nc")
    cell = np.zeros((4, 6))
    cell[1, 5] = 1.0
    for options, w in ((("--at", "y=1,x=5"), cell), (("--pattern", tmp_path / "w.nc"), pattern.T)):
        assert run("predict", response, "step:2", *options, "--out", target, "--overwrite")[0] == 0
        with xr.open_dataset(target) as got:
            expected = 2 * (1 - np.exp(-lag))[:, None, None] * w
            np.testing.assert_allclose(got["prediction"].transpose("time", "y", "x"), expected, atol=2e-6)


def test_susceptibility_of_a_relaxation(run, tmp_path, relaxation):
    """chi(omega) = 1/(1 - i omega), at frequencies of one's own and at those of the lags."""
    code, out, err = run("susceptibility", relaxation, "--frequencies", "0,1,3")
    assert (code, out) == (0, f"{tmp_path / 'relaxation-susceptibility.nc'}\n")
    assert "Kramers-Kronig" in err
    with xr.open_dataset(out.strip()) as got:
        chi = 1 / (1 - 1j * np.array([0.0, 1.0, 3.0]))
        np.testing.assert_allclose(got["real"] + 1j * got["imag"], chi, atol=1e-6)
    assert "relaxation-susceptibility.nc: susceptibility" in run("info", out.strip())[1]
    assert run("plot", out.strip(), "--out", tmp_path / "chi.pdf")[0] == 0
    config = tmp_path / "chi.toml"
    config.write_text('taper = 0.5\nfrequencies = ["0", "1"]\n')
    assert run("susceptibility", relaxation, "--config", config, "--out", tmp_path / "tapered.nc")[0] == 0
    with xr.open_dataset(tmp_path / "tapered.nc") as got:
        assert (got.attrs["taper"], got.sizes["frequency"]) == (0.5, 2)


def test_dry_runs_check_everything_and_write_nothing(run, tmp_path, matrix):
    before = set(matrix.parent.iterdir())
    for arguments in (
        ("step", matrix, "--out", tmp_path / "s.nc"),
        ("susceptibility", matrix, "--out", tmp_path / "chi.nc"),
        ("predict", matrix, "ramp:0.1", "--at", "component_src=0", "--out", tmp_path / "p.nc"),
    ):
        code, out, err = run(*arguments, "--dry-run")
        assert (code, out) == (0, "")
        assert "would" in err
    assert not list(tmp_path.iterdir())
    assert set(matrix.parent.iterdir()) == before


def bad_calls(tmp_path, trajectory, matrix, relaxation):
    w = xr.Dataset({"w": ("component", [1.0, 2.0]), "v": ("component", [1.0, 2.0])})
    w.to_netcdf(tmp_path / "two.nc")
    w[["w"]].isel(component=[0]).to_netcdf(tmp_path / "short.nc")
    hours = {"time": ("time", [0.0, 1.0], {"units": "hours since 2000-01-01"})}
    xr.Dataset({"f": ("time", [1.0, 1.0])}, coords=hours).to_netcdf(tmp_path / "hours.nc")
    chi = xr.Dataset({"real": ("frequency", [1.0, 0.0]), "imag": ("frequency", [0.0, 1.0])})
    chi.assign_coords(frequency=[0.0, 1.0]).to_netcdf(tmp_path / "chi.nc")
    out = ("--out", tmp_path / "result.nc")
    respond = ("respond", trajectory, "gaussian", "--max-lag", 3, *out)
    yield (*respond, "--observable", "entropy"), "--observable entropy is not known"
    yield (*respond, "--observable", "exceedance:high"), "has no threshold"
    yield (*respond, "--observable", ","), "is not known"
    yield (*respond, "--observable", "mean,covariance"), "ask for them one at a time"
    yield (*respond, "--observable", "spectrum"), "--homogeneous y,x"
    yield (*respond, "--pattern", tmp_path / "two.nc"), "holds 2 variables (w, v): name one"
    yield (*respond, "--pattern", f"{tmp_path / 'two.nc'}:u"), "no variable 'u': choose among w, v"
    yield (*respond, "--pattern", tmp_path / "short.nc"), "perturbation"
    yield (*respond, "--pattern", tmp_path / "none.nc"), "no file"
    yield (*respond, "--pattern", tmp_path / "two.nc", "--noise-amplitude", 1), "one at a time"
    yield (*respond, "--noise-amplitude", 0), "zero"
    yield (*respond, "--var", "x,y"), "--var x,y does not name distinct variables"
    yield ("respond", trajectory, "gaussian,gaussian", "--max-lag", 3, *out), "not distinct"
    yield ("respond", trajectory, "gaussian,none.st", "--max-lag", 3, *out), "no score file"
    yield ("predict", relaxation, "none.nc", *out), "neither a file nor"
    yield ("predict", relaxation, "sine:1", *out), "sine:A:PERIOD"
    yield ("predict", relaxation, "sine:1:0", *out), "PERIOD above 0"
    yield ("predict", relaxation, "step:0.1", "--dt", -1, *out), "--dt -1.0 is not a number"
    yield ("predict", relaxation, "step:0.1", "--dt", 1e-9, *out), "are possible"
    yield ("predict", relaxation, "step:0.1", "--at", "component_src=0", *out), "no direction to choose"
    yield ("predict", relaxation, tmp_path / "hours.nc", *out), "in hours, the lags of the response in days"
    yield ("predict", relaxation, tmp_path / "two.nc", *out), "name one"
    yield ("predict", matrix, "step:0.1", *out), "--at component_src=0"
    yield (
        ("predict", matrix, "step:0.1", "--at", "component_src=7", *out),
        "=7 is not there: choose among 0, 1",
    )
    yield ("predict", matrix, "step:0.1", "--at", "first", *out), "--at first is not of the form"
    yield (
        ("predict", matrix, "step:0.1", "--pattern", tmp_path / "short.nc", *out),
        "needs component_src (2)",
    )
    yield ("predict", matrix, tmp_path / "hours.nc", *out), "perturbed directions"
    yield ("predict", matrix, tmp_path / "hours.nc", "--at", "component_src=0", *out), "belong to step, ramp and sine"
    yield ("predict", matrix, "step:0.1", "--at", "component_src=0", "--out", matrix, "--overwrite"), "is the input"
    yield ("predict", trajectory, "step:0.1", *out), "holds no response"
    yield ("step", trajectory, *out), "holds no response"
    yield ("step", matrix, "--out", tmp_path / "two.nc"), "exists already"
    yield ("susceptibility", matrix, "--taper", 2, *out), "--taper 2.0 is not a number"
    yield ("susceptibility", matrix, "--frequencies", "low", *out), "not a list of numbers"
    yield ("susceptibility", tmp_path / "none.nc", *out), "no file"
    yield ("plot", tmp_path / "chi.nc", tmp_path / "chi.nc", "--out", tmp_path / "x.png"), "draw one at a time"
    yield ("plot", tmp_path / "chi.nc", "--against", "lag_", "--out", tmp_path / "x.png"), "leave --against out"
    yield ("plot", tmp_path / "chi.nc", "--at", "dx=1", "--out", tmp_path / "x.png"), "no dim 'dx'"


def test_every_mistake_gets_one_sentence_and_exit_code_2(run, tmp_path, trajectory, matrix, relaxation):
    for arguments, message in bad_calls(tmp_path, trajectory, matrix, relaxation):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        code, out, err = run(*arguments)
        assert code == 2, (arguments, err)
        assert out == "", arguments
        assert message in err, (arguments, err)
        assert "Traceback" not in err, arguments
        assert "unexpected" not in err, (arguments, err)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, arguments


def test_a_step_response_is_not_integrated_twice(run, tmp_path, matrix):
    once = tmp_path / "once.nc"
    assert run("step", matrix, "--out", once)[0] == 0
    code, _, err = run("step", once)
    assert code == 2
    assert "is a step response" in err


def test_messages_name_the_options_of_the_command():
    options = {"var": "--var", "max_lag": "--max-lag", "at": "--at", "homogeneous": "--homogeneous"}
    for python, shell in {
        "choose var= among x, y.": "choose --var among x, y.",
        "name one with var=, or several, var=['u', 'v'].": "name one with --var, or several, --var u,v.",
        "max_lag=-1.0 is negative: leave max_lag out.": "--max-lag -1.0 is negative: leave --max-lag out.",
        "choose with at=, e.g. at={'component': 0}.": "choose with --at, e.g. --at component=0.",
        "pass homogeneous=('y', 'x') too.": "pass --homogeneous y,x too.",
        "--at dy=0,dx=1 and a file of what=1": "--at dy=0,dx=1 and a file of what=1",
    }.items():
        assert in_words_of_the_shell(python, options) == shell


@pytest.mark.parametrize("names", ["u,v", "u"])
def test_variables_of_a_record_with_a_gap_are_drawn(run, tmp_path, names):
    values = np.random.default_rng(0).standard_normal((9, 4, 5))
    values[3] = np.nan
    record = xr.Dataset({name: (("time", "y", "x"), scale * values) for name, scale in (("u", 1.0), ("v", 10.0))})
    record.assign_coords(time=np.arange(9.0)).to_netcdf(tmp_path / "record.nc")
    target = tmp_path / f"{len(names)}.png"
    assert run("plot", tmp_path / "record.nc", "--var", names, "--times", "0,3", "--out", target)[0] == 0
    assert target.stat().st_size > 0
