"""Gaussian and analytic scores, and the score file."""

import json

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file, save_file

import gfdt
from gfdt.errors import CheckpointError, InputError, MissingFileError, NotFittedError, OutputError, ReliabilityWarning
from gfdt.scores import storage

DIMS = ("member", "time", "component")


def vectors(seed=0, n=3):
    rng = np.random.default_rng(seed)
    return 1.5 + rng.standard_normal((2, 500, n)) @ rng.standard_normal((n, n))


def fields(shape=(6, 5), seed=0, n_times=400):
    """Homogeneous Gaussian fields with a smooth spectrum: (member, time, y, x)."""
    rng = np.random.default_rng(seed)
    ky, kx = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in shape), indexing="ij")
    noise = np.fft.fft2(rng.standard_normal((2, n_times, *shape)))
    return 0.7 + np.fft.ifft2(noise / np.sqrt(1 + ky**2 + kx**2)).real


def test_gaussian_score_is_minus_inverse_covariance_times_anomaly():
    x = vectors()
    score = gfdt.GaussianScore().fit(x, dims=DIMS)
    flat = x.reshape(-1, 3)
    expected = -(flat - flat.mean(0)) @ np.linalg.inv(np.cov(flat.T, bias=True))
    np.testing.assert_allclose(score(x).reshape(-1, 3), expected, rtol=1e-9)
    # In the sample, the Stein identity holds exactly: -<x s^T> = I.
    np.testing.assert_allclose(-(flat - flat.mean(0)).T @ expected / len(flat), np.eye(3), atol=1e-12)


@pytest.mark.parametrize("shape", [(6, 5), (5, 4), (7,)])
def test_homogeneous_score_is_the_dense_one_of_the_circulant_covariance(shape):
    x = fields(shape) if len(shape) == 2 else fields((shape[0], 1))[..., 0]
    names = ("y", "x")[-len(shape) :]
    score = gfdt.GaussianScore(homogeneous=names).fit(x, dims=("member", "time", *names))
    centred = (x - x.mean()).reshape(-1, *shape)
    shifts = [np.roll(centred, s, axis=tuple(range(1, centred.ndim))) for s in np.ndindex(*shape)]
    every = np.concatenate(shifts).reshape(-1, int(np.prod(shape)))
    expected = -centred.reshape(len(centred), -1) @ np.linalg.inv(every.T @ every / len(every))
    np.testing.assert_allclose(score(x).reshape(expected.shape), expected, rtol=1e-7, atol=1e-9)


def test_labelled_states_in_any_order_keep_their_labels():
    x = xr.DataArray(vectors(), dims=DIMS, name="x")
    score = gfdt.GaussianScore().fit(x)
    turned = score(x.transpose("component", "member", "time"))
    assert turned.dims == ("component", "member", "time")
    np.testing.assert_array_equal(turned.transpose(*DIMS).values, score(x.values))
    np.testing.assert_array_equal(score.score_function(x).values, score(x).values)


def test_float32_in_float32_out_with_float64_arithmetic_of_the_fit():
    x = vectors().astype(np.float32)
    score = gfdt.GaussianScore().fit(x, dims=DIMS)
    assert score(x).dtype == np.float32
    np.testing.assert_allclose(score(x), score(x.astype(float)), rtol=1e-4, atol=1e-5)


def test_shrinkage_weakens_the_correlations_and_keeps_the_variances():
    plain, shrunk = (gfdt.GaussianScore(shrinkage=a).fit(vectors(), dims=DIMS).covariance_ for a in (0.0, 0.3))
    before, after = ((c.eigenvectors * c.eigenvalues) @ c.eigenvectors.T for c in (plain, shrunk))
    np.testing.assert_allclose(np.diagonal(after), np.diagonal(before))
    np.testing.assert_allclose(after - np.diag(np.diagonal(after)), 0.7 * (before - np.diag(np.diagonal(before))))


@pytest.mark.parametrize("homogeneous", [None, ("y", "x")])
def test_ledoit_wolf_takes_nearly_all_of_a_departure_that_is_noise(homogeneous):
    x = np.random.default_rng(3).standard_normal((1, 60, 5, 6))
    score = gfdt.GaussianScore(homogeneous, shrinkage="ledoit-wolf").fit(x, dims=("member", "time", "y", "x"))
    assert score.shrinkage_ > 0.8


