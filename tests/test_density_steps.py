"""One reverse step: exact where it claims to be, of the order it claims elsewhere, and one Langevin step."""

import itertools

import numpy as np
import pytest
from reference.exact_families import bimodal, dense, gaussian_family

from gfdt.covariance import DenseCovariance, SpectralCovariance
from gfdt.density.family import Family
from gfdt.density.langevin import Chains
from gfdt.density.schedules import make_schedule
from gfdt.density.steps import Step, euler, heun

LAMS = [-1.0, 0.0, 0.5, 1.0]


def singular(level=0.0):
    """Three components, of which one combination does not vary."""
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    return gaussian_family(DenseCovariance(np.zeros(3), np.array([0.0, 0.5, 2.0]), vectors), (3,), level)


def integrated(family, a, advance, n, lam, rng=None):
    path = make_schedule("vp", 0.0, family.top()).level(np.linspace(1, 0, n + 1))
    for start, end in itertools.pairwise(path):
        z = None if rng is None else rng.standard_normal(a.shape)
        a = advance(family, a, family.remainder(a, start), z, Step(start, end, lam))
    return a


@pytest.mark.parametrize("lam", LAMS)
def test_a_step_keeps_the_covariance_of_a_gaussian_exactly(lam):
    """Var X' = r^2p Var X + w' (1 - r^(1 - λ)) is w' if Var X is w, in every eigendirection."""
    step, c = Step(1.3, 0.4, lam), np.array([0.0, 1e-6, 0.3, 40.0])
    after = step.carry(c) ** 2 * (c + 1.3**2) + step.spread(c) ** 2
    np.testing.assert_allclose(after, c + 0.4**2, rtol=1e-13)


@pytest.mark.parametrize("lam", LAMS)
def test_a_step_with_a_constant_pull_is_that_of_the_linear_equation(lam):
    """Against the mean of dX = (1 - λ/2)(G - X)/w |dw| in 20000 midpoint steps, of error (1/20000)²."""
    start, end, c, pull, x = 1.5, 0.5, 0.7, 2.0, -1.0
    w = np.geomspace(c + start**2, c + end**2, 20001)
    for high, low in itertools.pairwise(w):
        rate = (1 - lam / 2) * np.log(high / low)
        x += rate * (pull - x) * (1 - rate / 2)
    step = Step(start, end, lam)
    got = step.carry(np.array(c)) * -1.0 + step.pull(np.array(c)) * pull
    assert abs(got - x) < 1e-8


@pytest.mark.parametrize("advance", [euler, heun])
def test_directions_without_variance_end_at_exactly_zero(advance):
    family = singular()
    rng = np.random.default_rng(1)
    null = family.covariance.eigenvectors[:, family.covariance.eigenvalues == 0]
    a, f, z = rng.standard_normal((3, 5, 3))
    for step in (Step(0.5, 0.0, 0.0), Step(0.5, 0.0, 1.0)):
        # rounding of the rotation to the eigenbasis and back is all that is left
        assert np.abs(advance(family, a, f, z, step) @ null).max() < 1e-15


def test_the_orders_of_accuracy_are_one_and_two():
    """The probability flow of a mixture, against 1024 Heun steps; halving the step divides the error by 2 and by 4."""
    family = bimodal().family()
    a = family.gaussian_sample(np.random.default_rng(2).standard_normal((400, 2)), family.top())
    exact = integrated(family, a, heun, 1024, 1.0)
    orders = {}
    for advance in (euler, heun):
        errors = [np.sqrt(((integrated(family, a, advance, n, 1.0) - exact) ** 2).mean()) for n in (32, 64)]
        orders[advance] = np.log2(errors[0] / errors[1])
    # the next order of the error is some 1/32 of the leading one
    assert 0.9 < orders[euler] < 1.1
    assert 1.9 < orders[heun] < 2.2


