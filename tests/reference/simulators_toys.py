"""Small systems in plain Python that fail, count or blow up on demand, to exercise the engine."""

import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from simulators import DoubleWell
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
class RecordedWalk(RandomWalk):
    """x <- x + w, with the increment w that led to x saved beside it; w is infinite from snapshot `breaks_at` on."""

    breaks_at: int = 10**9
    name: ClassVar[str] = "recorded-walk"

    def layout(self):
        return replace(component_layout(2), extra={"w": "increment that led here"})

    def make_stepper(self, dt, n_steps):  # noqa: ARG002
        def start(rng):
            return (np.zeros(2), np.zeros(2), np.zeros(1))

        def advance(state, rng, out, out_w):
            x, w, count = state
            for row, row_w in zip(out, out_w, strict=True):
                row[:] = x
                row_w[:] = w if count < self.breaks_at else np.inf
                w[:] = rng.standard_normal(2)
                x += w
                count += 1

        return Stepper(start, advance, add_in_place)


@dataclass(frozen=True)
class Relaxing(System):
    """dx = -rate x dt + sqrt(2 rate) dW, exactly stepped, from x(0) = start_at: the law at time t is known,

    N(start_at exp(-rate t), 1 - exp(-2 rate t)); tau of x is 1 / rate for small steps.
    """

    rate: float = 1.0
    start_at: float = 10.0
    name: ClassVar[str] = "relaxing"
    title: ClassVar[str] = "Relaxation to a unit normal law"
    references: ClassVar[str] = "none"
    default_spinup: ClassVar[float] = 40.0

    def layout(self):
        return component_layout(1)

    def _drift_array(self, u):
        return -self.rate * u

    def make_stepper(self, dt, n_steps):
        factor = np.exp(-self.rate * dt * n_steps)

        def start(rng):
            return (np.array([self.start_at]),)

        def advance(state, rng, out):
            (x,) = state
            for row in out:
                row[:] = x
                x[:] = factor * x + np.sqrt(1 - factor**2) * rng.standard_normal()

        return Stepper(start, advance, add_in_place)


@dataclass(frozen=True)
class Drifting(Relaxing):
    """Independent unit normals, with a mean of 0.5 that decays over 50 time units."""

    name: ClassVar[str] = "drifting"
    default_spinup: ClassVar[float] = 160.0

    def make_stepper(self, dt, n_steps):
        def start(rng):
            return (np.zeros(1),)

        def advance(state, rng, out):
            (clock,) = state
            times = clock + dt * n_steps * np.arange(len(out))
            out[:, 0] = 0.5 * np.exp(-times / 50) + rng.standard_normal(len(out))
            clock += dt * n_steps * len(out)

        return Stepper(start, advance, add_in_place)


@dataclass(frozen=True)
class ColdWell(DoubleWell):
    """The double well with every member started in the right well."""

    name: ClassVar[str] = "cold-well"
    default_spinup: ClassVar[float] = 100.0

    def make_stepper(self, dt, n_steps):
        return replace(super().make_stepper(dt, n_steps), start=lambda rng: (np.ones(1),))


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
