"""The energy form: curl-free whatever the weights, and the density whose gradient is the score."""

import dataclasses

import numpy as np
import pytest
import torch

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.energy import EnergyNetwork, log_density
from gfdt.diffusion.networks.conditioning import initialise
from gfdt.diffusion.preconditioning import PRECONDITIONS
from gfdt.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def covariance_of(kind):
    rng = np.random.default_rng(0)
    if kind == "mlp":
        vectors = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        return DenseCovariance(np.zeros(4), np.array([0.0, 0.5, 1.0, 2.0]), vectors), (4,), ("component",)
    if kind == "resnet":
        pair = CrossSpectralCovariance.estimate(rng.normal(size=(60, 2, 5)), 0.0)
        eigenvalues = pair.eigenvalues.copy()
        eigenvalues[0, 0] = 0.0
        return dataclasses.replace(pair, eigenvalues=eigenvalues), (2, 5), ("variable", "x")
    return SpectralCovariance.estimate(rng.normal(size=(60, 4, 4)), 0.0), (4, 4), ("y", "x")


def build(kind, precondition="gaussian", energy=True, symmetries=()):
    covariance, shape, dims = covariance_of(kind)
    options = {"width": 4} | ({"levels": 1, "blocks": 1} if kind == "unet" else {"depth": 1})
    architecture = Architecture(kind, options, precondition, energy, symmetries)
    denoiser = make_denoiser(architecture, covariance, dims, shape, generator=generator())
    initialise(denoiser.network, generator(1))
    return denoiser.double().eval(), torch.randn(3, *shape, generator=generator(2)).double()


def asymmetry(denoiser, state):
    level = torch.tensor([0.3]).double()
    jacobian = torch.func.jacrev(lambda a: denoiser.score_correction(a[None], level)[0])(state)
    jacobian = jacobian.reshape(state.numel(), -1)
    return float((jacobian - jacobian.T).norm() / jacobian.norm())


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize("kind", ["mlp", "resnet", "unet"])
def test_the_score_is_curl_free_only_in_the_energy_form(kind, precondition):
    denoiser, states = build(kind, precondition)
    denoiser.requires_grad_(False)
    # single precision in the eigenvectors of C
    assert asymmetry(denoiser, states[0]) < 1e-5
    free, _ = build(kind, precondition, energy=False)
    assert asymmetry(free.requires_grad_(False), states[0]) > 1e-2


@pytest.mark.parametrize("precondition", PRECONDITIONS)
@pytest.mark.parametrize(
    ("kind", "symmetries"),
    [("mlp", ()), ("mlp", ("sign",)), ("resnet", ("-reflect_x",)), ("unet", ()), ("unet", ("transpose", "reflect_y"))],
)
def test_the_gradient_of_the_log_density_is_the_score(kind, symmetries, precondition):
    denoiser, states = build(kind, precondition, symmetries=symmetries)
    level = torch.tensor([0.05, 0.3, 1.0]).double()
    states.requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(denoiser, states, level).sum(), states)
    score = denoiser.score(states, level).detach()
    torch.testing.assert_close(gradient, score, rtol=0, atol=1e-5 * float(score.abs().max()))


def test_density_without_noise_is_that_of_the_states():
    denoiser, states = build("unet")
    clean = torch.zeros(3).double()
    states.requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(denoiser, states, clean).sum(), states)
    torch.testing.assert_close(gradient, denoiser.score(states, clean).detach(), rtol=1e-4, atol=1e-4)


def test_energy_is_zero_at_the_start_and_can_leave_it():
    denoiser, states = build("unet")
    denoiser.network.backbone.reset(generator())
    level = torch.full((3,), 0.3).double()
    force = denoiser.residual(states, level)
    assert torch.equal(force, torch.zeros_like(force))
    (force * states).sum().backward()
    assert denoiser.network.backbone.last.convolution.weight.grad.abs().max() > 0


def test_energy_works_without_gradients_and_keeps_none():
    denoiser, states = build("resnet")
    level = torch.full((3,), 0.3).double()
    with torch.no_grad():
        value = denoiser.score(states, level)
    assert not value.requires_grad
    torch.testing.assert_close(value, denoiser.score(states, level).detach())


def test_only_an_energy_has_a_density():
    denoiser, states = build("mlp", energy=False)
    with pytest.raises(InputError, match="the network is a MLP, whose score need not be the gradient of any density"):
        log_density(denoiser, states, torch.ones(3).double())
    assert isinstance(build("mlp")[0].network, EnergyNetwork)
