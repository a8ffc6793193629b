"""A score known in closed form: the exact twin of every learned one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import xarray as xr

from gfdt.density.family import Family
from gfdt.density.standardise import standardised
from gfdt.errors import InputError
from gfdt.scores.base import Score
from gfdt.scores.gaussian import GaussianScore
from gfdt.trajectory import Source

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

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
    blurred : callable, optional
        The score at every noise level: maps states (n, *state) and σ, the standard deviation of the noise in the units
        of the data, to the score of the density blurred by it, (n, *state); at σ = 0 ``function`` is used. With it
        the formula is a density that can be sampled and has a likelihood, once ``fit`` or ``gaussian`` has told
        mean and covariance of the data.
    noise : ndarray (*state), optional
        Proportions of the noise, where components of different unit are not to get the same: σ is then such an
        array times a number. Default: σ is a number, the noise white in the data.
    gaussian : GaussianScore, optional
        Whose mean and covariance are those of the data; one that is not fitted is fitted by ``fit``. Give
        ``GaussianScore(homogeneous=...)`` for fields. Default: a general covariance, only with ``blurred``.

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
        blurred: Callable[[NDArray[Any], Any], NDArray[Any]] | None = None,
        noise: ArrayLike | None = None,
        gaussian: GaussianScore | None = None,
    ) -> None:
        if not callable(function) or isinstance(function, type):
            raise InputError(
                f"AnalyticScore needs a function s(x), found {type(function).__name__}: pass e.g. lambda x: -x."
            )
        if divergence is not None and not callable(divergence):
            raise InputError(
                f"divergence is a {type(divergence).__name__}: pass a function div s(x), or leave divergence out."
            )
        if blurred is not None and not callable(blurred):
            raise InputError(f"blurred is a {type(blurred).__name__}: pass a function s(x, sigma), or leave it out.")
        if gaussian is not None and not isinstance(gaussian, GaussianScore):
            raise InputError(f"gaussian is a {type(gaussian).__name__}: pass a GaussianScore, or leave it out.")
        self.function = function
        self.blurred = blurred
        self.noise = noise
        self.gaussian = gaussian
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
        """Take over the names and sizes of the state dims, and with ``blurred`` mean and covariance."""
        super().fit(trajectory, **options)
        self.fingerprint_ = None
        return self

    def _fit(self, trajectory: xr.DataArray) -> None:
        """Nothing to learn but, for a density, its Gaussian part."""
        if self.gaussian is None and self.blurred is None:
            return
        known = GaussianScore() if self.gaussian is None else self.gaussian
        fitted = known if hasattr(known, "covariance_") else copy.copy(known).fit(trajectory)
        self.covariance_ = fitted.covariance_

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        # A copy: a function that works in place must not change the caller's data.
        return _checked(self.function(batch.copy()), batch.shape)

    def _family(self) -> Family:
        blurred, shape = self.blurred, self.state_shape_
        if blurred is None:
            return super()._family()
        units, covariance = standardised(self.covariance_, shape, 1.0 if self.noise is None else self.noise)
        # A number where the noise is the same everywhere, as it is in most formulas.
        unit = float(units.scale.flat[0]) if self.noise is None else np.broadcast_to(units.scale, shape)
        linear = Family(units, covariance, shape, level=float(np.ravel(self.noise_level_ / units.scale)[0]))

        def correction(a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
            x = units.data(a)
            s = self._evaluate(x) if level == linear.level else _checked(blurred(x, level * unit), x.shape)
            return units.scale * s - linear.linear_score(a, level)

        return dataclasses.replace(linear, correction=correction)

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


def _checked(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return what a user's function gave for states of this shape."""
    array = np.asarray(value)
    if array.shape != shape:
        raise InputError(
            f"the score function returned shape {array.shape} for states of shape {shape}: it must map (..., *state) "
            "to the same shape."
        )
    return array