@pytest.mark.parametrize("lam", LAMS)
def test_every_lambda_gives_the_density_itself(lam):
    """Mean, variance and third moment of both components, and the share of the upper peak, of an exact score."""
    mixture, n = bimodal(), 20000
    family, rng = mixture.family(), np.random.default_rng(3)
    a = family.gaussian_sample(rng.standard_normal((n, 2)), family.top())
    a = integrated(family, a, heun, 48, lam, None if lam == 1 else rng)
    exact = mixture.sample(400_000, 4)

    def statistics(x):
        return np.concatenate([x, x**2, x**3, x[:, :1] > 0], axis=1)

    got, wanted = statistics(a), statistics(exact)
    error = np.sqrt(got.var(axis=0) / n + wanted.var(axis=0) / len(wanted))
    # seven numbers for each of four λ: 4.5 standard errors are exceeded by chance in one such test of 5000
    assert (np.abs(got.mean(axis=0) - wanted.mean(axis=0)) < 4.5 * error).all()


def test_fields_step_in_fourier_space_as_vectors_do_in_their_eigenbasis():
    n, rng = 8, np.random.default_rng(5)
    spectrum = 1 / (1 + np.arange(n // 2 + 1.0) ** 2)
    field = gaussian_family(SpectralCovariance(0.0, spectrum, (n,)), (n,))
    matrix = field.filtered(np.eye(n), lambda c: c)
    a, f, z = rng.standard_normal((3, 4, n))
    one, other = (
        euler(family, a, f, z, Step(1.0, 0.2, 0.0)) for family in (field, gaussian_family(dense(matrix), (n,)))
    )
    np.testing.assert_allclose(one, other, atol=1e-13)


# ---- Langevin steps


def moves(family, a, n, rng, level=0.0):
    """Chains that started at a, n steps later."""
    out = Chains(a, family.remainder(a, level))
    for _ in range(n):
        out.move(family, level, rng.standard_normal(a.shape), rng.random(len(a)), rng.random(len(a)))
    return out


def test_langevin_steps_of_a_gaussian_are_all_accepted_and_keep_it():
    family, n, rng = singular(), 50000, np.random.default_rng(6)
    start = family.gaussian_sample(rng.standard_normal((n, 3)), 0.5)
    moved = moves(family, start, 5, rng, 0.5)
    assert moved.accepted == 1
    assert (moved.a != start).all()
    exact = family.filtered(np.eye(3), lambda c: c) + 0.25 * np.eye(3)
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    # an entry of a covariance has a standard error of at most sqrt(2/n) of that scale; the largest of six
    assert (np.abs(moved.a.T @ moved.a / n - exact) < 4 * np.sqrt(2 / n) * scale).all()


def test_langevin_steps_leave_a_density_of_two_peaks_alone():
    """Also the weights of the peaks, between which proposals reach."""
    mixture, n, rng = bimodal(), 20000, np.random.default_rng(7)
    mixture.centres = 0.5 * mixture.centres
    start = mixture.sample(n, 8)
    moved = moves(mixture.family(), start, 60, rng)
    assert 0.3 < moved.accepted < 0.95
    assert np.corrcoef(start[:, 0], moved.a[:, 0])[0, 1] < 0.5
    edges = np.quantile(mixture.sample(400_000, 9)[:, 0], np.linspace(0, 1, 21)[1:-1])
    counts = np.bincount(np.searchsorted(edges, moved.a[:, 0]), minlength=20)
    # chi² of 20 equally likely bins: mean 19, standard deviation 6.2; the quantiles of the sample add a twentieth
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 19 * 1.05 + 4.5 * 6.2


def test_a_proposal_at_which_the_score_is_not_a_number_is_refused():
    wall = Family(None, dense(np.eye(1)), (1,), 0.0, lambda a, _: np.where(np.abs(a) < 1, 0 * a, np.nan))
    moved = moves(wall, np.full((2000, 1), 0.9), 1, np.random.default_rng(10))
    assert (np.abs(moved.a) < 1).all()
    assert 0 < np.mean(moved.a != 0.9) < 1
