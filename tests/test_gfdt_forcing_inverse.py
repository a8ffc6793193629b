"""Optimal forcings and attribution: linear algebra in closed form, statistics by repetition."""

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import xarray as xr

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.attribution import attribute
from gfdt.forcing.optimal import optimal_forcing
from gfdt.forcing.predict import predict
from gfdt.forcing.step import step_response

DRIFT = np.array([[-1.0, 3.0], [0.0, -0.5]])  # non-normal
LAG = np.linspace(0.0, 12.0, 241)
S_END = np.linalg.solve(DRIFT, scipy.linalg.expm(DRIFT * 12.0) - np.eye(2))


def plain(drift=DRIFT, lag=LAG):
    values = np.stack([scipy.linalg.expm(drift * t) for t in lag])
    return xr.DataArray(values, dims=("lag", "component", "component_src"), coords={"lag": lag}, name="response")


def noisy(size, n_units=30, seed=0, response=None):
    """An estimate as the mean of units, each the truth plus its own noise, with the influences that go with it."""
    truth = plain() if response is None else response
    units = size * np.random.default_rng(seed).standard_normal((n_units, *truth.shape))
    out = (truth + units.mean(axis=0)).to_dataset(name="response").assign_attrs(confidence=0.95)
    e = (units - units.mean(axis=0)) / n_units
    out["influence"] = (("unit", *truth.dims), e)
    out["stderr"] = (truth.dims, np.sqrt(n_units / (n_units - 1) * (e**2).sum(axis=0)))
    return out


def vector(*values):
    return xr.DataArray(np.array(values), dims="component")


# ---- optimal forcing


def test_a_target_that_can_be_reached_is_reached():
    got = optimal_forcing(plain(), vector(1.0, -0.3))
    np.testing.assert_allclose(got.forcing, np.linalg.solve(S_END, [1.0, -0.3]), rtol=1e-6)
    np.testing.assert_allclose(got.residual, 0.0, atol=1e-12)
    assert got.attrs["misfit"] < 1e-12


def test_effort_is_tikhonovs_price():
    effort, y = 0.7, np.array([1.0, -0.3])
    got = optimal_forcing(plain(), vector(*y), effort=effort, weight=vector(2.0, 0.5))
    w = np.diag([2.0, 0.5])
    expected = np.linalg.solve(S_END.T @ w @ S_END + effort * np.eye(2), S_END.T @ w @ y)
    np.testing.assert_allclose(got.forcing, expected, rtol=1e-5)


def test_default_weight_is_the_natural_variance():
    R = plain().to_dataset(name="response").assign(observable_std=vector(0.5, 2.0))
    got = optimal_forcing(R, vector(0.05, -0.03), effort=0.3)
    expected = optimal_forcing(plain(), vector(0.05, -0.03), effort=0.3, weight=vector(4.0, 0.25))
    np.testing.assert_allclose(got.forcing, expected.forcing, rtol=1e-10)


def test_default_effort_minimises_the_expected_misfit():
    """Over errors drawn as the influences say, no other price does better on average."""
    R = noisy(0.5)
    y = vector(1.0, -0.3)
    got = optimal_forcing(R, y)
    S = step_response(R)
    steps, e = S.response.values[-1], S.influence.values[:, -1]
    f = got.forcing.values

    def expected_misfit(f):
        return ((steps @ f - y.values) ** 2).sum() + 30 / 29 * ((e @ f) ** 2).sum()

    best = expected_misfit(f)
    for direction in np.random.default_rng(1).standard_normal((20, 2)):
        for size in (1e-3, 1e-1):
            assert expected_misfit(f + size * direction) > best
    shortest = optimal_forcing(R, y, effort=0.0)
    assert np.linalg.norm(f) < np.linalg.norm(shortest.forcing)


