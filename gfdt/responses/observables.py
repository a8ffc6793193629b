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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
import xarray as xr

from gfdt.errors import InputError
from gfdt.validation import integer, is_number, number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.responses.layout import Layout

    Pointwise = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]

__all__ = [
    "OBSERVABLES",
    "RESULT_NAMES",
    "Bound",
    "Density",
    "Exceedance",
    "Spectrum",
    "find_observable",
    "find_observables",
]

# Names of a result's dims and variables, which no dim of a state or an observable can have.
RESULT_NAMES = frozenset(
    {"lag", "unit", "observable", "perturbation", "response", "stderr", "lower", "upper", "influence"}
    | {"observable_mean", "observable_std", "score_spread"}
)
_RANGE = 5.0  # standard deviations to each side that the values of a density cover
_MOST_VALUES = 4096
_PAIRS = 64  # components up to which all products x'_i x'_j are observed
_BLOCK = 64  # states shown to a user's function to learn what it returns

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
_OTHERS = ("covariance", "pdf", "spectrum")


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

    def columns(self, centred: NDArray[np.float64], start: int, stop: int, order: int = 0) -> NDArray[np.float64]:
        """Return values (n, stop - start) of the flattened observable, or a derivative of a pointwise one."""
        if self.pointwise is None:
            if self.evaluate is None or order:
                raise InputError(f"the observable {self.name} has no derivative.")
            return self.evaluate(centred).reshape(len(centred), self.size)[:, start:stop]
        flat, mean, n = centred.reshape(len(centred), self.mean.size), self.mean.ravel(), self.n_extra
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
            return self.pointwise(centred, self.mean, extra, order)
        if self.evaluate is None or order:
            raise InputError(f"the observable {self.name} has no derivative.")
        return self.evaluate(centred).reshape(*centred.shape, -1)[..., extra]


@dataclass(frozen=True)
class Exceedance:
    """The probability that a component lies above (or below) a threshold: A = 1 there, else 0.

    Parameters
    ----------
    threshold : float, in the units of the data
    above : bool
        Default True: x > threshold; False: x < threshold.
    """

    threshold: float
    above: bool = True

    def __post_init__(self) -> None:
        if not is_number(self.threshold):
            raise InputError(f"threshold={shown(self.threshold)} is not a number: pass one, in the units of the data.")

    def bind(self, record: _Record) -> Bound:
        """Tie to a record."""

        def indicator(centred: NDArray[Any], mean: NDArray[Any], extra: int, order: int) -> NDArray[Any]:  # noqa: ARG001
            value = centred + mean
            return (value > self.threshold if self.above else value < self.threshold).astype(np.float64)

        name = f"exceedance {'>' if self.above else '<'} {self.threshold:g}"
        return record.local(name, indicator, differentiable=False)


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

    def bind(self, record: _Record) -> Bound:
        """Tie to a record."""
        points = self.values
        if points is None:
            low = max(record.low, record.mean.min() - _RANGE * record.spread.max())
            high = min(record.high, record.mean.max() + _RANGE * record.spread.max())
            points = np.linspace(low, high, self.n_values)
        v = np.asarray(points, dtype=np.float64)
        h = self.bandwidth or 1.06 * float(record.spread.min()) * record.n_samples**-0.2

        def kernel(centred: NDArray[Any], mean: NDArray[Any], extra: int, order: int) -> NDArray[Any]:
            z = (v[extra] - mean - centred) / h
            value = np.exp(-0.5 * z**2) / (h * math.sqrt(2 * math.pi))
            return value if order == 0 else value * z / h if order == 1 else value * (z**2 - 1) / h**2

        return record.local("pdf", kernel, extra={"value": v})


