"""The notebooks run from top to bottom in their quick setting, and say what is true."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Execute a notebook in its quick setting and an empty directory; return its names."""
    monkeypatch.setenv("GFDT_QUICK", "1")
    monkeypatch.chdir(tmp_path)

    def call(name):
        (path,) = (item for item in NOTEBOOKS if item.stem == name)
        names = {}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
        assert plt.get_fignums(), "a notebook without a figure"
        plt.close("all")
        return names

    yield call
    plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_py_percent_text(path):
    text = path.read_text(encoding="utf-8")
    header = re.match(r"# ---\n((?:#.*\n)+?)# ---\n", text)
    assert header, "no jupytext header"
    assert "#       format_name: percent\n" in header[1]
    assert "#     name: python3\n" in header[1]
    body = text[header.end() :]
    marks = list(re.finditer(r"^# %%.*$", body, flags=re.MULTILINE))
    assert {mark[0] for mark in marks} == {"# %%", "# %% [markdown]"}
    assert not body[: marks[0].start()].strip(), "code before the first cell"
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        cell = body[mark.end() : following.start() if following else None]
        if mark[0].endswith("[markdown]"):
            assert all(line.startswith("# ") or line == "#" for line in cell.strip().splitlines())
        else:
            compile(cell, path.name, "exec")
    code = [body[mark.end() :] for mark in marks if mark[0] == "# %%"]
    assert re.search(r'^QUICK = os\.environ\.get\("GFDT_QUICK"\) == "1"$', code[0].split("# %%")[0], re.MULTILINE)


def test_numbers_and_cross_references():
    stems = [path.stem for path in NOTEBOOKS]
    assert len({stem[:2] for stem in stems}) == len(stems), "two notebooks of one number"
    for path in NOTEBOOKS:
        for name in re.findall(r"`(\d\d_\w+)\.py`", path.read_text(encoding="utf-8")):
            assert name in stems, f"{path.name} refers to {name}.py"


def test_response_theory(run, capsys):
    names = run("01_response_theory")
    relative = names["comparison"]["relative"]
    assert float(relative.sel(estimator="generative")) < 0.15  # exact 0; the Gaussian misses by 0.45
    assert float(relative.sel(estimator="gaussian")) > 0.3
    printed = capsys.readouterr().out
    assert "score check: red (gaussian" in printed
    assert names["certificates"]["gaussian"].verdict == "red"
    assert names["certificates"]["generative"].verdict != "red"
    assert names["R"].attrs["certificate_verdict"] == names["certificates"]["generative"].verdict
    # Thirteen lags of one set of twins, which go together.
    twins = names["twins"]
    departure = (twins["response"] - names["exact"].sel(lag=twins["lag"], method="nearest")).squeeze()
    assert float(abs(departure / twins["stderr"].squeeze()).isel(lag=slice(1, None)).max()) < 4
    # 16 groups: the standard error of their mean coverage, and 3 % that the bands of few members may lack.
    inside = names["inside"]
    assert inside.mean() > 0.95 - 0.03 - 4 * inside.std(ddof=1) / np.sqrt(inside.size)


def test_ou_field(run, capsys):
    names = run("02_ou_field")
    comparison, score_error = names["comparison"], names["score_error"]
    # A covariance from n independent states errs by about n^(-1/2) in every mode; the longest-lived one, 164 time
    # units, leaves 24 * 500 / (2 * 164) = 37 of them, the rest many more.
    assert score_error["gaussian"] < 37**-0.5
    assert score_error["analytical"] < 1e-12
    assert score_error["generative"] == pytest.approx(score_error["gaussian"], rel=0.05)
    assert float(comparison["rms_overall"].sel(estimator="twins")) < 1e-12  # linear: the noise drops out
    rms = comparison["rms_overall"]
    for name in ("gaussian", "generative"):
        assert float(rms.sel(estimator=name)) < 1.3 * float(rms.sel(estimator="analytical"))
        # 17,000 cells, but only as many independent ones as there are waves, about 500: 1 % is one standard error.
        assert abs(float(comparison["coverage"].sel(estimator=name)) - 0.95) < 0.04
    # Covariance at 32 displacements, from the spread of 24 members (t distribution).
    z = (names["centre"] - names["covariance"].sel(dy=0).values) / names["error"]
    assert np.abs(z).max() < 4.5
    # Neighbouring frequencies share their errors: the rms over a line is 1 on average.
    for departure in names["departures"]:
        assert np.sqrt(np.mean(departure**2)) < 3
    assert "has not decayed at its longest lag 100" in capsys.readouterr().out