@pytest.mark.parametrize("with_errors", [True, False])
def test_achieved_is_what_predict_says(with_errors):
    R = noisy(0.3) if with_errors else plain()
    time = np.linspace(2.0, 10.0, 17)
    got = optimal_forcing(R, vector(1.0, -0.3), effort=0.1, time=time)
    assert got.forcing.dims == ("time", "component_src")
    check = predict(R, got.forcing, [10.0])
    np.testing.assert_allclose(got.achieved, check.prediction[0], atol=1e-12)
    if with_errors:
        np.testing.assert_allclose(got.achieved_stderr, check.stderr[0], rtol=1e-9)
        np.testing.assert_allclose(got.achieved_upper, check.upper[0], rtol=1e-9)


def test_forcing_in_time_is_the_classical_minimum_energy_control():
    """f(t) = R(t_end - t)' G^-1 y, G = int R R' dt the Gramian, when the target is to be reached at any price."""
    time = np.linspace(0.0, 12.0, 481)
    y = np.array([1.0, -0.3])
    got = optimal_forcing(plain(), vector(*y), time=time)
    R = np.stack([scipy.linalg.expm(DRIFT * (12.0 - t)) for t in time])
    gramian = scipy.integrate.simpson(R @ R.mT, x=time, axis=0)
    exact = np.einsum("tij,i->tj", R, np.linalg.solve(gramian, y))
    # hat functions of width 0.025 against exponentials of rate 1: O(h^2)
    np.testing.assert_allclose(got.forcing[1:-1], exact[1:-1], atol=1e-3 * np.abs(exact).max())
    np.testing.assert_allclose(got.achieved, y, atol=1e-10)


def test_the_unit_forcing_of_largest_response_is_the_leading_singular_vector():
    got = optimal_forcing(plain())
    _, strengths, vectors = np.linalg.svd(S_END)
    assert got.attrs["gain"] == pytest.approx(strengths[0], rel=1e-6)
    assert abs(float(got.forcing @ xr.DataArray(vectors[0], dims="component_src"))) == pytest.approx(1.0, rel=1e-9)
    assert float((got.forcing**2).sum()) == pytest.approx(1.0)


def test_the_error_of_the_gain_is_that_of_the_singular_value():
    R = noisy(0.5)
    got = optimal_forcing(R)
    moved = [
        optimal_forcing((R.response + R.influence[u]).rename("response")).attrs["gain"] - got.attrs["gain"]
        for u in range(30)
    ]
    assert got.attrs["gain_stderr"] == pytest.approx(np.sqrt(30 / 29 * np.sum(np.square(moved))), rel=0.05)


