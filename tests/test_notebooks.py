"""The notebooks run top to bottom, in a small setting."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def run(name, **smaller):
    """Execute a notebook with some of its constants replaced; return its names."""
    code = (NOTEBOOKS / f"{name}.py").read_text()
    for constant, value in smaller.items():
        code, count = re.subn(rf"^{constant} = .*$", f"{constant} = {value}", code, flags=re.MULTILINE)
        assert count == 1, f"{name} has no constant {constant}"
    names = {}
    exec(compile(code, name, "exec"), names)
    plt.close("all")
    return names


def test_double_well(capsys):
    names = run("double_well", DURATION=200.0, STEPS=200)
    relative = names["comparison"]["relative"]
    assert float(relative.sel(estimator="generative")) < 0.15
    assert float(relative.sel(estimator="gaussian")) > 0.3
    assert "score check: red" in capsys.readouterr().out


def test_forcing(capsys):
    names = run("forcing", DURATION=300.0, FORCED_MEMBERS=2000)
    for name, z in names["errors"].items():
        # 120 times, far from independent: four standard errors are exceeded once in 130 records if they were.
        assert float(abs(z).max()) < 4, name
    forecast = names["forecast_pdf"]
    departure = forecast["prediction"] - (names["settled"](names["AMPLITUDE"]) - names["settled"](0.0))
    # That the push is finite and that the kernel blurs make up to 0.7 standard errors here.
    assert float(np.abs(departure / forecast["stderr"]).where(forecast["value"] ** 2 < 2).max()) < 4
    assert names["too_far"].attrs["linear_range"] == "outside"
    assert "natural standard deviations" in capsys.readouterr().out
    assert names["overlap"] > 0.98
    np.testing.assert_array_equal(names["links"]["link"].values, np.tri(4, k=-1, dtype=bool))
    full, part, push = names["full"], names["part"], names["push"]
    assert (np.abs(full["forcing"] - push) < 4 * full["stderr"]).all()
    assert (part["resolution"].values[:3] < 0.6).all()
    assert part["resolution"].values[3] > 0.9


def test_density(capsys):
    names = run("density", DURATION=200.0, STEPS=500, SAMPLES=2000)
    printed = capsys.readouterr().out
    assert names["certificate"].verdict != "red"
    assert "certificate: red (gaussian" in printed
    assert names["R"].attrs["certificate_verdict"] == names["certificate"].verdict
    exact, likelihood = names["exact"].mean(), names["likelihood"]
    # What the blur of sigma takes and what 500 steps do not learn; the Gaussian misses 0.37 nats.
    assert abs(float(likelihood["learned"].mean()) - exact) < 0.05
    assert float(likelihood["Gaussian"].mean()) < exact - 0.3
    # The share of the right-hand well in the conditional density: 2000 samples know it to 0.011 (one standard error).
    grid, conditional = names["grid"], names["conditional"]
    share = conditional[grid > 0].sum() / conditional.sum()
    assert abs((names["filled"]["learned"] > 0).mean() - share) < 0.05
