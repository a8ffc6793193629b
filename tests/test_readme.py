"""The README's Python examples run as they stand, the first on a file the package did not make."""

import re
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pytest
import xarray as xr

import gfdt

README = Path(__file__).parent.parent / "README.md"


def example(containing):
    codes = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (code,) = [code for code in codes if containing in code]
    return code


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """A directory with a record in it, as the current one."""
    rng = np.random.default_rng(0)
    x = np.zeros((2, 2000, 2))
    for t in range(1, 2000):
        x[:, t] = x[:, t - 1] @ np.array([[0.9, 0.0], [0.1, 0.8]]).T + rng.standard_normal((2, 2))
    file = xr.Dataset({"anything": (("member", "time", "component"), x), "time": 0.1 * np.arange(2000)})
    file.to_netcdf(tmp_path / "my_run.nc")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_of_a_response_from_data_runs(somewhere, capsys):
    code = example("max_minutes=1")
    exec(compile(code.replace("max_minutes=1", "max_steps=3"), "README", "exec"), {})
    assert "score check:" in capsys.readouterr().out
    assert {"response.png", "my_score.safetensors"} <= {path.name for path in somewhere.iterdir()}
    matplotlib.pyplot.close("all")


def test_the_example_of_what_follows_from_a_response_runs(somewhere, capsys):
    names = {}
    for code in (example("max_minutes=1").replace("max_minutes=1", "max_steps=3"), example("gfdt.predict(")):
        exec(compile(code, "README", "exec"), names)
    assert capsys.readouterr().out.splitlines()[-1] in ("inside", "undetermined")
    assert (somewhere / "forecast.png").exists()
    assert names["P"]["response"].dims == ("lag", "observable", "component", "perturbation")
    matplotlib.pyplot.close("all")


def test_the_example_of_training_runs(somewhere):
    code = example('objective="fd-ssm",').replace("max_steps=1500", "max_steps=3")
    exec(compile(code, "README", "exec"), {"gfdt": gfdt})
    assert {"train.safetensors", "train.csv", "check.png"} <= {path.name for path in somewhere.iterdir()}
    matplotlib.pyplot.close("all")


def test_the_example_of_a_density_runs(somewhere, capsys):
    code = example("gfdt.certify")
    for told, quick in (("max_minutes=5", "max_steps=3"), ("0.1])", "0.1], max_steps=3)")):
        assert told in code
        code = code.replace(told, quick)
    names = {"gfdt": gfdt, "np": np}
    exec(compile(code, "README", "exec"), names)
    assert "certificate:" in capsys.readouterr().out
    assert (somewhere / "certificate.html").exists()
    assert names["states"].dims == ("sample", "component")
    np.testing.assert_allclose(names["filled"].isel(component=1), names["gappy"][1], atol=1e-8)
    assert len(names["best"].choices_) == 4
    matplotlib.pyplot.close("all")


def test_the_example_of_a_simulation_runs(capsys):
    names = {}
    exec(compile(example("direct_response"), "README", "exec"), names)
    assert capsys.readouterr().out.strip() in ("yes", "undetermined")
    assert names["run"]["u"].dims == ("member", "time", "y", "x")