def test_allen_cahn(run, capsys):
    names = run("03_allen_cahn")
    # 100 steps of training; the exact score is 0, the Gaussian misses by 0.59.
    assert names["errors"]["generative"] < 0.7 * names["errors"]["gaussian"]
    assert names["errors"]["polished"] < 1.02 * names["errors"]["generative"]
    relative = names["relative"]
    assert relative["gaussian"] > 2 * relative["analytical"]
    assert relative["generative"] < 0.7 * relative["gaussian"]
    # The mean of the field: a kick decays within a time unit, which no Gaussian knows.
    total, twins = names["total"], names["twins"]
    error = np.sqrt((twins["stderr"] ** 2).sum(("dy", "dx")).sel(lag=3.0))
    assert abs(float(total["dynamical"].sel(lag=3.0))) < 4 * max(float(error), 0.05)
    assert float(total["gaussian"].sel(lag=3.0)) > 0.9
    assert "kurtosis" in capsys.readouterr().out


def test_navier_stokes(run):
    names = run("04_navier_stokes")
    twins, rms = names["twins"], names["rms"]
    assert names["kurtosis"] > 3.2
    # The mean flow c = pi carries a kick by half the box in one time unit.
    for lag, cells in ((0.25, 4), (0.5, 8)):
        line = twins["response"].sel(lag=lag, dy=0)
        assert int(line["dx"].values[line.values.argmax()]) == cells
    peak = twins.sel(lag=0.75, dy=0, dx=12)
    assert float(names["R"]["gaussian"]["response"].sel(lag=0.75, dy=0, dx=12)) > float(peak["response"]) + 4 * float(
        peak["stderr"]
    )
    # Knowing the forcing changes the Gaussian error by a few per cent, where the error is half of the response.
    ratio = rms.sel(estimator="gaussian + forcing") / rms.sel(estimator="gaussian")
    assert abs(float(ratio.sel(lag=0.5)) - 1) < 0.1


def test_your_own_data(run, capsys, tmp_path):
    names = run("05_your_own_data")
    said = names["messages"]
    for words in (
        "no variable has a 'time' dim",
        "there are 2 time series",
        "holds 11 NaN",
        "standard deviations go from",
    ):
        assert any(words in message for message in said), words
    assert len(said) == 4
    assert names["drift"].verdict == "amber"  # the worst that a drift alone is called
    assert abs(names["trend"] - names["WARMING"]) < 4 * names["trend_error"]
    assert abs(names["cycle"] + 9.0) < 4 * names["cycle_error"]
    assert names["checks"]["gaussian"].verdict == "red"
    assert names["certificate"].verdict != "red"
    assert (tmp_path / "certificate.html").stat().st_size > 10_000
    assert (
        names["R"].attrs["certificate_verdict"] == names["certificate"].verdict == names["again"].certificate_.verdict
    )
    np.testing.assert_array_equal(names["R"]["response"], names["responses"]["generative"]["response"])
    states = names["judging"].isel(member=0, time=slice(0, 3)).values
    np.testing.assert_allclose(names["again"](states), names["learned"](states), rtol=1e-6)
    # Response in standard errors: the rms over 40 lags of one entry is 1 on average; they go together.
    R, exact = names["responses"]["generative"], names["exact"]
    z = ((R["response"] - exact) / R["stderr"]).isel(lag=slice(1, None))
    assert float(np.sqrt((z**2).mean())) < 2
    for entry, table in names["errors"].items():
        if entry != ("T", "p"):  # which the Gaussian has right by chance
            assert float(table["relative"][1]) < 0.25, entry
    assert float(names["errors"]["T", "T"]["relative"][0]) > 0.5
    assert "verdict in the files" in capsys.readouterr().out


