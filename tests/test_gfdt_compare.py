"""Errors of responses against a reference."""

import numpy as np
import pytest
import xarray as xr
from reference import linear_sde

import gfdt
from gfdt.errors import InputError

LAGS = 0.25 * np.arange(9)
EXACT = xr.DataArray(
    linear_sde.exact_response(LAGS),
    dims=("lag", "component", "component_src"),
    coords={"lag": LAGS, "component": np.arange(4), "component_src": np.arange(4)},
    name="response",
)


def shifted(by, stderr=None):
    out = xr.Dataset({"response": EXACT + by})
    if stderr is not None:
        out["lower"], out["upper"] = out["response"] - stderr, out["response"] + stderr
    return out


def test_errors_of_a_known_difference():
    got = gfdt.compare(EXACT, {"same": shifted(0.0, 0.1), "off": shifted(0.3, 0.1), "no band": EXACT - 0.3})
    np.testing.assert_allclose(got["rms"].sel(estimator="off"), 0.3)
    np.testing.assert_allclose(got["max"].sel(estimator="no band"), 0.3)
    assert float(got["rms_overall"].sel(estimator="same")) == 0.0
    expected = 0.3 * np.sqrt(EXACT.size) / np.linalg.norm(EXACT)
    assert float(got["relative"].sel(estimator="off")) == pytest.approx(expected)
    assert got["coverage"].values[:2].tolist() == [1.0, 0.0]
    assert np.isnan(got["coverage"].values[2])


def test_only_common_lags_count_and_the_order_of_dims_does_not():
    longer = xr.concat([EXACT, EXACT.isel(lag=[-1]).assign_coords(lag=[9.0])], "lag")
    got = gfdt.compare(
        longer, {"a": shifted(0.1).isel(lag=slice(None, None, 2)).transpose("component_src", "lag", ...)}
    )
    np.testing.assert_allclose(got["lag"], LAGS[::2])
    np.testing.assert_allclose(got["rms"], 0.1)
    turned = shifted(0.0).isel(component=slice(None, None, -1), component_src=[2, 0, 1, 3])
    np.testing.assert_allclose(gfdt.compare(EXACT, {"a": turned})["max"], 0.0)


@pytest.mark.parametrize(
    ("reference", "responses", "message"),
    [
        (EXACT, {}, "nothing to compare"),
        (EXACT, xr.Dataset({"response": EXACT}), "responses is a Dataset: pass the responses by name"),
        (EXACT, {"a": EXACT.assign_coords(component=[5, 6, 7, 8])}, "other labels along 'component'"),
        (EXACT, {"a": xr.Dataset({"response": EXACT}, attrs={"observable": "variance"})}, "response of the variance"),
        (EXACT, {"a": EXACT.assign_coords(lag=LAGS + 0.1)}, "no lag in common"),
        (EXACT, {"a": EXACT.isel(component=0)}, "'a' has dims"),
        (EXACT, {"a": xr.Dataset({"b": EXACT})}, "'a' has no variable 'response'"),
        (EXACT, {"a": 3.0}, "'a' is a float"),
        (EXACT.isel(lag=0), {"a": EXACT}, "without 'lag'"),
    ],
)
def test_bad_comparisons_are_refused(reference, responses, message):
    with pytest.raises(InputError, match=message):
        gfdt.compare(reference, responses)
