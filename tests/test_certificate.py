"""The certificate: good scores are green, and each of the usual mistakes is flagged and called by its name."""

import dataclasses
import json
import re

import numpy as np
import pytest
import xarray as xr

import gfdt
from gfdt.certificate.certify import _in_order
from gfdt.certificate.stamp import Stamp, attributes, joint_attributes, stamp_of
from gfdt.density.bound import bound
from gfdt.errors import CheckpointError, InputError, OutputError

CENTRES, WEIGHTS, WIDTH = np.array([[1.0, 0.3], [-1.0, -0.3]]), np.array([0.6, 0.4]), 0.4


def mixture(n_members, n_times, seed, centres=CENTRES):
    rng = np.random.default_rng(seed)
    which = rng.choice(2, (n_members, n_times), p=WEIGHTS)
    x = centres[which] + WIDTH * rng.standard_normal((n_members, n_times, 2))
    return xr.DataArray(x, dims=("member", "time", "component"), coords={"time": np.arange(float(n_times))})


def mixture_score(x, sigma, centres=CENTRES):
    """Exact, of the density blurred by sigma."""
    variance = WIDTH**2 + np.asarray(sigma) ** 2
    apart = x[:, None, :] - centres
    exponent = np.log(WEIGHTS) - 0.5 * (apart**2).sum(axis=-1) / variance
    share = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return -(share[..., None] * apart).sum(axis=1) / variance


class Blurred(gfdt.AnalyticScore):
    """A formula known at every noise level, used at one of them."""

    def __init__(self, formula, level=0.0, record=None):
        super().__init__(lambda x: formula(x.reshape(-1, 2), level).reshape(x.shape), blurred=formula)
        self.fit(mixture(24, 500, 9) if record is None else record)
        self.noise_level_ = level

    def _family(self):
        family = super()._family()
        return dataclasses.replace(family, level=float(self.noise_level_ / family.units.scale.flat[0]))


def amplified(factor):
    """The exact score with what is not Gaussian in it multiplied."""
    mean = WEIGHTS @ CENTRES
    apart = CENTRES - mean
    covariance = WIDTH**2 * np.eye(2) + np.einsum("k,ki,kj->ij", WEIGHTS, apart, apart)

    def formula(x, sigma):
        linear = -(x - mean) @ np.linalg.inv(covariance + sigma**2 * np.eye(2))
        return linear + factor * (mixture_score(x, sigma) - linear)

    return formula


@pytest.fixture(scope="module")
def record():
    return mixture(24, 400, 0)


@pytest.fixture(scope="module")
def green(record):
    score = Blurred(mixture_score)
    return score, gfdt.certify(score, record, n_samples=1000, progress=False)


def verdicts(certificate):
    return {item.check: item.verdict for item in certificate.findings}


# --- exact scores ----------------------------------------------------------------------------------------------------


def test_the_exact_score_of_a_mixture_is_green(green):
    _, certificate = green
    assert certificate.verdict == "green", certificate
    assert certificate.ok
    assert certificate.reasons == ()
    assert set(certificate.sections) == {
        "identities", "samples against the record", "reverse processes", "likelihood", "score",
    }  # fmt: skip
    # Nothing but a Gaussian part would be missing here: the bound gains what a mixture gains over its Gaussian.
    known = certificate.likelihood
    assert float(known["gain"]) > 10 * float(known["gain_stderr"])


@pytest.mark.parametrize(("n_members", "n_times"), [(24, 100), (3, 800)])
def test_an_exact_score_is_never_called_wrong(n_members, n_times):
    """Members and blocks as units, few samples and many; about ninety checks at 0.1 % each."""
    score = Blurred(mixture_score)
    for seed, n_samples in ((1, 256), (2, 3000)):
        certificate = gfdt.certify(
            score, mixture(n_members, n_times, seed), n_samples=n_samples, seed=seed, progress=False
        )
        assert certificate.verdict == "green", certificate


def test_a_gaussian_field_with_its_own_spectrum_is_green_and_with_another_is_not():
    """Certified on a new record of the same field; then with one wavenumber of the score 1.4 times as wide."""
    rng = np.random.default_rng(0)
    filters = 1 / (1 + np.fft.rfftfreq(16, 1 / 16) ** 2)

    def fields(n_members):
        noise = np.fft.rfft(rng.standard_normal((n_members, 100, 16)))
        x = np.fft.irfft(noise * filters, n=16)
        return xr.DataArray(x, dims=("member", "time", "x"), coords={"time": np.arange(100.0)})

    score = gfdt.GaussianScore(homogeneous=True).fit(fields(100))
    test = fields(24)
    right = gfdt.certify(score, test, n_samples=1000, progress=False)
    assert right.verdict == "green", right
    assert "increments" in verdicts(right)
    power = score.covariance_.eigenvalues.copy()
    power[3] *= 1.4
    score.covariance_ = dataclasses.replace(score.covariance_, eigenvalues=power)
    wrong = gfdt.certify(score, test, n_samples=1000, progress=False)
    assert verdicts(wrong)["spectrum"] != "green"
    assert any("k_x=3" in reason for reason in wrong.reasons)


