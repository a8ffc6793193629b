"""Small systems in plain Python that fail, count or blow up on demand, to exercise the engine."""

import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from simulators.engine import Stepper, add_in_place
from simulators.schema import component_layout
from simulators.system import System


@dataclass(frozen=True)
class RandomWalk(System):
    """x <- x + w. Raises `failure` in the `fail_at`-th call of advance, counted over all members."""

    start_at: float = 0.0
    name: ClassVar[str] = "random-walk"
    title: ClassVar[str] = "Random walk"
    references: ClassVar[str] = "none"
    failure: ClassVar[BaseException | None] = None
    fail_at: ClassVar[int] = 0
    calls: ClassVar[int] = 0

    def layout(self):
        return component_layout(2)

    def _drift_array(self, u):
        return np.zeros_like(u)

    def make_stepper(self, dt, n_steps):
        lock = threading.Lock()
        type(self).calls = 0

        def start(rng):
            return (self.start_at + rng.standard_normal(2), np.zeros(1))

        def advance(state, rng, out):
            x, clock = state
            with lock:
                type(self).calls += 1
                if self.failure is not None and self.calls >= self.fail_at:
                    raise self.failure
            for row in out:
                row[:] = x
                for _ in range(n_steps):
                    x += np.sqrt(dt) * rng.standard_normal(2)
                    clock += dt

        return Stepper(start, advance, add_in_place)


@dataclass(frozen=True)
class Exploding(System):
    """dx/dt = x^2 by Euler steps from x = 1 in member `culprit`, 0 elsewhere."""

    culprit: int = 2
    name: ClassVar[str] = "exploding"
    title: ClassVar[str] = "Blow-up in finite time"
    references: ClassVar[str] = "none"
    default_dt: ClassVar[float | None] = 0.1

    def layout(self):
        return component_layout(1)

    def _drift_array(self, u):
        return u**2

    def make_stepper(self, dt, n_steps):
        def start(rng):
            (member,) = rng.bit_generator.seed_seq.spawn_key
            return (np.array([float(member == self.culprit)]),)

        def advance(state, rng, out):
            (x,) = state
            with np.errstate(all="ignore"):
                for row in out:
                    row[:] = x
                    for _ in range(n_steps):
                        x += dt * x**2

        return Stepper(start, advance, add_in_place)
