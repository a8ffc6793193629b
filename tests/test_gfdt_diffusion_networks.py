"""Networks: zero at the start, equivariant, bounded options, and no touch on torch's global random state."""

import numpy as np
import pytest
import torch

from gfdt.diffusion.networks import NETWORKS, make_network, network_options
from gfdt.diffusion.networks.conditioning import initialise
from gfdt.errors import InputError


def awake(kind, shape, **options):
    """A network whose last layer is not zero."""
    generator = torch.Generator().manual_seed(1)
    network = make_network(kind, shape, network_options(kind, options), generator)
    initialise(network, generator)
    return network


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (3,)), ("resnet", (9,)), ("resnet", (8, 6))])
def test_network_starts_at_zero_and_keeps_the_shape(kind, shape):
    network = make_network(kind, shape, network_options(kind, None), torch.Generator().manual_seed(0))
    x = torch.ones(4, *((1, *shape) if NETWORKS[kind].channel else shape))
    assert torch.equal(network(x, torch.zeros(4)), torch.zeros_like(x))
    assert awake(kind, shape)(x, torch.zeros(4)).abs().min() > 0


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (8,), (7,)])
def test_resnet_commutes_with_every_integer_shift(shape):
    network = awake("resnet", shape, width=8)
    x = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(2))
    c_noise = torch.tensor([-0.7])
    with torch.no_grad():
        output = network(x, c_noise)
        for shift in np.ndindex(shape):
            axes = tuple(range(2, 2 + len(shape)))
            shifted = network(torch.roll(x, shift, dims=axes), c_noise)
            torch.testing.assert_close(shifted, torch.roll(output, shift, dims=axes), rtol=0, atol=1e-5)


def test_resnet_sees_the_whole_default_field():
    network = awake("resnet", (32, 32))
    x = torch.zeros(1, 1, 32, 32, requires_grad=True)
    network(x, torch.zeros(1))[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


def test_default_resnet_has_80_to_100_thousand_weights():
    network = make_network("resnet", (32, 32), network_options("resnet", None))
    assert 8e4 < sum(p.numel() for p in network.parameters()) < 1e5


@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_output_depends_on_the_noise_level_of_each_sample(kind):
    network = awake(kind, (8,), width=8)
    x = torch.ones(2, *((1, 8) if kind == "resnet" else (8,)))
    output = network(x, torch.tensor([-1.0, 0.5]))
    assert not torch.allclose(output[0], output[1])


def test_making_a_network_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    awake("resnet", (8, 8))
    awake("mlp", (3,))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 3}, "no option 'hidden': choose among width, depth"),
        ({"width": 0}, "width=0 is not an integer from 1 to 1024"),
        ({"depth": 2.0}, "depth=2.0 is not an integer"),
        ([1], "is not a dict"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        network_options("mlp", options)