@pytest.mark.parametrize(
    ("shape", "dims", "homogeneous"),
    [
        ((24, 200), (), None),
        ((24, 100, 2, 8), ("variable", "x"), ("x",)),
        ((24, 100, 4, 6), ("y", "mode"), None),
    ],
)
def test_states_of_every_kind_with_gaps_are_certified(shape, dims, homogeneous, tmp_path):
    rng = np.random.default_rng(0)

    def white(n_members):
        x = 2.0 + rng.standard_normal((n_members, *shape[1:]))
        x[1, 30:50] = np.nan
        x[2, 80:] = np.nan
        coords = {"time": np.arange(float(shape[1]))}
        return xr.DataArray(x, dims=("member", "time", *dims), coords=coords)

    score = gfdt.GaussianScore(homogeneous=homogeneous).fit(white(200))
    certificate = gfdt.certify(score, white(shape[0]), n_samples=500, progress=False, out=tmp_path / "c.html")
    assert certificate.verdict == "green", certificate
    assert ("example" in certificate.pictures) == (len(dims) == 2 and homogeneous is None)
    certificate.to_dataset().to_netcdf(tmp_path / "c.nc")


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_too_little_of_what_is_not_gaussian_is_called_trained_too_little(record):
    certificate = gfdt.certify(Blurred(amplified(0.6), 0.05), record, n_samples=1000, progress=False)
    assert certificate.verdict == "red"
    assert "trained too little" in certificate.reasons[0]
    # Multiplied by 0.6, it should be by 1/0.6; the nonlinear terms of another density do not matter so near.
    assert verdicts(certificate)["amplitude"] == "red"
    assert float(re.search(r"\((1\.\d+) times", certificate.reasons[0])[1]) == pytest.approx(1 / 0.6, abs=0.1)


def test_too_much_of_what_is_not_gaussian_is_called_fitted_to_noise(record):
    certificate = gfdt.certify(Blurred(amplified(1.4), 0.05), record, n_samples=1000, progress=False)
    assert certificate.verdict == "red"
    assert "too few training samples" in certificate.reasons[0]


def test_a_noise_level_that_is_too_large_is_named_although_the_blurred_score_is_exact(record):
    certificate = gfdt.certify(Blurred(mixture_score, 0.5), record, n_samples=1000, progress=False)
    assert "noise level that is too large" in certificate.reasons[0]
    found = verdicts(certificate)
    assert found["noise level"] == "red"
    # Samples of the blurred density are compared with the record blurred alike: they agree.
    assert {found[name] for name in ("density", "covariance", "distance", "likelihood gap")} == {"green"}


def test_a_score_of_another_system_is_called_so(record):
    centres = CENTRES * [1.0, -1.0]
    other = Blurred(lambda x, sigma: mixture_score(x, sigma, centres), 0.05, mixture(24, 500, 3, centres))
    certificate = gfdt.certify(other, record, n_samples=1000, progress=False)
    assert certificate.verdict == "red"
    assert "another system" in certificate.reasons[0]
    assert verdicts(certificate)["likelihood"] == "red"


def test_a_score_that_forgot_what_is_not_gaussian_at_large_noise_is_found(record):
    """f = 0 above 0.5, where peaks 0.4 wide and 2.1 apart still leave their mark: samples are hardly changed by it."""
    linear = amplified(0.0)

    def forgetful(x, sigma):
        return mixture_score(x, sigma) if sigma < 0.5 else linear(x, sigma)

    certificate = gfdt.certify(Blurred(forgetful), record, n_samples=1000, progress=False)
    assert verdicts(certificate)["likelihood gap"] != "green"
    assert verdicts(certificate)["amplitude"] == "green"  # there is no f whose amplitude could be wrong