def field_response(shape=(4, 6), lag=LAG[::4]):
    ky, kx = (np.fft.fftfreq(n, 1 / n) for n in shape)
    rate = 0.3 + (ky[:, None] ** 2 + kx**2) / 4 + 0.4j * np.where(np.abs(kx) == shape[1] / 2, 0.0, kx)
    field = np.fft.fftshift(np.fft.ifft2(np.exp(-rate * lag[:, None, None])).real, axes=(1, 2))
    coords = {"lag": lag, "dy": np.arange(shape[0]) - shape[0] // 2, "dx": np.arange(shape[1]) - shape[1] // 2}
    return xr.DataArray(field, dims=("lag", "dy", "dx"), coords=coords, name="response"), rate


def as_matrix(R):
    """The same response over all pairs of sites."""
    shape = R.sizes["dy"], R.sizes["dx"]
    sites = np.indices(shape).reshape(2, -1)
    steps = [(s[:, None] - s[None, :] + n // 2) % n for s, n in zip(sites, shape, strict=True)]
    index = {d: xr.DataArray(step, dims=("site", "site_src")) for d, step in zip(("dy", "dx"), steps, strict=True)}
    return R.isel(index).drop_vars(("dy", "dx"))


@pytest.mark.parametrize("time", [None, [0.0, 1.0, 3.0]])
@pytest.mark.parametrize("effort", [None, 0.2])
def test_a_homogeneous_field_is_steered_like_its_matrix(time, effort):
    R = noisy(0.02, n_units=6, response=field_response()[0])
    target = xr.DataArray(np.random.default_rng(2).standard_normal((4, 6)), dims=("y", "x"))
    got = optimal_forcing(R, target, time=time, effort=effort)
    flat = optimal_forcing(as_matrix(R), xr.DataArray(target.values.ravel(), dims="site"), time=time, effort=effort)
    assert got.forcing.dims == (("y", "x") if time is None else ("time", "y", "x"))
    np.testing.assert_allclose(got.forcing.values.ravel(), flat.forcing.values.ravel(), atol=1e-8)
    np.testing.assert_allclose(got.achieved_stderr.values.ravel(), flat.achieved_stderr.values, rtol=1e-6)


def test_the_strongest_pattern_of_a_field_is_its_slowest_wave():
    R, _ = field_response()
    got = optimal_forcing(R)
    assert got.attrs["gain"] == pytest.approx((1 - np.exp(-3.6)) / 0.3, rel=1e-5)
    np.testing.assert_allclose(got.forcing, 24**-0.5, rtol=1e-9)  # uniform
    wave = optimal_forcing(R - R.mean(("dy", "dx")))  # without the uniform mode: along x or y, gain |S_k|
    assert float((wave.forcing**2).sum()) == pytest.approx(1.0)
    strengths = np.linalg.svd(
        as_matrix(step_response((R - R.mean(("dy", "dx"))).rename("response"))).response.values[-1]
    )[1]
    assert wave.attrs["gain"] == pytest.approx(strengths[0], rel=1e-9)


def test_beyond_the_linear_range_is_said():
    R = plain().to_dataset(name="response").assign(observable_std=vector(0.5, 2.0))
    with pytest.warns(ReliabilityWarning, match="natural standard deviations"):
        assert optimal_forcing(R, vector(1.0, 0.0)).attrs["linear_range"] == "outside"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, "pass a DataArray with dims"),
        ({"target": xr.DataArray(np.ones(3), dims="component")}, "shape"),
        ({"target": vector(np.nan, 1.0)}, "holds NaN"),
        ({"effort": -1.0}, "effort"),
        ({"weight": vector(-1.0, 1.0)}, "weight"),
        ({"time": [0.0, 13.0]}, "known up to lag 12"),
        ({"time": [0.0]}, "at least two"),
    ],
)
def test_goals_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        optimal_forcing(plain(), **({"target": vector(1.0, 0.0)} | options))


# ---- components of different units

UNITS = np.array([1e3, 1e-2])


def in_other_units(R, std=(0.5, 2.0)):
    """The same system with its components measured in other units: R_ij u_i / u_j, and the spread u_i sd_i."""
    u = xr.DataArray(UNITS, dims="component")
    factor = u / u.rename(component="component_src")
    out = R.map(lambda item: (item * factor).transpose(*item.dims), keep_attrs=True)
    return out.assign(observable_std=u * vector(*std)).assign_attrs(R.attrs | {"observable": "mean"})


def known(R, std=(0.5, 2.0)):
    R = R if isinstance(R, xr.Dataset) else R.to_dataset(name="response")
    return R.assign(observable_std=vector(*std)).assign_attrs(observable="mean")


@pytest.mark.parametrize("options", [{}, {"target": (0.05, -0.03), "effort": 0.3}, {"time": [0.0, 4.0, 10.0]}])
def test_optimal_forcing_does_not_depend_on_units(options):
    R = noisy(0.1)
    target = options.pop("target", None)
    plain_target, other_target = (
        (None, None) if target is None else (vector(*target), vector(*(np.array(target) * UNITS)))
    )
    got = optimal_forcing(in_other_units(R), other_target, **options)
    same = optimal_forcing(known(R), plain_target, **options)
    np.testing.assert_allclose(got.forcing / UNITS, same.forcing, rtol=1e-9)
    np.testing.assert_allclose(got.forcing_scale, UNITS * [0.5, 2.0])
    if target is None and not options:
        assert got.attrs["gain"] == pytest.approx(same.attrs["gain"], rel=1e-9)
        assert float(((got.forcing / got.forcing_scale) ** 2).sum()) == pytest.approx(1.0)
        # in natural units the leading singular vector of sd^-1 S sd
        S = step_response(known(R)).response.values[-1] * np.array([0.5, 2.0]) / np.array([[0.5], [2.0]])
        assert got.attrs["gain"] == pytest.approx(np.linalg.svd(S)[1][0], rel=1e-9)


