"""Objectives: what they add up to, how they agree with one another, and that the true score minimises them."""

import math

import numpy as np
import pytest
import torch

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.networks.conditioning import initialise
from gfdt.diffusion.objectives import OBJECTIVES, make_objective
from gfdt.diffusion.preconditioning import PRECONDITIONS, Denoiser
from gfdt.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Wave(torch.nn.Module):
    """A fixed smooth F with a Jacobian that is not diagonal."""

    def forward(self, x, c_noise):
        return torch.sin(2 * x + 0.5 * x.roll(1, -1)) * (1 + c_noise.reshape(-1, *[1] * (x.ndim - 1)))


def case(kind):
    """Anomalies, their covariance and shape, one component of the dense case without variance."""
    x = torch.randn(64, 2, 6, generator=generator(1)).double()
    x[:, 1] += x[:, 0].roll(1, -1)
    x -= x.mean(dim=0)
    if kind == "cross":
        return x, CrossSpectralCovariance.estimate(x.numpy(), 0.0), True
    if kind == "spectral":
        return x[:, 1], SpectralCovariance.estimate(x[:, 1].numpy(), 0.0), True
    flat = x[:, 0, :4].clone()
    flat[:, 3] = 0
    eigenvalues, eigenvectors = np.linalg.eigh(np.cov(flat.numpy().T, bias=True))
    return flat, DenseCovariance(np.zeros(4), np.where(eigenvalues < 1e-12, 0.0, eigenvalues), eigenvectors), False


def denoiser_for(kind, network, precondition="gaussian"):
    x, covariance, channel = case(kind)
    denoiser = Denoiser(network, covariance, tuple(x.shape[1:]), channel=channel, precondition=precondition)
    return denoiser.double(), x


