"""Stein's identity as a correction of a score: exact where the truth is a local cubic, harmless elsewhere."""

import json

import numpy as np
import pytest
import xarray as xr
from safetensors import safe_open
from safetensors.numpy import save_file

import gfdt
import simulators
from gfdt.errors import CheckpointError, InputError, NotFittedError
from gfdt.scores.storage import _digest


@pytest.fixture(scope="module")
def well():
    """Two independent records of the double well, whose score 4 (x - x^3) / s^2 is a cubic."""
    system = simulators.DoubleWell()
    return [system.simulate(n_members=64, duration=500.0, save_every=0.5, seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def field():
    """A homogeneous field with phases: the sign of one Gaussian field, smoothed, plus another."""
    rng = np.random.default_rng(0)
    k2 = np.fft.fftfreq(8, 1 / 8)[:, None] ** 2 + np.fft.rfftfreq(8, 1 / 8)[None, :] ** 2

    def smooth(z):
        return np.fft.irfft2(np.fft.rfft2(z) / (1 + k2), s=(8, 8))

    values = 2 * smooth(np.sign(smooth(rng.standard_normal((32, 60, 8, 8))))) + 0.3 * rng.standard_normal(
        (32, 60, 8, 8)
    )
    return xr.DataArray(values, dims=("member", "time", "y", "x"))


def test_from_a_gaussian_to_the_exact_score_of_the_double_well(well):
    run, other = well
    system = simulators.DoubleWell()
    states = other["x"].values.reshape(-1, 1)
    exact = system.score(states)
    gaussian = gfdt.GaussianScore().fit(run)
    polished = gfdt.PolishedScore(gaussian).fit(run)

    def error(score):
        return np.sqrt(((score(states) - exact) ** 2).mean() / (exact**2).mean())

    assert error(gaussian) > 0.8
    # 64 independent members of 250 correlation times: a few per cent; 0.013 with the record of twice that length.
    assert error(polished) < 0.05
    assert polished.change_ > 1
    assert gfdt.check_score(other, polished).verdict == "green"
    assert gfdt.check_score(other, gaussian).verdict == "red"


def test_nothing_is_added_to_what_is_right():
    """A Gaussian score of Gaussian data: coefficients within two standard errors of zero stay out."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 250, 5)) @ rng.standard_normal((5, 5))
    run = xr.DataArray(data, dims=("member", "time", "component"))
    polished = gfdt.PolishedScore(gfdt.GaussianScore().fit(run)).fit(run)
    # Beyond 2 standard errors by chance: 5 % of them, most of those by little.
    assert polished.kept_ < 0.05
    # 75 coefficients of unit variance known from 10,000 states, one in twenty kept: 0.02 of the rms of the score.
    assert polished.change_ < 0.05


def test_the_identities_hold_on_the_record_it_was_fitted_on(field):
    """<s phi^T> = -<dphi/dx>, mode by mode, for every coefficient that is far from zero."""
    gaussian = gfdt.GaussianScore(("y", "x")).fit(field)
    polished = gfdt.PolishedScore(gaussian).fit(field)
    x = field.values.reshape(-1, 8, 8)
    a = (x - x.mean()) / x.std()

    def third(score):
        s = score(x) * x.std()
        phi = a**3 - 3 * a
        cross = (np.fft.rfft2(s) * np.fft.rfft2(phi).conj()).mean(axis=0) / 64
        return np.abs(cross + (3 * a**2 - 3).mean())

    assert third(polished).mean() < 0.2 * third(gaussian).mean()


@pytest.mark.parametrize("kind", ["vector", "field", "variables"])
def test_derivative_is_that_of_the_score(kind, field):
    rng = np.random.default_rng(1)
    if kind == "vector":
        run = xr.DataArray(rng.gamma(2.0, size=(24, 300, 3)), dims=("member", "time", "component"))
        base = gfdt.GaussianScore()
    elif kind == "field":
        run, base = field, gfdt.GaussianScore(("y", "x"))
    else:
        values = np.stack([field.values, field.values**2 + rng.standard_normal(field.shape)], axis=2)
        run, base = xr.DataArray(values, dims=("member", "time", "variable", "y", "x")), gfdt.GaussianScore(("y", "x"))
    score = gfdt.PolishedScore(base).fit(run)
    assert score.kept_ > 0.05
    x = run.values[0, :4]
    u, v = rng.standard_normal((2, *x.shape))
    step = 1e-5
    differences = (score(x + step * v) - score(x - step * v)) / (2 * step)
    product = score.jvp(x, v)
    np.testing.assert_allclose(product, differences, rtol=0, atol=1e-7 * np.abs(product).max())
    transposed = score._transposed_jvp(x, u)
    np.testing.assert_allclose((u * product).sum(), (v * transposed).sum(), rtol=1e-9)


def test_a_score_that_is_not_fitted_is_fitted_first_and_samples_are_its_own(well):
    run, _ = well
    polished = gfdt.PolishedScore(gfdt.GaussianScore()).fit(run)
    gaussian = gfdt.GaussianScore().fit(run)
    assert polished.label == "gaussian"
    np.testing.assert_array_equal(polished.sample(4).values, gaussian.sample(4).values)
    assert polished.fingerprint_ == gaussian.fingerprint_
    with pytest.raises(NotFittedError):
        gfdt.PolishedScore(gfdt.GaussianScore())(np.zeros((2, 1)))


def test_file_gives_back_the_same_numbers_and_refuses_altered_ones(well, field, tmp_path):
    cases = ((well[0], gfdt.GaussianScore()), (field, gfdt.GaussianScore(("y", "x"))))
    for run, base in cases:
        score = gfdt.PolishedScore(base, degree=2).fit(run)
        path = score.save(tmp_path / "p.safetensors", overwrite=True)
        again = gfdt.load_score(path)
        x = np.random.default_rng(0).standard_normal((3, *score.state_shape_))
        np.testing.assert_array_equal(again(x), score(x))
        assert (again.degree, again.change_, again.kept_) == (2, score.change_, score.kept_)

    def alter(change):
        with safe_open(path, framework="numpy") as file:
            header = dict(file.metadata())
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(header["config"])
        change(config, arrays)
        header["config"] = json.dumps(config, sort_keys=True)
        header["digest"] = _digest(header["config"], arrays)
        save_file(arrays, tmp_path / "bad.safetensors", metadata=header)
        with pytest.raises(CheckpointError):
            gfdt.load_score(tmp_path / "bad.safetensors")

    alter(lambda config, arrays: arrays.pop("means"))
    alter(lambda config, arrays: arrays.update(scale=0 * arrays["scale"]))
    alter(lambda config, arrays: config["base"].update({"class": "PolishedScore"}))
    alter(lambda config, arrays: config["base"].update({"state_shape": [4, 4]}))
    alter(lambda config, arrays: config.update(degree=10**6))


def test_refusals(well, field):
    run, _ = well
    with pytest.raises(InputError, match="pass an estimator"):
        gfdt.PolishedScore(gfdt.PolishedScore(gfdt.GaussianScore())).fit(run)
    with pytest.raises(InputError, match="exact score needs no polish"):
        gfdt.PolishedScore(gfdt.AnalyticScore(lambda x: -x)).fit(run)
    with pytest.raises(InputError, match="records of one system"):
        gfdt.PolishedScore(gfdt.GaussianScore().fit(field)).fit(run)
    with pytest.raises(InputError, match="degree"):
        gfdt.PolishedScore(gfdt.GaussianScore(), degree=0).fit(run)
    large = xr.DataArray(np.random.default_rng(0).standard_normal((20, 40, 300)), dims=("member", "time", "component"))
    with pytest.raises(InputError, match="too large to polish"):
        gfdt.PolishedScore(gfdt.GaussianScore(shrinkage=0.1)).fit(large)


def test_command_line_polishes(well, tmp_path, capsys):
    from gfdt.cli import main

    run, _ = well
    run.to_netcdf(tmp_path / "well.nc")
    with pytest.raises(SystemExit) as done:
        main(["train", str(tmp_path / "well.nc"), "--score", "gaussian", "--polish", "--out", str(tmp_path / "p.st")])
    assert done.value.code == 0
    assert "polished by" in capsys.readouterr().err
    assert isinstance(gfdt.load_score(tmp_path / "p.st"), gfdt.PolishedScore)


def test_the_noise_of_the_polish_is_not_that_which_made_the_data():
    """With the plain seed x + sigma z would be (1 + sigma) x for data drawn with that seed."""
    data = np.random.default_rng(0).standard_normal((24, 1000, 2))
    run = xr.DataArray(data, dims=("member", "time", "component"))
    base = gfdt.AnalyticScore(lambda x: -x / 1.09).fit(run)
    base.noise_level_, base.label = 0.3, "generative"
    polished = gfdt.PolishedScore(base).fit(run)
    # Nothing to correct; three coefficients of two components known from 24,000 states.
    assert polished.change_ < 0.05


def test_what_is_known_of_the_base_is_known_of_the_polish(well):
    run, other = well
    base = gfdt.DSMScore(max_steps=3, progress=False).fit(run)
    polished = gfdt.PolishedScore(base).fit(other)
    base.selection = None
    assert polished.selected_ == base.selected_
    assert not polished.interrupted_
    assert polished.records() == {gfdt.PolishedScore(base).fit(run).fingerprint_, polished.fingerprint_}
    for record in (run, other):
        assert gfdt.check_score(record, polished).in_sample
    polished.device = "cpu"
    assert base.device == "cpu"
    assert not hasattr(gfdt.PolishedScore(gfdt.GaussianScore()), "device")


def test_a_record_without_state_dims(tmp_path):
    run = xr.DataArray(np.random.default_rng(0).gamma(2.0, size=(24, 300)), dims=("member", "time"))
    score = gfdt.PolishedScore(gfdt.GaussianScore()).fit(run)
    again = gfdt.load_score(score.save(tmp_path / "scalar.safetensors"))
    x = np.linspace(0.5, 3.0, 5)
    np.testing.assert_array_equal(again(x), score(x))


def test_what_cannot_be_polished_is_refused_before_the_training():
    run = xr.DataArray(np.random.default_rng(0).standard_normal((4, 40, 300)), dims=("member", "time", "component"))
    base = gfdt.DSMScore(max_steps=10**6, progress=False)
    with pytest.raises(InputError, match="too large to polish"):
        gfdt.PolishedScore(base).fit(run)
    assert not hasattr(base, "state_shape_")


def test_transposed_product_of_a_base_that_is_no_gradient():
    rng = np.random.default_rng(0)
    run = xr.DataArray(rng.standard_normal((24, 300, 2)), dims=("member", "time", "component"))
    base = gfdt.AnalyticScore(lambda x: np.stack([-x[..., 0] - x[..., 1], -(x[..., 1] ** 3)], axis=-1)).fit(run)
    base.label = "kgmm"
    score = gfdt.PolishedScore(base).fit(run)
    x, v = rng.standard_normal((2, 4, 2))
    np.testing.assert_array_equal(score._transposed_jvp(x, v), score._jvp(x, v))


def test_units_that_are_far_apart_cost_nothing():
    """Pascal and a fraction: the score of each component is polished in its own spread."""
    rng = np.random.default_rng(0)
    scales, offsets = np.array([3e3, 5e-3]), np.array([1e5, 1.0])
    data = rng.gamma(2.0, size=(40, 500, 2))
    run = xr.DataArray(offsets + scales * data, dims=("member", "time", "component"))
    plain = xr.DataArray(data, dims=("member", "time", "component"))
    score = gfdt.PolishedScore(gfdt.GaussianScore().fit(run)).fit(run)
    right = gfdt.PolishedScore(gfdt.GaussianScore().fit(plain)).fit(plain)
    np.testing.assert_allclose(score(run.values[0]) * scales, right(plain.values[0]), rtol=1e-6, atol=1e-6)


def test_components_in_another_order_are_not_polished(well):
    rng = np.random.default_rng(0)
    run = xr.DataArray(rng.gamma(2.0, size=(24, 200, 2)), dims=("member", "time", "station")).assign_coords(
        station=["A", "B"]
    )
    score = gfdt.GaussianScore().fit(run)
    with pytest.raises(InputError, match="same order"):
        gfdt.PolishedScore(score).fit(run.isel(station=[1, 0]))
