"""The denoiser: the Gaussian answer at the start, Tweedie's formula, absent directions, and a dense slow twin."""

import dataclasses

import numpy as np
import pytest
import torch
from reference import dsm_denoiser as slow

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion.bases import make_basis
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.preconditioning import PRECONDITIONS, Denoiser
from gfdt.errors import InputError

FLOAT32 = 1e-5  # a few hundred roundings of float32
SIGMAS = (0.03, 0.3, 2.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def coloured(n, *shape, seed=1):
    """Periodic noise whose spectrum falls with the wavenumber, of unit variance."""
    rng = np.random.default_rng(seed)
    axes = tuple(range(1, 1 + len(shape)))
    spectrum = np.fft.rfftn(rng.normal(size=(n, *shape)), axes=axes) / (1.0 + np.arange(shape[-1] // 2 + 1))
    field = np.fft.irfftn(spectrum, s=shape, axes=axes)
    return field / field.std()


def dense_case(absent):
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    eigenvalues = np.array([0.0 if absent else 0.1, 0.3, 1.0, 2.0])
    return DenseCovariance(np.zeros(4), eigenvalues, vectors), (4,), False


def spectral_case(shape, absent):
    covariance = SpectralCovariance.estimate(coloured(400, *shape), 0.0)
    if absent:
        eigenvalues = covariance.eigenvalues.copy()
        eigenvalues[(0,) * len(shape)] = 0.0
        covariance = dataclasses.replace(covariance, eigenvalues=eigenvalues)
    return covariance, shape, True


def cross_case(shape, absent):
    first, second = coloured(400, *shape), coloured(400, *shape, seed=2)
    pair = np.stack([first, np.roll(first, 1, -1) + 0.5 * second], axis=1)
    covariance = CrossSpectralCovariance.estimate(pair, 0.0)
    if absent:
        eigenvalues = covariance.eigenvalues.copy()
        eigenvalues[0] = 0.0
        covariance = dataclasses.replace(covariance, eigenvalues=eigenvalues)
    return covariance, (2, *shape), True


CASES = {
    f"{name}{' with absent directions' if absent else ''}": (case, absent)
    for absent in (False, True)
    for name, case in {
        "dense": dense_case,
        "line": lambda absent: spectral_case((7,), absent),
        "plane": lambda absent: spectral_case((5, 6), absent),
        "two lines": lambda absent: cross_case((6,), absent),
        "two planes": lambda absent: cross_case((3, 4), absent),
    }.items()
}


class Wave(torch.nn.Module):
    """A fixed nonlinear F that depends on both arguments."""

    def forward(self, x, c_noise):
        return torch.sin(3 * x) * (1 + c_noise.reshape(-1, *[1] * (x.ndim - 1)))


def states(shape, seed=3, n=3):
    return torch.randn(n, *shape, generator=generator(seed))


@pytest.mark.parametrize("name", CASES)
def test_torch_covariances_agree_with_their_numpy_twins(name):
    case, absent = CASES[name]
    covariance, shape, _ = case(absent)
    basis, x = make_basis(covariance), states(shape)
    gain = (basis.eigenvalues.sqrt() + 1).expand(3, *basis.eigenvalues.shape)
    expected = covariance.apply(x.numpy().astype(float), lambda c: np.sqrt(c) + 1)
    np.testing.assert_allclose(basis.apply_gain(x, gain).numpy(), expected, atol=FLOAT32 * np.abs(expected).max())
    mean = covariance.trace(lambda c: np.sqrt(c) + 1) / np.prod(shape)
    np.testing.assert_allclose(basis.average(gain).numpy(), mean, rtol=FLOAT32)


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("name", CASES)
def test_score_denoiser_and_target_agree_with_dense_matrices(name, precondition):
    case, absent = CASES[name]
    covariance, shape, channel = case(absent)
    denoiser = Denoiser(Wave(), covariance, shape, channel=channel, precondition=precondition)
    data = slow.matrix_of(covariance, shape)
    linear = {"gaussian": data, "edm": slow.flat(data), "none": None}[precondition]
    level = torch.tensor(SIGMAS)
    y, z = states(shape), states(shape, seed=4)
    found = [denoiser.score(y, level), denoiser.denoise(y, level), denoiser.target(denoiser.project(y), z, level)]
    scores, denoised, targets = (value.numpy().reshape(3, -1) for value in found)
    for i, sigma in enumerate(SIGMAS):
        state, noise = (value[i].numpy().ravel().astype(float) for value in (y, z))
        score = slow.score(state, data, linear, sigma, lambda x, s=sigma: np.sin(3 * x) * (1 + np.log(s) / 4))
        np.testing.assert_allclose(scores[i], score, atol=FLOAT32 * np.abs(score).max())
        np.testing.assert_allclose(denoised[i], state + sigma**2 * score, atol=FLOAT32 * np.abs(state).max())
        target = slow.target(slow.projector(data) @ state, noise, data, linear, sigma)
        np.testing.assert_allclose(targets[i], target, atol=FLOAT32 * np.abs(target).max())


@pytest.mark.parametrize("network", ["mlp", "resnet", "unet"])
@pytest.mark.parametrize("energy", [False, True])
def test_a_fresh_network_is_the_exact_gaussian_answer(network, energy):
    covariance, shape, _ = spectral_case((5, 6), False)
    options = {"width": 4} | ({"levels": 1, "blocks": 1} if network == "unet" else {"depth": 1})
    denoiser = make_denoiser(
        Architecture(network, options, energy=energy), covariance, ("y", "x"), shape, generator=generator()
    )
    matrix = slow.matrix_of(covariance, shape)
    y, level = states(shape), torch.tensor(SIGMAS)
    with torch.no_grad():
        score, linear = denoiser.score(y, level), denoiser.linear_score(y, level)
    assert torch.equal(score, linear)
    for i, sigma in enumerate(SIGMAS):
        exact = -slow.precision(matrix, sigma) @ y[i].numpy().ravel()
        np.testing.assert_allclose(score[i].numpy().ravel(), exact, atol=FLOAT32 * np.abs(exact).max())


@pytest.mark.parametrize("precondition", ["gaussian", "edm"])
@pytest.mark.parametrize("name", CASES)
def test_without_noise_the_linear_score_is_the_pseudo_inverse_and_the_network_keeps_its_size(name, precondition):
    case, absent = CASES[name]
    covariance, shape, channel = case(absent)
    denoiser = Denoiser(Wave(), covariance, shape, channel=channel, precondition=precondition)
    data = slow.matrix_of(covariance, shape)
    linear = data if precondition == "gaussian" else slow.flat(data)
    y, clean = denoiser.project(states(shape)), torch.zeros(3)
    expected = -y.numpy().reshape(3, -1) @ np.linalg.pinv(linear, rcond=1e-8, hermitian=True)
    found = denoiser.linear_score(y, clean).numpy().reshape(3, -1)
    np.testing.assert_allclose(found, expected, atol=10 * FLOAT32 * np.abs(expected).max())
    correction = denoiser.score_correction(y, clean)
    assert 0 < correction.abs().max() < torch.inf
    tiny = denoiser.score_correction(y, torch.full((3,), 1e-4))  # the network is told the same noise level
    torch.testing.assert_close(correction, tiny, atol=1e-3 * float(correction.abs().max()), rtol=0)
    assert denoiser.output_scale(clean)[0] == pytest.approx(
        np.sqrt(np.trace(np.linalg.pinv(linear, rcond=1e-8, hermitian=True)) / len(data))
        if precondition == "gaussian"
        else 1 / np.sqrt(linear[0, 0]),
        rel=1e-3,
    )


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][1]])
def test_the_network_adds_nothing_and_sees_nothing_where_there_is_no_variance(name, precondition):
    covariance, shape, channel = CASES[name][0](True)
    denoiser = Denoiser(Wave(), covariance, shape, channel=channel, precondition=precondition)
    y, level = states(shape), torch.full((3,), 0.2)
    correction = denoiser.score_correction(y, level)
    size = float(correction.abs().max())
    torch.testing.assert_close(denoiser.project(correction), correction, atol=FLOAT32 * size, rtol=0)
    assert not torch.allclose(denoiser.project(y), y)
    off = y - denoiser.project(y)
    torch.testing.assert_close(denoiser.score_correction(y + off, level), correction, atol=FLOAT32 * size, rtol=0)


