"""Symmetries: the groups, what they do to states and covariances, and a network that commutes with them."""

import numpy as np
import pytest
import torch

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.networks.conditioning import initialise
from gfdt.diffusion.symmetries import make_group, symmetrise_covariance
from gfdt.errors import InputError

PLANE = (("y", "x"), (4, 4))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def every_image(group, x):
    """All |G| images of a batch of states, (|G| n, ...)."""
    return torch.cat([group.act(x, torch.full((len(x),), g)) for g in range(len(group))])


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ((), 1),
        (("sign",), 2),
        (("-reflect_x",), 2),
        (("reflect_x", "-reflect_x"), 4),
        (("reflect_x", "reflect_y"), 4),
        (("transpose",), 2),
        (("reflect_x", "transpose"), 8),
        (("sign", "transpose", "reflect_y"), 16),
    ],
)
def test_generators_close_into_a_group(names, order):
    group = make_group(names, *PLANE)
    assert len(group) == order
    x = torch.randn(1, 4, 4, generator=generator())
    images = every_image(group, x)
    assert torch.equal(images[0], x[0])
    assert len(torch.unique(images.flatten(1), dim=0)) == order
    for g in range(order):
        element = torch.tensor([g])
        assert torch.equal(group.undo(group.act(x, element), element), x)
        again = every_image(group, group.act(x, element))
        assert {tuple(i) for i in again.flatten(1).tolist()} == {tuple(i) for i in images.flatten(1).tolist()}


def test_elements_do_what_their_names_say():
    x = torch.arange(12.0).reshape(1, 3, 4)
    one = torch.tensor([1])

    def image(name, field, dims=("y", "x")):
        return make_group((name,), dims, tuple(field.shape[-len(dims) :])).act(field, one).numpy()

    np.testing.assert_array_equal(image("sign", x), -x)
    np.testing.assert_array_equal(image("reflect_x", x), x[:, :, [0, 3, 2, 1]])
    np.testing.assert_array_equal(image("reflect_y", x), x[:, [0, 2, 1]])
    np.testing.assert_array_equal(image("-reflect_y", x), -x[:, [0, 2, 1]])
    square = torch.arange(9.0).reshape(1, 3, 3)
    np.testing.assert_array_equal(image("transpose", square), square.transpose(1, 2))
    np.testing.assert_array_equal(image("-reflect_x", x, ("x",)), -x[:, :, [0, 3, 2, 1]])  # (variable, x)


@pytest.mark.parametrize(
    ("name", "dims", "shape", "message"),
    [
        ("reflect_x", (), (), "a vector has no symmetry 'reflect_x': choose among 'sign'."),
        (
            "reflect_z",
            *PLANE,
            r"a field over \('y', 'x'\) has no symmetry 'reflect_z': choose among 'sign', 'reflect_y'",
        ),
        ("transpose", ("y", "x"), (4, 5), r"'transpose' needs a square grid, found \(4, 5\)"),
        ("transpose", ("x",), (4,), "has no symmetry 'transpose'"),
        ("--reflect_x", ("x",), (4,), "has no symmetry '--reflect_x'"),
    ],
)
def test_symmetries_that_make_no_sense_are_refused(name, dims, shape, message):
    with pytest.raises(InputError, match=message):
        make_group((name,), dims, shape)