class Zero(torch.nn.Module):
    def forward(self, x, _):
        return torch.zeros_like(x)


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("kind", ["dense", "spectral", "cross"])
def test_denoising_excess_is_the_loss_less_that_of_the_linear_part(kind, precondition):
    denoiser, x = denoiser_for(kind, Wave(), precondition)
    plain = denoiser.with_network(Zero())
    objective = make_objective("dsm", 0.3, 0.5)
    z, level = objective.draw(x, generator())
    sigma = level.reshape(-1, *[1] * (x.ndim - 1))
    median = torch.full_like(level, 0.3)

    def gain(at):
        """σ² q: how an error of F turns into one of the denoiser."""
        return at**2 * denoiser.output_scale(at)

    def loss(model):
        """Of the denoiser, in units of c_out at the median level; at others as if F had the same error there."""
        total = 0.0
        for sign in (1, -1):
            error = model.project(model.denoise(x + sign * sigma * z, level) - x)
            total = total + error.square().flatten(1).mean(dim=1) / 2
        return total / denoiser.posterior_scale(median) ** 2 * (gain(median) / gain(level)) ** 2

    baseline = objective.baseline(denoiser, x, z, level)
    torch.testing.assert_close(baseline, loss(plain), rtol=1e-5, atol=1e-6)
    excess = objective.excess(denoiser, x, z, level)
    torch.testing.assert_close(excess, loss(denoiser) - loss(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("kind", ["dense", "spectral", "cross"])
def test_sliced_excess_is_the_loss_less_that_of_the_linear_part(kind, precondition, level):
    denoiser, x = denoiser_for(kind, Wave(), precondition)
    objective = make_objective("ssm", level, 0.5)
    z, levels = objective.draw(x, generator())
    y = x + levels.reshape(-1, *[1] * (x.ndim - 1)) * z[:, 0]

    def loss(score):
        value, pull_back = torch.func.vjp(lambda state: score(state, levels), y)
        slope = pull_back(z[:, 1])[0]
        terms = value.square() / 2 + z[:, 1] * slope
        return terms.flatten(1).mean(dim=1) / denoiser.mean_precision(levels)

    excess = objective.excess(denoiser, x, z, levels)
    expected = loss(denoiser.score) - loss(denoiser.linear_score)
    torch.testing.assert_close(excess, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "spectral", "cross"])
def test_sliced_baseline_has_the_exact_divergence(kind):
    denoiser, x = denoiser_for(kind, Wave())
    objective = make_objective("ssm", 0.3, 0.5)
    z, level = objective.draw_at(x, 0.3, generator())
    y = x + 0.3 * z[:, 0]

    def linear(state):
        return denoiser.project(denoiser.linear_score(state[None], level[:1]))[0]

    divergence = sum(torch.func.jacrev(linear)(y[0]).reshape(y[0].numel(), -1).diagonal())
    expected = (linear(y[0]).square().sum() / 2 + divergence) / y[0].numel() / denoiser.mean_precision(level)[0]
    torch.testing.assert_close(objective.baseline(denoiser, x, z, level)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_of_the_gaussian_start_are_comparable_numbers(name):
    denoiser, x = denoiser_for("spectral", Zero())
    objective = make_objective(name, 0.3, 0.5)
    z, level = objective.draw_at(x, 0.3, generator(2))
    assert torch.equal(objective.excess(denoiser, x, z, level), torch.zeros(64).double())
    # the states' own share is exact for its covariance; what is left is 64 x 6 squared normals of the noise
    expected = {"dsm": 1.0, "ssm": -0.5, "fd-ssm": -0.5}[name]
    assert objective.baseline(denoiser, x, z, level).mean().item() == pytest.approx(
        expected, abs=4 * math.sqrt(2 / 384)
    )


def test_antithetic_noise_makes_the_sign_of_z_irrelevant():
    denoiser, x = denoiser_for("cross", Wave())
    objective = make_objective("dsm", 0.3, 0.5)
    z, level = objective.draw(x, generator())
    torch.testing.assert_close(objective.excess(denoiser, x, z, level), objective.excess(denoiser, x, -z, level))


def test_antithetic_noise_removes_most_of_the_noise_of_the_gradient():
    denoiser, x = denoiser_for("cross", Wave())
    x = x[:1].expand(64, -1, -1)  # every state the same: all that varies is z
    objective = make_objective("dsm", 0.05, 0.0)
    z, level = objective.draw(x, generator())
    pairs = objective.excess(denoiser, x, z, level)
    target = denoiser.target(x, z, level)
    learned = denoiser.residual(x + 0.05 * z, level)
    scale = (0.05**2 * denoiser.output_scale(level) / denoiser.posterior_scale(level)) ** 2
    single = scale * (learned * (learned - 2 * target)).flatten(1).mean(dim=1)
    assert pairs.std() < 0.2 * single.std()


class LinearResidual(torch.nn.Module):
    """F = theta times what is missing from the isotropic linear part of a Gaussian with that covariance."""

    def __init__(self, covariance, shape):
        super().__init__()
        self.theta = 1.0
        self.full = Denoiser(Zero(), covariance, shape, channel=True).double()
        self.flat = Denoiser(Zero(), covariance, shape, channel=True, precondition="edm").double()

    def forward(self, x, c_noise):
        level = (4 * c_noise).exp() * (c_noise > math.log(1.1e-3) / 4)
        beside = (-1, *[1] * (x.ndim - 2))
        y = x[:, 0] / self.flat.input_scale(level).reshape(beside)
        missing = self.full.linear_score(y, level) - self.flat.linear_score(y, level)
        return self.theta * (missing / self.flat.output_scale(level).reshape(beside))[:, None]


@pytest.mark.parametrize(
    ("name", "level"), [("dsm", 0.3), ("ssm", 0.3), ("fd-ssm", 0.3), ("ssm", 0.0), ("fd-ssm", 0.0)]
)
def test_the_exact_score_of_gaussian_data_minimises_every_objective(name, level):
    n, shape = 4000, (6,)
    eigenvalues = np.array([2.0, 1.0, 0.4, 0.2])
    covariance = SpectralCovariance(0.0, eigenvalues, shape)
    x = torch.from_numpy(covariance.apply(torch.randn(n, 6, generator=generator(3)).double().numpy(), np.sqrt))
    network = LinearResidual(covariance, shape)
    denoiser = Denoiser(network, covariance, shape, channel=True, precondition="edm").double()
    objective = make_objective(name, level, 0.5)
    z, levels = objective.draw(x, generator(4))
    losses = []
    for theta in (1.0, -1.0):
        network.theta = theta
        losses.append(objective.excess(denoiser, x, z, levels))
    # a quadratic in theta, excess = linear theta + curvature theta^2, for every state
    linear, curvature = (losses[0] - losses[1]) / 2, (losses[0] + losses[1]) / 2
    slope = linear + 2 * curvature
    error = slope.std().item() / math.sqrt(n)
    assert abs(slope.mean().item()) < 4 * error
    assert curvature.mean().item() > 10 * error


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_finite_differences_agree_with_the_exact_derivative(level):
    denoiser, x = denoiser_for("cross", Wave())
    exact, differences = make_objective("ssm", level, 0.5), make_objective("fd-ssm", level, 0.5)
    z, levels = exact.draw(x, generator(5))
    found, expected = (o.excess(denoiser, x, z, levels) for o in (differences, exact))
    assert torch.equal(differences.draw(x, generator(5))[0], z)
    # F varies over sizes of order 1: the error of the difference is of order step^2/6 with a step of 0.02 or 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-2 * float(expected.abs().max()))
    assert torch.equal(differences.baseline(denoiser, x, z, levels), exact.baseline(denoiser, x, z, levels))


@pytest.mark.parametrize("energy", [False, True])
@pytest.mark.parametrize("network", ["mlp", "resnet", "unet"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_network_is_trained_by_every_objective(name, network, energy):
    x, covariance, _ = case("cross")
    options = {"width": 4} | ({"levels": 1, "blocks": 1} if network == "unet" else {"depth": 1})
    architecture = Architecture(network, options, energy=energy, symmetries=("sign",))
    denoiser = make_denoiser(architecture, covariance, ("variable", "x"), (2, 6), generator=generator())
    anomalies = x[:8].float()
    objective = make_objective(name, 0.2, 0.5)
    z, level = objective.draw(anomalies, generator())
    objective.excess(denoiser, anomalies, z, level).mean().backward()
    moved = [bool(p.grad.abs().sum() > 0) for p in denoiser.network.parameters() if p.grad is not None]
    assert sum(moved) > 0  # at F = 0 the last layer moves, and nothing else
    initialise(denoiser.network, generator())
    denoiser.zero_grad()
    objective.excess(denoiser, anomalies, z, level).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.network.parameters() if p.requires_grad)
    with torch.no_grad():
        values = objective.excess(denoiser.eval(), anomalies, z, level)
    assert values.shape == (8,)
    assert not values.requires_grad


def test_noise_levels_are_lognormal_about_the_stated_median():
    levels = make_objective("dsm", 0.1, 0.5).draw(torch.zeros(1000, 1), generator())[1].log()
    assert levels.mean().item() == pytest.approx(math.log(0.1), abs=1e-3)  # stratified: error of order 1/n
    assert levels.std().item() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("name", ["ssm", "fd-ssm"])
def test_sliced_objectives_can_use_clean_states(name):
    x = torch.randn(10, 3, generator=generator())
    z, level = make_objective(name, 0.0, 0.5).draw(x, generator())
    assert torch.equal(level, torch.zeros(10))
    assert z.shape == (10, 2, 3)
    assert torch.equal(z[:, 1].abs(), torch.ones(10, 3))


def test_evaluation_is_at_one_level():
    z, level = make_objective("dsm", 0.3, 0.5).draw_at(torch.zeros(5, 2), 0.1, generator())
    assert torch.equal(level, torch.full((5,), 0.1))
    assert z.shape == (5, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nce", 0.1, 0.5), "objective is 'nce'"),
        (("dsm", 0.0, 0.5), r"sigma=0.0 is not a number in \(0, inf\)"),
        (("ssm", -0.1, 0.5), r"sigma=-0.1 is not a number in \[0, inf\)"),
        (("ssm", 0.1, -1.0), "spread=-1.0"),
    ],
)
def test_objectives_are_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        make_objective(*arguments)
