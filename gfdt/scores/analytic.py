"""A score known in closed form: the exact twin of every learned one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.scores.base import Score
from gfdt.trajectory import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AnalyticScore"]


class AnalyticScore(Score):
    """Wrap a function s(x) so that it can stand wherever an estimator can; no ``fit`` is needed.

    Parameters
    ----------
    function : callable
        Maps an ndarray of states (..., *state) to s(x) of the same shape, in the units of the data, e.g.
        the ``score`` method of a simulated system. Until the score is fitted (which only tells it the state dims),
        the function receives the state dims in the order in which they are passed.
    divergence : callable, optional
        Maps states (n, *state) to div s, shape (n,), which :meth:`divergence` then returns. Default None: from
        central differences of ``function``.

    Examples
    --------
    >>> import numpy as np, gfdt
    >>> score = gfdt.AnalyticScore(lambda x: -x)
    >>> score(np.array([[1.0, 2.0]]))
    array([[-1., -2.]])
    """

    label: ClassVar[str] = "analytical"

    def __init__(
        self,
        function: Callable[[NDArray[Any]], NDArray[Any]],
        *,
        divergence: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise InputError(
                f"AnalyticScore needs a function s(x), found {type(function).__name__}: pass e.g. lambda x: -x."
            )
        if divergence is not None and not callable(divergence):
            raise InputError(
                f"divergence is a {type(divergence).__name__}: pass a function div s(x), or leave divergence out."
            )
        self.function = function
        self._known_divergence = divergence

    def __call__(self, x: NDArray[Any] | xr.DataArray) -> Any:
        """Return s(x), of the type and shape of ``x``, whose last dims are the state's."""
        if hasattr(self, "state_shape_") and isinstance(x, xr.DataArray):
            return super().__call__(x)
        if isinstance(x, xr.DataArray):
            return x.copy(data=self._evaluate(x.values)).rename("score")
        return self._evaluate(np.asarray(x))

    def _require_fit(self) -> None:
        """Nothing is learned, so nothing has to come first."""

    def fit(self, trajectory: Source, **options: Any) -> Self:
        """Take over the names and sizes of the state dims; nothing is learned."""
        super().fit(trajectory, **options)
        self.fingerprint_ = None
        return self

    def _fit(self, trajectory: xr.DataArray) -> None:
        """Nothing to learn."""

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        # A copy: a function that works in place must not change the caller's data.
        value = np.asarray(self.function(batch.copy()))
        if value.shape != batch.shape:
            raise InputError(
                f"the score function returned shape {value.shape} for states of shape {batch.shape}: it must map "
                "(..., *state) to the same shape."
            )
        return value

    def _knows_divergence(self) -> bool:
        return self._known_divergence is not None

    def _divergence(self, batch: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._known_divergence is None:
            return super()._divergence(batch)
        value = np.asarray(self._known_divergence(batch.copy()))
        if value.shape != batch.shape[:1]:
            raise InputError(
                f"the divergence function returned shape {value.shape} for states of shape {batch.shape}: it must "
                "return one number per state."
            )
        return value
