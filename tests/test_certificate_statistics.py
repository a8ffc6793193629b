"""The statistics of a certificate: what they are for known densities, and that chance is not called a departure."""

import numpy as np
import pytest
import xarray as xr

from gfdt.certificate.comparison import Statistic, compare
from gfdt.certificate.increments import displacements_of, increments
from gfdt.certificate.modes import mode_shape, modes_of, second_order
from gfdt.certificate.one_point import density, mean_and_width, shape_of, tails
from gfdt.certificate.sliced import sliced_distance, squared_distance
from gfdt.certificate.states import States, generated, recorded
from gfdt.responses.layout import FullMatrix, Homogeneous
from gfdt.responses.prepare import check_arguments, prepare


def states(values, n_groups=32):
    return States(values, np.arange(len(values)) * n_groups // len(values))


def ready_of(x, homogeneous=None, dims=None):
    names = dims or ("member", "time", "component")
    array = xr.DataArray(x, dims=names, coords={"time": np.arange(float(x.shape[1]))})
    return prepare(check_arguments(array, lambda u: -u, max_lag=0.0, homogeneous=homogeneous), progress=False)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# --- comparison ------------------------------------------------------------------------------------------------------


def test_departure_and_error_of_a_mean_are_the_textbook_ones():
    mean = Statistic(lambda a: a, 1, lambda m: m[..., None, :], np.ones_like)
    record, samples = states(normal((4096, 1))), states(0.1 + normal((1024, 1), 1), 128)
    found = compare(mean, record, samples, np.random.default_rng(0))
    expected = samples.values.mean() - record.values.mean()
    assert found.departure[0, 0] == pytest.approx(expected, rel=1e-12)
    # From 32 and 128 groups a standard error is known to 12 and 6 %.
    assert found.stderr[0, 0] == pytest.approx(np.sqrt(1 / 4096 + 1 / 1024), rel=0.2)


def test_correlated_states_of_one_unit_are_not_counted_as_independent():
    """All states of a unit are the same: the error is that of the number of units."""
    x = np.repeat(normal((64, 1)), 100, axis=0)
    mean = Statistic(lambda a: a, 1, lambda m: m[..., None, :], np.ones_like)
    record = States(x, np.arange(6400) // 100)
    found = compare(mean, record, states(normal((100_000, 1), 1), 128), np.random.default_rng(0))
    assert found.stderr[0, 0] == pytest.approx(1 / 8, rel=0.3)  # of 64 units: known to 9 %


def test_a_bin_without_any_sample_has_an_error():
    layout = FullMatrix(("component",), (1,))
    record = states(normal((20_000, 1)))
    samples = states(np.zeros((200, 1)), 50)
    found = compare(tails(layout, record), record, samples, np.random.default_rng(0))
    # Two of two hundred are expected: the relative error of their number is 0.7, and none is no evidence.
    np.testing.assert_allclose(found.departure, -1.0)
    assert found.stderr.min() > 0.5
    assert not found.significant.any()


@pytest.mark.parametrize("n_samples", [256, 4096])
def test_samples_of_the_same_density_do_not_depart(n_samples):
    """Skewed data of which twenty states in a row are the same: the tails of 200 values decide in the record.

    At 0.1 % for each of the 80 comparisons the chance of more than one false alarm is 0.3 %.
    """
    layout, alarms = FullMatrix(("component",), (2,)), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        slow = np.repeat(rng.standard_normal((40, 5, 2)), 20, axis=1).reshape(-1, 2)
        record = States(np.exp(0.5 * slow), np.arange(4000) // 100)
        samples = states(np.exp(0.5 * rng.standard_normal((n_samples, 2))), 128)
        for statistic in (density(layout, record), tails(layout, record), mean_and_width(layout), shape_of(layout)):
            alarms += compare(statistic, record, samples, rng).significant.any()
    assert alarms <= 1


# --- one point -------------------------------------------------------------------------------------------------------


def test_density_of_a_shifted_gaussian_is_off_by_its_chi_square_distance():
    layout = FullMatrix(("component",), (1,))
    record, samples = states(normal((200_000, 1))), states(0.2 + normal((200_000, 1), 1))
    found = compare(density(layout, record), record, samples, np.random.default_rng(0))
    assert found.expected == pytest.approx(0.05, abs=1e-4)
    # exp(shift^2) - 1 without bins; 20 of them lose a per cent or two of it in the outermost.
    assert found.excess[0] == pytest.approx(np.sqrt(np.expm1(0.04)), rel=0.05)
    distance = 0.5 * np.abs(found.found - found.expected).sum()
    assert distance == pytest.approx(0.0797, abs=0.004)  # 2 Phi(0.1) - 1


def test_shape_of_an_exponential_is_known():
    """Skewness 2 and excess kurtosis 6, whatever mean and width."""
    layout = FullMatrix(("component",), (1,))
    x = 3.0 + 5.0 * np.random.default_rng(0).exponential(size=(400_000, 1))
    statistic = shape_of(layout)
    found = statistic.summary(statistic.features(x).mean(axis=0))
    assert found[0, 0] == pytest.approx(2 / np.sqrt(6), abs=0.02)  # the error of the skewness is about 0.03
    assert found[0, 1] == pytest.approx(6 / np.sqrt(24), abs=0.1)  # that of the kurtosis 0.4


def test_sites_of_a_homogeneous_field_are_one_kind_and_values_that_repeat_leave_no_gap():
    layout = Homogeneous(("variable", "x"), (2, 8), True)
    record = states(np.round(normal((500, 2, 8))))
    found = compare(density(layout, record), record, record, np.random.default_rng(0))
    assert found.departure.shape == (2, 20)
    np.testing.assert_allclose(found.departure, 0.0, atol=1e-12)


# --- modes and increments --------------------------------------------------------------------------------------------


def test_modes_of_the_record_are_white_and_all_pairs_see_a_rotation():
    mixing = np.array([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.3, 0.5]])
    x = normal((24, 400, 3)) @ mixing.T
    ready = ready_of(x)
    modes = modes_of(ready, 0.0)
    record = recorded(ready, 0.0, 24 * 400, np.random.default_rng(0))
    z = modes.coordinates(record.values)
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(3), atol=1e-10)
    assert (np.diff(modes.power) < 0).all()
    rotated = generated(x.reshape(-1, 3) * [1, 1, -1], ready)
    found = compare(second_order(modes), record, rotated, np.random.default_rng(0))
    assert found.significant[0]
    assert found.excess[0] > 0.2


@pytest.mark.parametrize("several", [False, True])
def test_wavenumbers_are_white_after_the_blur_of_the_score(several):
    shape = (2, 6, 8) if several else (6, 8)
    smooth = normal((24, 50, *shape))
    x = smooth + np.roll(smooth, 1, axis=-1)
    dims = ("member", "time", *(("variable",) if several else ()), "y", "x")
    ready = ready_of(x, homogeneous=("y", "x"), dims=dims)
    modes = modes_of(ready, 0.3)
    record = recorded(ready, 0.3, 24 * 50, np.random.default_rng(1))
    power = (np.abs(modes.coordinates(record.values)) ** 2).mean(axis=0)
    # 1200 fields with noise of their own: 3 % for complex modes, 4 % for real ones; 60 or 30 modes.
    np.testing.assert_allclose(power, 1.0, atol=0.2)
    assert modes.where.shape[1] == (2 if several else 1)
    kurtosis = mode_shape(modes)
    found = kurtosis.summary(kurtosis.features(record.values).mean(axis=0))
    # The orthonormal polynomial has unit variance: 1200^-1/2 = 0.03.
    assert np.abs(found).max() < 0.15


def test_increments_of_a_step_are_flat_and_those_of_a_ramp_skewed():
    layout = Homogeneous(("x",), (8,))
    assert displacements_of(layout) == [(0, 1), (0, 2), (0, 4)]
    ramp = np.tile(np.arange(8.0), (10, 1))  # steps of +1, and one of -7
    statistic = increments(layout)
    found = statistic.summary(statistic.features(ramp).mean(axis=0))
    step = np.array([1.0] * 7 + [-7.0])
    assert found[0, 0] == pytest.approx((step**3).mean() / (step**2).mean() ** 1.5 / np.sqrt(6))
    assert found[0, 3] == pytest.approx(((step**4).mean() / (step**2).mean() ** 2 - 3) / np.sqrt(24))
    gaussian = statistic.summary(statistic.features(normal((20_000, 8))).mean(axis=0))
    assert np.abs(gaussian).max() < 0.03


# --- sliced Wasserstein distance -------------------------------------------------------------------------------------


def test_distance_of_a_shift_and_of_a_width_are_exact():
    x = normal((1000, 3))
    directions = np.linalg.qr(normal((3, 3), 1))[0]
    shift = np.array([0.3, -0.2, 0.1])
    assert squared_distance(x, x + shift, directions) == pytest.approx((shift**2).sum() / 3, rel=1e-9)
    wider = ((0.1 * x @ directions) ** 2).mean()
    assert squared_distance(x, 1.1 * x, directions) == pytest.approx(wider, rel=1e-9)


def test_the_floor_holds_for_correlated_records_and_samples_of_the_same_density():
    """The states of a unit are nearly the same, so that the record is far from itself; samples are not farther."""
    rng = np.random.default_rng(0)
    units = np.repeat(rng.standard_normal((30, 4)), 50, axis=0)
    record = States(0.95 * units + 0.3 * rng.standard_normal((1500, 4)), np.arange(1500) // 50)
    right = sliced_distance(record, states(rng.standard_normal((4000, 4))), rng)
    assert right.ratio < 1.3
    assert right.n_states == 750
    wrong = sliced_distance(record, states(1.5 + rng.standard_normal((4000, 4))), rng)
    assert wrong.ratio > 2
    # A shift of 1.5 in each component is one of 1.5 rms over directions; 64 of them know it to 0.09, the units to 0.09.
    assert wrong.excess == pytest.approx(1.5, abs=0.4)


def test_blur_is_that_of_the_score_in_the_units_of_the_data():
    x = 10 * normal((24, 400, 2))
    ready = ready_of(x)
    record = recorded(ready, np.array([5.0, 0.0]), 9600, np.random.default_rng(1))
    # Var 1 + (5/10)^2 of the first, in units of the record's; 9600 states know it to 1.4 %.
    np.testing.assert_allclose(record.values.var(axis=0), [1.25, 1.0], rtol=0.06)


def test_a_record_of_many_members_is_put_in_a_bounded_number_of_groups():
    ready = ready_of(normal((300, 10, 1)))
    record = recorded(ready, 0.0, 300, np.random.default_rng(0))
    assert record.n_groups == 128
    assert len(record) == 300
    half = record.part(np.flatnonzero(record.group % 2 == 0))
    assert half.n_groups == 64
