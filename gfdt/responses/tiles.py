r"""From the sums of a tile to its response, in the layout's basis.

With dR_u(t) the influence of unit u on the raw response (:class:`gfdt.responses.sums.UnitSums`), E_u its error of the
score, D = R(0) - <w . grad A> and c(t) from :mod:`gfdt.responses.correction`,

    R(t) = raw(t) - sum_u c_(-u)(t) (D/n + dD_u),
    e_u(t) = dR_u(t) - raw(t) E_u + dA_u(t) - c_(-u)(t) dD_u,    dD_u = e_u(0) (without this term) - d<w . grad A>_u,

where dA_u is what the unit's error of the mean m does to an observable of x - m.

For A = x and kicks D is M M~^-1 - I and c is regressed on M, of which D is the part that M~ leaves. For a score fitted
on this record the errors are those of the ratio C(t) C(0)^-1 and the control adds nothing to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.accumulate import Tile
from gfdt.responses.correction import Correction, find_control
from gfdt.responses.summary import Summary

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StateDeparture", "TileResult", "finish"]

_ERROR_OPERATIONS = 1e11  # of the products R E_u; beyond, errors are made at some lags and interpolated in between
_FEWEST_LAGS = 12


@dataclass(frozen=True)
class TileResult:
    """Response of a tile and its errors.

    Attributes
    ----------
    response : (lag, ...)
    errors : (unit, lag, ...), e_u; None where not wanted
    error_lags : indices of the lags of ``errors``
    controlled : whether a control was used
    departure : rms of D in standard errors; NaN where no target is known
    miss : norm of D over that of the known value or, if larger, of the largest R(t)
    """

    response: NDArray[Any]
    errors: NDArray[Any] | None
    error_lags: NDArray[np.int64]
    controlled: bool
    departure: float
    miss: float = 0.0


@dataclass(frozen=True)
class StateDeparture:
    """What M M~^-1 - I is for the kicks of the state, shared by all tiles.

    Attributes
    ----------
    departure : M M~^-1 - I
    error : (unit, ...), its errors
    regressor : (unit, ...), dM_u M~^-1
    added : indices of the wavenumbers whose error is something added to the score
    memory : (lag, index), C(t)/C(0) of these
    """

    departure: NDArray[Any]
    error: NDArray[Any]
    regressor: NDArray[Any]
    added: NDArray[np.int64]
    memory: NDArray[Any]

    @classmethod
    def of(cls, ready: Summary, correction: Correction) -> StateDeparture:
        """Of a record and its correction."""
        regressor = correction.divide(ready.stein.influence())
        added = np.flatnonzero(correction.added) if correction.added is not None else np.empty(0, dtype=np.int64)
        return cls(
            correction.divide(ready.stein.mean()) - correction.algebra.identity,
            regressor if correction.weight is None else (1 - correction.weight) * regressor,
            regressor,
            added,
            ready.memory(added),
        )

    def rows(self, columns: slice) -> StateDeparture:
        """Return the rows of a tile of a full matrix."""
        departure, error, regressor = self.departure[columns], self.error[:, columns], self.regressor[:, columns]
        return StateDeparture(departure, error, regressor, self.added, self.memory)


def finish(
    tile: Tile, ready: Summary, correction: Correction, *, state: StateDeparture | None, errors_wanted: bool
) -> TileResult:
    """Correct a tile and propagate the errors of its units.

    Parameters
    ----------
    tile : Tile
    state : StateDeparture, optional
        For A = x and kicks.
    errors_wanted : bool
    """
    raw = tile.raw.mean()
    auto = correction.mode == "auto"
    chosen = _lags_of_errors(tile, ready) if state is not None else np.arange(len(raw))
    if not errors_wanted and not auto:
        return TileResult(raw, None, chosen, False, float("nan"))
    errors = tile.raw.influence_in_place(raw)
    control, departure, d_departure, mine = None, None, None, None
    if state is not None:
        mine = state.rows(tile.columns) if correction.algebra.dense else state
        departure, d_departure = mine.departure, mine.error
        if auto:
            control = find_control(errors, departure, d_departure, mine.regressor)
    if errors_wanted or state is None:
        errors = errors[:, chosen] if chosen.size < len(raw) else errors
        if tile.slope is not None:
            tile.slope(raw[chosen], errors)
        if tile.shift is not None:
            tile.shift(errors)
    if tile.target is not None and state is None:
        departure = raw[0] - tile.target.mean
        d_departure = errors[:, 0] - tile.target.influence
        if auto:
            control = find_control(errors, departure, d_departure)
    response = raw
    added = auto and mine is not None and mine.added.size > 0
    if (control is not None or added) and departure is not None and d_departure is not None:
        response = raw.copy()
        n_units, carried = len(d_departure), errors_wanted and not ready.fitted_here
        if mine is not None:
            c = np.zeros_like(raw) if control is None else control.whole().astype(raw.dtype)
            if mine.added.size:
                c[:, mine.added] = mine.memory
            response -= c * departure
        for unit, one in enumerate(d_departure):
            if mine is None and control is not None:
                c = control.without(errors[unit], one)
                response -= c * (departure / n_units + one)
            if carried:
                errors[unit] -= c[chosen] * one
        if carried and mine is None:
            errors -= errors.mean(axis=0)  # what the coefficients of their own add up to is in the response
    return TileResult(
        response,
        errors if errors_wanted else None,
        chosen,
        control is not None or added,
        _in_errors(departure, d_departure),
        _share(departure, raw),
    )


def _lags_of_errors(tile: Tile, ready: Summary) -> NDArray[np.int64]:
    """All lags, or as many as the cost of R E_u for full matrices allows, ends included."""
    n_units, n_lags, *rest = tile.raw.sums.shape
    if tile.slope is None or not ready.layout.dense or rest[-1] != ready.layout.size:
        return np.arange(n_lags)
    # Counted for the whole matrix, so that every tile has the same lags.
    each = 2.0 * n_units * rest[-1] ** 3
    kept = max(_FEWEST_LAGS, int(_ERROR_OPERATIONS / each))
    return np.unique(np.linspace(0, n_lags - 1, min(kept, n_lags)).round().astype(np.int64))


def _share(departure: NDArray[Any] | None, raw: NDArray[Any]) -> float:
    """D against the largest response at any lag (R(0) - D is the known value)."""
    if departure is None:
        return 0.0
    known = float(np.linalg.norm(raw[0] - departure))
    largest = max(known, *(float(np.linalg.norm(item)) for item in raw))
    return float(np.linalg.norm(departure)) / largest if largest > 0 else 0.0


def _in_errors(departure: NDArray[Any] | None, influence: NDArray[Any] | None) -> float:
    if departure is None or influence is None:
        return float("nan")
    n_units = len(influence)
    variance = (np.abs(influence) ** 2).sum() * n_units / max(n_units - 1, 1)
    total = (np.abs(departure) ** 2).sum()
    return float(np.sqrt(total / variance)) if variance > 0 else 0.0
