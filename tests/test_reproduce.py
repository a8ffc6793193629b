"""``gfdt reproduce``: stages that are not done twice, errors with bands, and everything written."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import gfdt
import simulators
from gfdt.errors import InputError, OutputError
from gfdt.experiments.errors import tabulate
from gfdt.experiments.recipes import PRESETS, SYSTEMS, Recipe, find_recipe
from gfdt.experiments.reproduce import reproduce
from gfdt.experiments.stages import LEDGER, Stage, run_stages

# ---- stages


def chain(done, text="a"):
    """Two stages, the second of which copies the first; ``done`` lists what was run."""

    def first(directory):
        done.append("first")
        (directory / "a.txt").write_text(text)

    def second(directory):
        done.append("second")
        (directory / "b.txt").write_text((directory / "a.txt").read_text().upper())

    one = Stage("first", ("a.txt",), first, settings={"text": text, "seed": 0})
    return [one, Stage("second", ("b.txt",), second, (one,))]


def quiet(line):
    pass


def test_a_stage_whose_inputs_have_not_changed_is_not_run_again(tmp_path):
    done = []
    run_stages(chain(done), tmp_path, log=quiet)
    seconds = run_stages(chain(done), tmp_path, log=quiet)
    assert done == ["first", "second"]
    assert set(seconds) == {"first", "second"}
    assert (tmp_path / "b.txt").read_text() == "A"


def test_a_lost_or_altered_file_is_made_again_and_what_follows_only_if_it_differs(tmp_path):
    done = []
    run_stages(chain(done), tmp_path, log=quiet)
    (tmp_path / "b.txt").unlink()
    run_stages(chain(done), tmp_path, log=quiet)
    assert done == ["first", "second", "second"]
    (tmp_path / "a.txt").write_text("altered")
    run_stages(chain(done), tmp_path, log=quiet)
    assert done[3:] == ["first"]  # the same text again, so the second stage has nothing new


def test_other_settings_are_refused_until_they_are_to_replace(tmp_path):
    done = []
    run_stages(chain(done), tmp_path, log=quiet)
    with pytest.raises(OutputError, match=r"first.*text = 'a', now 'b'.*--overwrite"):
        run_stages(chain(done, "b"), tmp_path, log=quiet)
    run_stages(chain(done, "b"), tmp_path, overwrite=True, log=quiet)
    assert (tmp_path / "b.txt").read_text() == "B"


def test_an_interrupted_stage_is_run_again_and_those_before_it_are_not(tmp_path):
    done = []
    stages = chain(done)

    def stop(directory):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stages([stages[0], replace(stages[1], run=stop)], tmp_path, log=quiet)
    run_stages(stages, tmp_path, log=quiet)
    assert done == ["first", "second"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path):
    done, lines = [], []
    run_stages(chain(done), tmp_path, dry_run=True, log=lines.append)
    assert lines == ["first: would write a.txt", "second: would write b.txt"]
    assert not list(tmp_path.iterdir())
    run_stages(chain(done), tmp_path, log=quiet)
    (tmp_path / "a.txt").unlink()
    lines.clear()
    run_stages(chain(done), tmp_path, dry_run=True, log=lines.append)
    assert lines == ["first: would write a.txt", "second: would write b.txt"]


def test_two_runs_do_not_share_a_directory(tmp_path):
    stages = chain([])

    def nested(directory):
        with pytest.raises(OutputError, match="another run is working"):
            run_stages(chain([]), tmp_path, log=quiet)
        (directory / "a.txt").write_text("a")

    run_stages([replace(stages[0], run=nested)], tmp_path, log=quiet)
    assert (tmp_path / "a.txt").exists()


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"stages": {"first": {"key": 1}}}', "x" * (2**20 + 1)])
def test_a_ledger_from_elsewhere_is_refused(tmp_path, text):
    (tmp_path / LEDGER).write_text(text)
    with pytest.raises(InputError, match="not a ledger"):
        run_stages(chain([]), tmp_path, log=quiet)


# ---- errors


def fake(values, stderr, influence=None):
    """A response over (lag, dy, dx) with its band."""
    dims = ("lag", "dy", "dx")
    out = {"response": (dims, values), "stderr": (dims, stderr)}
    out |= {"lower": (dims, values - 1.96 * stderr), "upper": (dims, values + 1.96 * stderr)}
    if influence is not None:
        out["influence"] = (("unit", *dims), influence)
    coords = {"lag": np.arange(values.shape[0]) * 0.5, "dy": np.arange(4) - 2, "dx": np.arange(4) - 2}
    return xr.Dataset(out, coords=coords, attrs={"n_pairs": 10, "linear_range": "yes"})


def batches_and_estimate(rng, truth, bias, n_units=40):
    """Six batches of twins, and an estimate that is off by ``bias``, with their errors from independent units."""
    batches = [fake(truth + 0.02 * rng.standard_normal(truth.shape), np.full(truth.shape, 0.02)) for _ in range(6)]
    units = 0.3 * rng.standard_normal((n_units, *truth.shape))
    influence = (units - units.mean(axis=0)) / n_units
    stderr = np.sqrt((influence**2).sum(axis=0) * n_units / (n_units - 1))
    return batches, fake(truth + bias + units.mean(axis=0), stderr, influence)


def test_errors_and_their_bands_against_many_repetitions():
    """The rms error scatters as its own band says, and its mean square is bias and noise together."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((3, 4, 4))
    found, half, noise = [], [], []
    for _ in range(300):
        batches, estimate = batches_and_estimate(rng, truth, bias=0.2)
        _, errors = tabulate(batches, {"gaussian": estimate})
        row = errors.sel(estimator="gaussian", metric="rms")
        found.append(row["value"].values)
        half.append((row["upper"] - row["lower"]).values / (2 * 1.96))
        noise.append(row["noise"].values)
    found = np.array(found)
    # 300 repetitions know a standard deviation to 4 %, a mean square of noise to about as much.
    np.testing.assert_allclose(np.mean(half, axis=0), found.std(axis=0), rtol=0.16)
    np.testing.assert_allclose((found**2).mean(axis=0), 0.2**2 + np.mean(noise, axis=0) ** 2, rtol=0.03)


