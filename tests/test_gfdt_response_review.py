"""What a sceptical reading of the response engine found, kept from coming back."""

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.errors import InputError, ReliabilityWarning
from gfdt.responses.units import coherence_time

STEP, LAGS = 0.2, 0.2 * np.arange(6)


def ou(seed, members, times, rate=1.0, components=1):
    """Ornstein-Uhlenbeck of unit variance, dx = -rate x dt + (2 rate)^(1/2) dW, by its exact transition."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-rate * STEP)
    x = np.empty((members, times, components))
    x[:, 0] = rng.standard_normal((members, components))
    for t in range(1, times):
        x[:, t] = decay * x[:, t - 1] + np.sqrt(1 - decay**2) * rng.standard_normal((members, components))
    coords = {"time": STEP * np.arange(times), "component": [f"c{i}" for i in range(components)]}
    return xr.DataArray(x, dims=("member", "time", "component"), coords=coords)


@pytest.mark.parametrize("correction", ["auto", "stein"])
@pytest.mark.parametrize(("scale", "noise_level"), [(1 / 1.25, 0.5), (0.8, 0.0), (0.6, 0.0)])
@pytest.mark.filterwarnings("ignore::gfdt.errors.UnreliableScoreWarning")
def test_both_factors_of_the_score_are_corrected_under_a_change_of_the_noise(correction, scale, noise_level):
    """B is quadratic in the score: <x'^2> answers with 2 g exp(-2 t), whatever linear factor the score is off by."""
    run = ou(0, 40, 4000)
    score = gfdt.AnalyticScore(lambda x: -scale * x)
    score.noise_level_ = noise_level
    g = np.sqrt(2.0)
    options = {"max_lag": 1.0, "observable": "variance", "perturbation": gfdt.NoiseAmplitude(g)}
    got = gfdt.response(run, score, correction=correction, **options)
    exact = 2 * g * np.exp(-2 * LAGS)
    error = np.abs(got["response"].values[:, 0] - exact)
    assert (error < 4 * got["stderr"].values[:, 0] + 1e-9).all()
    assert (error < 0.05 * exact[0]).all()


def test_a_response_that_misses_its_known_start_is_warned_of():
    """A Gaussian score satisfies the Stein identity of any record; the third moment of two peaks gives it away."""
    rng = np.random.default_rng(1)
    x = ou(0, 80, 200) * 0.3
    x = x + np.where(rng.random((80, 1, 1)) < 0.5, -1.0, 1.0)
    score = gfdt.GaussianScore().fit(x)
    with pytest.warns(ReliabilityWarning, match=r"response of the moment3 starts at a value that misses"):
        got = gfdt.response(x, score, max_lag=1.0, observable="moment3")
    assert got.attrs["target_departure"] > 5
    assert got.attrs["score_verdict"] == "green"


def test_an_event_that_never_happens_has_an_unknown_response():
    with pytest.warns(ReliabilityWarning, match="never or always happens for 1 of 1"):
        gfdt.response(ou(0, 24, 200), lambda x: -x, max_lag=1.0, observable=gfdt.Exceedance(9.0))


def test_every_component_may_have_its_own_threshold():
    run = ou(0, 24, 400, components=2)
    both = gfdt.response(run, lambda x: -x, max_lag=1.0, observable=gfdt.Exceedance([0.5, 1.0]))
    levels = xr.DataArray([1.0, 0.5], dims="component", coords={"component": ["c1", "c0"]})
    labelled = gfdt.response(run, lambda x: -x, max_lag=1.0, observable=gfdt.Exceedance(levels))
    np.testing.assert_allclose(labelled["response"], both["response"])
    for component, level in (("c0", 0.5), ("c1", 1.0)):
        alone = gfdt.response(run, lambda x: -x, max_lag=1.0, observable=gfdt.Exceedance(level))
        pick = {"component": component}
        np.testing.assert_allclose(both["response"].sel(pick), alone["response"].sel(pick), atol=1e-12)


def test_a_component_is_pushed_by_its_name():
    run = ou(0, 24, 400, components=2)
    named = gfdt.response(run, lambda x: -x, max_lag=1.0, perturbation="c1")
    pattern = gfdt.response(run, lambda x: -x, max_lag=1.0, perturbation=np.array([0.0, 1.0]))
    np.testing.assert_allclose(named["response"], pattern["response"])
    with pytest.raises(InputError, match=r"component by name \(c0, c1\)"):
        gfdt.response(run, lambda x: -x, max_lag=1.0, perturbation="c2")


MIXING = [
    ({"perturbation": gfdt.Drift(lambda x: -x * x[0] ** 2)}, "w of the Drift gives a state another value"),
    ({"perturbation": gfdt.Drift(lambda x: x - x.mean(0))}, "w of the Drift gives a state another value"),
    ({"perturbation": gfdt.Drift(lambda x: x.sel(component="c0"))}, "w of the Drift failed on a numpy array"),
    ({"observable": lambda d: d.cumsum("time")}, "the observable function gives a state another value"),
    ({"perturbation": gfdt.NoiseAmplitude(-1.0)}, "an amplitude is not negative"),
]


@pytest.mark.parametrize(("options", "message"), MIXING)
def test_functions_must_treat_each_state_alone(options, message):
    with pytest.raises(InputError, match=message):
        gfdt.response(ou(0, 24, 100, components=2), lambda x: -x, max_lag=1.0, **options)


def test_gaps_do_not_shorten_the_coherence_time():
    """tau = 1/2 + 2 sum rho^2s of AR(1); Sokal's error with the pairs that are left."""
    run = ou(3, 4, 20000, rate=0.25).values[..., 0]
    there = np.random.default_rng(4).random(run.shape) < 0.4
    rho = np.exp(-0.25 * STEP)
    tau = 0.5 + 2 * rho**2 / (1 - rho**2)
    error = tau * np.sqrt(22 * tau / run.size) / 0.4
    assert coherence_time(np.where(there, run, 0.0), there) == pytest.approx(tau, abs=3 * error)


def test_units_are_those_of_the_record_or_left_out():
    run = ou(0, 24, 100).assign_attrs(units="K")
    options = {"max_lag": 0.4}
    units = {
        name: gfdt.response(run, lambda x: -x, observable=name, **options)["response"].attrs.get("units")
        for name in ("mean", "variance", "moment3")
    }
    assert units == {"mean": "1", "variance": "K", "moment3": "(K)2"}
    drift = gfdt.response(run, lambda x: -x, perturbation=gfdt.Drift(lambda x: -x), **options)
    assert "units" not in drift["response"].attrs
    assert drift["observable_std"].attrs["units"] == "K"


def test_a_step_response_is_not_integrated_again():
    lag = np.linspace(0.0, 10.0, 101)
    step = gfdt.step_response(xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag}))
    for given in (step, step["response"]):
        with pytest.raises(InputError, match="is a step response"):
            gfdt.predict(given, lambda t: 0.1 + 0 * t, time=[5.0])


def test_before_the_forcing_nothing_changes():
    lag = np.linspace(0.0, 10.0, 101)
    kernel = xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag})
    assert gfdt.predict(kernel, lambda t: 0.1 + 0 * t, time=[-1.0, 0.0])["prediction"].values.tolist() == [0.0, 0.0]
