r"""What may be known of a state: linear observations y = H x + ε, ε ~ N(0, R), R diagonal.

    Partial              some components of the state                       (imputation)
    Coarse               averages over blocks of cells                      (downscaling)
    LinearObservation    any matrix H

Each says itself what H is; :func:`parse_given` turns one, or a plain state with NaN where it is not known, into an
:class:`Observation`, which is all that :mod:`gfdt.density.conditional` works with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.density.family import Diagonal
from gfdt.errors import InputError
from gfdt.validation import integer, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.scores.base import Score

__all__ = ["Coarse", "LinearObservation", "Observation", "Partial", "in_coordinates", "parse_given"]

Map = Callable[["NDArray[np.float64]"], "NDArray[np.float64]"]


@dataclass(frozen=True)
class Observation:
    """y = H x + ε with m components.

    Attributes
    ----------
    values : (m,)
        y.
    variance : (m,)
        The diagonal of R; 0 for what is known exactly.
    forward : callable
        H x, (batch, m), for states (batch, *state).
    transpose : callable
        Hᵀ r, (batch, *state), for r (batch, m).
    """

    values: NDArray[np.float64]
    variance: NDArray[np.float64]
    forward: Map
    transpose: Map


@dataclass(frozen=True)
class Partial:
    """Some components of a state are known.

    Parameters
    ----------
    state : ndarray or DataArray with the state dims
        In the units of the data; NaN where it is not known.
    stderr : float or array that broadcasts to a state
        Standard error of what is known, in the units of the data. Default 0: known exactly. A plain state as ``given``
        means the same.

    Examples
    --------
    >>> import numpy as np, gfdt
    >>> x = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], (1, 4000))
    >>> score = gfdt.GaussianScore().fit(x, dims=("member", "time", "component"))
    >>> samples = score.sample(500, given=gfdt.Partial([np.nan, 1.0]))
    >>> bool(abs(samples.mean("sample")[0] - 0.8) < 0.1)
    True
    """

    state: Any
    stderr: Any = 0.0

    def observe(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> Observation:
        """Return the observation of states with these dims and sizes."""
        state = _ordered(self.state, dims, "given")
        if state.shape != shape:
            raise InputError(
                f"given has the shape {state.shape}, a state has {shape} (dims {', '.join(dims)}): pass one state with "
                "NaN where it is not known."
            )
        if np.isinf(state).any():
            raise InputError("given holds inf: put NaN where the state is not known.")
        known = np.flatnonzero(~np.isnan(state))
        error = _errors(_ordered(self.stderr, dims, "stderr"), shape).ravel()[known]
        if known.size == state.size and not error.any():
            raise InputError(
                "given has no NaN: every component is known exactly, and nothing is left to draw. Put NaN where the "
                "state is not known, or say how uncertain it is: gfdt.Partial(state, stderr=...)."
            )

        def forward(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return x.reshape(len(x), -1)[:, known]

        def transpose(r: NDArray[np.float64]) -> NDArray[np.float64]:
            out = np.zeros((len(r), math.prod(shape)))
            out[:, known] = r
            return out.reshape(-1, *shape)

        return Observation(state.ravel()[known], error**2, forward, transpose)


@dataclass(frozen=True)
class Coarse:
    """Averages over blocks of cells are known: a field as a coarser grid shows it.

    Parameters
    ----------
    field : ndarray or DataArray with the state dims
        The averages, in the units of the data; NaN where one is not known.
    factor : int or sequence of int
        Cells that one average spans along each dim. An integer goes for every dim along which the field is smaller than
        a state; a dim of the same size (as one of variables) is left as it is.
    stderr : float or array that broadcasts to ``field``
        Standard error of the averages, in the units of the data. Default 0: known exactly.
    """

    field: Any
    factor: int | Sequence[int]
    stderr: Any = 0.0

    def observe(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> Observation:
        """Return the observation of states with these dims and sizes."""
        field = _ordered(self.field, dims, "field")
        factors = self._factors(field.shape, shape)
        if np.isinf(field).any():
            raise InputError("field holds inf: put NaN where an average is not known.")
        known = np.flatnonzero(~np.isnan(field))
        error = _errors(_ordered(self.stderr, dims, "stderr"), field.shape).ravel()[known]
        blocks = [size for pair in zip(field.shape, factors, strict=True) for size in pair]
        within = tuple(range(2, len(blocks) + 1, 2))

        def forward(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return x.reshape(-1, *blocks).mean(axis=within).reshape(len(x), -1)[:, known]

        def transpose(r: NDArray[np.float64]) -> NDArray[np.float64]:
            averages = np.zeros((len(r), field.size))
            averages[:, known] = r / math.prod(factors)
            spread = np.expand_dims(averages.reshape(-1, *field.shape), within)
            return np.broadcast_to(spread, (len(r), *blocks)).reshape(-1, *shape)

        return Observation(field.ravel()[known], error**2, forward, transpose)

    def _factors(self, coarse: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        if isinstance(self.factor, Sequence):
            factors = tuple(self.factor)
            for factor in factors:
                integer("factor", factor, 1, 10**6)
        else:
            integer("factor", self.factor, 2, 10**6)
            factors = tuple(1 if a == b else self.factor for a, b in zip(coarse, shape, strict=False))
        fits = len(coarse) == len(factors) == len(shape)
        if not fits or tuple(a * b for a, b in zip(coarse, factors, strict=True)) != shape:
            raise InputError(
                f"field has the shape {coarse}, which blocks of {self.factor} cells do not make of a state of shape "
                f"{shape}: pass the averages of x.coarsen(...).mean(), and the number of cells in a block."
            )
        return factors


@dataclass(frozen=True)
class LinearObservation:
    """Linear functions of the state are known: y = H x.

    Parameters
    ----------
    operator : (m, d) matrix, or scipy sparse matrix
        H, for states flattened to d components (in the order of the state dims), in the units of the data.
    values : (m,)
        y.
    stderr : float or (m,)
        Standard error of y. Default 0: known exactly.
    """

    operator: Any
    values: Any
    stderr: Any = 0.0

    def observe(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> Observation:
        """Return the observation of states with these dims and sizes."""
        values = np.atleast_1d(_numbers(self.values, "values"))
        matrix: Any = self.operator
        sparse = hasattr(matrix, "tocsr")
        if not sparse:
            matrix = np.atleast_2d(_numbers(matrix, "operator"))
        if values.ndim != 1 or tuple(matrix.shape) != (values.size, math.prod(shape)):
            raise InputError(
                f"operator has the shape {tuple(matrix.shape)} and there are {values.size} values: needed is one row "
                f"for each value and one column for each of the {math.prod(shape)} components of a state "
                f"({', '.join(dims)})."
            )
        entries = matrix.tocsr().data if sparse else matrix
        if not (np.isfinite(entries).all() and np.isfinite(values).all()):
            raise InputError("operator or values hold NaN or inf: leave out the rows of what is not known.")
        error = _errors(_numbers(self.stderr, "stderr"), values.shape)

        def forward(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray((matrix @ x.reshape(len(x), -1).T).T)

        def transpose(r: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray((matrix.T @ r.T).T).reshape(-1, *shape)

        return Observation(values, error**2, forward, transpose)


def parse_given(given: Any, score: Score) -> Observation:
    """Return what ``given`` says of the states of a score, in the units of the data.

    Parameters
    ----------
    given : Partial, Coarse, LinearObservation, ndarray or DataArray
        An array is a state, with NaN where it is not known.
    score : Score
        Fitted; it knows the dims and sizes of a state.

    Raises
    ------
    InputError
        If it does not fit the states, holds inf or negative standard errors, or leaves nothing to draw.
    """
    known = given if isinstance(given, Partial | Coarse | LinearObservation) else Partial(given)
    return known.observe(score.state_dims_, score.state_shape_)


def in_coordinates(observation: Observation, units: Any, shape: tuple[int, ...]) -> Observation:
    """Return the same as an observation of a, x = m + A a: y - H m = (H A) a + ε.

    Parameters
    ----------
    observation : Observation
        Of states x.
    units : Diagonal, or another map with the same methods
        Of a family.
    shape : tuple of int
        Of a state.
    """
    mean = units.data(np.zeros((1, *shape)))
    # Of coordinates that are not only scaled, which are for few components: A as a matrix, from A on unit vectors.
    scale: Any = getattr(units, "scale", None)
    columns = None
    if not isinstance(units, Diagonal):
        size = math.prod(shape)
        columns = (units.data(np.eye(size).reshape(-1, *shape)) - mean).reshape(size, size)

    def outward(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return scale * a if columns is None else (a.reshape(len(a), -1) @ columns).reshape(a.shape)

    def inward(u: NDArray[np.float64]) -> NDArray[np.float64]:
        return scale * u if columns is None else (u.reshape(len(u), -1) @ columns.T).reshape(u.shape)

    return Observation(
        observation.values - observation.forward(mean)[0],
        observation.variance,
        lambda a: observation.forward(outward(a)),
        lambda r: inward(observation.transpose(r)),
    )


def _ordered(values: Any, dims: tuple[str, ...], name: str) -> NDArray[np.float64]:
    """Return numbers as an array, those of a DataArray in the order of the state dims."""
    if isinstance(values, xr.DataArray) and values.ndim:
        if set(values.dims) != set(dims):
            raise InputError(
                f"{name} has the dims {', '.join(map(str, values.dims))}, a state has {', '.join(dims)}: select one "
                "state, e.g. x.isel(member=0, time=-1), and rename its dims to those."
            )
        values = values.transpose(*dims).values
    return _numbers(values, name)


def _numbers(values: Any, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{name}={shown(values)} is not an array of real numbers: pass one.")
    return array.astype(np.float64)


def _errors(stderr: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return standard errors repeated to a shape."""
    if not (np.isfinite(stderr).all() and (stderr >= 0).all()):
        raise InputError("stderr holds negative numbers, NaN or inf: standard errors are 0 (known exactly) or more.")
    try:
        return np.broadcast_to(stderr, shape)
    except ValueError as error:
        raise InputError(f"stderr of shape {stderr.shape} does not fit what is observed, of shape {shape}.") from error