def test_a_scale_is_given_by_hand_or_known_for_the_mean_of_the_state_only():
    R = known(plain())
    by_hand = optimal_forcing(plain(), weight=vector(4.0, 0.25), forcing_scale=R.observable_std)
    np.testing.assert_allclose(by_hand.forcing, optimal_forcing(R).forcing, rtol=1e-12)
    np.testing.assert_allclose(optimal_forcing(R, forcing_scale=1).forcing_scale, 1.0)
    for other in (R.assign_attrs(observable="variance"), R.isel(component=[1]), R.drop_vars("observable_std")):
        np.testing.assert_allclose(optimal_forcing(other).forcing_scale, 1.0)
    for wrong, message in (
        (vector(1.0, -1.0), "zeros, negative"),
        (xr.DataArray([1.0, 2.0], dims="site"), "has dims"),
        ([1.0, 2.0, 3.0], "shape"),
        ("big", "pass numbers"),
    ):
        with pytest.raises(InputError, match=message):
            optimal_forcing(R, forcing_scale=wrong)


def test_a_homogeneous_field_is_scaled_by_variable():
    two = xr.concat([field_response()[0], 0.5 * field_response()[0]], "variable")
    R = (two * xr.DataArray(np.eye(2), dims=("variable", "variable_src"))).transpose(
        "lag", "variable", "dy", "dx", "variable_src"
    )
    dims = {"observable_dims": "variable", "perturbation_dims": "variable_src", "displacement_dims": "dy dx"}
    R = R.to_dataset(name="response").assign_attrs(dims | {"observable": "mean"})
    std = xr.DataArray([3.0, 0.01], dims="variable")
    got = optimal_forcing(R.assign(observable_std=std))
    assert float(((got.forcing / got.forcing_scale) ** 2).sum()) == pytest.approx(1.0)
    # variables that do not see each other: the gain, in natural units, is that of the first
    assert got.attrs["gain"] == pytest.approx((1 - np.exp(-3.6)) / 0.3, rel=1e-5)
    np.testing.assert_allclose(got.forcing_scale, std)


def test_attribution_does_not_depend_on_units():
    R, y, se = noisy(0.1), np.array([1.0, -0.3]), np.array([0.1, 0.2])
    got = attribute(in_other_units(R), vector(*(y * UNITS)), vector(*(se * UNITS)))
    same = attribute(known(R), vector(*y), vector(*se))
    np.testing.assert_allclose(got.forcing / UNITS, same.forcing, rtol=1e-6)
    np.testing.assert_allclose(got.stderr / UNITS, same.stderr, rtol=1e-6)
    np.testing.assert_allclose(got.resolution, same.resolution, rtol=1e-6)
    assert got.attrs["prior_std"] == pytest.approx(same.attrs["prior_std"], rel=1e-6)


def test_the_prior_is_one_number_times_the_scale():
    y, se, p, scale = np.array([1.0, -0.3]), np.array([0.1, 0.2]), 0.8, np.array([0.5, 2.0])
    got = attribute(plain(), vector(*y), vector(*se), prior_std=p, forcing_scale=scale)
    covariance = np.linalg.inv(S_END.T @ np.diag(se**-2) @ S_END + np.diag((p * scale) ** -2))
    np.testing.assert_allclose(got.forcing, covariance @ S_END.T @ (y / se**2), rtol=1e-4)
    np.testing.assert_allclose(got.stderr, np.sqrt(np.diag(covariance)), rtol=1e-5)


# ---- attribution


def test_posterior_is_the_closed_form():
    y, se, p = np.array([1.0, -0.3]), np.array([0.1, 0.2]), 0.8
    got = attribute(plain(), vector(*y), vector(*se), prior_std=p)
    precision = S_END.T @ np.diag(se**-2) @ S_END + np.eye(2) / p**2
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(got.forcing, covariance @ S_END.T @ (y / se**2), rtol=1e-4)
    np.testing.assert_allclose(got.stderr, np.sqrt(np.diag(covariance)), rtol=1e-5)
    np.testing.assert_allclose(got.resolution, 1 - np.diag(covariance) / p**2, rtol=1e-4)
    assert got.attrs["degrees_of_freedom"] == pytest.approx(float(got.resolution.sum()))