def build(names, *, variables=False, kind="resnet"):
    shape, dims = ((2, 4, 4), ("variable", "y", "x")) if variables else ((4, 4), ("y", "x"))
    x = np.random.default_rng(0).normal(size=(50, *shape))
    covariance = CrossSpectralCovariance.estimate(x, 0.0) if variables else SpectralCovariance.estimate(x, 0.0)
    if kind == "mlp":
        covariance, shape, dims = DenseCovariance.estimate(x[:, 0], 0.0), (4,), ("component",)
    architecture = Architecture(kind, {"width": 4, "depth": 1}, symmetries=names)
    denoiser = make_denoiser(architecture, covariance, dims, shape, generator=generator())
    initialise(denoiser.network, generator(1))
    return denoiser, torch.randn(3, *shape, generator=generator(2))


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("sign",), {"kind": "mlp"}),
        (("sign", "reflect_x", "transpose"), {}),
        (("-reflect_y",), {"variables": True}),
        (("transpose", "sign"), {"variables": True}),
    ],
)
def test_the_evaluated_network_commutes_with_the_group(names, changes):
    denoiser, a = build(names, **changes)
    level = torch.tensor([0.1, 0.3, 1.0])
    with torch.no_grad():
        expected = denoiser.eval().residual(a, level)
        plain = denoiser._network(a, level)
        for g in range(len(denoiser.group)):
            element = torch.full((3,), g)
            found = denoiser.residual(denoiser.group.act(a, element), level)
            torch.testing.assert_close(found, denoiser.group.act(expected, element), rtol=0, atol=1e-5)
    assert not torch.allclose(plain, expected)


def test_in_training_every_element_comes_equally_often_and_their_mean_is_the_evaluated_network():
    denoiser, a = build(("sign", "reflect_x", "transpose"))
    order = len(denoiser.group)
    state, level = a[:1], torch.tensor([0.3])
    with torch.no_grad():
        expected = denoiser.eval().residual(state, level)
        denoiser.train()
        together = denoiser.residual(state.expand(order, -1, -1), level.expand(order))
        # batches smaller than the group go on where the last one ended
        pieces = [denoiser.residual(state.expand(4, -1, -1), level.expand(4)) for _ in range(order // 4)]
    torch.testing.assert_close(together.mean(dim=0), expected[0])
    torch.testing.assert_close(torch.cat(pieces), together)
    assert together.std(dim=0).max() > 1e-3


def test_versions_of_a_state_share_the_element():
    denoiser, a = build(("sign", "reflect_x"))
    level = torch.full((6,), 0.3)
    denoiser.next_element = 1
    with torch.no_grad():
        value = denoiser.residual(torch.cat([a, a]), level, copies=2)
        different = denoiser.residual(torch.cat([a, a]), level)
    torch.testing.assert_close(value[:3], value[3:])
    assert not torch.allclose(different[:3], different[3:])


@pytest.mark.parametrize("names", [("sign",), ("-reflect_x",), ("reflect_y", "sign"), ("transpose", "reflect_x")])
@pytest.mark.parametrize(
    ("estimator", "shape"),
    [
        (DenseCovariance, (4, 4)),
        (DenseCovariance, (2, 4, 4)),
        (SpectralCovariance, (4, 4)),
        (SpectralCovariance, (5, 5)),
        (CrossSpectralCovariance, (2, 4, 4)),
        (CrossSpectralCovariance, (2, 5, 5)),
    ],
)
def test_symmetrised_covariance_is_that_of_all_images_of_the_data(estimator, shape, names):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, *shape)) + 0.4
    x = x + 0.7 * np.roll(x, (1, 2), (-2, -1)) ** 2
    if len(shape) == 3:
        x[:, 1] += x[:, 0]
    group = make_group(names, ("y", "x"), shape[-2:])
    images = every_image(group, torch.from_numpy(x)).numpy()
    found = symmetrise_covariance(estimator.estimate(x, 0.0), group)
    expected = estimator.estimate(images, 0.0)
    np.testing.assert_allclose(found.mean, expected.mean, atol=1e-12)
    probe = rng.normal(size=(3, *shape))
    np.testing.assert_allclose(found.apply(probe, lambda c: c), expected.apply(probe, lambda c: c), atol=1e-10)


def test_symmetrised_covariance_of_a_vector():
    x = np.random.default_rng(0).normal(size=(50, 3)) + 2.0
    group = make_group(("sign",), (), ())
    found = symmetrise_covariance(DenseCovariance.estimate(x, 0.0), group)
    np.testing.assert_allclose(found.mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.apply(np.eye(3), lambda c: c), x.T @ x / 50, atol=1e-12)


def test_no_symmetry_leaves_the_covariance_as_it_is():
    covariance = SpectralCovariance(0.3, np.ones((4, 3)), (4, 4))
    assert symmetrise_covariance(covariance, make_group((), *PLANE)) is covariance
