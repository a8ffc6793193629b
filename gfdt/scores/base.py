"""What every score estimator shares: the call, labels, and the state that is saved.

The score is s(x) = grad log rho(x), rho the stationary density, x in R^d in the units of the data; so s
has the units 1/x. ``noise_level_`` is sigma: an estimator with sigma > 0 gives the score of
rho * N(0, sigma^2 I) (the density blurred by noise of that level), one with sigma = 0 the score of rho.

Derivatives: J(x) = grad s(x), J_ij = d s_i/d x_j, enters through products J v (``jvp``) and its trace div s
(``divergence``). An estimator that knows J overrides ``_jvp`` (and ``_divergence`` where the trace has a closed form);
the others get central differences.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr

from gfdt.errors import InputError, NotFittedError
from gfdt.record import complete_times, moments
from gfdt.scores.generative import Generative
from gfdt.scores.labels import in_order, labels_of
from gfdt.trajectory import Source, fingerprint, load_trajectory, state_dims, without_gaps
from gfdt.validation import integer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gfdt.certificate.stamp import Stamp

__all__ = ["Score"]

_EXACT_SIZE = 64  # up to this many components div s is summed over all of them, d products J v
_PROBES = 16
_MOST_PROBES = 10**5
_STEP = 1e-3  # of central differences, in standard deviations: error 2e-7 in float64, 1e-4 from a float32 network
_CHUNK_VALUES = 2**20  # numbers of states differentiated at once: bounds memory to a few times this


class Score(Generative, ABC):
    """Base of the score estimators: ``fit(trajectory)`` once, then call it on states.

    Attributes
    ----------
    state_dims_ : tuple of str
        Names of the state dims the estimator was fitted on.
    state_shape_ : tuple of int
        Their sizes.
    noise_level_ : float or ndarray of shape (*state)
        sigma of the density whose score this is, in the units of the data (0: the data's own density); an array
        has one level per component.
    state_labels_ : mapping of str to tuple of str
        The names of the components along each state dim that has names. A record with the same names in another order
        is put in this order, one with other names is refused.
    fingerprint_ : str or None
        Digest of the record the estimator learned from; None where nothing was learned.
    certificate_ : Stamp or None
        What :func:`gfdt.certify` said last; None before, and again after another ``fit``.
    """

    label: ClassVar[str] = "score"
    state_dims_: tuple[str, ...]
    state_shape_: tuple[int, ...]
    noise_level_: float | NDArray[np.float64] = 0.0
    state_labels_: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    fingerprint_: str | None = None
    certificate_: Stamp | None = None

    def fit(
        self,
        trajectory: Source,
        *,
        var: str | Sequence[str] | None = None,
        dims: Sequence[str] | None = None,
        dt: float | None = None,
    ) -> Self:
        """Learn the score from a stationary trajectory; of several processes each may read its share of it.

        Parameters
        ----------
        trajectory, var, dims, dt
            As in :func:`gfdt.load_trajectory`; the time step does not matter here, only the density does.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If the trajectory does not pass the input gate, or the estimator cannot use its state dims.
        OutputError, CheckpointError
            If a log or a checkpoint cannot be used.
        ProcessesError
            If one of several processes that share the work is lost.
        """
        array, record, spread = self._learn_from(trajectory, var=var, dims=dims, dt=dt)
        self.state_dims_ = names = state_dims(array)
        self.state_shape_ = tuple(array.sizes[name] for name in names)
        self.state_labels_ = labels_of(array, names)
        self.fingerprint_, self.certificate_ = record, None
        self._spread = spread
        return self

    def _learn_from(self, trajectory: Source, **labels: Any) -> tuple[xr.DataArray, str, NDArray[np.float64]]:
        """Read and learn; return the record, its fingerprint and the standard deviations of its components."""
        array = load_trajectory(trajectory, needs_time=False, gaps=True, **labels)
        there, record = complete_times(array.values), fingerprint(array)
        if there is not None:
            # For a density the missing samples need only be left out; times then number what is there.
            array = without_gaps(array, there)
        self._fit(array)
        return array, record, moments(array.values.reshape(-1, *array.shape[2:]))[1]

    def records(self) -> set[str]:
        """Return the digests of all records that this score learned from."""
        return set() if self.fingerprint_ is None else {self.fingerprint_}

    def __repr__(self) -> str:
        if not hasattr(self, "state_shape_"):
            return f"<{type(self).__name__}, not fitted>"
        state = ", ".join(f"{dim}: {size}" for dim, size in zip(self.state_dims_, self.state_shape_, strict=True))
        levels = np.unique(self.noise_level_)
        blur = f", sigma = {' to '.join(f'{level:.3g}' for level in levels[[0, -1][: levels.size]])}"
        return f"<{type(self).__name__} of states ({state}){blur if levels.any() else ''}>"

    def __call__(self, x: NDArray[Any] | xr.DataArray) -> Any:
        """Return s(x), of the type and shape of ``x``.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        InputError
            If the trailing shape is not the state's, or x holds NaN, inf or text.
        """
        self._require_fit()
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            values = self(ordered.values)
            out = ordered.copy(data=values).transpose(*x.dims)
            return out.rename("score").assign_attrs(long_name="score, grad log density", units="1/x")
        return self._on_array(np.asarray(x))

    def score_function(self, x: NDArray[Any] | xr.DataArray) -> Any:
        """Return s(x): the same as calling the estimator."""
        return self(x)

    def jvp(self, x: NDArray[Any] | xr.DataArray, v: NDArray[Any] | xr.DataArray) -> Any:
        """Return J(x) v, the derivative of the score along a direction: lim (s(x + e v) - s(x))/e.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.
        v : of the type of x, broadcastable to its shape
            Directions, in the units of the data.

        Returns
        -------
        ndarray or DataArray, of the type and shape of x
            In the units of the score (1/x) if v has those of the data. Exact where the estimator knows its derivative;
            else central differences with a step of 1e-3 standard deviations: the relative error is about 2e-7 in
            float64 (1e-6/6 times the third derivative along v), 1e-4 where a network computes in float32.

        Raises
        ------
        NotFittedError
            Before ``fit``; an :class:`gfdt.AnalyticScore` too must be told the state dims by ``fit``.
        InputError
            If x or v cannot be used as states, or v does not fit x.
        """
        self._require_state()
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            given = v if isinstance(v, xr.DataArray) else x.copy(data=_fitting(np.asarray(v), x.shape))
            directions = self._ordered(given)
            foreign = [str(dim) for dim in directions.dims if dim not in ordered.dims]
            if foreign:
                raise InputError(f"v has the dims {', '.join(foreign)}, which x lacks: give v only dims of x.")
            directions = directions.broadcast_like(ordered).transpose(*ordered.dims)
            out = ordered.copy(data=self.jvp(ordered.values, directions.values)).transpose(*x.dims)
            return out.rename("jvp").assign_attrs(long_name="derivative of the score along v", units="1/x")
        array = np.asarray(x)
        batch, each = self._batch(array), self._batch(_fitting(np.asarray(v), array.shape), "v")
        product = np.empty(batch.shape, dtype=_result_type(array))
        for part in _chunks(batch.shape):
            product[part] = self._jvp(batch[part].astype(np.float64), each[part].astype(np.float64))
        return product.reshape(array.shape)

    def divergence(
        self,
        x: NDArray[Any] | xr.DataArray,
        *,
        n_probes: int | None = None,
        seed: int = 0,
        return_stderr: bool = False,
    ) -> Any:
        """Return div s(x), the trace of J(x), one number per state.

        Exact, as sum_i e_i.J e_i, where the estimator has a closed form or d <= 64 (d products J v); else
        Hutchinson's estimate <z.J z> over probes z of random signs, unbiased, with variance
        sum_(i != j) (J_ij + J_ji)^2 / 2 per probe.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.
        n_probes : int, optional
            Use Hutchinson with so many probes for each state. Default None: exact, or 16 where d > 64.
        seed : int
            Root of the probes' signs; every state has its own, so that averages over states gain from both.
        return_stderr : bool
            Return ``(divergence, stderr)``, stderr from the spread over the probes; 0 where exact.

        Returns
        -------
        ndarray of shape (...) or DataArray without the state dims
            In the units of 1/x^2; a tuple of two with ``return_stderr``.

        Raises
        ------
        NotFittedError, InputError
            As :meth:`jvp`; or if one probe is to have a standard error.

        References
        ----------
        Hutchinson, Communications in Statistics 19, 433 (1990).
        """
        self._require_state()
        integer("n_probes", n_probes, 1, _MOST_PROBES, optional=True)
        integer("seed", seed, 0, 2**63 - 1)
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            both = self.divergence(ordered.values, n_probes=n_probes, seed=seed, return_stderr=return_stderr)
            frame = ordered.isel(dict.fromkeys(self.state_dims_, 0), drop=True)
            order = [dim for dim in x.dims if dim not in self.state_dims_]
            long_names = ("divergence of the score", "standard error of the divergence of the score")
            named = [
                frame.copy(data=values).transpose(*order).rename(name).assign_attrs(long_name=text, units="1/x^2")
                for values, name, text in zip(
                    both if return_stderr else (both,), ("divergence", "stderr"), long_names, strict=False
                )
            ]
            return tuple(named) if return_stderr else named[0]
        x = np.asarray(x)
        batch = self._batch(x)
        value, stderr = np.empty(len(batch)), np.zeros(len(batch))
        if n_probes is None and not self._knows_divergence() and math.prod(self.state_shape_) > _EXACT_SIZE:
            n_probes = _PROBES
        if n_probes == 1 and return_stderr:
            raise InputError("n_probes=1 has no spread to give a standard error: pass n_probes=2 or more.")
        rng = np.random.default_rng(seed)
        for part in _chunks(batch.shape):
            states = batch[part].astype(np.float64)
            if n_probes is None:
                value[part] = self._divergence(states)
            else:
                value[part], stderr[part] = self._hutchinson(states, n_probes, rng)
        lead, dtype = x.shape[: x.ndim - len(self.state_shape_)], _result_type(x)
        both = (value.astype(dtype).reshape(lead), stderr.astype(dtype).reshape(lead))
        return both if return_stderr else both[0]

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the fitted estimator to one safetensors file (weights and JSON, no pickle).

        Parameters
        ----------
        path : path
            Where to write; read it back with :func:`gfdt.load_score`.
        overwrite : bool
            Replace an existing file. Default False: a fitted score is work not to be lost.
        """
        from gfdt.scores.storage import save_score

        self._require_fit()
        return save_score(self, path, overwrite=overwrite)

    def _ordered(self, x: xr.DataArray) -> xr.DataArray:
        """Return x with the state dims last."""
        missing = [name for name in self.state_dims_ if name not in x.dims]
        if missing:
            raise InputError(
                f"x has dims {tuple(x.dims)} and lacks the state dims {', '.join(missing)}: rename its dims to "
                f"those of the trajectory that was fitted, {self.state_dims_}."
            )
        return in_order(x.transpose(..., *self.state_dims_), self.state_labels_)

    def _on_array(self, x: NDArray[Any]) -> NDArray[Any]:
        batch, dtype = self._batch(x), _result_type(x)
        return self._evaluate(batch.astype(dtype, copy=False)).astype(dtype, copy=False).reshape(x.shape)

    def _batch(self, x: NDArray[Any], name: str = "x") -> NDArray[Any]:
        """Return validated states as an array (batch, *state_shape_)."""
        if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
            raise InputError(f"{name} holds {x.dtype} values, real numbers are needed: convert it to float64.")
        lead = x.ndim - len(self.state_shape_)
        if lead < 0 or x.shape[lead:] != self.state_shape_:
            raise InputError(
                f"{name} has shape {x.shape}, expected (..., {', '.join(map(str, self.state_shape_))}) for the state "
                f"dims {self.state_dims_}: pass states of the system the score was fitted on."
            )
        if not np.isfinite(x).all():
            raise InputError(f"{name} holds NaN or inf, where no density is defined: fill or drop those states.")
        return x.reshape(-1, *self.state_shape_)

    def _require_fit(self) -> None:
        if not hasattr(self, "state_shape_"):
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted: call {name}(...).fit(trajectory) first.")

    def _require_state(self) -> None:
        """Refuse to differentiate before the state dims are known, which no formula tells."""
        if not hasattr(self, "state_shape_"):
            name = type(self).__name__
            raise NotFittedError(
                f"this {name} does not know the state dims along which to differentiate: call .fit(trajectory) first."
            )

    @abstractmethod
    def _fit(self, trajectory: xr.DataArray) -> None:
        """Learn from a validated trajectory (member, time, *state)."""

    @abstractmethod
    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Score of validated states of shape (batch, *state_shape_)."""

    def _jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J v for validated states and directions of shape (batch, *state_shape_), in float64.

        Default: central differences along v, with the step at which the component that moves most moves by 1e-3 of
        its standard deviation in the record (of a loaded score: in these states). Override it where J is known.
        """
        axes = tuple(range(1, batch.ndim))
        spread = getattr(self, "_spread", None)
        if spread is None:
            spread = np.maximum(batch.std(axis=0), 1e-3 * np.abs(batch).max(axis=0))
            spread = np.where(spread > 0, spread, 1.0)
        size = (np.abs(v) / spread).max(axis=axes, keepdims=True) if axes else np.abs(v) / spread
        step = _STEP / np.where(size > 0, size, 1.0)
        return (self._evaluate(batch + step * v) - self._evaluate(batch - step * v)) / (2 * step)

    def _transposed_jvp(self, batch: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        """J' v instead, which is J v for a gradient: for whatever may take either, since it can cost much less."""
        return self._jvp(batch, v)

    def _knows_divergence(self) -> bool:
        """Whether ``_divergence`` costs less than d products J v, and so is used for states of any size."""
        return type(self)._divergence is not Score._divergence

    def _divergence(self, batch: NDArray[np.float64]) -> NDArray[np.float64]:
        """Trace of J for validated states, shape (batch,), in float64; default: d products J e_i."""
        total = np.zeros(len(batch))
        for index in np.ndindex(*self.state_shape_):
            v = np.zeros_like(batch)
            v[:, *index] = 1.0
            total += self._jvp(batch, v)[:, *index]
        return total

    def _hutchinson(
        self, batch: NDArray[np.float64], n_probes: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean of z.J z over the probes and its standard error, both of shape (batch,)."""
        mean, squares = np.zeros(len(batch)), np.zeros(len(batch))
        for k in range(1, n_probes + 1):
            z = rng.choice(np.array([-1.0, 1.0]), batch.shape)
            value = (z * self._jvp(batch, z)).reshape(len(batch), -1).sum(axis=1)
            change = value - mean
            mean += change / k
            squares += change * (value - mean)
        return mean, np.sqrt(squares / (n_probes * max(n_probes - 1, 1)))

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what restores the fitted estimator: a JSON-able dict and named arrays."""
        raise InputError(f"a {type(self).__name__} cannot be saved: keep the code that makes it instead.")

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore from ``_pack``'s output, which may come from a stranger: validate everything."""
        raise InputError(
            f"a {cls.__name__} cannot be loaded from a file (of {len(arrays)} arrays and {len(config)} entries)."
        )


def _fitting(v: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return directions v repeated to the shape of the states."""
    try:
        return np.broadcast_to(v, shape)
    except ValueError as error:
        raise InputError(
            f"v of shape {v.shape} does not fit the states of shape {shape}: pass one direction (*state) for all "
            "states, or one for each."
        ) from error


def _result_type(x: NDArray[Any]) -> type[np.floating[Any]]:
    """float32 in, float32 out; everything else is float64."""
    return np.float32 if x.dtype == np.float32 else np.float64


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices of a batch that hold a bounded number of values."""
    size = max(1, _CHUNK_VALUES // max(1, math.prod(shape[1:])))
    for start in range(0, shape[0], size):
        yield slice(start, start + size)
