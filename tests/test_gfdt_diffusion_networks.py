"""Networks: zero at the start, equivariant, bounded options, and no touch on torch's global random state."""

import numpy as np
import pytest
import torch

from gfdt.covariance import SpectralCovariance
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.networks import NETWORKS, make_network, network_options
from gfdt.diffusion.networks.conditioning import initialise
from gfdt.diffusion.networks.convolution import pad_periodic
from gfdt.diffusion.networks.equivariance import equivariance_defect
from gfdt.errors import InputError

ROUNDING = 1e-5
SMALL = {"mlp": {"width": 8}, "resnet": {"width": 8}, "unet": {"width": 4, "levels": 2, "blocks": 1}}


def awake(kind, shape, channels=1, **options):
    """A network whose last layer is not zero."""
    generator = torch.Generator().manual_seed(1)
    network = make_network(kind, shape, network_options(kind, SMALL[kind] | options), generator, channels=channels)
    initialise(network, generator)
    return network


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("mlp", (3,)), *((kind, s) for kind in ("resnet", "unet") for s in ((9,), (8,), (8, 6), (5, 7), (3, 2)))],
)
def test_network_starts_at_zero_and_keeps_the_shape(kind, shape, channels):
    network = make_network(
        kind, shape, network_options(kind, SMALL[kind]), torch.Generator().manual_seed(0), channels=channels
    )
    x = torch.randn(4, *((channels, *shape) if NETWORKS[kind].channel else shape), generator=torch.Generator())
    assert torch.equal(network(x, torch.zeros(4)), torch.zeros_like(x))
    output = awake(kind, shape, channels)(x, torch.zeros(4))
    assert output.shape == x.shape
    assert (output != 0).all()


@pytest.mark.parametrize("shape", [(7,), (6, 5)])
def test_padding_continues_the_field_periodically(shape):
    x = torch.randn(2, 3, *shape, generator=torch.Generator())
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), *[(2, 2)] * len(shape)], mode="wrap")
    np.testing.assert_array_equal(pad_periodic(x, 2).numpy(), expected)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (8,), (7,)])
def test_resnet_commutes_with_every_integer_shift(shape, channels):
    network = awake("resnet", shape, channels)
    x = torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(2))
    c_noise = torch.tensor([-0.7])
    with torch.no_grad():
        output = network(x, c_noise)
        for shift in np.ndindex(shape):
            axes = tuple(range(2, 2 + len(shape)))
            shifted = network(torch.roll(x, shift, dims=axes), c_noise)
            torch.testing.assert_close(shifted, torch.roll(output, shift, dims=axes), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("shape", [(32,), (16, 16)])
def test_unet_commutes_with_shifts_by_its_total_stride_only(shape):
    network = awake("unet", shape, levels=3)
    defects = [equivariance_defect(network, shape, shift=shift) for shift in (1, 2, 4, 8)]
    assert defects[3] < ROUNDING
    assert 0.01 < defects[0] < 0.3
    assert defects[2] > ROUNDING
    assert equivariance_defect(awake("resnet", shape), shape) < ROUNDING


def test_unet_refines_a_grid_that_its_stride_does_not_divide():
    # 6 sites become 8: half the field is 3 sites of the one and 4 of the other, the total stride
    network = awake("unet", (6,))
    assert network.refined == (8,)
    assert equivariance_defect(network, (6,), shift=3) < ROUNDING
    assert equivariance_defect(network, (6,), shift=1) < 0.3


@pytest.mark.parametrize("kind", ["resnet", "unet"])
def test_networks_see_the_whole_default_field(kind):
    network = awake(kind, (32, 32), **{"resnet": {}, "unet": {"levels": 3}}[kind])
    x = torch.zeros(1, 1, 32, 32, requires_grad=True)
    network(x, torch.zeros(1))[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


@pytest.mark.parametrize(("kind", "low", "high"), [("resnet", 8e4, 9e4), ("unet", 1.0e7, 1.1e7), ("mlp", 5e4, 2e5)])
def test_default_networks_have_the_stated_size(kind, low, high):
    shape = (32, 32) if kind != "mlp" else (256,)
    network = make_network(kind, shape, network_options(kind, None))
    assert low < sum(p.numel() for p in network.parameters()) < high


@pytest.mark.parametrize("kind", NETWORKS)
def test_output_depends_on_the_noise_level_of_each_sample(kind):
    network = awake(kind, (8,))
    x = torch.ones(2, *((1, 8) if NETWORKS[kind].channel else (8,)))
    output = network(x, torch.tensor([-1.0, 0.5]))
    assert not torch.allclose(output[0], output[1])


@pytest.mark.parametrize("kind", NETWORKS)
def test_making_a_network_leaves_the_global_random_state_alone(kind):
    before = torch.get_rng_state()
    first, second = (list(awake(kind, (8,)).parameters()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("energy", [False, True])
def test_a_denoiser_is_built_without_values_and_loaded(kind, energy):
    covariance = SpectralCovariance(0.0, np.ones((6, 3)), (6, 5))
    architecture = Architecture(kind, SMALL[kind], energy=energy, symmetries=("sign",) if kind == "mlp" else ())
    build = {"architecture": architecture, "covariance": covariance, "state_dims": ("y", "x"), "state_shape": (6, 5)}
    original = make_denoiser(**build, generator=torch.Generator().manual_seed(0))
    initialise(original.network, torch.Generator().manual_seed(1))
    loaded = make_denoiser(**build)
    assert all(p.is_meta for p in loaded.network.parameters())
    loaded.network.load_state_dict(original.network.state_dict(), assign=True)
    a, level = torch.randn(2, 6, 5, generator=torch.Generator()), torch.tensor([0.1, 0.3])
    with torch.no_grad():
        assert torch.equal(loaded.eval().score(a, level), original.eval().score(a, level))


def test_the_users_own_module_takes_the_place_of_the_named_network():
    covariance = SpectralCovariance(0.0, np.ones((6, 3)), (6, 5))
    module = torch.nn.Conv2d(1, 1, 1, device="meta")
    denoiser = make_denoiser(Architecture("resnet"), covariance, ("y", "x"), (6, 5), module=module)
    assert denoiser.network is module


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("mlp", {"hidden": 3}, "no option 'hidden': choose among width, depth"),
        ("mlp", {"width": 0}, "width=0 is not an integer from 1 to 1024"),
        ("mlp", {"depth": 2.0}, "depth=2.0 is not an integer"),
        ("unet", {"levels": 7}, "levels=7 is not an integer from 1 to 6"),
        ("mlp", [1], "is not a dict"),
    ],
)
def test_options_are_checked(kind, options, message):
    with pytest.raises(InputError, match=message):
        network_options(kind, options)


@pytest.mark.parametrize("options", [{"width": 1024, "depth": 64}, {"width": 1024, "levels": 6}])
def test_a_hostile_file_cannot_ask_for_a_huge_network(options):
    kind = "unet" if "levels" in options else "resnet"
    with pytest.raises(InputError, match=r"weights, more than 1e\+08: choose smaller network_options"):
        make_network(kind, (8, 8), network_options(kind, options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "transformer"}, "network is 'transformer'"),
        ({"precondition": "ve"}, "precondition is 've'"),
        ({"energy": 1}, "energy=1 is neither True nor False"),
        ({"symmetries": "sign"}, "symmetries='sign' are not names"),
        ({"options": {"width": -1}}, "width=-1"),
    ],
)
def test_an_architecture_is_checked(changes, message):
    with pytest.raises(InputError, match=message):
        Architecture(**{"network": "mlp"} | changes)