@pytest.mark.parametrize("precondition", PRECONDITIONS)
def test_target_is_the_score_of_the_noise_less_the_linear_score(precondition):
    covariance, shape, _ = spectral_case((6, 5), False)
    denoiser = Denoiser(Wave(), covariance, shape, channel=True, precondition=precondition)
    a, z, level = states(shape), states(shape, seed=5), torch.tensor(SIGMAS)
    sigma = level.reshape(3, 1, 1)
    total = denoiser.linear_score(a + sigma * z, level)
    total = total + denoiser.output_scale(level).reshape(3, 1, 1) * denoiser.target(a, z, level)
    torch.testing.assert_close(sigma * total, -z, atol=FLOAT32 * 10, rtol=0)


def test_target_has_the_stated_variance_for_gaussian_data():
    x = coloured(400, 6, 5)
    covariance = SpectralCovariance.estimate(x, 0.0)
    denoiser = Denoiser(Wave(), covariance, (6, 5), channel=True)
    state = torch.tensor(x - covariance.mean, dtype=torch.float32)
    z = torch.randn(state.shape, generator=generator(5))
    for sigma in (0.02, 0.2, 2.0):
        level = torch.full((len(x),), sigma)
        unit = sigma**2 * denoiser.output_scale(level) / denoiser.posterior_scale(level)
        variance = (unit.reshape(-1, 1, 1) * denoiser.target(state, z, level)).square().mean().item()
        # 400 x 30 values; the state's own share is exact, since C was estimated from it
        assert variance == pytest.approx(1.0, abs=4 * np.sqrt(2 / state.numel()))


