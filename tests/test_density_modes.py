"""The eigenbasis of C: nothing is lost on the way there and back, and products are those of states."""

import numpy as np
import pytest
from reference.exact_families import dense

from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.density.modes import Modes


def case(kind):
    """A covariance and the shape of its states."""
    rng = np.random.default_rng(0)
    if kind == "dense":
        return dense(np.cov(rng.standard_normal((6, 40)))), (2, 3)
    if kind == "singular":
        return DenseCovariance(np.zeros(3), np.array([0.0, 0.5, 2.0]), np.linalg.qr(rng.normal(size=(3, 3)))[0]), (3,)
    shape = {"even": (6, 8), "odd": (5, 7), "line": (9,), "variables": (4, 6)}[kind]
    if kind == "variables":
        x = rng.standard_normal((200, 3, *shape)) @ rng.standard_normal((6, 6))
        x[:, 1] += 0.7 * np.roll(x[:, 0], 1, axis=-1)  # a phase between the two: complex eigenvectors
        return CrossSpectralCovariance.estimate(x, 0.0), (3, *shape)
    return SpectralCovariance.estimate(rng.standard_normal((50, *shape)), 0.0), shape


@pytest.mark.filterwarnings("ignore::gfdt.ReliabilityWarning")
@pytest.mark.parametrize("kind", ["dense", "singular", "even", "odd", "line", "variables"])
def test_products_and_functions_of_the_covariance_are_those_of_states(kind):
    covariance, shape = case(kind)
    modes = Modes.of(covariance, shape)
    a, b = np.random.default_rng(1).standard_normal((2, 4, *shape))
    one, other = modes.forward(a), modes.forward(b)
    np.testing.assert_allclose(modes.back(one), a, atol=1e-12)
    np.testing.assert_allclose(modes.dot(one, other), (a * b).reshape(4, -1).sum(axis=1), atol=1e-11)

    def gain(c):
        return np.sqrt(c) / (1 + c)

    filtered = covariance.apply(a, gain)
    np.testing.assert_allclose(modes.back(gain(modes.values) * one), filtered, atol=1e-12)
    quadratic = modes.dot(one, gain(modes.values) * one)
    np.testing.assert_allclose(quadratic, (a * filtered).reshape(4, -1).sum(axis=1), atol=1e-11)
