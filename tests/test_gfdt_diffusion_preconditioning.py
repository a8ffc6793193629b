"""The denoiser: the Gaussian answer at the start, Tweedie's formula, and a dense slow twin."""

import numpy as np
import pytest
import torch
from reference.dsm_denoiser import circulant, denoise

from gfdt.covariance import DenseCovariance, SpectralCovariance
from gfdt.diffusion.networks import make_network, network_options
from gfdt.diffusion.preconditioning import Denoiser, mean_over_modes

FLOAT32 = 1e-5  # a few hundred roundings of float32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def dense_case():
    rng = np.random.default_rng(0)
    x = 3.0 + rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    return x, DenseCovariance.estimate(x, 0.0), False


def spectral_case(shape):
    rng = np.random.default_rng(1)
    axes = tuple(range(1, 1 + len(shape)))
    spectrum = np.fft.rfftn(rng.normal(size=(400, *shape)), axes=axes)
    spectrum /= 1.0 + np.arange(spectrum.shape[-1])
    x = 5.0 + 1e3 * np.fft.irfftn(spectrum, s=shape, axes=axes)
    return x, SpectralCovariance.estimate(x, 0.0), True


CASES = {"dense": dense_case, "line": lambda: spectral_case((7,)), "plane": lambda: spectral_case((5, 6))}


def matrices(covariance, x):
    if isinstance(covariance, DenseCovariance):
        v = covariance.eigenvectors
        return covariance.mean, v @ np.diag(covariance.eigenvalues) @ v.T
    return np.full(x[0].size, covariance.mean), circulant(covariance.eigenvalues, x.shape[1:])


class Noise(torch.nn.Module):
    """A fixed nonlinear F that depends on both arguments."""

    def forward(self, x, c_noise):
        return torch.sin(3 * x) * (1 + c_noise.reshape(-1, *[1] * (x.ndim - 1)))


def fresh(x, covariance, channel):
    kind = "resnet" if channel else "mlp"
    network = make_network(kind, x.shape[1:], network_options(kind, {"width": 8, "depth": 1}), generator())
    return Denoiser(network, covariance, x.shape[1:], channel=channel)


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_network_is_the_exact_gaussian_denoiser_and_score(case):
    x, covariance, channel = CASES[case]()
    denoiser = fresh(x, covariance, channel)
    mean, matrix = matrices(covariance, x)
    scale = np.sqrt(np.trace(matrix) / mean.size)
    sigma = np.array([0.05, 0.3, 2.0]) * scale
    with torch.no_grad():
        arguments = torch.tensor(x[:3], dtype=torch.float32), torch.tensor(sigma, dtype=torch.float32)
        denoised, score = denoiser(*arguments).numpy(), denoiser.score(*arguments).numpy()
    for i in range(3):
        y, blurred = x[i].ravel(), matrix + sigma[i] ** 2 * np.eye(mean.size)
        np.testing.assert_allclose(denoised[i].ravel(), denoise(y, mean, matrix, sigma[i], 0.0), atol=FLOAT32 * scale)
        exact = -np.linalg.solve(blurred, y - mean)
        np.testing.assert_allclose(score[i].ravel(), exact, atol=FLOAT32 * np.abs(exact).max())


@pytest.mark.parametrize("case", CASES)
def test_denoiser_with_a_network_agrees_with_dense_matrices_and_tweedie(case):
    x, covariance, channel = CASES[case]()
    denoiser = Denoiser(Noise(), covariance, x.shape[1:], channel=channel)
    mean, matrix = matrices(covariance, x)
    scale = np.sqrt(np.trace(matrix) / mean.size)
    sigma = 0.4 * scale
    y = torch.tensor(x[:2], dtype=torch.float32)
    level = torch.full((2,), float(sigma))
    denoised, score = denoiser(y, level).numpy(), denoiser.score(y, level).numpy()
    for i in range(2):
        anomaly = (x[i].ravel() - mean) / np.sqrt(scale**2 + sigma**2)
        network_output = np.sin(3 * anomaly) * (1 + np.log(sigma / scale) / 4)
        expected = denoise(x[i].ravel(), mean, matrix, sigma, network_output)
        np.testing.assert_allclose(denoised[i].ravel(), expected, atol=FLOAT32 * scale)
        np.testing.assert_allclose(score[i].ravel(), (expected - x[i].ravel()) / sigma**2, atol=1e-4 / scale)


@pytest.mark.parametrize("case", CASES)
def test_training_target_is_the_residual_of_the_gaussian_denoiser(case):
    x, covariance, channel = CASES[case]()
    denoiser = fresh(x, covariance, channel)
    state = torch.tensor((x[:4] - x.mean()) / denoiser.scale, dtype=torch.float32)
    z = torch.randn(state.shape, generator=generator(3))
    level = torch.tensor([0.1, 0.2, 0.5, 1.0])
    expand = (-1, *[1] * (state.ndim - 1))
    y = state + level.reshape(expand) * z
    mean_in_units = denoiser.mean / denoiser.scale
    gaussian = denoiser(denoiser.scale * (y + mean_in_units), denoiser.scale * level) / denoiser.scale - mean_in_units
    target = denoiser.target(state, z, level) * denoiser.output_scale(level).reshape(expand)
    torch.testing.assert_close(target, state - gaussian, atol=1e-4, rtol=0)


def test_target_has_unit_variance_at_every_noise_level_for_gaussian_data():
    x, covariance, _ = spectral_case((6, 5))
    denoiser = fresh(x, covariance, True)
    state = torch.tensor((x - covariance.mean) / denoiser.scale, dtype=torch.float32)
    z = torch.randn(state.shape, generator=generator(5))
    for level in (0.02, 0.2, 2.0):
        variance = denoiser.target(state, z, torch.full((len(x),), level)).square().mean().item()
        # 400 x 30 values; the state's own share is exact, since C was estimated from it
        assert variance == pytest.approx(1.0, abs=4 * np.sqrt(2 / state.numel()))


def test_mean_over_modes_counts_every_wavenumber_once():
    for shape in ((6,), (7,), (4, 5), (5, 4)):
        x, covariance, _ = spectral_case(shape)
        assert mean_over_modes(covariance, lambda c: c) == pytest.approx(x.var(), rel=1e-12)