def test_the_scale_of_the_network_stays_finite_as_the_noise_vanishes():
    covariance, shape, _ = spectral_case((6, 5), False)
    denoiser = Denoiser(Wave(), covariance, shape, channel=True)
    q = denoiser.output_scale(torch.tensor([0.0, 1e-3, 1e-2]))
    torch.testing.assert_close(q, q[0].expand(3), rtol=0.05, atol=0)
    plain = Denoiser(Wave(), covariance, shape, channel=True, precondition="none")
    torch.testing.assert_close(plain.output_scale(torch.tensor([0.0, 0.1])), torch.tensor([1.0, 10.0]))
    assert not plain.has_linear_part


def test_a_twin_with_another_network_shares_the_buffers():
    covariance, shape, _ = spectral_case((6, 5), False)
    denoiser = Denoiser(Wave(), covariance, shape, channel=True)
    twin = denoiser.with_network(torch.nn.Identity())
    assert twin.basis is denoiser.basis
    assert isinstance(denoiser.network, Wave)


def test_a_convolutional_network_refuses_states_without_a_grid():
    covariance = DenseCovariance(np.zeros(24), np.ones(24), np.eye(24))
    assert Denoiser(Wave(), covariance, (2, 3, 4), channel=True).grid == (3, 4)
    assert Denoiser(Wave(), covariance, (6, 4), channel=True).grid == (6, 4)
    assert Denoiser(Wave(), covariance, (6, 4), channel=True, n_grid=1).grid == (4,)
    with pytest.raises(InputError, match=r"needs a field over one or two dims, found states of shape \(1, 2, 3, 4\)"):
        Denoiser(Wave(), covariance, (1, 2, 3, 4), channel=True)
    with pytest.raises(InputError, match="precondition is 'white'"):
        Denoiser(Wave(), covariance, (24,), channel=False, precondition="white")
