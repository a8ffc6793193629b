"""The score check of several variables at each site, of records with gaps, and in bounded memory."""

import tracemalloc

import numpy as np
import pytest
import scipy.fft
import xarray as xr
from matplotlib.figure import Figure

import gfdt
from gfdt.diagnostics.derivatives import differentiate, minus_inverse, trace_of_gaussian
from gfdt.diagnostics.mean import drift_of_the_mean
from gfdt.diagnostics.modes import mode_departure
from gfdt.diagnostics.sample import covariance_of, draw_sample, rank, root
from gfdt.responses.prepare import check_arguments, prepare

VECTOR = ("member", "time", "component")
TWO = ("member", "time", "variable", "y", "x")
GRID = (4, 6)
UNITS = np.array([1.0, 30.0])  # of the two variables


def spectra(shared=0.6):
    """C_k of two variables on GRID, (half, 2, 2): red, the cross term complex where k_x is not 0 or 3."""
    ky, kx = np.meshgrid(np.fft.fftfreq(GRID[0], 1 / GRID[0]), np.arange(GRID[1] // 2 + 1), indexing="ij")
    first, second = 1 / (1 + ky**2 + kx**2), 1 / (1 + 0.3 * (ky**2 + kx**2))
    cross = shared * np.sqrt(first * second) * np.exp(1j * np.sin(2 * np.pi * kx / GRID[1]))
    return np.moveaxis(np.array([[first, cross], [cross.conj(), second]]), (0, 1), (-2, -1))


def multiply(field, matrices):
    """Fields (..., 2, y, x) times a matrix for each wavenumber."""
    modes = np.einsum("yxvw,...wyx->...vyx", matrices, scipy.fft.rfftn(field, axes=(-2, -1)))
    return scipy.fft.irfftn(modes, s=GRID, axes=(-2, -1))


def two_variables(n_members=24, n_times=300, seed=0):
    """A Gaussian field of two variables, uncorrelated in time, in UNITS."""
    white = np.random.default_rng(seed).standard_normal((n_members, n_times, 2, *GRID))
    x = multiply(white, np.linalg.cholesky(spectra())) * UNITS[:, None, None]
    coords = {"time": np.arange(float(n_times)), "variable": ["u", "v"]}
    return xr.DataArray(x, dims=TWO, coords=coords)


def exact(x):
    scale = UNITS[:, None, None]
    return -multiply(x / scale, np.linalg.inv(spectra())) / scale


def check(x, score, **options):
    return gfdt.check_score(x, score, homogeneous=("y", "x"), progress=False, **options)


def verdicts(report):
    return {finding.check: finding.verdict for finding in report.findings}


# --- operators of several variables ----------------------------------------------------------------------------------


def prepared(x, score, homogeneous=("y", "x")):
    return prepare(check_arguments(x, score, max_lag=0.0, homogeneous=homogeneous, gaps=True), progress=False)


def test_operators_of_two_variables_are_those_of_the_full_matrix():
    """C^(1/2), C^-1, tr(C B^-1) and the rank, against a dense matrix that is applied to every unit vector."""
    ready = prepared(two_variables(n_times=50), exact)
    covariance = covariance_of(ready, ready.covariance)
    blurred = covariance_of(ready, ready.covariance + np.diag([0.5, 4 * UNITS[1] ** 2]))  # other eigenvectors
    unit = np.eye(48).reshape(48, 2, *GRID)
    dense, other = (operator.apply(unit, lambda c: c).reshape(48, 48) for operator in (covariance, blurred))
    assert rank(covariance) == np.linalg.matrix_rank(dense) == 48
    np.testing.assert_allclose(np.diagonal(dense), 1.0, atol=0.3)  # in units of each variable's spread
    assert np.diagonal(dense).reshape(2, -1).mean(axis=1) == pytest.approx([1.0, 1.0], abs=1e-12)
    half = root(covariance, unit).reshape(48, 48)
    np.testing.assert_allclose(half @ half.T, dense, atol=1e-12)
    np.testing.assert_allclose(blurred.apply(unit, minus_inverse).reshape(48, 48), -np.linalg.inv(other), atol=1e-10)
    assert trace_of_gaussian(covariance, blurred) == pytest.approx(-np.trace(dense @ np.linalg.inv(other)), rel=1e-10)


def test_trace_of_two_covariances_of_three_variables_is_that_of_the_full_matrices():
    """With three variables the overlap of eigenvectors is no longer a symmetric matrix."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((3, 3))
    x = np.einsum("ab,mtbx->mtax", mix, rng.standard_normal((24, 50, 3, 5)) + rng.standard_normal((24, 50, 3, 1)))
    array = xr.DataArray(x, dims=(*TWO[:3], "x"), coords={"time": np.arange(50.0)})
    ready = prepared(array, lambda u: -u, homogeneous="x")
    covariance, blurred = (covariance_of(ready, ready.covariance + c * np.diag([0.2, 1.0, 5.0])) for c in (0.0, 1.0))
    unit = np.eye(15).reshape(15, 3, 5)
    dense, other = (operator.apply(unit, lambda c: c).reshape(15, 15) for operator in (covariance, blurred))
    assert trace_of_gaussian(covariance, blurred) == pytest.approx(-np.trace(dense @ np.linalg.inv(other)), rel=1e-10)


def test_trace_of_a_gaussian_score_of_two_variables_is_found_without_noise():
    """The Gaussian is its own control variate: the trace of C J is minus the number of directions at every state."""
    x = two_variables(n_times=50)
    ready = prepared(x, gfdt.GaussianScore(homogeneous=("y", "x")).fit(x))
    rng = np.random.default_rng(0)
    states = draw_sample(ready, rng).clean[:20]
    covariance = covariance_of(ready, ready.covariance)
    spread = np.sqrt(np.asarray(x.var(("member", "time", "y", "x"))))[:, None, None]
    found = differentiate(ready.score, states, covariance, covariance, rng, spread)
    np.testing.assert_allclose(found.trace, -48.0, rtol=1e-9)
    assert found.curl < 1e-9


# --- several variables -----------------------------------------------------------------------------------------------


def test_exact_score_of_two_variables_is_green():
    report = check(two_variables(), exact)
    assert report.verdict == "green", report
    assert report.stein.shape == (16, 2, 2)
    assert report.observables["moment3"].measured.shape == (2,)
    assert report.modes.measured.shape == (32,)
    assert report.loss.score == pytest.approx(-0.5, abs=4 * report.loss.stderr + 0.02)


def test_an_exact_score_of_two_variables_is_never_called_wrong():
    """Twelve records, with members and with blocks as units: at 0.1 % per check all of them pass."""
    for members, times in ((24, 60), (3, 400)):
        found = [check(two_variables(members, times, seed), exact) for seed in range(10, 16)]
        assert [report.verdict for report in found] == ["green"] * 6


def test_a_gaussian_score_of_two_variables_is_checked_as_it_was_fitted():
    x = two_variables()
    score = gfdt.GaussianScore(homogeneous=("y", "x")).fit(x)
    report = gfdt.check_score(x, score)
    assert report.stein.shape == (16, 2, 2)
    assert report.in_sample
    assert report.verdict == "green"
    assert report.stein_excess < 1e-6  # its own record: to rounding
    assert abs(report.loss.difference) < 1e-9
    assert gfdt.check_score(x, score, homogeneous=False).stein.shape == (48, 48)


@pytest.mark.parametrize(("which", "factor", "verdict"), [(0, 1.5, "red"), (1, 1.5, "red"), (1, 1.12, "amber")])
def test_the_variable_whose_score_is_scaled_is_named(which, factor, verdict):
    """M_k = diag(1, a) in the mean: the rms over four entries is |a - 1|/2, and <x^3 B>/3 <x^2> is 1 and a."""
    factors = np.where(np.arange(2) == which, factor, 1.0)[:, None, None]
    report = check(two_variables(), lambda x: factors * exact(x))
    assert verdicts(report)["Stein identity"] == verdict, report
    assert report.stein_excess == pytest.approx((factor - 1) / 2, abs=0.02)
    stein = next(finding for finding in report.findings if finding.check == "Stein identity")
    name = "uv"[which]
    assert f"worst at variable={name}, wavenumber k_y=" in stein.reason
    moment = report.observables["moment3"]
    # The sampling error of the fourth moment, measured.
    assert (np.abs(moment.measured[which] - factor) < 4 * moment.stderr[which]).all()
    assert np.abs(moment.measured[1 - which] - 1) < 4 * moment.stderr[1 - which]
    third = next(finding for finding in report.findings if finding.check == "third order")
    assert third.verdict == verdict or factor < 1.2
    assert f"(worst at variable={name})" in third.reason


def test_a_score_without_the_terms_between_variables_is_red():
    """s_v = -x_v/C_vv has M_k = C_k diag(1/C_vv): right in each variable, wrong between them."""
    diagonal = spectra(shared=0.0)

    def alone(x):
        scale = UNITS[:, None, None]
        return -multiply(x / scale, np.linalg.inv(diagonal)) / scale

    report = check(two_variables(), alone)
    assert report.verdict == "red"
    stein = next(finding for finding in report.findings if finding.check == "Stein identity")
    assert stein.verdict == "red"
    assert "state variable=u, score variable=v" in stein.reason or "state variable=v, score variable=u" in stein.reason
    assert verdicts(report)["third order"] == "green"  # pointwise: no average of one variable sees it
    # Complex coherence 0.6 at every wavenumber: of the entries (0, sd_w/sd_v c; ...) the rms is 0.6/sqrt 2 times the
    # ratio of the spectra in units of the spread.
    spectrum, weights = spectra(), np.array([1.0, 2.0, 2.0, 1.0])
    spread = np.sqrt((np.diagonal(spectrum, axis1=-2, axis2=-1).real * weights[:, None]).sum(axis=(0, 1)) / 24)
    wrong = spectrum @ np.linalg.inv(diagonal) * spread[None, :] / spread[:, None]
    wrong = np.abs(wrong - np.eye(2)) ** 2
    assert report.stein_excess == pytest.approx(np.sqrt(wrong.sum() / (16 * 4)), rel=0.03)
    assert report.loss.z > 10


def test_scores_of_other_units_have_the_same_report():
    """Pascal and kg/kg: 10^5 and 10^-3 of one size."""
    scale = np.array([1e5, 1e-3])[:, None, None]
    x = two_variables(n_times=60)

    def wrong(u):
        return 1.2 * exact(u)

    plain = check(x, wrong)
    scaled = check(x * xr.DataArray(scale[:, 0, 0], dims="variable"), lambda u: wrong(u / scale) / scale)
    np.testing.assert_allclose(scaled.stein, plain.stein, rtol=1e-7, atol=1e-7)
    assert scaled.loss.difference == pytest.approx(plain.loss.difference, rel=1e-6)
    assert scaled.curl == pytest.approx(plain.curl, abs=1e-6)
    np.testing.assert_allclose(scaled.modes.measured, plain.modes.measured, rtol=1e-6)


def test_a_combination_of_variables_without_variance_is_not_called_wrong():
    """v is u seen through a filter: one direction in two for each wavenumber, and wavenumber (2, 3) in neither."""
    x = two_variables(n_times=200).values[:, :, 0]
    modes = scipy.fft.rfftn(x, axes=(-2, -1))
    modes[..., 2, 3] = 0.0
    u = scipy.fft.irfftn(modes, s=GRID, axes=(-2, -1))
    shift = np.exp(-2j * np.pi * np.arange(4) / 6)  # by one cell in x: v has other phases
    v = 5 * scipy.fft.irfftn(np.where(np.arange(4) == 3, 0.5, shift) * modes, s=GRID, axes=(-2, -1))
    both = xr.DataArray(np.stack([u, v], axis=2), dims=TWO, coords={"time": np.arange(200.0)})
    score = gfdt.GaussianScore(homogeneous=("y", "x")).fit(both)
    report = gfdt.check_score(both, score)
    assert report.verdict == "green", report
    identity = report.departure.identity
    ranks = np.rint(np.trace(identity, axis1=1, axis2=2).real).astype(int)
    assert ranks[2 * 4 + 3] == 0
    assert (np.delete(ranks, 2 * 4 + 3) == 1).all()
    assert np.abs(identity.imag).max() > 0.1
    assert report.modes.measured.shape == (15,)
    assert abs(report.loss.difference) < 1e-9  # its own record
    # -s'Cs/2 per direction, of 23 of them at 4096 states: 0.5 (2/23/4096)^(1/2) is its standard error.
    assert report.loss.score == pytest.approx(-0.5, abs=4 * 0.5 * np.sqrt(2 / 23 / 4096))
    out = report.to_dataset()
    np.testing.assert_allclose(out["stein"], out["stein_identity"], atol=1e-7)
    np.testing.assert_allclose(out["stein_imag"], out["stein_identity_imag"], atol=1e-7)
    report.plot(Figure(figsize=(10, 7), layout="constrained")).canvas.draw()


def test_the_mode_that_is_not_gaussian_is_named():
    """u(k = 0) is +-1 with noise, as a flipping mean: invisible at single sites, K = kurtosis/3 in that one mode."""
    x = two_variables()
    rng = np.random.default_rng(1)
    sign = 3 * (np.sign(rng.standard_normal((24, 300))) + 0.2 * rng.standard_normal((24, 300)))
    values = x.values.copy()
    values[:, :, 0] += (sign - values[:, :, 0].mean(axis=(2, 3)))[:, :, None, None]
    values[:, :, 1] -= values[:, :, 1].mean(axis=(2, 3), keepdims=True) * 0.5
    x = x.copy(data=values)
    report = gfdt.check_score(x, gfdt.GaussianScore(homogeneous=("y", "x")).fit(x))
    modes = next(finding for finding in report.findings if finding.check == "modes")
    assert modes.verdict == "red"
    assert "wavenumber k_y=0, k_x=0 (mostly variable=u)" in modes.reason


def test_third_order_of_modes_is_that_of_a_slow_loop():
    """K_a - <z_a B_a*> over members and times, of the eigenvectors of each correlation matrix."""
    x = two_variables(n_members=20, n_times=40)

    def cubic(u):
        return exact(u) - 0.05 * (u / UNITS[:, None, None]) ** 3 / UNITS[:, None, None]

    ready = prepared(x, cubic)
    found, where = mode_departure(ready)
    centred = (x - x.mean(("member", "time", "y", "x"))).values.reshape(-1, 2, *GRID)
    b = -cubic(x.values).reshape(-1, 2, *GRID)
    b -= b.mean(axis=(0, 2, 3), keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=(0, 2, 3)))
    series, source = (scipy.fft.rfftn(f, axes=(2, 3), norm="ortho") for f in (centred, b))
    expected = []
    for ky in range(4):
        for kx in range(4):
            z, c = series[:, :, ky, kx] / spread, source[:, :, ky, kx] * spread
            vectors = np.linalg.eigh(z.T @ z.conj() / len(z))[1]
            real = (ky, kx) in ((0, 0), (2, 0), (0, 3), (2, 3))
            for j in range(2):
                p, q = z @ vectors[:, j].conj(), c @ vectors[:, j].conj()
                k = (np.abs(p) ** 2 * p * q.conj()).mean() / (3 if real else 2) / (np.abs(p) ** 2).mean()
                expected.append(k - (p * q.conj()).mean() + 1)
    np.testing.assert_allclose(found.measured, expected, rtol=1e-9, atol=1e-9)
    assert where[:, 0].tolist() == np.repeat(np.arange(16), 2).tolist()


def test_a_learned_score_of_two_variables_is_swept():
    x = two_variables(n_times=100)

    class Levels(gfdt.AnalyticScore):
        def __init__(self, level):
            scale = UNITS[:, None, None]
            blur = np.linalg.inv(spectra() + (level * np.eye(2) / UNITS) ** 2)
            super().__init__(lambda u: -multiply(u / scale, blur) / scale)
            self.noise_level_ = level
            self.fit(x)

        def at_noise_level(self, sigma):
            return Levels(sigma)

    report = check(x, Levels(0.5))
    assert report.verdict == "green", report
    assert [item.noise_level for item in report.sweep] == pytest.approx([0.375, 0.5, 0.75, 1.0, 1.5])
    assert all(not item.stein.significant for item in report.sweep)
    # The Gaussian is fitted on 1920 other states, so the exact one is better by what that costs, and never worse.
    assert all(item.loss.z < 3 for item in report.sweep)
    assert all(item.loss.difference > -0.02 for item in report.sweep)


def test_dataset_and_figure_of_two_variables(tmp_path):
    report = check(two_variables(n_times=60), exact)
    out = report.to_dataset()
    assert out["stein"].dims == ("k_y", "k_x", "variable", "variable_src")
    assert out["k_y"].values.tolist() == [0, 1, -2, -1]
    assert out["variable_src"].values.tolist() == ["u", "v"]
    own = out["stein"].sel(variable="u", variable_src="u")
    between = out["stein"].sel(variable="u", variable_src="v")
    assert float(own.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(between.mean()) == pytest.approx(0.0, abs=0.05)
    out.to_netcdf(tmp_path / "report.nc")
    xr.testing.assert_allclose(out, xr.open_dataset(tmp_path / "report.nc").load())
    figure = report.plot(Figure(figsize=(10, 7), layout="constrained"))
    figure.canvas.draw()
    ax = next(ax for ax in figure.axes if ax.get_title() == "Stein identity")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "score of variable=u",
        "score of variable=v",
    ]


# --- gaps ------------------------------------------------------------------------------------------------------------


def with_gaps(x, n_kept, seed=0):
    """Every member keeps ``n_kept`` samples of its own choice; returned too: the same samples without the gaps."""
    rng = np.random.default_rng(seed)
    kept = np.stack([np.sort(rng.choice(x.shape[1], n_kept, replace=False)) for _ in range(x.shape[0])])
    there = np.zeros(x.shape[:2], dtype=bool)
    np.put_along_axis(there, kept, True, axis=1)
    closed = np.stack([row[times] for row, times in zip(x.values, kept, strict=True)])
    gappy = x.where(xr.DataArray(there, dims=("member", "time")))
    return gappy, x.isel(time=slice(n_kept)).copy(data=closed)


def assert_same_report(one, other):
    """Everything but the drift, which knows when the samples were taken."""
    np.testing.assert_allclose(one.stein, other.stein, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one.stein_stderr, other.stein_stderr, rtol=1e-9)
    for name in other.observables:
        for field in ("measured", "stderr", "excess"):
            np.testing.assert_allclose(
                getattr(one.observables[name], field), getattr(other.observables[name], field), rtol=1e-9, atol=1e-12
            )
    np.testing.assert_allclose(one.modes.measured, other.modes.measured, rtol=1e-9)
    np.testing.assert_allclose(one.modes.stderr, other.modes.stderr, rtol=1e-9)
    np.testing.assert_allclose(
        [one.mean_score, one.mean_score_z, one.curl, one.loss.score, one.loss.gaussian, one.loss.stderr],
        [other.mean_score, other.mean_score_z, other.curl, other.loss.score, other.loss.gaussian, other.loss.stderr],
        rtol=1e-7,
        atol=1e-12,
    )
    assert one.n_samples == other.n_samples


@pytest.mark.parametrize("kind", ["pairs", "many components", "field", "two variables"])
def test_a_fifth_of_the_samples_missing_is_as_if_they_had_never_been(kind):
    names = ("second_moment", "variance", "moment3", "moment4")
    if kind == "two variables":
        x, options = two_variables(n_times=100), {"homogeneous": ("y", "x"), "score": lambda u: 1.2 * exact(u)}
    else:
        shape, dims = {
            "pairs": ((3,), VECTOR),
            "many components": ((20,), VECTOR),
            "field": ((4, 6), TWO[:2] + TWO[3:]),
        }[kind]
        rng = np.random.default_rng(1)
        x = xr.DataArray(2 + rng.standard_normal((24, 100, *shape)), dims=dims, coords={"time": np.arange(100.0)})
        options = {
            "homogeneous": True if kind == "field" else None,
            "score": lambda u: -1.2 * (u - 2) - 0.1 * (u - 2) ** 3,
        }
    gappy, closed = with_gaps(x, 80)
    assert int(np.isnan(gappy).sum()) == 0.2 * gappy.size
    one, other = (gfdt.check_score(run, observables=names, progress=False, **options) for run in (gappy, closed))
    assert other.verdict != "green"
    assert_same_report(one, other)


def test_members_of_unequal_length_are_checked_in_a_list():
    rng = np.random.default_rng(0)
    lengths = [60 + 20 * member for member in range(24)]
    parts = [
        xr.DataArray(rng.standard_normal((n, 2)), dims=VECTOR[1:], coords={"time": np.arange(float(n))})
        for n in lengths
    ]
    report = gfdt.check_score(parts, lambda u: -u, progress=False)
    assert report.verdict == "green", report
    assert report.n_samples == sum(lengths)
    every = np.concatenate([part.values for part in parts])
    centred = every - every.mean(axis=0)
    # M by hand over all samples, in units of the spread: of s = -x it is the covariance.
    spread = centred.std(axis=0)
    np.testing.assert_allclose(report.stein, centred.T @ centred / len(every) * spread / spread[:, None], rtol=1e-9)
    assert "errors          from 24 members" in str(report)
    fitted = gfdt.check_score(parts, gfdt.GaussianScore().fit(parts), progress=False)
    assert fitted.in_sample
    assert fitted.stein_excess < 1e-6


def test_blocks_without_a_sample_do_no_harm():
    """Three members of which one stops early: its last blocks are empty, in the loss and the sweep too."""
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal((n, 2)) for n in (3000, 3000, 300)]

    class Levels(gfdt.AnalyticScore):
        def __init__(self, level=0.5):
            super().__init__(lambda u: -u / (1 + level**2))
            self.noise_level_ = level

        def at_noise_level(self, sigma):
            return Levels(sigma).fit(parts, dims=VECTOR[1:])

    report = gfdt.check_score(parts, Levels(), dims=VECTOR[1:], dt=1.0, progress=False)
    assert report.verdict == "green", report
    assert len(report.sweep) == 5
    assert np.isfinite([item.loss.difference for item in report.sweep]).all()


def test_a_drift_is_seen_through_gaps_and_gaps_are_not_taken_for_one():
    rng = np.random.default_rng(0)
    for members, times in ((24, 400), (2, 6000)):
        x = xr.DataArray(
            rng.standard_normal((members, times, 1)), dims=VECTOR, coords={"time": np.arange(float(times))}
        )
        # The first half is thinned: a mean over all samples of each half must not care.
        thin = xr.DataArray((np.arange(times) > times // 2) | (np.arange(times) % 4 == 0), dims="time")
        slope = 1.0 * x["time"] / times
        assert verdicts(gfdt.check_score(x.where(thin), lambda u: -u))["stationarity"] == "green"
        assert verdicts(gfdt.check_score((x + slope).where(thin), lambda u: -u))["stationarity"] == "amber"


def test_a_member_with_a_single_sample_does_no_harm():
    x = np.random.default_rng(0).standard_normal((24, 100, 1))
    x[3, 1:] = np.nan
    report = gfdt.check_score(x, lambda u: -u, dims=VECTOR, dt=1.0, progress=False)
    assert report.verdict == "green", report
    assert report.n_samples == 2301
    rest = gfdt.check_score(np.delete(x, 3, axis=0), lambda u: -u, dims=VECTOR, dt=1.0, progress=False)
    assert report.drift_z == pytest.approx(rest.drift_z, rel=1e-9)


def test_drift_of_members_of_unequal_length_is_the_weighted_mean_of_their_changes():
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 200, 20)
    parts = [5 + rng.standard_normal((n, 1)) for n in lengths]
    ready = prepare(
        check_arguments(parts, lambda u: -(u - 5), max_lag=0.0, dims=VECTOR[1:], dt=1.0, gaps=True), progress=False
    )
    found = drift_of_the_mean(ready)
    change = np.array([p[len(p) // 2 :].mean() - p[: len(p) // 2].mean() for p in parts])
    weight = np.array([(len(p) // 2) * (len(p) - len(p) // 2) / len(p) for p in parts])
    mean = (weight * change).sum() / weight.sum()
    stderr = np.sqrt(20 / 19 * ((weight * (change - mean)) ** 2).sum()) / weight.sum()
    assert found.z == pytest.approx(abs(mean) / stderr, rel=1e-9)


# --- memory and words ------------------------------------------------------------------------------------------------


def test_beside_the_record_only_the_score_of_every_state_is_held(monkeypatch):
    """A record of 17 MB in float32, in blocks of 0.1 MB: B is as large, the rest is a few blocks and sums."""
    from gfdt import record
    from gfdt.diagnostics import sample

    monkeypatch.setattr(record, "BLOCK_VALUES", 2**14)
    monkeypatch.setattr(sample, "_STATES", 256)  # what derivatives take does not grow with the record
    x = np.random.default_rng(0).standard_normal((20, 3300, 64), dtype=np.float32)
    x = xr.DataArray(x, dims=VECTOR, coords={"time": np.arange(3300.0)})
    score = gfdt.AnalyticScore(lambda u: -u)
    gfdt.check_score(x.isel(time=slice(20)), score, progress=False)  # what is imported on the way
    tracemalloc.start()
    try:
        gfdt.check_score(x, score, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.4 * x.nbytes


def test_sums_of_a_float32_record_far_from_zero_are_exact():
    x = np.float32(1e4) + np.random.default_rng(0).standard_normal((20, 4000, 1), dtype=np.float32)
    report = gfdt.check_score(x, lambda u: -(u.astype(np.float64) - 1e4), dims=VECTOR, dt=1.0)
    assert report.verdict == "green", report
    same = gfdt.check_score(x.astype(np.float64), lambda u: -(u - 1e4), dims=VECTOR, dt=1.0)
    # B is kept in float32: relative rounding 6e-8 of single values.
    np.testing.assert_allclose(report.stein, same.stein, rtol=1e-6)
    assert report.drift_z == pytest.approx(same.drift_z, rel=1e-9)


def test_the_report_says_what_the_errors_come_from():
    rng = np.random.default_rng(0)
    few = rng.standard_normal((10, 10, 1))
    for x, text in (
        (rng.standard_normal((24, 20, 1)), "24 members"),
        (few, "10 members"),
        (rng.standard_normal((2, 4000, 1)), "blocks of"),
    ):
        report = gfdt.check_score(x, lambda u: -u, dims=VECTOR, dt=1.0)
        assert text in report.resampling
        assert f"from {report.resampling}, {x.size} states" in str(report)
        assert report.to_dataset().attrs["resampling"] == report.resampling


def test_the_component_that_is_wrong_is_named():
    x = xr.DataArray(
        np.random.default_rng(0).standard_normal((24, 400, 3)),
        dims=VECTOR,
        coords={"time": np.arange(400.0), "component": ["a", "b", "c"]},
    )
    reasons = gfdt.check_score(x, lambda u: -np.array([1.0, 1.7, 1.0]) * u).reasons
    assert "Stein identity" in reasons[0]
    assert "worst at component=b:" in reasons[0]
    assert any("principal component" in reason for reason in reasons) or len(reasons) > 1
    drifting = gfdt.check_score(x - xr.DataArray([0, 0, 0.5], dims="component"), lambda u: -u).reasons
    assert "standard errors at component=c)" in " ".join(drifting)


def test_the_command_checks_several_variables_with_gaps(tmp_path, capsys):
    from gfdt.cli.commands import main

    gappy, _ = with_gaps(two_variables(n_times=60), 50)
    file = tmp_path / "run.nc"
    gappy.to_dataset("variable").to_netcdf(file)
    with pytest.raises(SystemExit) as left:
        main(["check", str(file), "gaussian", "--var", "u,v", "--homogeneous", "y,x"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert "score check: green" in out
    assert "from 24 members, 1200 states" in out
