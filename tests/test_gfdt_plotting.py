"""Plots: what is drawn is what was asked for, on the axes that were given."""

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.errors import InputError


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def response(offset=0.0):
    lag, dx = np.arange(5.0), np.arange(-2, 2)
    values = offset + np.exp(-lag)[:, None, None] * np.ones((1, 2, 4)) * (dx == 0)
    array = xr.DataArray(values, dims=("lag", "dy", "dx"), coords={"lag": lag, "dy": [-1, 0], "dx": dx})
    return xr.Dataset({"response": array, "lower": array - 0.1, "upper": array + 0.1})


def test_lines_bands_and_labels(axes):
    got = gfdt.plot_responses({"exact": response()["response"], "gaussian": response(0.1)}, ax=axes)
    assert got is axes
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["exact", "gaussian"]
    np.testing.assert_allclose(lines[0].get_ydata(), np.exp(-np.arange(5.0)))
    assert len(axes.collections) == 1  # only the gaussian has a band
    assert axes.get_xlabel() == "lag"
    assert lines[0].get_linestyle() != lines[1].get_linestyle()  # told apart in grey print


def test_profile_along_a_displacement(axes):
    gfdt.plot_responses(response(), against="dx", at={"lag": 1.0}, ax=axes)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 0, np.exp(-1), 0])


def test_components_with_names_are_chosen_by_name(axes):
    names = ["T", "p"]
    values = np.arange(12.0).reshape(3, 2, 2)
    coords = {"lag": np.arange(3.0), "component": names, "component_src": names}
    array = xr.DataArray(values, dims=("lag", "component", "component_src"), coords=coords)
    gfdt.plot_responses({"a": array}, at={"component": "p", "component_src": "T"}, ax=axes)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), values[:, 1, 0])
    assert axes.get_ylabel() == "response R(p, T)"
    gfdt.plot_responses({"a": array}, ax=axes)
    for wrong in ({"component": 0}, {"component": "q"}):
        with pytest.raises(InputError, match="is not in the response: choose among T, p"):
            gfdt.plot_responses({"a": array}, at=wrong, ax=axes)


def test_a_density_is_drawn_against_its_values_where_it_moves_most(axes):
    lag, x = np.arange(6.0), np.linspace(-2.0, 2.0, 9)
    growth = lag * np.exp(-lag / 2)  # nothing at lag 0, most at 2
    array = xr.DataArray(growth[:, None] * x, dims=("lag", "value"), coords={"lag": lag, "value": x})
    array[0] = 9.0
    gfdt.plot_responses({"a": array}, ax=axes)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), growth[2] * x)
    assert axes.get_xlabel() == "value"
    assert axes.get_ylabel() == "response R(lag = 2)"
    axes.clear()
    gfdt.plot_responses({"a": array}, at={"lag": 4}, ax=axes)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), growth[4] * x)
    axes.clear()
    gfdt.plot_responses({"a": array}, at={"value": 1.0}, ax=axes)
    assert axes.get_xlabel() == "lag"


def test_a_step_response_is_called_one(axes):
    lag = np.linspace(0.0, 5.0, 51)
    relaxing = xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag})
    gfdt.plot_responses(gfdt.step_response(relaxing), ax=axes)
    assert axes.get_ylabel() == "step response S"


def test_errors_leave_out_rounding(axes):
    gfdt.plot_errors(gfdt.compare(response(), {"a": response(0.2), "b": response(1e-14)}), ax=axes)
    (a,) = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(a, 0.2)
    assert axes.get_legend_handles_labels()[1] == ["a"]


def test_snapshots_of_a_field_share_one_colour_scale():
    from matplotlib.figure import Figure

    x = xr.DataArray(np.random.default_rng(0).standard_normal((1, 9, 4, 5)), dims=("member", "time", "y", "x"))
    axes = Figure().subplots(1, 2)
    got = gfdt.plot_snapshots(x, times=(0, 8), ax=axes)
    meshes = [panel.collections[0] for panel in got]
    assert meshes[0].get_clim() == meshes[1].get_clim()


def test_a_field_of_two_variables_has_a_row_for_each():
    from matplotlib.figure import Figure

    values = np.random.default_rng(0).standard_normal((1, 9, 2, 4, 5)) * np.array([1.0, 100.0])[:, None, None]
    values[0, 3] = np.nan  # a sample that is missing
    x = xr.DataArray(values, dims=("member", "time", "variable", "y", "x"), coords={"variable": ["u", "T"]})
    x = x.assign_coords(time=("time", 0.5 * np.arange(9), {"units": "days"}))
    got = gfdt.plot_snapshots(x, times=(0, 3, 8), ax=Figure().subplots(2, 3))
    assert len(got) == 6
    for row in (0, 1):
        meshes = [panel.collections[0] for panel in got[3 * row : 3 * row + 3]]
        np.testing.assert_allclose(meshes[2].get_array(), values[0, 8, row])
        assert {mesh.get_clim() for mesh in meshes} == {(values[0, [0, 8], row].min(), values[0, [0, 8], row].max())}
    assert [panel.get_title() for panel in got[:3]] == ["time 0 days", "time 1.5 days", "time 4 days"]
    with pytest.raises(InputError, match=r"samples at time 1\.5"):
        gfdt.plot_snapshots(x, times=3, ax=Figure().subplots(2, 1))
    with pytest.raises(InputError, match="1 axes were given for 1 times of 2 variables"):
        gfdt.plot_snapshots(x, ax=Figure().subplots())


def test_a_series_is_broken_where_samples_are_missing(axes):
    x = np.random.default_rng(0).standard_normal((2, 9, 3))
    x[0, 4] = np.nan
    named = {"dims": ("member", "time", "component"), "dt": 1.0}
    gfdt.plot_snapshots(x, ax=axes, **named)
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False] * 4 + [True] + [False] * 4
    with pytest.raises(InputError, match="member index 2 does not exist: there are 2"):
        gfdt.plot_snapshots(x, member=2, ax=axes, **named)


def test_series_of_a_vector(axes):
    x = np.random.default_rng(0).standard_normal((1, 9, 3))
    gfdt.plot_snapshots(x, dims=("member", "time", "component"), dt=1.0, ax=axes)
    assert len(axes.lines) == 3


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda ax: gfdt.plot_responses({}, ax=ax), "nothing to plot"),
        (lambda ax: gfdt.plot_responses(response(), against="time", ax=ax), "no dim 'time'"),
        (lambda ax: gfdt.plot_responses(response(), at={"z": 0}, ax=ax), "no dim 'z'"),
        (lambda ax: gfdt.plot_errors(xr.Dataset(), ax=ax), "what gfdt.compare returned"),
        (
            lambda ax: gfdt.plot_snapshots(
                np.random.default_rng(0).random((9, 2, 2)), dims=("time", "y", "x"), times=(99,), ax=ax
            ),
            "time index 99",
        ),
        (
            lambda ax: gfdt.plot_snapshots(
                np.random.default_rng(0).random((9, 2, 2)), dims=("time", "y", "x"), times=(0, 1), ax=ax
            ),
            "1 axes were given for 2 times",
        ),
    ],
)
def test_misuse_is_refused(act, message, axes):
    with pytest.raises(InputError, match=message):
        act(axes)


def test_responses_of_different_states_are_not_drawn_together(axes):
    other = response().expand_dims(other=2)
    with pytest.raises(InputError, match="of one kind and state"):
        gfdt.plot_responses({"a": response(), "b": other}, ax=axes)