@dataclass(frozen=True)
class Spectrum:
    """Power per shell of integer wavenumbers |k| of a periodic field: P(K) = sum_(|k| in shell) |x'_k|^2 / n_sites^2.

    Its sum over shells is the variance of a site (averaged over sites).
    """

    def bind(self, record: _Record) -> Bound:
        """Tie to a record."""
        layout: Any = record.layout
        if layout.dense:
            raise InputError("a spectrum needs a periodic field: pass homogeneous=('y', 'x'), the dims of the grid.")
        grid, several = layout.grid, layout.several
        axes_k = [np.fft.fftfreq(size, 1 / size) for size in grid[:-1]]
        axes_k.append(np.arange(grid[-1] // 2 + 1, dtype=np.float64))
        shell = np.rint(np.sqrt(sum(k**2 for k in np.meshgrid(*axes_k, indexing="ij")))).astype(np.int64).ravel()
        weights = layout.weights / math.prod(grid)
        n_shells = int(shell.max()) + 1
        gather = np.zeros((shell.size, n_shells))
        gather[np.arange(shell.size), shell] = weights

        def evaluate(centred: NDArray[np.float64]) -> NDArray[np.float64]:
            power = np.abs(layout.transform(centred)) ** 2
            return np.einsum("tk...,kp->t...p", power, gather)

        def of_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
            # Only the mean itself, shell 0, holds m.
            n = layout.n_variables
            out = np.zeros((len(response), n, n_shells, response.shape[2]))
            means = response.reshape(len(response), n, -1, response.shape[2]).mean(axis=2)
            out[:, :, 0] = -2 * shift.reshape(n, -1)[:, :1] * means
            return out.reshape(len(response), -1, response.shape[2])

        dims: tuple[str, ...] = ("wavenumber",)
        shape: tuple[int, ...] = (n_shells,)
        coords: dict[str, Any] = {"wavenumber": np.arange(n_shells)}
        if several:
            dims, shape = (layout.dims[0], *dims), (layout.shape[0], *shape)
            coords[layout.dims[0]] = record.trajectory[layout.dims[0]].values
        follows: dict[str, Any] = {"follows_mean": True, "shift_effect": of_shift}
        return Bound("spectrum", dims, coords, shape, False, record.mean, evaluate, **follows)


@dataclass(frozen=True)
class _Record:
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
        )


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
    if not isinstance(value, str) or value not in (*OBSERVABLES, *_OTHERS):
        raise InputError(
            f"observable={shown(value)} is not known: choose among {', '.join((*OBSERVABLES, *_OTHERS))}, "
            "gfdt.Exceedance(threshold), gfdt.Density(values), a function of the states, or None for the state itself."
        )


def find_observables(value: Any, record: _Record) -> tuple[list[Bound], bool]:
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


def _bind(value: Any, record: _Record) -> Bound:
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
        return _covariance(record)
    if hasattr(value, "bind"):
        return value.bind(record)
    return _of_function(value, record)


def _covariance(record: _Record) -> Bound:
    """x'_i x'_j; by separation, and averaged over sites, for a homogeneous field."""
    layout = record.layout
    if layout.dense:
        if layout.size > _PAIRS:
            raise InputError(
                f"the covariance of {layout.size} components has {layout.size**2} entries: declare the field "
                "homogeneous, or pass a function that returns the products you need."
            )
        labels = {dim: record.trajectory[dim].values for dim in layout.dims}
        second = {f"{dim}_2": values for dim, values in labels.items()}
        clash = sorted(set(labels) & set(second))
        if clash:
            raise InputError(f"the state dim {clash[0]!r} clashes with one of the covariance: rename it.")

        def products(centred: NDArray[np.float64]) -> NDArray[np.float64]:
            flat = centred.reshape(len(centred), -1)
            return (flat[:, :, None] * flat[:, None, :]).reshape(len(centred), *layout.shape, *layout.shape)

        def of_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
            half = -shift[None, :, None, None] * response[:, None, :, :]
            return (half + half.swapaxes(1, 2)).reshape(len(response), layout.size**2, -1)

        shape = (*layout.shape, *layout.shape)
        follows: dict[str, Any] = {"follows_mean": True, "shift_effect": of_shift}
        return Bound("covariance", (*labels, *second), labels | second, shape, False, record.mean, products, **follows)
    if layout.several:
        raise InputError(
            "the covariance of several homogeneous variables is not offered: pass a function of the states."
        )
    grid = layout.grid
    separation = {f"separation_{dim}": np.arange(size) - size // 2 for dim, size in zip(layout.dims, grid, strict=True)}
    axes = tuple(range(1, len(grid) + 1))

    def by_separation(centred: NDArray[np.float64]) -> NDArray[np.float64]:
        power = np.abs(scipy.fft.rfftn(centred, axes=axes)) ** 2
        return np.fft.fftshift(scipy.fft.irfftn(power, s=grid, axes=axes), axes=axes) / math.prod(grid)

    def of_one_shift(shift: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
        # All separations alike: the sites have one mean.
        effect = -2 * shift[0] * response.mean(axis=1, keepdims=True)
        return np.broadcast_to(effect, (len(response), math.prod(grid), response.shape[2]))

    follows_one: dict[str, Any] = {"follows_mean": True, "shift_effect": of_one_shift}
    return Bound("covariance", tuple(separation), separation, grid, False, record.mean, by_separation, **follows_one)


def _of_function(function: Callable[[Any], Any], record: _Record) -> Bound:
    """Tie a function of labelled states (time, *state) to a record, learning its dims from a few states."""
    name = getattr(function, "__name__", type(function).__name__)
    name = "observable" if name == "<lambda>" else name
    dims, mean = record.layout.dims, record.mean
    labels = {dim: record.trajectory[dim].values for dim in dims}

    def call(states: NDArray[np.float64]) -> Any:
        labelled = xr.DataArray(states.copy(), dims=("time", *dims), coords=labels)
        value = function(labelled)
        if isinstance(value, xr.Dataset):
            raise InputError(f"the observable {name} returned a Dataset: it must return a DataArray or an array.")
        if not isinstance(value, xr.DataArray):
            value = np.asarray(value)
            if value.ndim == 0 or value.shape[0] != len(states):
                raise InputError(
                    f"the observable {name} returned shape {value.shape} for {len(states)} states (time, *state): it "
                    "must return one value, or one array, for each time."
                )
            local = value.shape[1:] == record.layout.shape
            others = dims if local else tuple(f"{name}_dim_{axis}" for axis in range(1, value.ndim))
            value = xr.DataArray(value, dims=("time", *others), coords=labels if local else None)
        if value.sizes.get("time") != len(states):
            raise InputError(
                f"the observable {name} returned dims {tuple(value.dims)} of sizes {value.shape} for {len(states)} "
                "states: it must keep the dim 'time'."
            )
        value = value.transpose("time", *(dims if set(value.dims) == {"time", *dims} else ()), ...)
        if not (np.issubdtype(value.dtype, np.number) or value.dtype == bool) or np.iscomplexobj(value.values):
            raise InputError(f"the observable {name} returned {value.dtype} values: it must return real numbers.")
        return value

    first = call(record.examples)
    if len(record.examples) > 1:
        _require_one_by_one(name, first, call(record.examples[: len(record.examples) // 2]))
    out_dims = tuple(str(dim) for dim in first.dims[1:])
    # Of a homogeneous field a value belongs to the site that its labels say.
    same_sites = all(np.array_equal(first[dim].values, labels[dim]) for dim in out_dims if dim in labels)
    local = out_dims == dims and first.shape[1:] == record.layout.shape and same_sites
    clash = sorted({*RESULT_NAMES, *(f"{dim}_src" for dim in dims)} & set(out_dims))
    if clash:
        raise InputError(f"the dim {clash[0]!r} of the observable {name} is a name of the result: rename it.")
    coords = {
        dim: first[dim].values if dim in first.coords and first[dim].ndim == 1 else np.arange(first.sizes[dim])
        for dim in out_dims
    }

    def evaluate(centred: NDArray[np.float64]) -> NDArray[np.float64]:
        value = np.asarray(call(centred + mean).values, dtype=np.float64)
        if value.shape[1:] != first.shape[1:]:
            raise InputError(
                f"the observable {name} returned shape {value.shape[1:]} for some states and {first.shape[1:]} for "
                "others: it must not depend on how many states it sees."
            )
        if not np.isfinite(value).all():
            raise InputError(f"the observable {name} returned NaN or inf: check its formula.")
        return value

    differentiable = np.issubdtype(first.dtype, np.floating)
    return Bound(name, out_dims, coords, tuple(first.shape[1:]), local, mean, evaluate, differentiable=differentiable)


def _require_one_by_one(name: str, several: xr.DataArray, few: xr.DataArray) -> None:
    """Refuse a function whose value for a state depends on the states that it is shown with."""
    together = several.isel(time=slice(0, few.sizes["time"]))
    if together.shape != few.shape:
        return  # refused where it is evaluated
    a, b = together.values.astype(np.float64), few.values.astype(np.float64)
    if not np.allclose(a, b, rtol=1e-6, atol=1e-9 * float(np.abs(np.nan_to_num(several.values)).max()), equal_nan=True):
        raise InputError(
            f"the observable {name} gives a state another value when it sees others with it: it must be a function of "
            "each state alone (take off the mean of the record, not d.mean('time'))."
        )


Record = _Record
Observables = Sequence[Bound]