def test_the_error_of_the_amplitude_is_the_spread_over_records():
    """Members of thirty states around a place of their own: all bins of sigma see the same few members."""
    family = Blurred(mixture_score).family()
    z = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        which = np.repeat(rng.choice(2, (20, 1), p=WEIGHTS), 30, axis=1)  # a member stays at one peak
        held = 0.9 * rng.standard_normal((20, 1, 2)) + np.sqrt(1 - 0.9**2) * rng.standard_normal((20, 30, 2))
        x = CENTRES[which] + WIDTH * held
        unit = np.repeat(np.arange(20), 30)
        a = family.units.states(x.reshape(-1, 2))
        known = bound(family, a, n_levels=16, decode=False, unit_of=unit, seed=seed, progress=False)
        z.append(float((known["total_amplitude"] - 1) / known["total_amplitude_stderr"]))
    # Forty values know their spread to 11 %, twenty units their error to 16 %, which widens the tails of z. Bins taken
    # for independent of each other would make it 3.5.
    assert 0.6 < np.std(z) < 2.0


# --- what cannot be judged -------------------------------------------------------------------------------------------


def test_a_record_the_score_was_fitted_on_is_amber_at_best(record):
    score = Blurred(mixture_score)
    score.fingerprint_ = gfdt.GaussianScore().fit(record).fingerprint_
    certificate = gfdt.certify(score, record, n_samples=1000, progress=False)
    assert certificate.verdict == "amber"
    assert certificate.in_sample
    assert any("fitted on this very record" in reason for reason in certificate.reasons)


def test_a_formula_of_one_noise_level_is_not_certified_as_a_density(record, tmp_path):
    def formula(x):
        return mixture_score(x.reshape(-1, 2), 0.0).reshape(x.shape)

    certificate = gfdt.certify(formula, record, progress=False, out=tmp_path / "c.html")
    assert certificate.verdict == "amber"
    assert set(certificate.sections) == {"identities", "density", "score"}
    assert "not certified as a density" in str(certificate)
    assert certificate.to_dataset().attrs["n_samples"] == 0


def test_a_score_that_samples_cannot_be_drawn_from_is_red(record):
    def wild(x, sigma):
        return mixture_score(x, sigma) + (1e200 * x**3 if sigma > 0.1 else 0.0)

    certificate = gfdt.certify(Blurred(wild), record, n_samples=100, progress=False)
    assert certificate.verdict == "red"
    assert verdicts(certificate)["samples"] == "red"


# --- arguments -------------------------------------------------------------------------------------------------------


def test_score_and_trajectory_are_told_apart(record):
    score = gfdt.GaussianScore().fit(record)
    assert _in_order(record, score)[0] is score
    assert _in_order(np.sin, record)[1] is record
    for pair in ((score, score), (record, record), ("run.nc", "other.nc"), (record, gfdt.GaussianScore)):
        with pytest.raises(InputError, match=r"call gfdt.certify\(score, trajectory\)"):
            gfdt.certify(*pair)
    with pytest.raises(gfdt.NotFittedError):
        gfdt.certify(gfdt.GaussianScore(), record)
    with pytest.raises(InputError, match="n_samples"):
        gfdt.certify(score, record, n_samples=10)


