"""An observable tied to a record, and what observables need to know of the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Layout

__all__ = ["RESULT_NAMES", "Bound", "Record"]

# Names of a result's dims and variables, which no dim of a state or an observable can have.
RESULT_NAMES = frozenset(
    {"lag", "unit", "observable", "perturbation", "response", "stderr", "lower", "upper", "influence"}
    | {"observable_mean", "observable_std", "score_spread"}
)


@dataclass(frozen=True)
class Bound:
    """An observable tied to a record.

    Attributes
    ----------
    name : str
    dims, coords : of its values, after lag
    shape : (*state, *extra) where local
    local : bool
    evaluate : (n, *state) centred states -> (n, *shape)
    pointwise : (centred, mean, extra, order) -> A or its derivative of order 1 to 3, for one extra index; None if not
    differentiable : whether a difference quotient of A means anything
    mean : m, (*state)
    follows_mean : whether A is a function of x - m, so that an error of m is one of A
    parameter : what ``pointwise`` gets instead of m, (*state)
    shift_effect : for such an observable that is not pointwise: see ``effect_of_shift``
    """

    name: str
    dims: tuple[str, ...]
    coords: Mapping[str, Any]
    shape: tuple[int, ...]
    local: bool
    mean: NDArray[np.float64]
    evaluate: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    pointwise: Callable[[NDArray[Any], NDArray[Any], int, int], NDArray[Any]] | None = None
    differentiable: bool = True
    follows_mean: bool = False
    shift_effect: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]] | None = None
    parameter: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def n_extra(self) -> int:
        """Values for each state component, of a local observable."""
        return math.prod(self.shape[self.mean.ndim :]) if self.local else 1

    @property
    def is_state(self) -> bool:
        """Whether it is the state itself."""
        return self.name == "mean"

    @property
    def _second(self) -> NDArray[np.float64]:
        return self.mean if self.parameter is None else self.parameter

    def columns(self, centred: NDArray[np.float64], start: int, stop: int, order: int = 0) -> NDArray[np.float64]:
        """Return values (n, stop - start) of the flattened observable, or a derivative of a pointwise one."""
        if self.pointwise is None:
            if self.evaluate is None or order:
                raise InputError(f"the observable {self.name} has no derivative.")
            return self.evaluate(centred).reshape(len(centred), self.size)[:, start:stop]
        flat, mean, n = centred.reshape(len(centred), self.mean.size), self._second.ravel(), self.n_extra
        if n == 1:
            return self.pointwise(flat[:, start:stop], mean[start:stop], 0, order)
        out = np.empty((len(centred), stop - start))
        for column in range(start, stop):
            component, extra = divmod(column, n)
            out[:, column - start] = self.pointwise(flat[:, component], mean[component], extra, order)
        return out

    def shift_series(self, centred: NDArray[np.float64], start: int, stop: int) -> NDArray[np.float64]:
        """Return g(x') of which the effect of a shift of m is made: A' of the columns, or the state itself."""
        if self.pointwise is not None:
            return self.columns(centred, start, stop, order=1)
        return centred.reshape(len(centred), self.mean.size)

    def effect_of_shift(
        self, shift: NDArray[np.float64], response: NDArray[np.float64], start: int, stop: int
    ) -> NDArray[np.float64]:
        """Return dR, (lag, column, ...), for an error dm of m (d,) and the response of ``shift_series``.

        For a pointwise observable -dm_i <A'(x_i') B>.
        """
        if self.pointwise is not None:
            components = np.arange(start, stop) // self.n_extra
            return -shift[components][:, None] * response
        if self.shift_effect is None:
            raise InputError(f"the observable {self.name} does not say how it follows the mean.")
        return self.shift_effect(shift, response)[:, start:stop]

    def field(self, centred: NDArray[np.float64], extra: int, order: int = 0) -> NDArray[np.float64]:
        """Return one value for each state component, (n, *state), of a local observable."""
        if self.pointwise is not None:
            return self.pointwise(centred, self._second, extra, order)
        if self.evaluate is None or order:
            raise InputError(f"the observable {self.name} has no derivative.")
        return self.evaluate(centred).reshape(*centred.shape, -1)[..., extra]


@dataclass(frozen=True)
class Record:
    """What observables need to know of the record they are tied to."""

    trajectory: xr.DataArray
    layout: Layout
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    low: float
    high: float
    n_samples: int
    examples: NDArray[np.float64] = field(repr=False)

    def local(
        self,
        name: str,
        pointwise: Callable[[NDArray[Any], NDArray[Any], int, int], NDArray[Any]],
        *,
        extra: Mapping[str, Any] | None = None,
        differentiable: bool = True,
        follows_mean: bool = False,
        parameter: NDArray[np.float64] | None = None,
    ) -> Bound:
        """Return a pointwise observable with the state's dims, then those of ``extra``."""
        extra = dict(extra or {})
        clash = sorted(set(extra) & set(self.layout.dims))
        if clash:
            raise InputError(f"the state dim {clash[0]!r} clashes with one of the observable {name}: rename it.")
        return Bound(
            name,
            (*self.layout.dims, *extra),
            {dim: self.trajectory[dim].values for dim in self.layout.dims} | extra,
            (*self.layout.shape, *(len(values) for values in extra.values())),
            True,
            self.mean,
            pointwise=pointwise,
            differentiable=differentiable,
            follows_mean=follows_mean,
            parameter=parameter,
        )
