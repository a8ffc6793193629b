"""The runs of a forced ensemble: copies of a member that see the same noise, with and without the forcing.

Strang splitting. With c_n = a dt f(t_n + dt/2), step n of the system has half of a kick on either side,

    x <- x + (c_n / 2) w,     x <- step(x),     x <- x + (c_n / 2) w,

and the two halves that meet between steps are one. Weak order 2, that of the systems' own steps, if f is smooth between
steps: it may jump from one step to the next, at t = 0 above all. A force w(x) that depends on the state acts by the
midpoint rule. Measured, largest error over that of the response to a sine, without noise or exact in spite of it
(tests/test_simulators_forced.py):

    linear, three components, dt = 0.1, 0.05, 0.025              1.5e-3, 3.8e-4, 9.6e-5     order 2.00
    Lorenz (1996), w(x), dt = 0.1, 0.05, 0.025                   3.2e-3, 7.9e-4, 2.0e-4     order 2.01
    Allen-Cahn, a pattern, dt = 1/16, 1/32, 1/64                 5.0e-3, 1.3e-3, 3.2e-4     order 1.97

Systems whose state is one vector move many members in one call (`simulators.engine.Stepper.advance_many`), all others
one member a step at a time. Either way a member draws its numbers from its own stream in the order of ``simulate``, so
that the unforced copy is that trajectory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simulators.engine import Stepper
from simulators.errors import BlowUpError
from simulators.forcing import Pattern
from simulators.moments import Moment
from simulators.plan import Plan
from simulators.streams import member_stream
from simulators.twins import Position

__all__ = ["ForcedRuns"]

Array = NDArray[np.float64]

# What the members of a batch say, in memory at once.
_BLOCK_BYTES = 16 * 2**20
# Normals drawn at once for a batch: few enough for the cache, many for each member.
_BLOCK_DRAWS = 2**18
_MAX_BATCH = 1024


class _Copies(Protocol):
    """The copies of some members, one for each sign of the forcing."""

    def skip(self, n_steps: int) -> None:
        """Move the unforced copy of every member, before there are others."""
        ...

    def begin(self) -> None:
        """Make the other copies of the state that there is now."""
        ...

    def states(self) -> Array:
        """Return the states, shape (sign, member, *state)."""
        ...

    def advance(self, sizes: Array) -> None:
        """Take len(sizes) - 1 steps with the kicks `sizes` before, between and after them."""
        ...


@dataclass(frozen=True, eq=False)
class ForcedRuns:
    """How every member of the experiment is run.

    Attributes
    ----------
    stepper : Stepper
        The moves of the system, one step between snapshots.
    plan : Plan
        Checked request for the unforced trajectory.
    pattern : Pattern
        w.
    kicks : ndarray
        c_n, shape (step,), for the steps of the whole record.
    signs : tuple of int
        Of the forcing, for each copy of a member: 0 first.
    moment : Moment
        What is observed.
    entropy : int
        Root of the random streams.
    """

    stepper: Stepper
    plan: Plan
    pattern: Pattern
    kicks: Array
    signs: tuple[int, ...]
    moment: Moment
    entropy: int

    def batches(self) -> list[range]:
        """Return the members that are run together."""
        n_members = self.plan.n_members
        if self.stepper.advance_many is None:
            return [range(member, member + 1) for member in range(n_members)]
        each = 8 * self.plan.n_snapshots * self.pattern.layout.size * (self.moment.n_powers + 1)
        size = max(1, min(_MAX_BATCH, _BLOCK_BYTES // each))
        return [range(first, min(first + size, n_members)) for first in range(0, n_members, size)]

    def reference(self) -> Array:
        """Return the state of two members after the spin-up, shape (2, *state)."""
        copies = self._start(range(2))
        return copies.states()[0]

    def run(self, members: range, origin: Array) -> tuple[Array, Array]:
        """Run `members` and return what each of them says.

        Parameters
        ----------
        members : range
            One of `batches`.
        origin : ndarray
            Subtracted from the state before powers are taken, shape (*state).

        Returns
        -------
        differences : ndarray
            Of the powers of forced and unforced state, shape (member, power, time, *state): the last power alone unless
            the moment is centred; half the difference of the two signs if there are two.
        means : ndarray
            Mean over time, and for a field over its sites, of the unforced state less `origin`, shape (member, *state).
        """
        plan = self.plan
        copies = self._start(members)
        copies.begin()
        first_power = self.moment.power - self.moment.n_powers + 1
        shape = (len(members), self.moment.n_powers, plan.n_snapshots, *self.pattern.layout.shape)
        differences, total = np.empty(shape), np.zeros((len(members), *self.pattern.layout.shape))
        for snapshot in range(plan.n_snapshots):
            states = copies.states()
            self._watch(states, members, snapshot * plan.save_every)
            states = states - origin
            total += states[0]
            for power in range(first_power, self.moment.power + 1):
                values = states**power
                difference = values[1] - values[0] if len(values) == 2 else (values[1] - values[2]) / 2
                differences[:, power - first_power, snapshot] = difference
            if snapshot + 1 < plan.n_snapshots:
                halves = self.kicks[snapshot * plan.n_steps : (snapshot + 1) * plan.n_steps] / 2
                copies.advance(np.append(halves, 0) + np.append(0, halves))
        return differences, self.pooled(total / plan.n_snapshots)

    def pooled(self, states: Array) -> Array:
        """Return the states, (member, *state), with that of a homogeneous field replaced by its mean over sites."""
        if "component" in self.pattern.layout.dims:
            return states
        sites = tuple(range(1, states.ndim))
        return np.broadcast_to(states.mean(axis=sites, keepdims=True), states.shape)

    def _start(self, members: range) -> _Copies:
        """Return the unforced copies of `members` after their spin-up."""
        plan, stepper = self.plan, self.stepper
        streams = [member_stream(self.entropy, member) for member in members]
        copies: _Copies
        if stepper.advance_many is not None:
            copies = _Together(stepper, self.pattern, self.signs, streams)
        else:
            copies = _Alone(stepper, self.pattern, self.signs, streams)
        for interval in range(plan.n_spinup):
            copies.skip(plan.n_steps)
            self._watch(copies.states(), members, (interval + 1 - plan.n_spinup) * plan.save_every)
        return copies

    def _watch(self, states: Array, members: range, time: float) -> None:
        """Raise if a member is not finite."""
        bad = ~np.isfinite(states).reshape(*states.shape[:2], -1).all(axis=2)
        if bad.any():
            sign, member = np.unravel_index(int(np.argmax(bad)), bad.shape)
            error = BlowUpError(members[int(member)], time, self.plan.dt, self.stepper.advice)
            if self.signs[int(sign)]:
                error.add_note("its copy without the forcing is finite: a smaller amplitude may do")
            raise error


class _Together:
    """Members whose state is one vector: the copies are the rows of arrays, and see the same block of normals."""

    def __init__(
        self, stepper: Stepper, pattern: Pattern, signs: tuple[int, ...], streams: list[np.random.Generator]
    ) -> None:
        assert stepper.advance_many is not None
        self._move = stepper.advance_many
        self._pattern, self._signs, self._streams = pattern, signs, streams
        self._x = np.array([[stepper.start(stream)[0] for stream in streams]])
        n_members, d = self._x.shape[1:]
        self._normals = np.empty((n_members, max(1, _BLOCK_DRAWS // (n_members * d)), d))
        self._used = self._normals.shape[1]

    def skip(self, n_steps: int) -> None:
        for normals in self._blocks(n_steps):
            self._move(self._x[0], normals, np.zeros(normals.shape[1:]))

    def begin(self) -> None:
        self._x = np.repeat(self._x, len(self._signs), axis=0)

    def states(self) -> Array:
        return self._x

    def advance(self, sizes: Array) -> None:
        step = 0
        w = self._pattern.constant
        for normals in self._blocks(len(sizes) - 1):
            n = normals.shape[1]
            for x, sign in zip(self._x, self._signs, strict=True):
                if w is not None or sign == 0:
                    kicks = np.zeros(normals.shape[1:]) if w is None else sign * np.outer(sizes[step : step + n], w)
                    self._move(x, normals, kicks)
                    continue
                none = np.zeros((1, x.shape[1]))
                for j in range(n):
                    x += self._pattern.kick(x, sign * sizes[step + j])
                    self._move(x, normals[:, j : j + 1], none)
            step += n
        for x, sign in zip(self._x, self._signs, strict=True):
            if sign:
                x += self._pattern.kick(x, sign * sizes[-1])

    def _blocks(self, n_steps: int) -> Iterator[Array]:
        """Yield the normals of all members for the next `n_steps` steps, block by block: (member, step, d)."""
        while n_steps:
            if self._used == self._normals.shape[1]:
                # drawn ahead of their use, which nobody else sees: short calls would be most of the cost
                for stream, numbers in zip(self._streams, self._normals, strict=True):
                    stream.standard_normal(out=numbers)
                self._used = 0
            n = min(n_steps, self._normals.shape[1] - self._used)
            yield self._normals[:, self._used : self._used + n]
            self._used += n
            n_steps -= n


class _Alone:
    """One member after the other, through the moves that every system has."""

    def __init__(
        self, stepper: Stepper, pattern: Pattern, signs: tuple[int, ...], streams: list[np.random.Generator]
    ) -> None:
        self._stepper, self._pattern, self._signs = stepper, pattern, signs
        self._copies = [[Position(stepper.start(stream), stream) for stream in streams]]
        self._out = [np.empty((1, *pattern.layout.shape)) for _ in pattern.layout.variables]

    def skip(self, n_steps: int) -> None:
        for position in self._copies[0]:
            for _ in range(n_steps):
                self._step(position)

    def begin(self) -> None:
        first = self._copies[0]
        self._copies = [first, *([position.twin() for position in first] for _ in self._signs[1:])]

    def states(self) -> Array:
        return np.array([[self._state(position) for position in positions] for positions in self._copies])

    def advance(self, sizes: Array) -> None:
        for positions, sign in zip(self._copies, self._signs, strict=True):
            for position in positions:
                for size in sizes[:-1]:
                    self._kick(position, sign * size)
                    self._step(position)
                self._kick(position, sign * sizes[-1])

    def _kick(self, position: Position, size: float) -> None:
        if size == 0:
            return
        w = self._pattern.constant
        du = size * w if w is not None else self._pattern.kick(self._state(position), size)
        self._stepper.displace(position.state, du)

    def _state(self, position: Position) -> Array:
        """Return the state at `position`, which stays where it is: of a copy that takes one step more."""
        self._step(position.twin())
        return self._out[0][0].copy()

    def _step(self, position: Position) -> None:
        self._stepper.advance(position.state, position.stream, *self._out)
