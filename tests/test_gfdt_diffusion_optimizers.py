"""Orthogonalised momentum for hidden matrices, Adam for the rest."""

import copy

import pytest
import torch
from torch import nn

from gfdt.diffusion.networks import make_network, network_options
from gfdt.diffusion.optimizers import Muon, hidden_matrices, make_optimizer, orthogonalised


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs, outputs, seed=0):
    """A layer that leaves torch's global generator alone."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        for number, p in enumerate(layer.parameters()):
            p.copy_(0.3 * random(*p.shape, seed=seed + number))
    return layer


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 5, 20), (2, 20, 5)])
def test_orthogonalised_keeps_the_directions_and_levels_the_singular_values(shape):
    m = random(*shape)
    u, _, vh = torch.linalg.svd(m, full_matrices=False)
    found = torch.einsum("bij,bik,bkl->bjl", u, orthogonalised(m), vh.mT)
    values = torch.diagonal(found, dim1=1, dim2=2)
    # The quintic levels values of (0, 1] to [0.68, 1.21] if they are not below 1 % of the norm.
    assert 0.65 < values.min() < values.max() < 1.25
    assert (found - torch.diag_embed(values)).abs().max() < 1e-4


def test_without_matrices_it_is_adam_with_decoupled_decay():
    ours, theirs = linear(4, 3), linear(4, 3)
    adam = torch.optim.AdamW(theirs.parameters(), 1e-2, (0.9, 0.99), weight_decay=0.3)
    optimizers = [Muon(list(ours.parameters()), [], 1e-2), adam]
    x, y = random(20, 4), random(20, 3, seed=1)
    for _ in range(30):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (5,)), ("resnet", (8, 8)), ("unet", (8,))])
def test_networks_name_hidden_matrices_and_keep_first_and_last_layers_for_adam(kind, shape):
    options = network_options(kind, {"blocks": 1, "levels": 1} if kind == "unet" else None)
    network = make_network(kind, shape, options, torch.Generator().manual_seed(0))
    hidden = {id(p) for p in hidden_matrices(network)}
    ends = {id(p) for layer in (network.first, network.last, network.embedding) for p in layer.parameters()}
    assert hidden
    assert not hidden & ends
    assert all(p.ndim >= 2 for p in network.parameters() if id(p) in hidden)


def test_a_matrix_step_has_the_rms_of_adams():
    layer = linear(48, 32)
    before = layer.weight.detach().clone()
    optimizer = Muon([layer.weight], [layer.weight], 1e-2)
    layer.weight.grad = random(32, 48)
    optimizer.step()
    step = (layer.weight - before).square().mean().sqrt().item()
    assert step == pytest.approx(0.2 * 1e-2, rel=0.3)  # the levelled singular values


def test_state_survives_and_goes_on_exactly():
    def train(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) - x).square().mean().backward()
            optimizer.step()

    x = random(10, 6)
    network = nn.Sequential(linear(6, 8), nn.SiLU(), linear(8, 6, seed=5))
    network.hidden_weights = lambda: [network[2].weight]
    optimizer = make_optimizer(network, 1e-2)
    train(network, optimizer, 5)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    kept = copy.deepcopy(optimizer.state_dict())
    train(network, optimizer, 5)
    after = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(weights)
    again = make_optimizer(network, 1e-2)
    again.load_state_dict(kept)
    train(network, again, 5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, after[name], rtol=0, atol=0)
