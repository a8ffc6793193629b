"""A score knows the names of the components it was fitted on."""

import json

import numpy as np
import pytest
import xarray as xr
from safetensors import safe_open
from safetensors.numpy import save_file

import gfdt
from gfdt.errors import CheckpointError, InputError
from gfdt.scores.storage import _digest

NAMES = ["ABC", "DEF", "GHI"]


@pytest.fixture(scope="module")
def run():
    """Three stations, each with a spread of its own."""
    values = np.random.default_rng(0).standard_normal((24, 200, 3)) * np.array([1.0, 2.0, 5.0])
    coords = {"time": np.arange(200.0), "station": NAMES}
    return xr.DataArray(values, dims=("member", "time", "station"), coords=coords)


def test_another_order_gives_the_same_response(run, tmp_path):
    score = gfdt.GaussianScore().fit(run)
    loaded = gfdt.load_score(score.save(tmp_path / "s.safetensors"))
    assert loaded.state_labels_ == {"station": tuple(NAMES)}
    turned = run.isel(station=[2, 0, 1])
    right = gfdt.response(run, score, max_lag=3.0)
    for one in (score, loaded, gfdt.PolishedScore(score).fit(run).score):
        got = gfdt.response(turned, one, max_lag=3.0)
        xr.testing.assert_allclose(got["response"], right["response"])
    xr.testing.assert_allclose(score(turned).sel(station="GHI"), score(run).sel(station="GHI"))


def test_other_names_are_refused(run):
    score = gfdt.GaussianScore().fit(run)
    other = run.assign_coords(station=["ABC", "DEF", "XYZ"])
    with pytest.raises(InputError, match=r"not in both: \['GHI'\]"):
        gfdt.response(other, score, max_lag=3.0)
    with pytest.raises(InputError, match="not in both"):
        score(other)


def test_states_without_names_are_taken_as_they_are(run):
    score = gfdt.GaussianScore().fit(run)
    plain = run.drop_vars("station")
    numbered = run.assign_coords(station=[3, 1, 2])
    for states in (plain, numbered):
        np.testing.assert_array_equal(score(states).values, score(run.values))
    assert gfdt.GaussianScore().fit(plain).state_labels_ == {}


@pytest.mark.parametrize(
    "labels", [[], {"time": NAMES}, {"station": NAMES[:2]}, {"station": ["A", "A", "B"]}, {"station": [1, 2, 3]}]
)
def test_altered_names_in_a_file_are_refused(run, tmp_path, labels):
    path = gfdt.GaussianScore().fit(run).save(tmp_path / "s.safetensors")
    with safe_open(path, framework="numpy") as file:
        header = dict(file.metadata())
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(header["config"]) | {"state_labels": labels}
    header["config"] = json.dumps(config, sort_keys=True)
    header["digest"] = _digest(header["config"], arrays)
    save_file(arrays, path, metadata=header)
    with pytest.raises(CheckpointError):
        gfdt.load_score(path)
