"""``gfdt certify``: the report on stdout, as a page and as a picture, and the certificate in the score file."""

import numpy as np
import pytest
import xarray as xr

import gfdt
import simulators


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two records of a linear system, one of two wells, and a Gaussian score of the first."""
    folder = tmp_path_factory.mktemp("certify")
    system = simulators.LinearSDE([[-1.0, 0.5], [0.0, -0.5]], np.eye(2))
    for seed, name in enumerate(("train.nc", "test.nc")):
        system.simulate(n_members=24, duration=400.0, save_every=1.0, seed=seed, out=folder / name).close()
    gfdt.GaussianScore().fit(folder / "train.nc").save(folder / "score.safetensors")
    wells = simulators.Potential2D()
    wells.simulate(n_members=24, duration=200.0, save_every=1.0, seed=0, progress=False).to_netcdf(folder / "wells.nc")
    gfdt.GaussianScore().fit(folder / "wells.nc").save(folder / "wells.safetensors")
    return folder


def test_a_good_score_gives_page_picture_and_certificate(run, files, tmp_path):
    page, picture, stamped = tmp_path / "c.html", tmp_path / "c.png", tmp_path / "s.safetensors"
    code, out, err = run(
        "certify", files / "test.nc", files / "score.safetensors", "--samples", 500, "--html", page,
        "--plot", picture, "--out", stamped,
    )  # fmt: skip
    assert (code, out.split()[:2]) == (0, ["certificate:", "green"]), out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(stamped) in err
    assert gfdt.load_score(stamped).certificate_.verdict == "green"
    target = tmp_path / "r.nc"
    assert run("respond", files / "test.nc", stamped, "--max-lag", 5, "--out", target)[0] == 0
    with xr.open_dataset(target) as response:
        assert response.attrs["certificate_verdict"] == "green"


def test_a_bad_score_has_exit_code_1_and_says_why(run, files):
    code, out, _ = run("certify", files / "wells.nc", files / "score.safetensors", "--samples", 300)
    assert code == 1
    assert "likely cause" in out


def test_outputs_are_refused_before_any_work(run, files, tmp_path):
    data, score = files / "test.nc", files / "score.safetensors"
    code, _, err = run("certify", data, score, "--plot", tmp_path / "c.gif")
    assert (code, "no known picture format" in err) == (2, True)
    (tmp_path / "c.html").write_text("kept")
    code, _, err = run("certify", data, score, "--html", tmp_path / "c.html")
    assert (code, "exists already" in err) == (2, True)
    code, _, err = run("certify", data, score, "--out", score, "--overwrite")
    assert (code, "is the input" in err) == (2, True)
    code, _, err = run("certify", data, score, "--samples", 3)
    assert (code, "--samples" in err) == (2, True)
