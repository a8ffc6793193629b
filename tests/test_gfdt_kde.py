"""Kernel density score, and what it shares with the other estimators for few components."""

import json

import numpy as np
import pytest
import xarray as xr
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.stats import gaussian_kde

import gfdt
import simulators
from gfdt.cli import main
from gfdt.errors import CheckpointError, InputError, ReliabilityWarning
from gfdt.scores import kernel_sums, storage
from gfdt.scores.base import Score
from gfdt.scores.heldout import evenly, halves
from gfdt.scores.kernel_sums import DirectSums, GridSums, bin_linearly, widths
from gfdt.scores.whitening import Whitening

DIMS = ("member", "time", "component")
MIXING = np.array([[1.0, 0.3], [-0.5, 2.0]])
KINDS = {
    "kde": lambda: gfdt.KDEScore(bandwidth=0.25),
    "kernel": lambda: gfdt.KernelScore(n_inducing=40),
    "kgmm": lambda: gfdt.KGMMScore(prob=0.02, n_draws=3, max_steps=30),
}


def mixture(d=2, n=4000, seed=0):
    """Two Gaussians of standard deviation 1/2 at -1 and 1 along the first component: (member, time, d)."""
    rng = np.random.default_rng(seed)
    x = 0.5 * rng.standard_normal((2, n // 2, d))
    x[..., 0] += rng.choice([-1.0, 1.0], x.shape[:2])
    return x


def relative(got, exact):
    return float(np.sqrt(((got - exact) ** 2).sum() / (exact**2).sum()))


# ---- the sums


def test_one_sample_pulls_with_the_stated_stiffness():
    h, y = 0.3, np.array([[0.0, 0.0], [5.0, -2.0]])
    one = DirectSums(np.array([[1.0, 2.0]]), np.ones(1), widths(h))
    # 2/h^2 - 1/(2 h^2), towards the sample, at any distance.
    np.testing.assert_allclose(one.score(y), 1.5 / h**2 * (np.array([1.0, 2.0]) - y), rtol=1e-12)
    np.testing.assert_allclose(one.product(y, y + 1), -1.5 / h**2 * (y + 1), rtol=1e-12)


def test_direct_sums_are_twice_the_narrow_kernel_estimate_less_the_wide_one():
    centres, y = mixture(1, 300).reshape(-1, 1), np.linspace(-2, 2, 9)[:, None]
    h, e = 0.2, 1e-5
    got = DirectSums(centres, np.ones(len(centres)), widths(h))

    def slope(width):
        density = gaussian_kde(centres.T, bw_method=width / centres.std(ddof=1))
        return (density.logpdf(y.T + e) - density.logpdf(y.T - e)) / (2 * e)

    np.testing.assert_allclose(got.score(y)[:, 0], 2 * slope(h) - slope(np.sqrt(2) * h), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_lattice_agrees_with_the_direct_sums_to_the_stated_error(d):
    y = Whitening.estimate(flat := mixture(d, 3000).reshape(-1, d)).states(flat)
    h = (0.1, 0.2, 0.6)[d - 1]
    grid, direct = GridSums.bin(y, h), DirectSums(y, np.ones(len(y)), widths(h))
    states = y[:800] + 0.1 * np.random.default_rng(1).standard_normal((800, d))
    v = np.random.default_rng(2).standard_normal(states.shape)
    # Three times the errors stated in gfdt.scores.kernel_sums, which are rms over another sample.
    stated = (2e-4, 2e-3, 7e-3)[d - 1]
    assert relative(grid.score(states), direct.score(states)) < 3 * stated
    assert relative(grid.product(states, v), direct.product(states, v)) < 12 * stated
    binned = bin_linearly(y, grid.origin, grid.spacing, grid.counts.shape)
    assert abs(grid.loss(binned) / direct.loss(y) - 1) < 10 * stated


def test_far_from_all_samples_the_nearest_pulls_and_nothing_overflows():
    x = mixture(2)
    score = gfdt.KDEScore(bandwidth=0.3).fit(x, dims=DIMS)
    far = np.array([[30.0, 0.0], [0.0, -1e6], [1e9, 1e9]])
    got = score(far)
    assert np.isfinite(got).all()
    assert (np.sum(got * far, axis=1) < 0).all()
    direct = DirectSums(score._whitening.states(x.reshape(-1, 2)), np.ones(4000), widths(0.3))
    expected = score._whitening.gradient(direct.score(score._whitening.states(far)), far.shape)
    # Taking D^2/6 off the kernel's variance, 0.3 %, is seen in full out there.
    assert (np.linalg.norm(got - expected, axis=1) < 5e-3 * np.linalg.norm(expected, axis=1)).all()


def test_linear_binning_keeps_number_and_mean():
    y = np.random.default_rng(0).uniform(0.5, 3.0, (100, 2))
    counts = bin_linearly(y, np.zeros(2), 0.25, (14, 14))
    np.testing.assert_allclose(counts.sum(), 100)
    nodes = 0.25 * np.stack(np.meshgrid(range(14), range(14), indexing="ij"), axis=-1)
    np.testing.assert_allclose((counts[..., None] * nodes).sum(axis=(0, 1)) / 100, y.mean(axis=0))


def test_a_record_that_outgrows_the_lattice_is_thinned(monkeypatch):
    x = mixture(2)
    whole = gfdt.KDEScore(bandwidth=0.3).fit(x, dims=DIMS)
    monkeypatch.setattr(kernel_sums, "_MOST_NODES", 100)
    thinned = gfdt.KDEScore(bandwidth=0.3, max_centres=4000).fit(x, dims=DIMS)
    assert thinned._sums.centres.shape == (4000, 2)
    assert relative(thinned(x), whole(x)) < 5e-3
    assert gfdt.KDEScore(bandwidth=0.3, max_centres=50).fit(x, dims=DIMS)._sums.centres.shape == (50, 2)


def test_halves_are_whole_blocks_of_time_and_members_alternate():
    first = halves(3, 100).reshape(3, 100)
    assert first[:, :10].all(axis=1).tolist() == [True, False, True]
    assert (first[:, :10] != first[:, 10:20]).all()
    assert first.mean() == pytest.approx(0.5)
    np.testing.assert_array_equal(evenly(7, 3), [0, 3, 6])


# ---- the estimator


def test_bandwidth_is_near_the_best_one_on_the_double_well():
    system = simulators.DoubleWell()
    run = system.simulate(n_members=32, duration=300.0, save_every=0.2, seed=2)
    x = gfdt.load_trajectory(run)
    exact = system.score(x).values
    chosen = gfdt.KDEScore().fit(run)
    errors = {
        factor: relative(gfdt.KDEScore(bandwidth=factor * chosen.bandwidth_).fit(run)(x).values, exact)
        for factor in (0.5, 0.7, 1.0, 1.4, 2.0)
    }
    # The loss is blind to a few per cent of the error; a factor of 2 in h doubles it.
    assert errors[1.0] < 1.1 * min(errors.values())
    assert min(errors[0.5], errors[2.0]) > 1.8 * errors[1.0]


def test_gaussian_data_give_the_gaussian_score_in_four_dimensions():
    x = np.random.default_rng(0).standard_normal((2, 1000, 4))
    score = gfdt.KDEScore().fit(x, dims=DIMS)
    states = np.random.default_rng(1).standard_normal((200, 4))
    assert relative(score(states), -states) < 0.35
    assert relative(gfdt.KDEScore(bandwidth=0.1).fit(x, dims=DIMS)(states), -states) > 1.0


def test_the_leading_blur_is_removed():
    x = np.random.default_rng(0).standard_normal((2, 100_000, 1))
    score = gfdt.KDEScore(bandwidth=0.3).fit(x, dims=DIMS)
    stein = -np.mean(x * score(x))
    # Blurred once it would be 1/(1 + h^2) = 0.917; now it is 2/(1 + h^2) - 1/(1 + 2 h^2) = 0.987.
    assert abs(stein - 0.987) < 0.004
    assert score.noise_level_ == 0


@pytest.mark.parametrize("system", ["DoubleWell", "Potential2D"])
def test_response_against_the_exact_one(system):
    system = getattr(simulators, system)()
    run = system.simulate(n_members=64, duration=500.0, save_every=0.1, seed=1)
    response = gfdt.response(run, gfdt.KDEScore().fit(run), max_lag=6.0)
    compared = gfdt.compare(system.exact_response(response["lag"].values), {"a": response})
    assert float(compared["relative"][0]) < 0.06


def test_repeating_samples_are_reported():
    x = np.tile(np.random.default_rng(0).standard_normal((1, 40, 1)), (2, 50, 1))
    with pytest.warns(ReliabilityWarning, match="samples repeat"):
        gfdt.KDEScore().fit(x, dims=DIMS)


# ---- shared with KGMMScore and KernelScore


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_the_components_only_scale_the_score(kind):
    x, units = mixture(), np.array([2.0**12, 2.0**-9])
    plain, scaled = KINDS[kind]().fit(x, dims=DIMS), KINDS[kind]().fit(x * units, dims=DIMS)
    # Powers of two change no rounding, so nothing else may change either.
    np.testing.assert_allclose(scaled(x * units) * units, plain(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scaled.noise_level_ * np.ones(2), plain.noise_level_ * units, rtol=1e-12)


@pytest.mark.parametrize(("kind", "tolerance"), [("kde", 0.01), ("kernel", 0.01)])
def test_a_linear_mixing_of_the_components_mixes_the_score(kind, tolerance):
    x = mixture()
    plain, mixed = KINDS[kind]().fit(x, dims=DIMS), KINDS[kind]().fit(3 + x @ MIXING.T, dims=DIMS)
    assert relative(mixed(3 + x @ MIXING.T) @ MIXING, plain(x)) < tolerance


@pytest.mark.parametrize(("kind", "tolerance"), [("kde", 0.06), ("kernel", 1e-5), ("kgmm", 1e-5)])
def test_the_derivative_is_that_of_the_score(kind, tolerance):
    x = mixture()
    score = KINDS[kind]().fit(3 + x @ MIXING.T, dims=DIMS)
    states = (3 + x @ MIXING.T).reshape(-1, 2)[:500]
    v = np.random.default_rng(1).standard_normal(states.shape)
    # Differences are good to 1e-6; those of the KDE's score, linear between nodes, are means over a cell.
    assert relative(Score._jvp(score, states, v), score.jvp(states, v)) < tolerance
    traces = sum(score.jvp(states, e)[:, i] for i, e in enumerate(np.eye(2)))
    np.testing.assert_allclose(score.divergence(states), traces)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_scores_come_back_bit_for_bit(tmp_path, kind):
    x = mixture()
    score = KINDS[kind]().fit(x, dims=DIMS)
    back = gfdt.load_score(score.save(tmp_path / "score.st"))
    assert type(back) is type(score)
    assert repr(back) == repr(score)
    np.testing.assert_array_equal(back(x), score(x))
    np.testing.assert_array_equal(back.divergence(x), score.divergence(x))
    np.testing.assert_array_equal(back.noise_level_, score.noise_level_)
    assert back._pack()[0] == score._pack()[0]


def _tampered(path, config, arrays):
    """Write the file anew with changes and a matching digest, as a careful attacker would."""
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    text = json.dumps(json.loads(metadata["config"]) | config, sort_keys=True)
    values = load_file(path) | arrays
    save_file(values, path, metadata=metadata | {"config": text, "digest": storage._digest(text, values)})


@pytest.mark.parametrize(
    ("kind", "config", "arrays", "message"),
    [
        ("kde", {"bandwidth": -1.0}, {}, "bandwidth=-1.0"),
        ("kde", {"bandwidth": None}, {}, "not describe a KDE"),
        ("kde", {"noise_level": 0.1}, {}, "not describe a KDE"),
        ("kde", {"noise_level": [0.1, True, "x"]}, {}, "no valid description"),
        ("kde", {"noise_level": [0.1, -0.1]}, {}, "no valid description"),
        ("kde", {"noise_level": [0.1, 0.1, 0.1]}, {}, "no valid description"),
        ("kde", {"state_shape": [3]}, {}, "'mean'"),
        ("kde", {}, {"counts": np.ones(5)}, "'counts'"),
        ("kde", {}, {"counts": -np.ones((5, 5))}, "no usable lattice"),
        ("kde", {}, {"spacing": np.array([1e-300])}, "no usable lattice"),
        ("kde", {}, {"whitening": np.ones((2, 2))}, "singular whitening"),
        ("kde", {}, {"more": np.ones(1)}, "do not belong there"),
        ("kde", {}, {"centres": np.ones((4, 2)), "weights": -np.ones(4)}, "without weight"),
        ("kernel", {"penalty": None}, {}, "not describe a kernel"),
        ("kernel", {"n_inducing": 10**12}, {}, "n_inducing"),
        ("kernel", {}, {"coefficients": np.ones(3)}, "'coefficients'"),
        ("kernel", {}, {"centres": np.ones((0, 2))}, "'centres'"),
        ("kernel", {}, {"centres": np.ones((40, 2), dtype=np.float32)}, "float32 of shape"),
        ("kgmm", {"width": 10**9}, {}, "width"),
        ("kgmm", {"width": 31}, {}, "'w1'"),
        ("kgmm", {"sigma": 0.2}, {}, "noise level"),
        ("kgmm", {"noise_level": 0.1}, {}, "noise level"),
        ("kgmm", {}, {"linear": np.eye(3)}, "'linear'"),
        ("kgmm", {}, {"w2": np.full((32, 32), np.nan)}, "NaN or inf"),
        ("kgmm", {"class": "GaussianScore"}, {}, "the score file holds"),
    ],
)
def test_altered_files_are_refused(tmp_path, kind, config, arrays, message):
    path = KINDS[kind]().fit(mixture(), dims=DIMS).save(tmp_path / "score.st")
    _tampered(path, config, arrays)
    with pytest.raises(CheckpointError, match=message) as caught:
        gfdt.load_score(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gfdt.KDEScore(bandwidth=0), "bandwidth=0"),
        (lambda: gfdt.KDEScore(max_centres=1), "max_centres=1"),
        (lambda: gfdt.KGMMScore(sigma="x"), "sigma='x'"),
        (lambda: gfdt.KGMMScore(prob=0.7), "prob=0.7"),
        (lambda: gfdt.KGMMScore(n_draws=0), "n_draws=0"),
        (lambda: gfdt.KernelScore(bandwidth=np.nan), "bandwidth=nan"),
        (lambda: gfdt.KernelScore(penalty=-1), "penalty=-1"),
        (lambda: gfdt.KernelScore(n_inducing=0), "n_inducing=0"),
        (lambda: gfdt.KernelScore(seed=-1), "seed=-1"),
    ],
)
def test_bad_settings_are_refused_before_any_work(make, message):
    with pytest.raises(InputError, match=message):
        make().fit(mixture(), dims=DIMS)
    with pytest.raises(InputError, match=message):
        make().validate(("component",))


def test_states_that_kernels_or_clusters_cannot_fill_are_refused():
    x = np.random.default_rng(0).standard_normal((1, 100, 11))
    for make in (gfdt.KDEScore, gfdt.KGMMScore):
        with pytest.raises(InputError, match="11 components"):
            make().fit(x, dims=DIMS)
    with pytest.raises(InputError, match="linearly dependent"):
        gfdt.KDEScore().fit(x[..., [0, 0]], dims=DIMS)


@pytest.mark.parametrize(("kind", "option"), [("kde", ()), ("kernel", ("--seed", 3)), ("kgmm", ("--max-steps", 2))])
def test_trained_from_the_command_line(tmp_path, capsys, kind, option):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(item) for item in arguments])
        return caught.value.code or 0, *capsys.readouterr()

    data, out = tmp_path / "x.nc", tmp_path / "score.st"
    xr.DataArray(mixture(), dims=DIMS, name="x", coords={"time": np.arange(2000.0)}).to_netcdf(data)
    assert run("train", data, "--score", kind, "--out", out, *option)[:2] == (0, f"{out}\n")
    assert type(gfdt.load_score(out)).__name__.lower() == f"{kind}score"
    code, text, _ = run("info", out)
    assert code == 0
    assert "component 2" in text
    code, _, text = run("train", data, "--score", kind, "--sigma", 0.1, "--network", "mlp")
    assert code != 0
    assert "no use for --network, --sigma" in text


@pytest.mark.parametrize("kind", KINDS)
def test_scalar_series_and_float32(kind):
    x = mixture(1)[..., 0].astype(np.float32)
    score = KINDS[kind]().fit(x, dims=("member", "time"))
    assert score(x).shape == x.shape
    assert score(x).dtype == np.float32
    np.testing.assert_allclose(score(x), score(x.astype(float)), rtol=1e-4, atol=1e-4)
