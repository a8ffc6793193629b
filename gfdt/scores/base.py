"""What every score estimator shares: the call, labels, and the state that is saved.

The score is s(x) = grad log rho(x), rho the stationary density, x in R^d in the units of the data; so s
has the units 1/x. ``noise_level_`` is sigma: an estimator with sigma > 0 gives the score of
rho * N(0, sigma^2 I) (the density blurred by noise of that level), one with sigma = 0 the score of rho.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr

from gfdt.errors import InputError, NotFittedError
from gfdt.trajectory import Source, fingerprint, load_trajectory, state_dims

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Score"]


class Score(ABC):
    """Base of the score estimators: ``fit(trajectory)`` once, then call it on states.

    Attributes
    ----------
    state_dims_ : tuple of str
        Names of the state dims the estimator was fitted on.
    state_shape_ : tuple of int
        Their sizes.
    noise_level_ : float
        sigma of the density whose score this is, in the units of the data (0: the data's own density).
    fingerprint_ : str or None
        Digest of the record the estimator learned from; None where nothing was learned.
    """

    label: ClassVar[str] = "score"
    state_dims_: tuple[str, ...]
    state_shape_: tuple[int, ...]
    noise_level_: float = 0.0
    fingerprint_: str | None = None

    def fit(
        self,
        trajectory: Source,
        *,
        var: str | None = None,
        dims: Sequence[str] | None = None,
        dt: float | None = None,
    ) -> Self:
        """Learn the score from a stationary trajectory.

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
        """
        array = load_trajectory(trajectory, var=var, dims=dims, dt=dt, needs_time=False)
        names = state_dims(array)
        self._fit(array)
        self.state_dims_ = names
        self.state_shape_ = tuple(array.sizes[name] for name in names)
        self.fingerprint_ = fingerprint(array)
        return self

    def __repr__(self) -> str:
        if not hasattr(self, "state_shape_"):
            return f"<{type(self).__name__}, not fitted>"
        state = ", ".join(f"{dim}: {size}" for dim, size in zip(self.state_dims_, self.state_shape_, strict=True))
        blur = f", sigma = {self.noise_level_:.3g}" if self.noise_level_ else ""
        return f"<{type(self).__name__} of states ({state}){blur}>"

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
            missing = [name for name in self.state_dims_ if name not in x.dims]
            if missing:
                raise InputError(
                    f"x has dims {tuple(x.dims)} and lacks the state dims {', '.join(missing)}: rename its dims to "
                    f"those of the trajectory that was fitted, {self.state_dims_}."
                )
            ordered = x.transpose(..., *self.state_dims_)
            values = self(ordered.values)
            out = ordered.copy(data=values).transpose(*x.dims)
            return out.rename("score").assign_attrs(long_name="score, grad log density", units="1/x")
        return self._on_array(np.asarray(x))

    def score_function(self, x: NDArray[Any] | xr.DataArray) -> Any:
        """Return s(x): the same as calling the estimator."""
        return self(x)

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

    def _on_array(self, x: NDArray[Any]) -> NDArray[Any]:
        if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
            raise InputError(f"x holds {x.dtype} values, real numbers are needed: convert it to float64.")
        lead = x.ndim - len(self.state_shape_)
        if lead < 0 or x.shape[lead:] != self.state_shape_:
            raise InputError(
                f"x has shape {x.shape}, expected (..., {', '.join(map(str, self.state_shape_))}) for the state "
                f"dims {self.state_dims_}: pass states of the system the score was fitted on."
            )
        if not np.isfinite(x).all():
            raise InputError("x holds NaN or inf, where no density is defined: fill or drop those states.")
        dtype = np.float32 if x.dtype == np.float32 else np.float64
        batch = x.reshape(-1, *self.state_shape_).astype(dtype, copy=False)
        return self._evaluate(batch).astype(dtype, copy=False).reshape(x.shape)

    def _require_fit(self) -> None:
        if not hasattr(self, "state_shape_"):
            name = type(self).__name__
            raise NotFittedError(f"this {name} is not fitted: call {name}(...).fit(trajectory) first.")

    @abstractmethod
    def _fit(self, trajectory: xr.DataArray) -> None:
        """Learn from a validated trajectory (member, time, *state)."""

    @abstractmethod
    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Score of validated states of shape (batch, *state_shape_)."""

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return what restores the fitted estimator: a JSON-able dict and named arrays."""
        raise InputError(f"a {type(self).__name__} cannot be saved: keep the code that makes it instead.")

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Restore from ``_pack``'s output, which may come from a stranger: validate everything."""
        raise InputError(
            f"a {cls.__name__} cannot be loaded from a file (of {len(arrays)} arrays and {len(config)} entries)."
        )
