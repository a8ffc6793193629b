r"""A learned score with the part of its error removed that Stein's identity shows.

For the exact score s of a density and any smooth φ that grows slowly enough,

    < s(x) φ(x)^T > = -< (∂φ/∂x)^T >,

so every φ whose average with a learned score is something else shows a part of its error, without the density and
without another training. Taken here are local functions of every component, the Hermite polynomials

    φ_1 = a,  φ_2 = a² - 1,  φ_3 = a³ - 3a,  ...,        a = (x - m)/sd,        each minus its mean,

and removed is what they can express, the linear map A of them for which the identity holds:

    s <- s + A φ,        A = -[< s φ^T > + < (∂φ/∂x)^T >] < φ φ^T >^-1.

For a homogeneous field A is a convolution: one small matrix for each wavenumber. In the basis of the eigenvectors of
<φφ^T>, scaled to unit variance, every coefficient c of A is known by itself with a standard error e, from the
resampling units of the record; it is kept by the share (James and Stein, positive part)

    max(0, 1 - 4 e²/|c|²),

so that what is within two standard errors of zero is left alone. The first function alone is the additive form of the
correction that :func:`gfdt.response` makes; the others reach what it cannot: the largest scales of a field of several
phases, of which a network sees little, because each is one direction among many in its loss, and to which every site
adds the same small mistake. For a score learned at noise level σ the identity holds for the blurred density, and that
is where it is used: at x + σ z.

Samples and likelihood are those of the score that was polished, since nothing is known at other noise levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.fft
from numpy.polynomial import hermite_e

from gfdt.covariance import CrossSpectralCovariance, SpectralCovariance
from gfdt.covariance.spectral import half_plane_weights
from gfdt.errors import CheckpointError, InputError
from gfdt.responses.units import Unit, resampling_units
from gfdt.scores.base import Score
from gfdt.scores.labels import labels_of
from gfdt.scores.stein_sums import SteinSums
from gfdt.validation import integer, number, shown

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from gfdt.density.family import Family

__all__ = ["PolishedScore"]

_STREAM = 0x706F6C  # a stream of its own: with the plain seed the noise could be that which made the data
_VALUES = 2**23  # numbers in the states that are looked at: 8192 fields of 32 x 32
_BATCH_VALUES = 2**20
_MOST_DENSE = 256  # components without symmetry: A then has degree d^2 entries, each with an error from every unit
_MOST_DEGREE = 7
_MOST_UNITS = 128  # know a standard error to 6 %, and bound the memory of one matrix for each
_CONSTANT = 1e-7  # of a component's largest value: what scatters less is constant up to rounding


class PolishedScore(Score):
    """A score with the part of its error removed that Stein's identity shows (:mod:`gfdt.scores.polished`).

    Parameters
    ----------
    score : Score
        Any estimator. One that is not fitted yet is fitted first, on the same record.
    degree : int
        Of the highest polynomial. Default 3: moments up to the sixth are then averaged; each further one needs two
        more, and a longer record.
    seed : int
        Of the noise that is added to states where the score has a noise level.

    Attributes
    ----------
    change_ : float
        rms of what was added, over the rms of the score itself (both at x + σ z, in standard deviations).
    kept_ : float
        The share of the coefficients of A that was kept.

    Raises
    ------
    InputError
        If ``score`` is not an estimator, is exact, or has more than 256 components that are not a homogeneous field.

    Notes
    -----
    What is added is in general not the gradient of anything; :func:`gfdt.check_score` says how much of a curl there is.

    References
    ----------
    Stein, Ann. Stat. 9, 1135 (1981); James & Stein, Proc. Fourth Berkeley Symp. 1, 361 (1961).
    """

    def __init__(self, score: Score, *, degree: int = 3, seed: int = 0) -> None:
        self.score = score
        self.degree = degree
        self.seed = seed

    @property
    def label(self) -> str:  # type: ignore[override]
        """That of the score that was polished."""
        return self.score.label

    def validate(self, dims: tuple[str, ...]) -> None:
        """Refuse settings that cannot be used on states with these dims; ``fit`` calls it."""
        if not isinstance(self.score, Score) or isinstance(self.score, PolishedScore):
            raise InputError(
                f"score is a {type(self.score).__name__}: pass an estimator, e.g. gfdt.PolishedScore(gfdt.DSMScore())."
            )
        if self.score.label == "analytical":
            raise InputError("an exact score needs no polish: use it as it is.")
        integer("degree", self.degree, 1, _MOST_DEGREE)
        integer("seed", self.seed, 0, 2**63 - 1)
        validate = getattr(self.score, "validate", None)
        if validate is not None:
            validate(dims)

    @property
    def device(self) -> Any:
        """Where the score that was polished runs; only of one that can run elsewhere."""
        return self.score.device  # type: ignore[attr-defined]

    @device.setter
    def device(self, value: str) -> None:
        if not hasattr(self.score, "device"):
            raise AttributeError(f"a {type(self.score).__name__} runs on no device")
        self.score.device = value

    @property
    def selected_(self) -> Any:
        """What the training of the score that was polished kept; as are the next two."""
        return self.score.selected_  # type: ignore[attr-defined]

    @property
    def stopped_(self) -> str:
        """Why that training ended."""
        return self.score.stopped_  # type: ignore[attr-defined]

    @property
    def interrupted_(self) -> bool:
        """Whether that training was interrupted."""
        return self.score.interrupted_  # type: ignore[attr-defined]

    def records(self) -> set[str]:
        """Digests of the records of the fit and of the polish."""
        return super().records() | self.score.records()

    @property
    def covariance_(self) -> Any:
        """Mean and covariance of the data, of the score that was polished."""
        return self.score.covariance_  # type: ignore[attr-defined]

    def _fit(self, trajectory: xr.DataArray) -> None:
        dims, shape = tuple(map(str, trajectory.dims[2:])), trajectory.shape[2:]
        self.validate(dims)
        if not hasattr(self.score, "state_shape_"):
            self._refuse_large(dims, shape)
            self.score.fit(trajectory)
        elif (self.score.state_dims_, self.score.state_shape_) != (dims, shape):
            raise InputError(
                f"the score was fitted on states {self.score.state_dims_} of shape {self.score.state_shape_}, the "
                f"trajectory has {dims} of shape {shape}: fit and polish on records of one system."
            )
        known, own = self.score.state_labels_, labels_of(trajectory, dims)
        if any(known.get(dim, names) != names for dim, names in own.items()):
            raise InputError(
                f"the components of this record are {shown(own)}, those of the score {shown(dict(known))}: polish with "
                "the same components in the same order."
            )
        self.noise_level_ = self.score.noise_level_
        self._set_grid(getattr(self.score, "covariance_", None), shape)
        values, owner = _states(trajectory)
        rng = np.random.default_rng([self.seed, _STREAM])
        values += np.asarray(self.noise_level_) * rng.standard_normal(values.shape)
        self._centre, self._scale = self._units(values)
        coefficients, self.change_, self.kept_ = self._solve(values, owner)
        self._coefficients = coefficients

    def _refuse_large(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Before a long training, refuse what cannot be polished after it."""
        if np.prod(shape) <= _MOST_DENSE:
            return
        from gfdt.diffusion.settings import resolve
        from gfdt.scores.choosing import candidates
        from gfdt.scores.dsm import DSMScore

        if isinstance(self.score, DSMScore):
            settings = [resolve(one, dims, shape) for one in candidates(self.score)]
            homogeneous = all(item.n_homogeneous for item in settings)
        else:
            homogeneous = bool(getattr(self.score, "homogeneous", None))
        if not homogeneous:
            raise InputError(_TOO_LARGE.format(np.prod(shape), _MOST_DENSE))

    def _set_grid(self, covariance: Any, shape: tuple[int, ...]) -> None:
        """Decide what is homogeneous: as the score itself takes it."""
        if isinstance(covariance, SpectralCovariance):
            self._grid = shape
        elif isinstance(covariance, CrossSpectralCovariance):
            self._grid = shape[1:]
        else:
            self._grid = ()
            if np.prod(shape) > _MOST_DENSE:
                raise InputError(_TOO_LARGE.format(np.prod(shape), _MOST_DENSE))

    def _units(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and sd, broadcastable to a state; the same at every site of a homogeneous field."""
        axes = (0, *range(values.ndim - len(self._grid), values.ndim))
        mean = values.mean(axis=axes, keepdims=True)[0]
        scale = np.sqrt(((values - mean) ** 2).mean(axis=axes, keepdims=True))[0]
        largest = np.abs(values).max(axis=axes, keepdims=True)[0]
        return mean, np.where(scale > _CONSTANT * largest, scale, 1.0)

    # ---- functions and their transforms

    def _functions(self, a: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """φ and dφ/da, both (degree, n, *state); not centred."""
        orders = np.eye(self.degree + 1)[1:]
        value = np.stack([hermite_e.hermeval(a, order) for order in orders])
        return value, np.stack([hermite_e.hermeval(a, hermite_e.hermeder(order)) for order in orders])

    def _forward(self, values: NDArray[np.float64]) -> NDArray[Any]:
        """(..., *state) to (..., v, modes): unitary transforms over the grid, v variables or components."""
        lead = values.shape[: values.ndim - len(self._shape())]
        if not self._grid:
            return values.reshape(*lead, -1, 1)
        axes = tuple(range(-len(self._grid), 0))
        transformed: NDArray[Any] = scipy.fft.rfftn(values, axes=axes, norm="ortho")
        return transformed.reshape(*lead, -1, int(np.prod(transformed.shape[-len(self._grid) :])))

    def _backward(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(..., v, modes) to (..., *state)."""
        lead = values.shape[:-2]
        if not self._grid:
            return values.reshape(*lead, *self._shape())
        half = (*self._grid[:-1], self._grid[-1] // 2 + 1)
        axes = tuple(range(-len(self._grid), 0))
        field = scipy.fft.irfftn(values.reshape(*values.shape[:-1], *half), s=self._grid, axes=axes, norm="ortho")
        return np.asarray(field).reshape(*lead, *self._shape())

    def _shape(self) -> tuple[int, ...]:
        return self.score.state_shape_

    # ---- the correction

    def _solve(self, values: NDArray[np.float64], owner: NDArray[np.int64]) -> tuple[NDArray[Any], float, float]:
        """A, (modes, v, degree v), what it adds relative to the score, and the share of it that was kept."""
        n_units = int(owner.max()) + 1
        self._means = np.stack([self._functions(self._anomalies(values[p]))[0].sum(axis=1) for p in _parts(values)])
        self._means = self._means.sum(axis=0) / len(values)
        if self._grid:
            self._means = self._means.mean(axis=tuple(range(-len(self._grid), 0)), keepdims=True)
        total = SteinSums()
        for part in _parts(values):
            a = self._anomalies(values[part])
            functions, slopes = self._functions(a)
            phi = self._stacked(functions - self._means[:, None])
            g = self._forward(self.score._evaluate(values[part]) * self._scale)
            n_variables, n_modes = g.shape[1:]
            if not total.gram.size:
                total = SteinSums.zeros(n_units, n_modes, n_variables, self.degree * n_variables, g.dtype)
            total.add(g, phi, self._mean_slopes(slopes), owner[part])
        return total.coefficients(self._weights())

    def _weights(self) -> NDArray[np.float64]:
        """How many wavenumbers each of the half plane stands for."""
        if not self._grid:
            return np.ones(1)
        return half_plane_weights(self._grid).ravel() * np.prod(self._grid)

    def _anomalies(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return (values - self._centre) / self._scale

    def _stacked(self, functions: NDArray[np.float64]) -> NDArray[Any]:
        """(degree, n, *state) to (n, degree v, modes)."""
        transformed = self._forward(functions)
        return np.moveaxis(transformed, 0, 1).reshape(transformed.shape[1], -1, transformed.shape[-1])

    def _mean_slopes(self, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
        """dφ/da of every variable, averaged over the grid, (n, degree, v)."""
        if self._grid:
            slopes = slopes.mean(axis=tuple(range(-len(self._grid), 0)))
        return np.moveaxis(slopes.reshape(*slopes.shape[:2], -1), 0, 1)

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(batch.shape)
        for part in _parts(batch):
            functions, _ = self._functions(self._anomalies(batch[part].astype(np.float64)))
            phi = self._stacked(functions - self._means[:, None])
            out[part] = self.score._evaluate(batch[part]) + self._backward(self._mapped(phi)) / self._scale
        return out

    def _mapped(self, phi: NDArray[Any]) -> NDArray[Any]:
        """A φ for φ (n, degree v, modes)."""
        return np.einsum("kvj,njk->nvk", self._coefficients, phi, optimize=True)

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        out = self.score._jvp(batch, v)
        for part in _parts(batch):
            _, slopes = self._functions(self._anomalies(batch[part]))
            moved = self._stacked(slopes * (v[part] / self._scale))
            out[part] += self._backward(self._mapped(moved)) / self._scale
        return out

    def _transposed_jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        if type(self.score)._transposed_jvp is Score._transposed_jvp:
            return self._jvp(batch, v)  # half of J and half of J' would be neither
        out = self.score._transposed_jvp(batch, v)
        for part in _parts(batch):
            _, slopes = self._functions(self._anomalies(batch[part]))
            back = np.einsum(
                "kvj,nvk->njk", self._coefficients.conj(), self._forward(v[part] / self._scale), optimize=True
            )
            each = back.reshape(len(back), self.degree, -1, back.shape[-1])
            out[part] += (slopes * self._backward(np.moveaxis(each, 1, 0))).sum(axis=0) / self._scale
        return out

    def _family(self) -> Family:
        return self.score._family()

    # ---- storage

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        from gfdt.scores.storage import describe

        config, arrays = self.score._pack()
        own = {
            "coefficients_real": self._coefficients.real,
            "coefficients_imag": self._coefficients.imag,
            "means": np.atleast_1d(self._means),
            "centre": np.atleast_1d(self._centre),
            "scale": np.atleast_1d(self._scale),
        }
        packed = {f"{_BASE}{name}": value for name, value in arrays.items()} | own
        base = {**describe(self.score), **config}
        return {"base": base, "degree": self.degree, "change": self.change_, "kept": self.kept_}, packed

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        from gfdt.scores.loading import restore_inner

        inner = {name.removeprefix(_BASE): value for name, value in arrays.items() if name.startswith(_BASE)}
        own = {name: value for name, value in arrays.items() if not name.startswith(_BASE)}
        score = cls(restore_inner(config["base"], inner, outer=cls.__name__), degree=config["degree"])
        score.validate(tuple(config["state_dims"]))
        if (list(score.score.state_dims_), list(score.score.state_shape_)) != (
            config["state_dims"],
            config["state_shape"],
        ):
            raise CheckpointError("the score that was polished has other states than the polish: it was altered.")
        number("change", config["change"], low=0.0, closed=True)
        number("kept", config["kept"], low=0.0, high=1.0 + 1e-9, closed=True)
        score.change_, score.kept_ = float(config["change"]), float(config["kept"])
        shape = score.score.state_shape_
        score._set_grid(getattr(score.score, "covariance_", None), shape)
        grid = score._grid
        n_variables = int(np.prod(shape)) // int(np.prod(grid))
        n_modes = int(np.prod(grid[:-1])) * (grid[-1] // 2 + 1) if grid else 1
        unit = (*shape[: len(shape) - len(grid)], *[1] * len(grid))
        wanted = {
            "coefficients_real": (n_modes, n_variables, score.degree * n_variables),
            "coefficients_imag": (n_modes, n_variables, score.degree * n_variables),
            "means": (score.degree, *unit),
            "centre": unit or (1,),
            "scale": unit or (1,),
        }
        fits = {name: value.shape for name, value in own.items()} == wanted
        if (
            not fits
            or not all(value.dtype == np.float64 for value in own.values())
            or not (own["scale"] > 1e-150).all()
        ):
            raise CheckpointError("the arrays of the polish do not fit its states: the file was altered.")
        real, imag = own["coefficients_real"], own["coefficients_imag"]
        score._coefficients = real + 1j * imag if grid else real
        score._means = own["means"].reshape(score.degree, *unit)
        score._centre, score._scale = own["centre"].reshape(unit), own["scale"].reshape(unit)
        return score


_BASE = "base."
_TOO_LARGE = (
    "a state of {} components is too large to polish, {} is the limit unless it is a homogeneous field: fit the score "
    "with homogeneous=, if it is one."
)


def _states(trajectory: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """States taken evenly from all resampling units, and the unit of each."""
    values = trajectory.values
    size = int(np.prod(values.shape[2:], dtype=np.int64))
    flat = values.reshape(*values.shape[:2], size)
    # Some components, and their mean: the slowest of a field is often its largest scale.
    few = np.unique(np.linspace(0, size - 1, 4).astype(int))
    series = np.concatenate([flat[:, :, few], flat.mean(axis=2, keepdims=True)], axis=2)
    units, _ = resampling_units(series - series.mean(axis=(0, 1)), warn=False, most=_MOST_UNITS)
    each = max(_VALUES // size // len(units), 1)
    found = [values[unit.member, _times(unit, each)] for unit in units]
    owner = np.repeat(np.arange(len(units)), [len(item) for item in found])
    return np.concatenate(found).astype(np.float64), owner * min(len(units), _MOST_UNITS) // len(units)


def _times(unit: Unit, most: int) -> NDArray[np.int64]:
    length = unit.stop - unit.start
    return unit.start + np.unique(np.linspace(0, length - 1, min(most, length)).astype(np.int64))


def _parts(values: NDArray[Any]) -> Iterator[slice]:
    size = max(1, _BATCH_VALUES // max(1, int(np.prod(values.shape[1:], dtype=np.int64))))
    for start in range(0, len(values), size):
        yield slice(start, start + size)
