"""The runs of a twin experiment: members that spin up, are copied, kicked, and read (`simulators.direct`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulators.checkpoint import State
from simulators.engine import Stepper
from simulators.errors import BlowUpError
from simulators.perturbation import Perturbation, check_kicks
from simulators.plan import Plan
from simulators.schema import Layout
from simulators.streams import member_stream

__all__ = ["Position", "TwinResult", "Twins"]

# Snapshots of one member in flight, with those of its twins.
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Position:
    """Where a member is: its internal state, changed in place, and its random stream."""

    state: State
    stream: np.random.Generator

    def twin(self) -> "Position":
        """Return a copy that sees the same noise and has the same hidden variables."""
        # copy.deepcopy does the same and takes half the time of a small system
        position: Any = self.stream.bit_generator.state
        bit_generator = np.random.PCG64(0)
        bit_generator.state = position
        return Position(tuple(array.copy() for array in self.state), np.random.Generator(bit_generator))


@dataclass(frozen=True)
class TwinResult:
    """What one member says: means over its restarts.

    Attributes
    ----------
    response : ndarray
        (lag, *axes).
    even, change : ndarray
        Of the linear range (`simulators.linearity`), as pure numbers; `change` from the first restart alone, None if
        there was no doubled kick.
    """

    response: NDArray[np.float64]
    even: NDArray[np.float64]
    change: NDArray[np.float64] | None


@dataclass(frozen=True)
class Twins:
    """How every member of the experiment is run.

    Attributes
    ----------
    stepper, layout, plan : Stepper, Layout, Plan
        The system, and the checked request for its base trajectory.
    perturbation : Perturbation
        The kicks.
    entropy : int
        Root of the random streams.
    n_lags, n_restarts, n_between : int
        Snapshots of a pair; pairs of a member for each kick; save intervals thrown away between two restarts.
    doubled : bool
        The first restart is also kicked by twice the amplitude.
    """

    stepper: Stepper
    layout: Layout
    plan: Plan
    perturbation: Perturbation
    entropy: int
    n_lags: int
    n_restarts: int
    n_between: int
    doubled: bool

    def begin(self, member: int) -> Position:
        """Start a member and spin it up."""
        stream = member_stream(self.entropy, member)
        position = Position(self.stepper.start(stream), stream)
        self._skip(position, self.plan.n_spinup, member, -self.plan.n_spinup)
        return position

    def snapshot(self, position: Position) -> NDArray[np.float64]:
        """Return the state at `position`, which stays where it is."""
        return self._advance(position.twin(), 1)[0]

    def run(self, member: int, position: Position | None, amplitude: NDArray[np.float64]) -> TwinResult:
        """Run all pairs of one member, from its `position` after the spin-up (None: spin it up first)."""
        position = self.begin(member) if position is None else position
        kick_stream = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence(entropy=self.entropy, spawn_key=(member, 1)))
        )
        first = self._pair(member, 0, position, kick_stream, amplitude)
        response, even = first.response, first.even
        for restart in range(1, self.n_restarts):
            begin = restart * (self.n_lags + self.n_between)
            self._skip(position, self.n_between, member, begin - self.n_between)
            pair = self._pair(member, begin, position, kick_stream, amplitude)
            response += pair.response
            even += pair.even
        return TwinResult(response / self.n_restarts, even / self.n_restarts, first.change)

    def _pair(
        self,
        member: int,
        begin: int,
        base: Position,
        kick_stream: np.random.Generator,
        amplitude: NDArray[np.float64],
    ) -> TwinResult:
        """Kick copies of `base`, save interval `begin`, and follow them all for `n_lags` snapshots."""
        origin = base.twin()
        state = self.snapshot(base)
        self._watch(state[None], member, begin)
        kicks = self.perturbation.kicks(state, amplitude, kick_stream)
        check_kicks(kicks, state)
        single = [(self._kicked(origin, kick), self._kicked(origin, -kick)) for kick in kicks]
        double = []
        if self.doubled and begin == 0:
            double = [(self._kicked(origin, 2 * kick), self._kicked(origin, -2 * kick)) for kick in kicks]
        read, pure = self.perturbation.read, self.perturbation.pure
        response, even, change = [], [], []
        length = max(1, _BLOCK_BYTES // (8 * self.layout.size * (3 + 4 * len(kicks))))
        for start in range(0, self.n_lags, length):
            n = min(length, self.n_lags - start)
            x0 = self._advance(base, n)
            self._watch(x0, member, begin + start)
            half, mean = self._follow(single, kicks, n, member, begin + start)
            response.append(read(half, kicks, amplitude))
            even.append(self.perturbation.read_even(mean - x0, kicks, amplitude))
            if double:
                half, _ = self._follow(double, 2 * kicks, n, member, begin + start)
                change.append(pure(read(half, kicks, amplitude) / 2 - response[-1], amplitude))
        return TwinResult(np.concatenate(response), np.concatenate(even), np.concatenate(change) if double else None)

    def _kicked(self, origin: Position, kick: NDArray[np.float64]) -> Position:
        twin = origin.twin()
        self.stepper.displace(twin.state, kick)
        return twin

    def _follow(
        self, pairs: list[tuple[Position, Position]], kicks: NDArray[np.float64], n: int, member: int, begin: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Advance each pair by `n` intervals; return half its difference and its mean, both (kick, n, *state)."""
        half = np.empty((len(pairs), n, *self.layout.shape))
        mean = np.empty_like(half)
        for i, pair in enumerate(pairs):
            plus, minus = (self._advance(twin, n) for twin in pair)
            try:
                self._watch(plus, member, begin)
                self._watch(minus, member, begin)
            except BlowUpError as error:
                error.add_note(f"it was kicked by {np.abs(kicks[i]).max():.3g}: a smaller amplitude may do")
                raise
            half[i], mean[i] = (plus - minus) / 2, (plus + minus) / 2
        return half, mean

    def _advance(self, position: Position, n: int) -> NDArray[np.float64]:
        """Return the next `n` snapshots of the state, the current one first: (n, *state)."""
        outs = [np.empty((n, *self.layout.shape)) for _ in self.layout.variables]
        self.stepper.advance(position.state, position.stream, *outs)
        return outs[0]

    def _skip(self, position: Position, n_intervals: int, member: int, begin: int) -> None:
        """Advance over `n_intervals`, the first of them interval `begin`, and keep nothing."""
        length = max(1, _BLOCK_BYTES // (8 * self.layout.size))
        for start in range(0, n_intervals, length):
            snapshots = self._advance(position, min(length, n_intervals - start))
            self._watch(snapshots, member, begin + start)

    def _watch(self, snapshots: NDArray[np.float64], member: int, begin: int) -> None:
        """Raise at the first snapshot that is not finite; interval 0 is the end of the spin-up."""
        bad = ~np.isfinite(snapshots).reshape(len(snapshots), -1).all(axis=1)
        if bad.any():
            time = (begin + int(np.argmax(bad))) * self.plan.save_every
            raise BlowUpError(member, time, self.plan.dt, self.stepper.advice)
