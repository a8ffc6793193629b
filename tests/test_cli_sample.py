"""``gfdt sample``: samples in a labelled file that says where they come from."""

import json

import numpy as np
import pytest
import xarray as xr

import gfdt


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """A Gaussian score of two correlated components far from zero."""
    x = np.random.default_rng(0).standard_normal((24, 400, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]]) + [5.0, -3.0]
    record = xr.DataArray(x, dims=("member", "time", "component"), coords={"component": ["a", "b"]})
    path = tmp_path_factory.mktemp("sample") / "score.safetensors"
    return gfdt.GaussianScore().fit(record).save(path)


def test_samples_are_labelled_and_have_the_moments_of_the_density(run, score):
    target = score.with_name("score-samples.nc")
    assert run("sample", score, "--n", 4000, "--seed", 3)[:2] == (0, f"{target}\n")
    with xr.open_dataset(target) as found:
        states = found["state"]
        assert states.dims == ("sample", "component")
        # Standard errors 4000^-1/2 = 0.016 of the mean over the standard deviation, which is 1 and 1.12.
        np.testing.assert_allclose(states.mean("sample"), [5.0, -3.0], atol=0.1)
        np.testing.assert_allclose(np.cov(states.values.T), [[1.0, 0.5], [0.5, 1.25]], atol=0.15)
        assert found.attrs["estimator"] == "gaussian"
        assert found.attrs["seed_entropy"] == "3"
        assert found.attrs["certificate_verdict"] == "none"
        assert json.loads(found.attrs["config_json"])["method"] == "heun"
        assert found.attrs["score_fingerprint"] == gfdt.load_score(score).fingerprint_


def test_the_first_samples_do_not_depend_on_how_many_there_are(run, score, tmp_path):
    for count, name in ((10, "few.nc"), (100, "many.nc")):
        assert run("sample", score, "--n", count, "--method", "ode", "--out", tmp_path / name)[0] == 0
    with xr.open_dataset(tmp_path / "few.nc") as few, xr.open_dataset(tmp_path / "many.nc") as many:
        np.testing.assert_allclose(few["state"], many["state"][:10], rtol=1e-12)


def test_dry_run_draws_nothing_and_existing_files_are_kept(run, score, tmp_path):
    target = tmp_path / "s.nc"
    code, out, err = run("sample", score, "--out", target, "--dry-run")
    assert (code, out, "would draw 1000" in err) == (0, "", True)
    assert not target.exists()
    target.write_text("kept")
    code, _, err = run("sample", score, "--out", target)
    assert (code, "--overwrite" in err) == (2, True)
    assert target.read_text() == "kept"


def test_arguments_that_contradict_each_other_are_refused(run, score, tmp_path):
    code, _, err = run("sample", score, "--lam", 2, "--out", tmp_path / "s.nc")
    assert (code, "--lam" in err) == (2, True)
    code, _, err = run("sample", score, "--method", "magic", "--out", tmp_path / "s.nc")
    assert (code, "magic" in err) == (2, True)
    assert not (tmp_path / "s.nc").exists()