@pytest.mark.parametrize("repeat", [1, 20])
def test_ledoit_wolf_weight_is_the_oracle_also_for_a_record_with_memory(repeat):
    rng = np.random.default_rng(4)
    d, n = 12, 640
    truth = 0.3 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    x = np.repeat(rng.multivariate_normal(np.zeros(d), truth, size=(1, n)), repeat, axis=1)
    off = ~np.eye(d, dtype=bool)
    variance = (truth**2 + 1)[off].sum() / n  # Wick: Var C_ij = (C_ij^2 + C_ii C_jj)/n
    oracle = variance / (variance + (truth[off] ** 2).sum())
    found = gfdt.GaussianScore(shrinkage="ledoit-wolf").fit(x, dims=DIMS).shrinkage_
    # 132 variances, each from 32 blocks with a relative standard error (2/31)^(1/2), and C itself: 10 % in all.
    assert found == pytest.approx(oracle, rel=0.3)


def test_directions_without_variance_are_outside_the_density():
    x = vectors()
    doubled = np.concatenate([x, x[..., :1]], axis=-1)
    with pytest.warns(ReliabilityWarning, match="1 of the 4 directions"):
        score = gfdt.GaussianScore().fit(doubled, dims=DIMS)
    s = score(doubled)
    np.testing.assert_allclose(s[..., 0], s[..., 3], atol=1e-9 * np.abs(s).max())
    np.testing.assert_allclose(s[..., 0] + s[..., 3], gfdt.GaussianScore().fit(x, dims=DIMS)(x)[..., 0], rtol=1e-6)


def test_wavenumbers_without_variance_have_no_score():
    spectrum = np.fft.rfft2(fields((6, 8)))
    spectrum[..., 3, :] = spectrum[..., -1] = 0
    x = np.fft.irfft2(spectrum, s=(6, 8))
    score = gfdt.GaussianScore(True).fit(x, dims=("member", "time", "y", "x"))
    assert np.count_nonzero(score.covariance_.eigenvalues == 0) == 5 + 6 - 1
    power = np.abs(np.fft.rfft2(score(x))) ** 2
    assert np.all(power[..., 3, :] < 1e-18 * power.max())
    assert np.isfinite(score(x)).all()