def test_the_row_of_the_twins_is_their_own_noise():
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((3, 4, 4))
    values = []
    for _ in range(100):
        batches, estimate = batches_and_estimate(rng, truth, 0.0)
        dynamical, errors = tabulate(batches, {"gaussian": estimate})
        values.append(errors["value"].sel(estimator="dynamical", metric="rms").values)
    # Six batches with 0.02 each: 0.0082 on average, known to 0.6 % from 100 records of 16 cells and 10 halves.
    np.testing.assert_allclose(np.mean(values, axis=0), 0.02 / np.sqrt(6), rtol=0.04)
    np.testing.assert_allclose(dynamical["stderr"], 0.02 / np.sqrt(6))
    assert dynamical.attrs["n_pairs"] == 60


# ---- the whole, small


def small(name="ou", **changes):
    recipe = Recipe(
        name=name,
        title="small field",
        system=simulators.OrnsteinUhlenbeck(n=8),
        training={"n_members": 24, "duration": 400.0, "save_every": 40.0},
        record={"n_members": 24, "duration": 200.0, "save_every": 5.0},
        twins={"n_members": 4, "perturbation": "pattern"},
        n_batches=3,
        max_lag=20.0,
        judged=(5.0, 20.0),
        pictured=(5.0, 10.0, 20.0),
        score={"max_steps": 3, "progress": False},
        certified=(24, 8),
        n_samples=64,
    )
    return replace(recipe, **changes)