def test_an_existing_report_is_refused_before_any_work(record, tmp_path):
    target = tmp_path / "c.html"
    target.write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        gfdt.certify(gfdt.GaussianScore().fit(record), record, out=target)
    assert target.read_text() == "kept"


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_page_needs_no_other_file_and_escapes_every_text(green, tmp_path):
    _, certificate = green
    bad = dataclasses.replace(certificate, label="<script>alert(1)</script>", diagnosis=("a < b & c",))
    text = bad.to_html(tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a &lt; b &amp; c" in text
    assert text.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', text)
    for title in certificate.sections:
        assert title in text


def test_every_number_can_be_saved(green, tmp_path):
    _, certificate = green
    certificate.to_dataset().to_netcdf(tmp_path / "c.nc")
    with xr.open_dataset(tmp_path / "c.nc") as found:
        assert found.attrs["verdict"] == "green"
        assert found["finding_verdict"].sizes["check"] == len(certificate.findings)
        assert set(found["part"].values) == set(certificate.sections)
        assert float(found["distance"]) == certificate.distance.distance
        assert float(found["likelihood_elbo"]) == float(certificate.likelihood["elbo"])
        # Histograms are densities: they hold all states but a few in the outermost tails.
        width = np.diff(found["value"].values, axis=1)[:, :1]
        np.testing.assert_allclose((found["density"].sum("bin") * width).values, 1.0, atol=0.01)


def test_the_figure_shows_every_part_and_leaves_out_what_is_not_there(green, record):
    from matplotlib.figure import Figure

    _, certificate = green
    figure = certificate.plot(Figure(figsize=(13, 7.5), layout="constrained"))
    assert len(figure.axes) == 5
    assert all(ax.get_xlabel() or ax.get_title() or not ax.axison for ax in figure.axes)
    none = gfdt.certify(lambda x: -x, record, progress=False).plot(Figure(layout="constrained"))
    assert len(none.axes) == 1


# --- what stays on the score -----------------------------------------------------------------------------------------


def test_the_verdict_stays_on_the_score_and_goes_into_responses(record, tmp_path):
    score = gfdt.GaussianScore().fit(record.isel(member=slice(0, 12)))
    before = gfdt.response(record, score, max_lag=2.0, confidence=None)
    assert before.attrs["certificate_verdict"] == "none"
    certificate = gfdt.certify(score, record, n_samples=300, progress=False)
    assert score.certificate_.verdict == certificate.verdict == "red"
    assert score.certificate_.fingerprint == gfdt.GaussianScore().fit(record).fingerprint_
    loaded = gfdt.load_score(score.save(tmp_path / "s.safetensors"))
    assert loaded.certificate_ == score.certificate_
    after = gfdt.response(record, loaded, max_lag=2.0, confidence=None)
    assert after.attrs["certificate_verdict"] == "red"
    assert after.attrs["certificate_reasons"].splitlines() == list(certificate.reasons)
    assert before.attrs["certificate_record"] == "none"
    assert after.attrs["certificate_record"] == "same"
    after.to_netcdf(tmp_path / "r.nc")
    both = gfdt.response(record, [loaded, lambda x: mixture_score(x, 0.0)], max_lag=2.0, confidence=None)
    assert both.attrs["certificate_verdict"] == "red"
    assert both.attrs["certificate_record"] == "none"  # the formula never was
    assert score.fit(record).certificate_ is None


def test_a_response_on_another_record_says_so_and_keeps_the_verdict(record):
    score = gfdt.GaussianScore().fit(record.isel(member=slice(0, 12)))
    held_out = gfdt.load_trajectory(record.isel(member=slice(12, None)))
    score.certificate_ = stamp_of(score, held_out, "green", ())
    found = [gfdt.response(x, score, max_lag=2.0, confidence=None).attrs for x in (held_out, record)]
    assert [each["certificate_verdict"] for each in found] == ["green", "green"]
    assert [each["certificate_record"] for each in found] == ["same", "other"]
    assert found[0]["certificate_reasons"] == ""
    assert "certified on another record" in found[1]["certificate_reasons"]
    both = joint_attributes(found)
    assert both["certificate_record"] == "other"
    assert "certified on another record" in both["certificate_reasons"]


def test_another_noise_level_is_another_score():
    score = gfdt.GaussianScore().fit(mixture(2, 50, 0))
    score.noise_level_ = 0.1
    score.certificate_ = Stamp("green", (), "f", 0.1)
    assert attributes(score)["certificate_verdict"] == "green"
    score.noise_level_ = 0.2
    assert attributes(score) == {"certificate_verdict": "none", "certificate_reasons": ""}


def test_several_scores_have_the_worst_verdict_and_all_reasons():
    each = [
        {"certificate_verdict": verdict, "certificate_reasons": reasons, "certificate_record": record}
        for verdict, reasons, record in (
            ("green", "", "same"), ("none", "", "none"), ("amber", "a\nb", "same"), ("amber", "b", "same")
        )
    ]  # fmt: skip
    worst = {"certificate_verdict": "none", "certificate_reasons": "a\nb", "certificate_record": "none"}
    assert joint_attributes(each) == worst
    assert joint_attributes(each[2:])["certificate_verdict"] == "amber"
    assert joint_attributes(each[2:])["certificate_record"] == "same"


def test_a_forged_certificate_is_refused(tmp_path):
    from gfdt.scores import storage

    score = gfdt.GaussianScore().fit(mixture(2, 50, 0))
    score.certificate_ = Stamp("green", ("why",), "f", 0.0)
    assert Stamp.unpack(json.loads(json.dumps(score.certificate_.pack()))) == score.certificate_
    good = score.certificate_.pack()
    # Escape sequences would act on the terminal that reasons are printed on.
    controls = ({**good, "reasons": ["\x1b[2Jall is well"]}, {**good, "fingerprint": "a\nb"})
    for forged in ("green", {"verdict": "green"}, {**good, "verdict": "perfect"}, *controls):
        score.certificate_ = type("Forged", (), {"pack": lambda self, value=forged: value})()
        path = storage.save_score(score, tmp_path / "s.safetensors", overwrite=True)
        with pytest.raises(CheckpointError, match="certificate"):
            gfdt.load_score(path)