def test_two_variables_of_a_field_are_scored_together():
    rng = np.random.default_rng(5)
    u = fields((6, 5))
    v = 30 * (0.5 * np.roll(u, 1, axis=-1) + 0.3 * rng.standard_normal(u.shape))
    x = np.stack([u, v], axis=2)
    dims = ("member", "time", "variable", "y", "x")
    score = gfdt.GaussianScore(("y", "x")).fit(x, dims=dims)
    flat = x.reshape(-1, 60)
    # The exact C commutes with shifts: average the dense one over them.
    shifted = [np.roll(x, (i, j), axis=(-2, -1)).reshape(-1, 60) for i in range(6) for j in range(5)]
    mean = np.concatenate(shifted).mean(axis=0)
    covariance = sum((s - mean).T @ (s - mean) for s in shifted) / (30 * len(flat))
    expected = -np.linalg.solve(covariance, (flat - mean).T).T.reshape(x.shape)
    np.testing.assert_allclose(score(x), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
    with pytest.raises(InputError, match="first of the state dims"):
        gfdt.GaussianScore(("y", "x")).fit(np.moveaxis(x, 2, -1), dims=("member", "time", "y", "x", "variable"))


def test_two_variable_score_survives_the_file(tmp_path):
    x = np.stack([fields((4, 5)), fields((4, 5), seed=1)], axis=2)
    score = gfdt.GaussianScore(("y", "x"), shrinkage="ledoit-wolf")
    score.fit(x, dims=("member", "time", "variable", "y", "x"))
    again = gfdt.load_score(score.save(tmp_path / "s.safetensors"))
    np.testing.assert_array_equal(again(x), score(x))
    assert again.shrinkage_ == score.shrinkage_


def test_analytic_score_calls_its_function_in_any_container():
    score = gfdt.AnalyticScore(lambda x: -2 * x)
    np.testing.assert_array_equal(score(np.ones((4, 2))), -2 * np.ones((4, 2)))
    assert score(xr.DataArray(np.ones((4, 2)), dims=("time", "component"))).dims == ("time", "component")
    with pytest.raises(InputError, match="returned shape"):
        gfdt.AnalyticScore(lambda x: x.sum())(np.ones((4, 2)))
    with pytest.raises(InputError, match="needs a function"):
        gfdt.AnalyticScore(3.0)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda s, x: gfdt.GaussianScore()(x), NotFittedError, "not fitted: call GaussianScore"),
        (lambda s, x: gfdt.GaussianScore().save("never.st"), NotFittedError, "not fitted"),
        (lambda s, x: s(x[..., :2]), InputError, r"expected \(\.\.\., 3\)"),
        (lambda s, x: s(np.full(3, np.nan)), InputError, "NaN or inf"),
        (lambda s, x: s(np.array(["a", "b", "c"])), InputError, "real numbers"),
        (lambda s, x: s(xr.DataArray(x, dims=("a", "b", "c"))), InputError, "lacks the state dims component"),
        (lambda s, x: gfdt.GaussianScore(shrinkage=1.5).fit(x, dims=DIMS), InputError, "shrinkage=1.5"),
        (
            lambda s, x: gfdt.GaussianScore(homogeneous="y").fit(x, dims=DIMS),
            InputError,
            "does not match the state dims",
        ),
        (lambda s, x: gfdt.GaussianScore().fit(np.tile(x, 400), dims=DIMS), InputError, "singular.*ledoit-wolf"),
        (lambda s, x: gfdt.AnalyticScore(np.negative).save("never.st"), InputError, "cannot be saved"),
    ],
)
def test_misuse_is_refused_in_one_sentence(act, error, message):
    x = vectors()
    with pytest.raises(error, match=message) as caught:
        act(gfdt.GaussianScore().fit(x, dims=DIMS), x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("homogeneous", [None, ("y", "x")])
def test_saved_scores_come_back_bit_for_bit(tmp_path, homogeneous):
    x = fields((4, 3))
    score = gfdt.GaussianScore(homogeneous).fit(x, dims=("member", "time", "y", "x"))
    path = score.save(tmp_path / "score.safetensors")
    back = gfdt.load_score(path)
    np.testing.assert_array_equal(back(x), score(x))
    assert (back.state_dims_, back.state_shape_) == (("y", "x"), (4, 3))
    with pytest.raises(OutputError, match=r"exists already.*overwrite"):
        score.save(path)
    assert score.save(path, overwrite=True) == path
    assert [item.name for item in tmp_path.iterdir()] == ["score.safetensors"]


def _tampered(path, header=None, config=None, arrays=None):
    """Write the file anew with changes and a matching digest, as a careful attacker would."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    described = json.loads(metadata["config"]) | (config or {})
    values = load_file(path) | (arrays or {})
    text = json.dumps(described, sort_keys=True)
    metadata |= {"config": text, "digest": storage._digest(text, values)} | (header or {})
    save_file(values, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": {"format": "other"}}, "not a gfdt score"),
        ({"header": {"format_version": "99"}}, "score format '99'"),
        ({"header": {"digest": "0"}}, "do not match its digest"),
        ({"config": {"class": "os.system"}}, "no valid description"),
        ({"config": {"state_shape": [10**9, 10**9]}}, "no valid description"),
        ({"config": {"state_shape": [4]}}, "expected real numbers of shape"),
        ({"config": {"noise_level": -1}}, "no valid description"),
        ({"config": {"shrinkage": 7}}, "shrinkage"),
        ({"arrays": {"mean": np.full(3, np.nan)}}, "NaN or inf in 'mean'"),
        ({"arrays": {"eigenvalues": -np.ones(3)}}, "not positive"),
        ({"arrays": {"eigenvectors": np.eye(2)}}, "expected real numbers of shape"),
    ],
)
def test_altered_score_files_are_refused(tmp_path, change, message):
    path = gfdt.GaussianScore().fit(vectors(), dims=DIMS).save(tmp_path / "score.st")
    _tampered(path, **change)
    with pytest.raises(CheckpointError, match=message) as caught:
        gfdt.load_score(path)
    assert "\n" not in str(caught.value)


def test_foreign_truncated_and_missing_score_files(tmp_path):
    path = gfdt.GaussianScore().fit(vectors(), dims=DIMS).save(tmp_path / "score.st")
    whole = path.read_bytes()
    for content in (whole[:40], whole[:-8], b"", b"\x80\x04K\x01.", b"PK\x03\x04 zip of a pickle"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a readable safetensors"):
            gfdt.load_score(path)
    with pytest.raises(MissingFileError, match="no score file"):
        gfdt.load_score(tmp_path / "none.st")


def test_a_failed_save_leaves_nothing_behind(tmp_path):
    score = gfdt.GaussianScore().fit(vectors(), dims=DIMS)
    with pytest.raises(OutputError, match="does not exist: create it"):
        score.save(tmp_path / "missing" / "score.st")
    with pytest.raises(OutputError, match="is a directory"):
        score.save(tmp_path)
    assert not list(tmp_path.iterdir())
