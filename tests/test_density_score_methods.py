"""The methods of a score as a model of a density: units, labels and errors at the border to the data."""

import numpy as np
import pytest
import scipy.stats
import xarray as xr
from reference.exact_families import bimodal

import gfdt
from gfdt.errors import InputError

DIMS = ("member", "time", "component")
SCALE, SHIFT = np.array([5.0, 0.2]), np.array([100.0, -3.0])


def record(n=4000):
    return (SHIFT + SCALE * bimodal().sample(n, 0)).reshape(4, -1, 2)


def exact():
    """The mixture in other units, with noise in their proportions."""

    def score(x, sigma=0.0):
        level = float(np.ravel(np.asarray(sigma) / SCALE)[0])
        return bimodal().score((x - SHIFT) / SCALE, level) / SCALE

    return gfdt.AnalyticScore(score, blurred=score, noise=SCALE).fit(record(), dims=DIMS)


def log_density(x):
    return bimodal().log_density((x - SHIFT) / SCALE) - np.log(SCALE).sum()


@pytest.fixture(scope="module")
def gaussian():
    return gfdt.GaussianScore().fit(record(), dims=DIMS)


def test_densities_are_in_the_units_of_the_data(gaussian):
    x = record().reshape(-1, 2)
    normal = scipy.stats.multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True))
    np.testing.assert_allclose(gaussian.log_prob(x[:9]), normal.logpdf(x[:9]), rtol=1e-9)
    np.testing.assert_allclose(gaussian.elbo(x[:9]), normal.logpdf(x[:9]), rtol=1e-9)
    # bits per dimension: the code length, which is smaller for more likely states
    bits = gaussian.log_prob(x[:9], unit="bits/dim")
    np.testing.assert_allclose(bits, -normal.logpdf(x[:9]) / (2 * np.log(2)), rtol=1e-9)


def test_an_exact_score_knows_its_density():
    score, x = exact(), record().reshape(-1, 2)[:40]
    # The prior, at ten standard deviations, has the mean of 4000 states: off by 1/√4000 of one, so by 0.0016 of its
    # own width, times up to three of those. The flow itself errs by 4e-4.
    np.testing.assert_allclose(score.log_prob(x), log_density(x), atol=8e-3)
    bound, stderr = score.elbo(x, return_stderr=True, n_levels=256)
    assert bound.shape == stderr.shape == (40,)
    # tight on average: the noise of 40 states, of 2 standard errors and a half in either direction
    assert abs((bound - log_density(x)).mean()) < 4 * np.sqrt((stderr**2).sum()) / 40


def test_labels_of_states_are_kept_and_their_order_does_not_matter(gaussian):
    x = xr.DataArray(record()[:, :3], dims=DIMS, coords={"time": [0.0, 1.0, 2.0]})
    got, stderr = gaussian.log_prob(x.transpose("component", "time", "member"), return_stderr=True)
    assert got.dims == stderr.dims == ("time", "member")
    assert got.time.values.tolist() == [0.0, 1.0, 2.0]
    np.testing.assert_allclose(got.transpose("member", "time"), gaussian.log_prob(x.values))
    assert got.attrs["units"] == "nats"
    assert gaussian.elbo(x, unit="bits/dim").attrs["units"] == "bits/dim"


def test_the_bound_over_members_has_their_spread_as_its_error_and_an_exact_reference(gaussian):
    """A Gaussian of another covariance has the gap that its ln ρ falls short by."""
    x = xr.DataArray(record(), dims=DIMS)
    own = gaussian.bound(x)
    single = own.gaussian.item()
    assert abs(single - gaussian.log_prob(x).mean().item()) < 1e-9
    by_member = gaussian.log_prob(x).mean("time")
    assert abs(own.elbo_stderr.item() - by_member.std(ddof=1).item() / 2) < 0.1 * own.elbo_stderr.item()
    # a score with the proportions of its noise in common is a reference; the Gaussian has its standard deviations
    model = gfdt.AnalyticScore(gaussian, blurred=lambda x, _: gaussian(x), noise=gaussian.family().units.scale)
    with pytest.raises(InputError, match="noise="):
        gaussian.bound(x, reference=exact_with_white_noise())
    assert "gap" in gaussian.bound(x, reference=model.fit(x), n_levels=32)


def exact_with_white_noise():
    return gfdt.AnalyticScore(lambda x: -x, blurred=lambda x, s: -x / (1 + s**2)).fit(record(), dims=DIMS)


def test_states_of_which_a_part_is_known_keep_it(gaussian):
    got = gaussian.sample(200, given=np.array([104.0, np.nan]), seed=1).values
    np.testing.assert_allclose(got[:, 0], 104.0, rtol=1e-9)
    slope = np.cov(record().reshape(-1, 2).T)
    x = record().reshape(-1, 2)
    mean = x[:, 1].mean() + slope[0, 1] / slope[0, 0] * (104.0 - x[:, 0].mean())
    spread = np.sqrt(slope[1, 1] - slope[0, 1] ** 2 / slope[0, 0])
    assert abs(got[:, 1].mean() - mean) < 4 * spread / np.sqrt(200)


@pytest.mark.parametrize("name", ["log_prob", "elbo"])
def test_arguments_that_cannot_be_used_are_refused(gaussian, name):
    method = getattr(gaussian, name)
    for options, message in (({"unit": "bits"}, "unit is 'bits'"), ({"seed": -1}, "seed=-1")):
        with pytest.raises(InputError, match=message):
            method(np.zeros((2, 2)), **options)
    with pytest.raises(InputError, match=r"x has shape \(2, 3\)"):
        method(np.zeros((2, 3)))
    with pytest.raises(InputError, match="one noise level only"):
        getattr(gfdt.AnalyticScore(lambda x: -x).fit(record(), dims=DIMS), name)(np.zeros((2, 2)))
