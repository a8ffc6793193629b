"""Cumulative causal links: their size in closed form, their significance by repetition."""

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.causal import causal_strength
from gfdt.forcing.spline import integral_weights

LAG = np.linspace(0.0, 10.0, 101)
CHAIN = np.array([[-1.0, 0.0, 0.0], [0.8, -1.0, 0.0], [0.0, 0.8, -1.0]])  # 0 -> 1 -> 2


def chain(lag=LAG):
    values = np.stack([scipy.linalg.expm(CHAIN * t) for t in lag])
    return xr.DataArray(values, dims=("lag", "component", "component_src"), coords={"lag": lag}, name="response")


def estimate(truth, size, rng, n_units=20, memory=0.8):
    """Mean of units with noise that is correlated between lags; at lag 0, R = I is known."""
    white = rng.standard_normal((n_units, *truth.shape))
    noise = np.zeros_like(white)
    for k in range(1, truth.sizes["lag"]):
        noise[:, k] = memory * noise[:, k - 1] + (1 - memory**2) ** 0.5 * white[:, k]
    noise *= size
    e = (noise - noise.mean(axis=0)) / n_units
    out = (truth + noise.mean(axis=0)).to_dataset(name="response").assign_attrs(confidence=0.95)
    out["influence"] = (("unit", *truth.dims), e)
    out["stderr"] = (truth.dims, np.sqrt(n_units / (n_units - 1) * (e**2).sum(axis=0)))
    return out


def test_strengths_are_the_integrals():
    exact = scipy.integrate.simpson(chain(np.linspace(0, 10, 4001)).values ** 2, dx=10 / 4000, axis=0)
    got = causal_strength(chain())
    np.testing.assert_allclose(got.strength, exact, atol=1e-5)
    signed = causal_strength(chain(), kind="signed", max_lag=5.0)
    np.testing.assert_allclose(
        signed.strength, np.linalg.solve(CHAIN, scipy.linalg.expm(5 * CHAIN) - np.eye(3)), atol=1e-5
    )
    assert signed.attrs["max_lag"] == pytest.approx(5.0)
    assert set(got.data_vars) == {"strength"}  # no error bars, no significance


@pytest.mark.parametrize("kind", ["squared", "signed"])
def test_strengths_are_in_natural_standard_deviations(kind):
    """R_kj sd_j/sd_k: the same whatever the units of the components; the significance is the same in any case."""
    sd = np.array([1.0, 300.0, 0.01])
    std = xr.DataArray(sd, dims="component")
    R = estimate(chain(), 0.2, np.random.default_rng(8))
    factor = std / std.rename(component="component_src")
    named = {"null_lower": -0.1 + 0 * R.response, "null_upper": 0.1 + 0 * R.response}
    R = R.assign(named)
    other = R.map(lambda item: (item * factor).transpose(*item.dims), keep_attrs=True)
    other = other.assign(observable_std=std).assign_attrs(observable="mean")
    got, plain = causal_strength(other, kind=kind), causal_strength(R, kind=kind)
    assert (got.attrs["standardised"], plain.attrs["standardised"]) == (1, 0)
    for name in plain.data_vars:
        np.testing.assert_allclose(got[name], plain[name], rtol=1e-9, atol=1e-12)
    raw = causal_strength(other, kind=kind, standardised=False)
    power = 2 if kind == "squared" else 1
    np.testing.assert_allclose(raw.strength, plain.strength * factor.values**power, rtol=1e-9)
    np.testing.assert_allclose(raw.p_value, got.p_value, rtol=1e-9)


def test_quadrature_weights_are_positive():
    """The squared strength is a sum of squares, and its null law needs weights >= 0."""
    for n in (2, 3, 4, 5, 6, 7, 20, 101):
        assert (integral_weights(np.arange(float(n)), np.array([n - 1.0])) > 0).all()


