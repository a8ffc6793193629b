"""Certificates of networks of two wells: one trained as it should be, and one for each of the usual mistakes."""

import pytest

import gfdt
import simulators

OPTIONS = {"n_samples": 2000, "progress": False}


@pytest.fixture(scope="module")
def records():
    """One to train on, long enough for the identities to be met within 5 %, and one to judge on."""
    system = simulators.DoubleWell()
    return [
        system.simulate(n_members=members, duration=200.0, save_every=1.0, seed=members, progress=False)
        for members in (256, 64)
    ]


def network(max_steps, **options):
    small = {"width": 32, "depth": 2}
    return gfdt.DSMScore(network_options=small, batch_size=512, max_steps=max_steps, progress=False, **options)


@pytest.fixture(scope="module")
def good(records):
    return network(600).fit(records[0])


def test_a_trained_network_is_green(records, good):
    certificate = gfdt.certify(good, records[1], **OPTIONS)
    assert certificate.verdict == "green", certificate


def test_an_undertrained_network_is_flagged(records):
    certificate = gfdt.certify(network(30).fit(records[0]), records[1], **OPTIONS)
    assert certificate.verdict == "red"
    assert "never beat its Gaussian start" in certificate.reasons[0]


def test_a_network_trained_on_too_few_samples_is_flagged(records):
    few = records[0].isel(member=[0], time=slice(0, 40))
    certificate = gfdt.certify(network(300).fit(few), records[1], **OPTIONS)
    assert certificate.verdict == "red"
    assert "too few samples" in certificate.reasons[0]


def test_a_network_with_too_large_a_noise_level_is_flagged(records):
    with pytest.warns(gfdt.ReliabilityWarning, match="blurs a component"):
        coarse = network(200, sigma=0.7).fit(records[0])
    certificate = gfdt.certify(coarse, records[1], **OPTIONS)
    assert certificate.verdict == "red"
    assert "noise level that is too large" in certificate.reasons[0]


def test_a_network_of_another_system_is_flagged(records, good):
    certificate = gfdt.certify(good, 1.5 * records[1]["x"] + 0.5, **OPTIONS)
    assert certificate.verdict == "red"
    assert "another system" in certificate.reasons[0]


def test_a_gaussian_of_two_wells_is_flagged_and_told_what_to_do(records):
    certificate = gfdt.certify(gfdt.GaussianScore().fit(records[0]), records[1], n_samples=1000, progress=False)
    assert certificate.verdict == "red"
    assert "learn one, e.g. with DSMScore" in certificate.reasons[0]
