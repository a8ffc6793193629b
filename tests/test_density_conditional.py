"""Conditional samples, against Gaussians and mixtures whose conditionals are known in closed form."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from reference.exact_families import Mixture, corrected_family, dense, gaussian_family
from scipy import sparse, stats

import gfdt
from gfdt.covariance import SpectralCovariance
from gfdt.density import innovation
from gfdt.density.conditional import parse_given, sample_given
from gfdt.density.family import Diagonal
from gfdt.density.observations import Coarse, LinearObservation, Partial
from gfdt.errors import InputError, ReliabilityWarning

MATRIX = np.array([[1.0, 0.5, 0.2, 0.0], [0.5, 2.0, 0.3, 0.1], [0.2, 0.3, 0.5, -0.1], [0.0, 0.1, -0.1, 0.1]])
NAN = np.nan
Z = 4.5  # standard errors: with some 200 numbers in a test the chance of one beyond is 0.001


@dataclasses.dataclass
class States:
    """All that is asked of a score when ``given`` is read."""

    state_dims_: tuple
    state_shape_: tuple


def states_of(family):
    return States(tuple("zyx"[-len(family.shape) :]), family.shape)


def matrix_of(family):
    """C as a matrix."""
    unit = np.eye(family.size).reshape(-1, *family.shape)
    return family.filtered(unit, lambda c: c).reshape(family.size, family.size)


def conditioned(covariance, operator, values, noise):
    """Mean and covariance of a Gaussian of mean zero given y = H a + ε."""
    gain = covariance @ operator.T @ np.linalg.inv(operator @ covariance @ operator.T + noise)
    return gain @ values, covariance - gain @ operator @ covariance


def require_moments(a, mean, covariance):
    """Mean and covariance of samples agree with these within standard errors."""
    flat, n = a.reshape(len(a), -1), len(a)
    # What is known exactly has no standard error; rounding is added, 1e-10 of the variance of the data.
    spread = np.sqrt(np.diag(covariance).clip(0)) + 1e-8
    assert (np.abs(flat.mean(axis=0) - mean) < Z * spread / np.sqrt(n)).all()
    errors = np.sqrt((np.outer(spread, spread) ** 2 + covariance**2) / n)
    assert (np.abs(np.cov(flat.T) - covariance) < Z * errors + 1e-14).all()  # rounding of the exact answer


def dense_family(level=0.0):
    return gaussian_family(dense(MATRIX), (4,), level)


def field_family(level=0.0):
    """A homogeneous field of 4 x 8 cells with some modes of no variance."""
    ky, kx = np.abs(np.fft.fftfreq(4, 1 / 4))[:, None], np.arange(5)
    spectrum = np.where(kx < 4, (1.0 + ky**2 + kx**2) ** -1.5, 0.0)
    return gaussian_family(SpectralCovariance(0.0, spectrum / spectrum.mean(), (4, 8)), (4, 8), level)


def block_means(shape, factor):
    """The matrix of averages over blocks, row by row, from first principles."""
    rows = []
    for j in range(0, shape[0], factor):
        for i in range(0, shape[1], factor):
            row = np.zeros(shape)
            row[j : j + factor, i : i + factor] = 1 / factor**2
            rows.append(row.ravel())
    return np.array(rows)


# ---- Gaussians: exact whatever the number of steps


def masked():
    family = dense_family(0.3)
    return family, np.array([NAN, 1.0, NAN, -0.5]), np.eye(4)[[1, 3]], np.array([1.0, -0.5]), np.zeros((2, 2))


def masked_noisily():
    family, values = field_family(0.2), np.linspace(-1, 1, 5)
    state, error = np.full(32, NAN), np.linspace(0.0, 0.8, 32).reshape(4, 8)
    at = np.array([0, 3, 12, 20, 31])
    state[at] = values
    return family, Partial(state.reshape(4, 8), error), np.eye(32)[at], values, np.diag(error.ravel()[at] ** 2)


def coarse():
    family, values = field_family(), np.linspace(-1, 1, 8).reshape(2, 4)
    return family, Coarse(values, 2), block_means((4, 8), 2), values.ravel(), np.zeros((8, 8))


def coarse_noisily():
    family, values = field_family(), np.linspace(-1, 1, 8).reshape(2, 4)
    return family, Coarse(values, (2, 2), 0.5), block_means((4, 8), 2), values.ravel(), 0.25 * np.eye(8)


def linear():
    operator = np.array([[1.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 0.0]])
    observed = LinearObservation(sparse.csr_array(operator), [0.5, -1.0], [0.0, 0.3])
    return dense_family(), observed, operator, np.array([0.5, -1.0]), np.diag([0.0, 0.09])


@pytest.mark.parametrize("case", [masked, masked_noisily, coarse, coarse_noisily, linear])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_gaussian_has_its_conditional_mean_and_covariance_in_any_number_of_steps(case, n_steps):
    family, given, operator, values, noise = case()
    a = sample_given(family, parse_given(given, states_of(family)), 20_000, n_steps=n_steps, seed=1)
    require_moments(a, *conditioned(matrix_of(family), operator, values, noise))


def test_what_is_known_exactly_is_met():
    # 1e-10 of the variance is added to that of the observations, so y is met to about that.
    for case in (masked, coarse):
        family, given, operator, values, _ = case()
        a = sample_given(family, parse_given(given, states_of(family)), 100, n_steps=4)
        assert np.abs(a.reshape(100, -1) @ operator.T - values).max() < 1e-8


def test_a_blurred_state_is_given_what_was_seen_without_the_noise():
    family, given, operator, values, noise = masked()
    a = sample_given(family, parse_given(given, states_of(family)), 20_000, n_steps=3, decode=False, seed=2)
    mean, covariance = conditioned(MATRIX, operator, values, noise)
    require_moments(a, mean, covariance + 0.09 * np.eye(4))


def test_units_of_the_data_carry_over():
    family, _, operator, values, noise = masked_noisily()
    mean, scale = 3.0 + np.arange(8.0), np.linspace(0.5, 2.0, 4)[:, None]
    moved = dataclasses.replace(family, units=Diagonal(mean, scale))
    rows = np.flatnonzero(operator.any(axis=0))
    x, error = np.full(32, NAN), np.zeros(32)
    size, centre = (np.broadcast_to(part, (4, 8)).ravel()[rows] for part in (scale, mean))
    x[rows], error[rows] = values * size + centre, np.sqrt(np.diag(noise)) * size
    given = Partial(x.reshape(4, 8), error.reshape(4, 8))
    a = sample_given(moved, parse_given(given, states_of(moved)), 64, n_steps=2)
    same = sample_given(family, parse_given(masked_noisily()[1], states_of(family)), 64, n_steps=2)
    np.testing.assert_allclose(a, same, atol=1e-9)  # rounding, amplified by S⁻¹


def test_a_gaussian_whose_score_is_partly_left_to_f_is_conditioned_too():
    # f, linear in a, is integrated: the particles and the extrapolation of G work, on an exact answer. What is left
    # of the bias with 8 particles and 64 steps was 0.03 standard deviations (0.16 with a single one).
    exact = MATRIX[:2, :2]
    family = corrected_family(dense(exact), dense(np.diag([1.5, 1.0])), (2,), 0.05)
    a = sample_given(family, parse_given(np.array([NAN, 1.5]), states_of(family)), 6000, n_steps=64, seed=3)
    mean, covariance = conditioned(exact, np.eye(2)[[1]], np.array([1.5]), np.zeros((1, 1)))
    spread = np.sqrt(covariance[0, 0])
    assert abs(a[:, 0].mean() - mean[0]) < (0.03 + Z / np.sqrt(6000)) * spread
    assert abs(a[:, 0].std() / spread - 1) < 0.03 + Z / np.sqrt(12_000)


def test_conjugate_gradients_draw_the_same_states_as_a_factored_matrix(monkeypatch):
    for case in (masked_noisily, coarse):
        family, given, *_ = case()
        observed = parse_given(given, states_of(family))
        factored = sample_given(family, observed, 50, n_steps=3)
        with monkeypatch.context() as patch:
            patch.setattr(innovation, "_DENSE", 0)
            iterated = sample_given(family, observed, 50, n_steps=3)
        # Residuals of 1e-6 of y, and 1e-6 of the variance that iterations add.
        np.testing.assert_allclose(iterated, factored, atol=1e-5)


# ---- a mixture: both modes, with their weights


def mixture():
    return Mixture([0.5, 0.5], [[-1, -0.6], [1, 0.6]], 0.15)


def conditional_of(mixture, y):
    """Weights, means and variance of the first component given the second."""
    weights = mixture.weights * stats.norm.pdf(y, mixture.centres[:, 1], np.sqrt(mixture.variances[:, 1]))
    return weights / weights.sum(), mixture.centres[:, 0], mixture.variances[:, 0]


@pytest.mark.parametrize("y", [0.0, 0.2])
def test_both_modes_of_a_mixture_have_their_conditional_weights(y):
    # Steering alone gives the right mode 0.67 for 0.83 at y = 0.2; with 8 particles 0.01 of the bias was left.
    target, n = mixture(), 2000
    family = target.family(0.05)
    a = sample_given(family, parse_given(np.array([NAN, y]), states_of(family)), n, n_steps=32, seed=4)
    weights, means, variances = conditional_of(target, y)
    exact = weights @ stats.norm.sf(-means / np.sqrt(variances))
    assert abs((a[:, 0] > 0).mean() - exact) < 0.02 + Z * np.sqrt(exact * (1 - exact) / n)
    distance = stats.kstest(a[:, 0], lambda x: stats.norm.cdf((x[:, None] - means) / np.sqrt(variances)) @ weights)
    assert distance.statistic < 0.03 + 1.95 / np.sqrt(n)  # the chance of more than 1.95/√n without a bias is 0.001
    assert np.abs(a[:, 1] - y).max() < 1e-8


def test_particles_take_off_the_bias_of_steering():
    target, y = mixture(), 0.2
    family = target.family()
    observed = parse_given(np.array([NAN, y]), states_of(family))
    weights, means, _ = conditional_of(target, y)
    errors = [
        abs(sample_given(family, observed, 1000, n_particles=count, seed=5)[:, 0].mean() - weights @ means)
        for count in (1, 16)
    ]
    standard_error = 0.85 / np.sqrt(1000)
    assert errors[0] > 0.3 - Z * standard_error  # measured: 0.35
    assert errors[1] < 0.05 + Z * standard_error


def test_too_few_particles_for_the_dimensions_are_warned_of():
    target = Mixture([0.3, 0.7], [[-1.0] * 24, [1.0] * 24], [[0.35] * 24] * 2)
    family = target.family()
    # Halfway between the modes, which decides for neither.
    halfway = target.centres[:, 0].mean()
    observed = parse_given(np.array([halfway] * 6 + [NAN] * 18), states_of(family))
    with pytest.warns(ReliabilityWarning, match=r"of the 8 particles .* n_particles"):
        sample_given(family, observed, 200, seed=8)


# ---- what every sampler promises


def test_a_sample_depends_on_the_seed_and_its_number_only():
    family = mixture().family()
    observed = parse_given(np.array([NAN, 0.2]), states_of(family))
    many, few = (sample_given(family, observed, n, n_steps=4, seed=6) for n in (40, 3))
    np.testing.assert_allclose(many[:3], few, rtol=1e-9, atol=1e-12)  # products of matrices round by their size
    assert (sample_given(family, observed, 3, n_steps=4, seed=7) != few).all(where=[True, False])


def test_nothing_known_is_the_unconditional_density():
    family = dense_family()
    a = sample_given(family, parse_given(np.full(4, NAN), states_of(family)), 20_000, n_steps=2)
    require_moments(a, np.zeros(4), MATRIX)


@pytest.fixture(scope="module")
def score():
    rng = np.random.default_rng(0)
    values = rng.multivariate_normal([1.0, 2.0, 3.0], MATRIX[:3, :3], (2, 3000))
    return gfdt.GaussianScore().fit(values, dims=("member", "time", "component"))


def test_a_score_takes_a_labelled_state_and_gives_labelled_samples(score):
    state = xr.DataArray([NAN, 2.5, NAN], dims="component")
    samples = score.sample(10, given=state, seed=1)
    assert samples.dims == ("sample", "component")
    np.testing.assert_allclose(samples[:, 1], 2.5, atol=1e-8)
    np.testing.assert_array_equal(samples, score.sample(10, given=state.values, seed=1))


def test_other_coordinates_than_scales_are_conditioned_too(peaks):
    score = gfdt.KDEScore().fit(peaks, dims=("member", "time", "component"))
    samples = score.sample(8, given=[10.8, NAN], n_steps=8)
    np.testing.assert_allclose(samples[:, 0], 10.8, atol=1e-8)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([1.0, 2.0, 3.0], "no NaN"),
        ([1.0, NAN], "shape"),
        ([1.0, NAN, np.inf], "inf"),
        ("far", "real numbers"),
        (xr.DataArray([[1.0, NAN, NAN]], dims=("time", "component")), "isel"),
        (Partial([1.0, NAN, NAN], -1.0), "negative"),
        (Partial([1.0, NAN, NAN], [1.0, 2.0]), "does not fit"),
        (Coarse([1.0], 2), "blocks"),
        (Coarse([1.0], "two"), "integer"),
        (Coarse([1.0], (3, 1)), "blocks"),
        (Coarse([np.inf], 3), "inf"),
        (LinearObservation(np.ones((2, 3)), [1.0]), "one row"),
        (LinearObservation(np.ones((1, 3)), [NAN]), "NaN"),
    ],
)
def test_an_observation_that_cannot_be_used_says_why(score, given, text):
    with pytest.raises(InputError, match=text):
        score.sample(1, given=given)


def test_other_schemes_are_refused(score):
    with pytest.raises(InputError, match="scheme of their own"):
        score.sample(1, given=[1.0, NAN, NAN], method="ode")


def test_a_score_that_blows_up_says_at_which_level():
    family = dataclasses.replace(mixture().family(), correction=lambda a, level: np.full_like(a, np.inf))
    with pytest.raises(InputError, match="noise level"):
        sample_given(family, parse_given(np.array([NAN, 0.0]), states_of(family)), 1, n_steps=2)