def test_the_true_forcing_is_found_within_its_error():
    rng = np.random.default_rng(3)
    truth, se = np.array([0.4, -0.2]), 0.05
    inside = []
    for _ in range(120):
        y = S_END @ truth + se * rng.standard_normal(2)
        got = attribute(plain(), vector(*y), se)
        inside.append((got.lower <= truth) & (truth <= got.upper))
    coverage = np.mean(inside, axis=0)
    # 95 % nominal; four binomial standard errors of 120 trials
    assert (np.abs(coverage - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 120)).all(), coverage


def test_errors_of_the_response_widen_the_answer_to_what_it_misses():
    rng = np.random.default_rng(4)
    truth, se, scores, naive = np.array([0.4, -0.2]), 0.01, [], []
    for trial in range(60):
        R = noisy(0.2, seed=trial, response=plain(lag=LAG[::12]))
        y = S_END @ truth + se * rng.standard_normal(2)
        got = attribute(R, vector(*y), se)
        scores.append((got.forcing - truth) / got.stderr)
        blind = attribute(R.response, vector(*y), se)
        naive.append((blind.forcing - truth) / blind.stderr)
    # mean square of 120 z-scores: 1 +- 4 sqrt(2/60), the two of a trial taken as one; blind to R's error it is far off
    assert abs(np.mean(np.square(scores)) - 1) < 4 * np.sqrt(2 / 60)
    assert np.mean(np.square(naive)) > 3


def test_what_the_data_cannot_tell_is_said():
    """Only the slow component is observed: what forces the fast one from outside is seen through its effect alone."""
    R = plain(np.array([[-1.0, 0.0], [0.0, -0.5]])).isel(component=[0])
    got = attribute(R, xr.DataArray([0.8], dims="component"), 0.05)
    assert got.constrained.values.tolist() == [True, False]
    assert float(got.resolution[1]) == pytest.approx(0.0, abs=1e-12)
    assert float(got.forcing[1]) == 0.0
    assert float(got.stderr[1]) == pytest.approx(got.attrs["prior_std"])
    assert float(got.stderr[1]) > 3 * 0.8  # open, not pulled to zero
    np.testing.assert_allclose(np.abs(got.direction), np.eye(2), atol=1e-12)
    np.testing.assert_allclose(got.direction_resolution, got.resolution, atol=1e-12)
    assert "1 of the 2 forcings, taken each by itself, is not determined" in got.attrs["summary"]


def test_data_that_the_model_meets_whatever_it_is_do_not_test_it():
    got = attribute(plain(), vector(1.0, -0.3), 0.001)
    assert np.isnan(got.attrs["p_value"])
    assert np.isnan(got.attrs["chi_square"])
    assert got.attrs["chi_square_dof"] == 0
    assert "cannot test" in got.attrs["summary"]
    assert "each forcing is determined by itself" in got.attrs["summary"]
    assert "prior" not in got.attrs["summary"]


def test_a_part_of_the_observables_needs_the_same_part_of_the_response():
    R = plain().assign_coords(component=["a", "b"], component_src=["a", "b"])
    change = xr.DataArray([0.8], dims="component", coords={"component": ["b"]})
    with pytest.raises(InputError, match=r"R\.sel\(component=\['b'\]\)"):
        attribute(R, change, 0.1)
    assert attribute(R.sel(component=["b"]), change, 0.1).forcing.dims == ("component_src",)


def test_two_forcings_with_the_same_effect_share_it():
    R = plain(np.diag([-1.0, -1.0]))
    both = xr.concat([R.isel(component_src=0), R.isel(component_src=0)], "component_src").transpose("lag", ...)
    got = attribute(both, vector(0.8, 0.0), 0.01)
    np.testing.assert_allclose(got.forcing, 0.4, atol=1e-3)
    np.testing.assert_allclose(got.resolution, 0.5, atol=1e-3)
    np.testing.assert_allclose(np.abs(got.direction), 0.5**0.5, atol=1e-6)  # the sum is known, the difference is not
    np.testing.assert_allclose(got.direction_resolution, [1.0, 0.0], atol=1e-3)