def test_moments_and_prediction(run, capsys):
    names = run("06_moments_and_prediction")
    for (kind, moment), z in names["departures"].items():
        # 80 lags that go together, so rms z is 1 on average and spreads; what 300 steps of training miss is in it.
        assert float(np.sqrt((z**2).mean())) < 3, (kind, moment)
    for name, forecast in names["forecasts"].items():
        truth = names["forced"][name]["response"]
        error = np.hypot(forecast["stderr"], names["forced"][name]["stderr"])
        # A shift of 0.07 standard deviations, where the first order errs by 3.5 % (gfdt/forcing/linear_range.py).
        allowed = 4 * error + 0.05 * float(abs(truth).max())
        assert (abs(forecast["prediction"] - truth) < allowed).all(), name
        assert forecast.attrs["linear_range"] == "inside"
    pdf = names["forecast_pdf"]
    gap = np.abs(pdf["prediction"].values - names["exact_change"])
    assert (gap < 4 * pdf["stderr"].values + 0.1 * np.abs(names["exact_change"]).max()).all()
    for moment, value in names["truths"].items():
        item = names["louder"].sel(observable=moment)
        assert abs(float(item.prediction) - value) < 4 * float(item.stderr), moment
    assert names["too_far"].attrs["linear_range"] == "outside"
    printed = capsys.readouterr().out
    assert "natural standard deviations" in printed
    assert "Gaussian score: the response of the" in printed


def test_which_forcing(run):
    names = run("07_which_forcing")
    assert names["overlap"] > 0.98
    np.testing.assert_array_equal(names["links"]["link"].values, np.tri(4, k=-1, dtype=bool))
    best, gains = names["best"], names["gains"]
    assert abs(best.attrs["gain"] - gains[0]) < 4 * best.attrs["gain_stderr"]
    plan = names["plan"]
    assert (np.abs(plan["achieved"].values - names["reached"]) < 4 * plan["achieved_stderr"].values).all()
    assert plan.attrs["misfit"] < 0.5
    push = names["push"]
    for found in (names["full"], names["part"], names["course"]):
        assert (np.abs(found["forcing"] - push) < 4 * found["stderr"]).all()
    assert (names["full"]["resolution"].values > 0.9).all()
    assert (names["part"]["resolution"].values[:3] < 0.6).all()
    assert names["part"]["resolution"].values[3] > 0.9
    assert (names["course"]["resolution"].values > 0.8).all()
    assert names["course"].attrs["p_value"] > 1e-3
    assert names["wrong"].attrs["p_value"] < 1e-6


def test_density(run, capsys):
    names = run("08_density")
    assert names["certificate"].verdict != "red"
    assert names["gaussian_certificate"].verdict == "red"
    assert names["R"].attrs["certificate_verdict"] == names["certificate"].verdict
    exact, likelihood = names["exact"].mean(), names["likelihood"]
    # What the blur of sigma takes and what 500 steps do not learn; the Gaussian misses 0.37 nats.
    assert abs(float(likelihood["learned"].mean()) - exact) < 0.05
    assert float(likelihood["Gaussian"].mean()) < exact - 0.3
    # A lower bound, up to its own sampling error.
    for name, bound in names["bounds"].items():
        gap = bound - likelihood[name]
        assert float(gap.mean()) < 4 * float(gap.std()) / np.sqrt(gap.size) + 0.01
    # The share of the right-hand well in the conditional density: 2000 samples know it to 0.011 (one standard error).
    grid, conditional = names["grid"], names["conditional"]
    share = conditional[grid > 0].sum() / conditional.sum()
    assert abs((names["filled"]["learned"] > 0).mean() - share) < 0.05
    assert "share of samples" in capsys.readouterr().out