def test_everything_is_written_and_a_second_run_does_nothing(tmp_path):
    lines = []
    out = tmp_path / "out"
    found = reproduce(recipes=[small()], out=out, seed=3, device="cpu", log=lines.append)
    names = {path.name for path in (out / "ou").iterdir()}
    kinds = ("exact", "dynamical", "analytical", "gaussian", "generative", "polished")
    assert {f"response-{kind}.nc" for kind in kinds} <= names
    assert {"training.nc", "record.nc", "errors.nc", "errors.csv", "ou.png", "polished-certificate.html"} <= names
    assert not [name for name in names if name.endswith(".part") or "checkpoint" in name]
    with (out / "ou" / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["system", "estimator", "metric", "lag", "value", "lower", "upper"]
    assert {row["estimator"] for row in rows} == set(kinds)
    assert len(rows) == len(kinds) * 2 * 5
    table = found.judged["ou"].table
    assert float(table["rms_ratio"].sel(estimator="gaussian")) == 1
    # Twins of a linear system are exact, and so is the formula; the estimates hold them in their bands.
    assert float(table["rms"].sel(estimator="exact")) < 1e-12
    assert float(table["coverage"].sel(estimator="gaussian")) > 0.85
    assert "| gaussian |" in found.table
    assert (out / "ou" / "report.md").read_text() == found.table
    for name in kinds:
        with xr.open_dataset(out / "ou" / f"response-{name}.nc") as saved:
            assert "response" in saved
            assert json.loads(saved.attrs["config_json"])["seed"] == 3
    score = gfdt.load_score(out / "ou" / "polished-certified.safetensors")
    assert score.certificate_ is not None
    made = [path for path in (out / "ou").iterdir() if path.name not in (".lock", "report.md")]
    times = {path: path.stat().st_mtime_ns for path in made}
    reproduce(recipes=[small()], out=out, seed=3, device="cpu", log=lines.append)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(OutputError, match="seed = 3, now 4"):
        reproduce(recipes=[small()], out=out, seed=4, device="cpu", log=lines.append)


def test_several_systems_share_a_table_and_a_figure_and_a_hidden_variable_is_tried(tmp_path):
    waves = small(
        "navier-stokes",
        system=simulators.NavierStokes(n=16, save_forcing=True, dealias=True),
        training={"n_members": 24, "duration": 8.0, "save_every": 0.5, "spinup": 5.0},
        record={"n_members": 24, "duration": 8.0, "save_every": 0.5, "spinup": 5.0},
        twins={"n_members": 4, "perturbation": "pattern", "amplitude": 0.05, "spinup": 5.0},
        max_lag=1.0,
        judged=(0.5, 1.0),
        pictured=(0.0, 0.5, 1.0),
        hidden="forcing",
    )
    found = reproduce(recipes=[small(), waves], out=tmp_path, hidden=True, device="cpu", log=quiet)
    assert set(found.figures) == {"ou", "navier-stokes", "all"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found.figures.values())
    with (tmp_path / "errors.csv").open() as file:
        systems = {row["system"] for row in csv.DictReader(file)}
    assert systems == {"ou", "navier-stokes"}
    estimators = set(found.judged["navier-stokes"].table["estimator"].values)
    assert (tmp_path / "report.md").read_text() == found.table
    assert {"gaussian", "gaussian+forcing", "generative+forcing", "polished+forcing"} <= estimators
    assert "analytical" not in estimators


def test_every_recipe_can_be_planned(tmp_path):
    """Settings fit the simulators and the networks; nothing is run."""
    for name in SYSTEMS:
        for preset in PRESETS:
            recipe = find_recipe(name, preset)
            assert recipe.name == name
            gfdt.DSMScore(homogeneous=("y", "x"), **recipe.score).validate(("y", "x"))
            step = recipe.record["save_every"]
            for lag in (recipe.max_lag, *recipe.judged, *recipe.pictured):
                assert lag / step == round(lag / step), (name, preset, lag)
            assert recipe.judged[1] <= recipe.max_lag
            assert recipe.certified[0] <= recipe.record["n_members"]
            json.dumps([dict(recipe.training), dict(recipe.record), dict(recipe.twins), dict(recipe.score)])
    lines = []
    assert reproduce("all", "quick", out=tmp_path / "none", dry_run=True, log=lines.append) is None
    assert not (tmp_path / "none").exists()
    assert "  train-generative: would write generative.safetensors" in lines


def test_names_are_checked(tmp_path):
    with pytest.raises(InputError, match="choose among ou, allen-cahn, navier-stokes, all"):
        reproduce("lorenz", out=tmp_path)
    with pytest.raises(InputError, match="preset"):
        reproduce("ou", "huge", out=tmp_path)


def test_what_an_interrupted_stage_left_is_kept_for_the_same_settings_only(tmp_path):
    seen = []

    def run(directory):
        left = directory / "a.part"
        seen.append(left.exists())
        left.write_text("half")
        if len(seen) < 3:
            raise KeyboardInterrupt
        left.rename(directory / "a.txt")

    def stage(text):
        return Stage("first", ("a.txt",), run, partial=("*.part",), settings={"text": text})

    for text, overwrite in (("a", False), ("a", False), ("b", True)):
        if text == "b":
            with pytest.raises(OutputError, match="'a', now 'b'"):
                run_stages([stage(text)], tmp_path, log=quiet)
        try:
            run_stages([stage(text)], tmp_path, overwrite=overwrite, log=quiet)
        except KeyboardInterrupt:
            assert len(seen) < 3
    assert seen == [False, True, False]


def test_many_batches_and_estimates_without_contributions():
    """C(64, 32) halves are not counted out; without contributions the band is wider than with them, never narrower."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((3, 4, 4))
    batches = [fake(truth + 0.16 * rng.standard_normal(truth.shape), np.full(truth.shape, 0.16)) for _ in range(64)]
    _, estimate = batches_and_estimate(rng, truth, bias=0.2)
    _, errors = tabulate(batches, {"gaussian": estimate, "without": estimate.drop_vars("influence")})
    twins = errors["value"].sel(estimator="dynamical", metric="rms")
    # 48 cells know an rms to 10 %, with three lags to 6 %.
    np.testing.assert_allclose(twins.mean(), 0.02, rtol=0.25)
    width = (errors["upper"] - errors["lower"]).sel(metric="rms")
    assert (width.sel(estimator="without") > width.sel(estimator="gaussian")).all()
