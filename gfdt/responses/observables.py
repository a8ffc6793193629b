r"""What is observed: functions A(x) of the state, by name, by class, or any of the user's own.

x' = x - m is the centred state. "mean" answers how <x> moves, "second_moment" how <x^2> moves, "variance" how
<x'^2> moves, "moment3" and "moment4" how <x'^3> and <x'^4> move. m stays the unperturbed mean: for the variance that
makes no difference to first order, but the third *central* moment moves by <x'^3> - 3 <x'^2> dm, the fourth by
<x'^4> - 4 <x'^3> dm, with dm the response of the mean. "covariance" is x'_i x'_j (of a homogeneous field its average
over sites, by separation), "spectrum" the power per shell of wavenumbers, "pdf" a kernel estimate of the density of
each component, whose response is that of the whole one-point distribution.

An observable is *local* where it has one value for each state component and would move with the field; only those can
be functions of displacement. A *pointwise* one depends on its own component alone: its derivatives A', A'' give the
value that the response to any perturbation has at t = 0 (:mod:`gfdt.responses.targets`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.responses.bound import Bound, Record
from gfdt.responses.two_point import Spectrum, two_point
from gfdt.responses.user_function import of_function
from gfdt.validation import integer, number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pointwise = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

__all__ = [
    "OBSERVABLES",
    "OTHER_NAMES",
    "Density",
    "Exceedance",
    "Spectrum",
    "find_observable",
    "find_observables",
]

_RANGE = 5.0  # standard deviations to each side that the values of a density cover
_MOST_VALUES = 4096
_LIKE = 10.0  # ratio of spreads up to which components can share a bandwidth and values

OBSERVABLES: dict[str, Pointwise] = {
    "mean": lambda centred, mean: centred,  # noqa: ARG005  every entry has the same call
    "second_moment": lambda centred, mean: (centred + mean) ** 2,
    "variance": lambda centred, mean: centred**2,  # noqa: ARG005
    "moment3": lambda centred, mean: centred**3,  # noqa: ARG005
    "moment4": lambda centred, mean: centred**4,  # noqa: ARG005
}
# A is this power of x' (of x, for the second moment).
_POWERS = {"mean": 1, "second_moment": 2, "variance": 2, "moment3": 3, "moment4": 4}
_CENTRAL = ("variance", "moment3", "moment4")  # of the mean itself a constant is taken off, which does not respond
OTHER_NAMES = ("covariance", "pdf", "spectrum")


@dataclass(frozen=True, eq=False)
class Exceedance:
    """The probability that a component lies above (or below) a threshold: A = 1 there, else 0.

    Parameters
    ----------
    threshold : float, or array or DataArray over the state
        In the units of the data; one for all components, or one for each.
    above : bool
        Default True: x > threshold; False: x < threshold.
    """

    threshold: Any
    above: bool = True

    def __post_init__(self) -> None:
        values = getattr(self.threshold, "values", self.threshold)
        array = np.asarray(values) if not isinstance(values, str | bytes | dict) else np.asarray(None)
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise InputError(
                f"threshold={shown(self.threshold)} is not a number: pass one, in the units of the data, or one for "
                "each component, in an array or a DataArray over the state."
            )

    def bind(self, record: Record) -> Bound:
        """Tie to a record."""
        dims, shape = record.layout.dims, record.layout.shape
        threshold = self.threshold
        if isinstance(threshold, xr.DataArray):
            like = record.trajectory.isel(member=0, time=0, drop=True)
            if not set(threshold.dims) <= set(dims):
                raise InputError(f"threshold has the dims {tuple(threshold.dims)}, the state has {dims}: rename first.")
            threshold = threshold.reindex_like(like).broadcast_like(like).transpose(*dims).values
        try:
            level = np.broadcast_to(np.asarray(threshold, dtype=np.float64), shape)
        except ValueError as error:
            raise InputError(
                f"threshold has shape {np.shape(threshold)}, the state {dims} has {shape}: pass one number, or one for "
                "each component."
            ) from error
        if not np.isfinite(level).all():
            raise InputError("threshold has other labels than the trajectory: give it one for each component.")

        def indicator(centred: NDArray[Any], beyond: NDArray[Any], extra: int, order: int) -> NDArray[Any]:  # noqa: ARG001
            return (centred > beyond if self.above else centred < beyond).astype(np.float64)

        one = f" {level.flat[0]:g}" if level.size and np.ptp(level) == 0 else " threshold"
        name = f"exceedance {'>' if self.above else '<'}{one}"
        return record.local(name, indicator, differentiable=False, parameter=level - record.mean)


@dataclass(frozen=True, eq=False)
class Density:
    r"""The one-point density of each component, by a Gaussian kernel: A_v(x) = K_h(v - x).

    Parameters
    ----------
    values : array, optional
        Points v, in the units of the data. Default None: ``n_values`` points over five standard deviations to each
        side of the mean, as far as there are data.
    bandwidth : float, optional
        h. Default None: Silverman's 1.06 sd n^(-1/5), n the number of samples; the response is that of the density
        blurred by h.
    n_values : int
        Default 64.
    """

    values: Any = None
    bandwidth: float | None = None
    n_values: int = 64

    def __post_init__(self) -> None:
        number("bandwidth", self.bandwidth, low=0, optional=True)
        integer("n_values", self.n_values, 2, _MOST_VALUES)
        if self.values is not None:
            points = np.asarray(self.values)
            real = np.issubdtype(points.dtype, np.floating) or np.issubdtype(points.dtype, np.integer)
            if points.ndim != 1 or not 1 <= points.size <= _MOST_VALUES or not real or not np.isfinite(points).all():
                raise InputError(
                    f"values has shape {points.shape} and type {points.dtype}: pass a one-dimensional array of 1 to "
                    f"{_MOST_VALUES} finite real numbers."
                )

    def bind(self, record: Record) -> Bound:
        """Tie to a record."""
        points = self.values
        if points is None:
            low = max(record.low, record.mean.min() - _RANGE * record.spread.max())
            high = min(record.high, record.mean.max() + _RANGE * record.spread.max())
            points = np.linspace(low, high, self.n_values)
        if (self.values is None or self.bandwidth is None) and record.spread.max() > _LIKE * record.spread.min():
            raise InputError(
                f"the components' standard deviations go from {record.spread.min():.3g} to {record.spread.max():.3g}, "
                "too far for one set of values: pass gfdt.Density(values=..., bandwidth=...) made for the component "
                "you look at."
            )
        v = np.asarray(points, dtype=np.float64)
        h = self.bandwidth or 1.06 * float(record.spread.min()) * record.n_samples**-0.2

        def kernel(centred: NDArray[Any], mean: NDArray[Any], extra: int, order: int) -> NDArray[Any]:
            z = (v[extra] - mean - centred) / h
            value = np.exp(-0.5 * z**2) / (h * math.sqrt(2 * math.pi))
            return value if order == 0 else value * z / h if order == 1 else value * (z**2 - 1) / h**2

        return record.local("pdf", kernel, extra={"value": v})


def find_observable(name: str | None) -> tuple[str, Pointwise]:
    """Return the name and the function A(x', m) of a named pointwise observable (None: the state itself)."""
    if name is None:
        return "mean", OBSERVABLES["mean"]
    if not isinstance(name, str) or name not in OBSERVABLES:
        raise InputError(
            f"observable={name!r} is not known: choose among {', '.join(OBSERVABLES)}, or None for the state itself."
        )
    return name, OBSERVABLES[name]


def check_observable(value: Any) -> None:
    """Refuse what cannot be an observable, before any work is done."""
    if isinstance(value, list | tuple | Mapping):
        if not value:
            raise InputError("observable names nothing: pass a name, a function, or several of them.")
        for item in value.values() if isinstance(value, Mapping) else value:
            if isinstance(item, list | tuple | Mapping):
                raise InputError("observables are nested: pass one list of names and functions.")
            check_observable(item)
        return
    one = not isinstance(value, type)
    if value is None or (one and (callable(getattr(value, "bind", None)) or callable(value))):
        return
    if not isinstance(value, str) or value not in (*OBSERVABLES, *OTHER_NAMES):
        raise InputError(
            f"observable={shown(value)} is not known: choose among {', '.join((*OBSERVABLES, *OTHER_NAMES))}, "
            "gfdt.Exceedance(threshold), gfdt.Density(values), a function of the states, or None for the state itself."
        )


def find_observables(value: Any, record: Record) -> tuple[list[Bound], bool]:
    """Return the observables asked for, and whether it was one (which then has no dim of its own).

    Raises
    ------
    InputError
        If one is not known or cannot be evaluated, or if several differ in their dims.
    """
    check_observable(value)
    if isinstance(value, Mapping):
        named = [(str(name), _bind(item, record)) for name, item in value.items()]
        bound = [Bound(**{**item.__dict__, "name": name}) for name, item in named]
    elif isinstance(value, list | tuple):
        bound = [_bind(item, record) for item in value]
    else:
        return [_bind(value, record)], True
    first = bound[0]
    for other in bound[1:]:
        if (other.dims, other.shape, other.local) != (first.dims, first.shape, first.local):
            raise InputError(
                f"the observables {first.name!r} {first.dims} and {other.name!r} {other.dims} have other dims: ask for "
                "them one at a time."
            )
    names = [item.name for item in bound]
    if len(set(names)) < len(names):
        raise InputError(
            f"two observables are called {max(names, key=names.count)!r}: pass a dict {{name: observable}}."
        )
    return bound, False


def _bind(value: Any, record: Record) -> Bound:
    if value is None or (isinstance(value, str) and value in OBSERVABLES):
        name, function = find_observable(value)
        power = _POWERS[name]

        def pointwise(centred: NDArray[Any], mean: NDArray[Any], extra: int, order: int) -> NDArray[Any]:  # noqa: ARG001
            if order == 0:
                return function(centred, mean)
            if order > power:
                return np.zeros_like(centred)
            base = centred + mean if name == "second_moment" else centred
            return math.perm(power, order) * base ** (power - order)

        return record.local(name, pointwise, follows_mean=name in _CENTRAL)
    if value == "pdf":
        return Density().bind(record)
    if value == "spectrum":
        return Spectrum().bind(record)
    if value == "covariance":
        return two_point(record)
    if hasattr(value, "bind"):
        return value.bind(record)
    return of_function(value, record)
