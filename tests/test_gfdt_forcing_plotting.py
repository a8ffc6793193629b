"""Plots of predictions and susceptibilities: what is drawn is what was computed."""

import numpy as np
import pytest
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.predict import predict
from gfdt.forcing.susceptibility import susceptibility
from gfdt.plotting.forcing import plot_prediction, plot_susceptibility

LAG = np.linspace(0.0, 10.0, 41)


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def response(n=2):
    values = np.exp(-np.multiply.outer(LAG, np.arange(1.0, n + 1)))
    R = xr.DataArray(values, dims=("lag", "component"), coords={"lag": LAG, "component": np.arange(n)})
    return xr.Dataset({"response": R, "stderr": 0.02 + 0 * R, "lower": R - 0.04, "upper": R + 0.04})


def drawn(axes):
    return [line for line in axes.lines if not line.get_label().startswith("_")]


def test_prediction_truth_and_bands(axes):
    got = predict(response(), np.sin, np.linspace(0, 10, 21))
    truth = xr.DataArray(np.full((30, 2), 0.1), dims=("time", "component"), coords={"time": np.arange(30.0)})
    assert plot_prediction(got, truth, ax=axes) is axes
    lines = drawn(axes)
    assert [line.get_label() for line in lines] == ["truth", "predicted, component 0", "predicted, component 1"]
    np.testing.assert_allclose(lines[1].get_ydata(), got.prediction.isel(component=0))
    true = [line for line in axes.lines if line.get_label() == "_truth"]
    assert [line.get_color() for line in true] == [line.get_color() for line in lines[1:]]
    assert all(line.get_marker() == "o" for line in true)
    assert len(axes.collections) == 2  # a band for each predicted line
    assert axes.get_xlabel() == "time"
    assert axes.get_ylabel() == "change of the mean"


def test_truth_finds_its_component_in_any_order(axes):
    R = response().assign_coords(component=["a", "b"])
    got = predict(R, np.sin, np.linspace(0, 10, 21))
    plot_prediction(got, got.prediction.isel(component=[1, 0]).transpose(), ax=axes)
    colour = {line.get_label().removeprefix("predicted, "): line.get_color() for line in drawn(axes)}
    for line, name in zip((line for line in axes.lines if line.get_label() == "_truth"), ("b", "a"), strict=True):
        assert line.get_color() == colour[name]
        np.testing.assert_allclose(line.get_ydata(), got.prediction.sel(component=name))


@pytest.mark.parametrize(("ratio", "standard"), [(29.0, False), (1e5, True)])
def test_components_of_far_apart_spreads_are_drawn_in_natural_standard_deviations(axes, ratio, standard):
    std = xr.DataArray([1.0, ratio], dims="component")
    R = response().map(lambda item: item * std).assign(observable_std=std)
    got = predict(R, lambda t: 0.01 * np.sin(t), np.linspace(0, 10, 21))
    plot_prediction(got, got.prediction, ax=axes)
    assert ("natural standard deviations" in axes.get_ylabel()) is standard
    for index in (0, 1):
        expected = got.prediction.isel(component=index) / (std[index] if standard else 1)
        (line,) = (line for line in axes.lines if line.get_label() == f"predicted, component {index}")
        np.testing.assert_allclose(line.get_ydata(), expected)
        true = [line for line in axes.lines if line.get_label() == "_truth"][index]
        np.testing.assert_allclose(true.get_ydata(), expected)
    plot_prediction(got, at={"component": 1}, ax=axes)  # alone it is drawn in its own unit
    np.testing.assert_allclose(axes.lines[-2].get_ydata(), got.prediction.isel(component=1))


def test_the_legend_covers_no_line():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    got = predict(response(6), lambda t: 1 + 0 * t, np.linspace(0, 10, 41))
    plot_prediction(got, got.prediction, ax=axes)
    figure.canvas.draw()
    box = axes.get_legend().get_window_extent()
    inside = axes.get_window_extent()
    assert box.x0 >= inside.x0
    assert box.x1 <= inside.x1
    for line in axes.lines:
        if len(line.get_xdata()) > 2:
            assert (axes.transData.transform(line.get_xydata())[:, 1] < box.y0).all()


def test_one_component_is_chosen(axes):
    got = predict(response(), np.sin)
    plot_prediction(got, at={"component": 1}, ax=axes)
    (line,) = drawn(axes)
    np.testing.assert_allclose(line.get_ydata(), got.prediction.isel(component=1))


def test_susceptibility_parts(axes):
    chi = susceptibility(response(), np.linspace(0, 5, 11))
    assert plot_susceptibility(chi, at={"component": 1}, ax=axes) is axes
    lines = drawn(axes)
    assert [line.get_label() for line in lines] == ["Re χ", "Im χ"]
    np.testing.assert_allclose(lines[1].get_ydata(), chi["imag"].isel(component=1))
    assert len(axes.collections) == 2
    assert axes.get_xlabel() == "angular frequency ω (rad / time units)"
    assert lines[0].get_linestyle() != lines[1].get_linestyle()  # told apart in grey print


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda ax: plot_prediction(response(), ax=ax), "what gfdt.predict returned"),
        (lambda ax: plot_prediction(predict(response(9), np.sin), ax=ax), "9 lines over component"),
        (lambda ax: plot_prediction(predict(response(), np.sin), at={"z": 0}, ax=ax), "no dim 'z'"),
        (lambda ax: plot_prediction(predict(response(), np.sin), response(), ax=ax), "no change over 'time'"),
        (lambda ax: plot_susceptibility(response(), ax=ax), "what gfdt.susceptibility returned"),
        (lambda ax: plot_susceptibility(susceptibility(response()), parts=("size",), ax=ax), "are not known"),
    ],
)
def test_misuse_is_refused(act, message, axes):
    with pytest.raises(InputError, match=message):
        act(axes)