def test_a_change_over_time_tells_forcings_apart():
    times = np.linspace(0.5, 12.0, 24)
    truth = np.array([0.4, -0.2])
    steps = np.stack([np.linalg.solve(DRIFT, scipy.linalg.expm(DRIFT * t) - np.eye(2)) for t in times])
    y = (steps @ truth)[:, 0] + 0.01 * np.random.default_rng(5).standard_normal(24)
    change = xr.DataArray(y[:, None], dims=("time", "component"), coords={"time": times})
    got = attribute(plain().isel(component=[0]), change, 0.01)
    assert (got.resolution > 0.9).all()
    assert (np.abs(got.forcing - truth) < 4 * got.stderr).all()
    assert got.explained.dims == ("time", "component")
    assert got.attrs["p_value"] > 0.001
    assert got.attrs["chi_square_dof"] == pytest.approx(22, abs=0.5)


def test_a_change_that_no_forcing_explains_is_warned_of():
    R = plain(np.diag([-1.0, -1.0])).isel(component_src=[0])
    with pytest.warns(ReliabilityWarning, match="no constant forcing explains"):
        attribute(R, vector(0.5, 0.5), 0.02)


def test_a_homogeneous_field_is_attributed_like_its_matrix():
    R = noisy(0.05, n_units=40, response=field_response((3, 4))[0])
    f = np.random.default_rng(6).standard_normal((3, 4))
    y = (step_response(as_matrix(R.response)).response.values[-1] @ f.ravel()).reshape(3, 4)
    change = xr.DataArray(y, dims=("y", "x"))
    got = attribute(R, change, 0.1 * xr.ones_like(change))
    flat = attribute(as_matrix(R), xr.DataArray(y.ravel(), dims="site"), 0.1)
    for name in ("forcing", "stderr", "resolution", "explained"):
        np.testing.assert_allclose(got[name].values.ravel(), flat[name].values, rtol=1e-6, atol=1e-9)
    assert got.forcing.dims == ("y", "x")


@pytest.mark.parametrize(
    ("change", "stderr", "message"),
    [
        (vector(1.0, 1.0), 0.0, "error > 0"),
        (vector(1.0, 1.0), None, "pass a number"),
        (1.0, 0.1, "pass a DataArray"),
        (
            xr.DataArray(np.ones((1, 2)), dims=("time", "component"), coords={"time": [13.0]}),
            0.1,
            r"must lie in \(0, 12\]",
        ),
        (xr.DataArray(np.ones((1, 2)), dims=("time", "component")), 0.1, "no numeric 'time'"),
    ],
)
def test_data_that_do_not_fit_are_refused(change, stderr, message):
    with pytest.raises(InputError, match=message):
        attribute(plain(), change, stderr)


def test_standard_errors_alone_serve_as_independent_errors():
    R = noisy(0.2).drop_vars("influence")
    S = step_response(R)
    V = np.diag((S.stderr.values[-1] ** 2).sum(axis=0))
    y, steps = np.array([1.0, -0.3]), S.response.values[-1]
    got = optimal_forcing(R, vector(*y))
    np.testing.assert_allclose(got.forcing, np.linalg.solve(steps.T @ steps + V, steps.T @ y), rtol=1e-8)
    found = attribute(R, vector(*y), 0.05, prior_std=10.0)
    blind = attribute(R.response, vector(*y), 0.05, prior_std=10.0)
    assert (found.stderr.values > blind.stderr.values).all()


def test_results_go_through_netcdf(tmp_path):
    R = noisy(0.3)
    for name, item in (("f", optimal_forcing(R, vector(1.0, 0.0))), ("a", attribute(R, vector(1.0, 0.0), 0.1))):
        item.to_netcdf(tmp_path / f"{name}.nc")
        with xr.open_dataset(tmp_path / f"{name}.nc") as back:
            xr.testing.assert_allclose(back, item)
