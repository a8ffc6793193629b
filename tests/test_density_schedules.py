"""Schedules of noise levels: their ends, and that they are the importance distributions they are used as."""

import numpy as np
import pytest

from gfdt.density.schedules import LEAST, SCHEDULES, PowerSchedule, Schedule, make_schedule
from gfdt.errors import InputError

T = np.linspace(0, 1, 201)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("low", "high"), [(0.05, 3.0), (1e-4, 500.0), (2.0, 2.5)])
def test_levels_increase_from_the_lowest_to_the_highest(name, low, high):
    schedule = make_schedule(name, low, high)
    levels = schedule.level(T)
    assert isinstance(schedule, Schedule)
    assert (np.diff(levels) > 0).all()
    np.testing.assert_allclose(levels[[0, -1]], [low, high], rtol=1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("low", [0.0, 0.1])
def test_the_weight_is_the_derivative_of_the_variance(name, low):
    schedule, step = make_schedule(name, low, 4.0), 1e-5
    t = T[1:-1]
    slope = (schedule.level(t + step) ** 2 - schedule.level(t - step) ** 2) / (2 * step)
    # central differences: (step²/6) times the third derivative, below 1e-8 of the slope but near t = 0
    np.testing.assert_allclose(schedule.weight(t), slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_average_over_a_schedule_is_the_integral_over_the_variance(name):
    schedule = make_schedule(name, 0.1, 3.0)
    t = (np.arange(20000) + 0.5) / 20000
    got = np.mean(schedule.weight(t) / (1 + schedule.level(t) ** 2) ** 2)
    exact = 1 / (1 + 0.1**2) - 1 / (1 + 3.0**2)
    # midpoint rule: the error is (1/20000)²/24 times the slope of the integrand
    assert abs(got - exact) < 1e-7


def test_only_the_geometric_schedule_cannot_start_at_zero():
    starts = {name: float(make_schedule(name, 0.0, 2.0).level(0.0)) for name in SCHEDULES}
    assert starts == {"edm": 0.0, "ve": 2.0 * LEAST, "vp": 0.0}


def test_a_schedule_of_the_users_own_must_have_the_ends_that_are_needed():
    mine = PowerSchedule(0.1, 3.0, rho=2.0)
    assert make_schedule(mine, 0.1, 3.0) is mine
    with pytest.raises(InputError, match=r"goes from the level 0\.1 to 3, needed is 0\.1 to 4"):
        make_schedule(mine, 0.1, 4.0)


@pytest.mark.parametrize("schedule", ["cosine", 3, None])
def test_unknown_schedules_are_refused(schedule):
    with pytest.raises(InputError, match=r"choose among 'edm', 've', 'vp', or an object"):
        make_schedule(schedule, 0.1, 3.0)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (-1.0, 2.0), (0.0, np.inf)])
def test_levels_that_do_not_increase_are_refused(low, high):
    with pytest.raises(InputError, match="levels increase"):
        make_schedule("edm", low, high)