@pytest.mark.parametrize("kind", ["squared", "signed"])
@pytest.mark.parametrize(("memory", "n_units"), [(0.0, 20), (0.8, 20), (0.97, 8)])
def test_without_links_the_false_positives_are_at_the_level(kind, memory, n_units):
    rng = np.random.default_rng(7)
    nothing = xr.DataArray(
        np.zeros((31, 40, 40)), dims=("lag", "component", "component_src"), coords={"lag": np.linspace(0.0, 3.0, 31)}
    )
    got = causal_strength(estimate(nothing, 0.1, rng, n_units, memory), kind=kind, self_links=True)
    rate = float((got.p_value < 0.05).mean())
    # 1600 independent entries: binomial error 0.0054; Satterthwaite's law is itself good to about a tenth of the level
    assert abs(rate - 0.05) < 4 * 0.0054 + (0.005 if kind == "squared" else 0.0), rate
    if kind == "signed":  # z has unit variance, wider for few units: 4 standard errors of 1600 entries
        assert abs(float(got.z.mean())) < 4 * float(got.z.std()) / 40


@pytest.mark.parametrize("kind", ["squared", "signed"])
def test_the_links_of_a_chain_are_found(kind):
    """Direct and indirect links 0 -> 1, 1 -> 2, 0 -> 2, and nothing upstream."""
    got = causal_strength(estimate(chain(), 0.2, np.random.default_rng(8)), kind=kind, level=0.01)
    expected = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    np.testing.assert_array_equal(got.link, expected)
    assert np.isnan(got.p_value.values[np.eye(3, dtype=bool)]).all()
    assert got.attrs["n_tests"] == 6
    assert got.attrs["n_links"] == 3
    everything = causal_strength(
        estimate(chain(), 0.2, np.random.default_rng(8)), kind=kind, level=0.01, self_links=True
    )
    assert everything.link.values[np.eye(3, dtype=bool)].all()


def test_without_influences_the_test_is_more_cautious():
    # 0.02 on a chain whose links are far above it: p stays small; noise entries must not become significant
    R = estimate(chain(), 0.2, np.random.default_rng(9))
    exact, bound = causal_strength(R), causal_strength(R.drop_vars("influence"))
    links = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=bool)
    assert (bound.p_value.values[links] > exact.p_value.values[links]).all()
    assert not bound.link.values[~links].any()


def test_a_null_band_leaves_only_what_is_outside():
    R = chain().to_dataset(name="response").assign(null_lower=chain() * 0 - 0.1, null_upper=chain() * 0 + 0.1)
    got = causal_strength(R)
    kept = np.where(np.abs(chain().values) > 0.1, chain().values, 0.0)
    np.testing.assert_allclose(got.strength_outside, np.trapezoid(kept**2, dx=0.1, axis=0), atol=5e-3)
    np.testing.assert_array_equal(got.link, [[0, 0, 0], [1, 0, 0], [1, 1, 0]])
    assert (got.strength_outside <= got.strength + 1e-12).all()


def test_displacement_zero_is_the_self_link_of_a_field():
    coords = {"lag": LAG, "dy": np.arange(4) - 2, "dx": np.arange(3) - 1}
    R = xr.DataArray(np.zeros((101, 4, 3)), dims=tuple(coords), coords=coords)
    got = causal_strength(estimate(R, 0.1, np.random.default_rng(10)))
    untested = np.isnan(got.p_value)
    assert int(untested.sum()) == 1
    assert bool(untested.sel(dy=0, dx=0))


def test_options_are_checked():
    with pytest.raises(InputError, match="kind"):
        causal_strength(chain(), kind="cubed")
    with pytest.raises(InputError, match="at least two are needed"):
        causal_strength(chain(), max_lag=0.05)
    with pytest.raises(InputError, match=r"max_lag=10\.5 is beyond the longest lag of the response, 10"):
        causal_strength(chain(), max_lag=10.5)
    with pytest.raises(InputError, match="level"):
        causal_strength(chain(), level=1.5)


def test_links_go_through_netcdf(tmp_path):
    got = causal_strength(estimate(chain(), 0.2, np.random.default_rng(8)))
    got.to_netcdf(tmp_path / "links.nc")
    with xr.open_dataset(tmp_path / "links.nc") as back:
        xr.testing.assert_allclose(back, got)
        assert back.link.dtype == bool
