r"""The linear map from a forcing to the change it makes at one time, and the least squares that invert it.

    delta<A_i>(t_end) = sum_mj L_i,mj f_mj,          L_i,mj = int R_ij(t_end - t') h_m(t') dt',

where m counts the times of the forcing and h_m are the hat functions of linear interpolation; for a constant forcing
there is one h = 1 and L = S(T), the step response at the longest lag. For a homogeneous field everything holds at
each wavenumber.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg

from gfdt.errors import InputError
from gfdt.forcing.convolution import Kernel
from gfdt.forcing.drive import Sampled
from gfdt.forcing.modes import field_from_modes, mode_matrices, modes_of_field, parseval_weights
from gfdt.forcing.propagation import Estimate, propagate
from gfdt.forcing.reading import ResponseFunction
from gfdt.forcing.spline import apply_to_lags, integral_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Steering", "solve_least_squares"]


@dataclass(frozen=True)
class Steering:
    """L for a response, and its errors.

    Attributes
    ----------
    response : ResponseFunction
    lag_weights : (n_steps, n_lags)
        L_m = sum_l lag_weights(m, l) R(t_l).
    measure : (n_steps,)
        Weights of the integral over time (1 for a constant forcing).
    times : (n_steps,) or None
        Of a time-dependent forcing.
    scale : (n_perturbed,) or None
        Forcings are measured by |f/scale|^2; None for 1.
    """

    response: ResponseFunction
    lag_weights: NDArray[np.float64]
    measure: NDArray[np.float64]
    times: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None

    @classmethod
    def constant(cls, response: ResponseFunction, scale: NDArray[np.float64] | None = None) -> Steering:
        """A forcing kept from t = 0 on, judged at the longest lag."""
        return cls(response, integral_weights(response.lags, response.lags[-1:]), np.ones(1), scale=scale)

    @classmethod
    def over(cls, response: ResponseFunction, time: Any, scale: NDArray[np.float64] | None = None) -> Steering:
        """A forcing that is linear between the given times, judged at the last of them.

        Raises
        ------
        InputError
            If the times do not increase, or reach back beyond the longest lag.
        """
        times = np.atleast_1d(np.asarray(getattr(time, "values", time), dtype=np.float64))
        if times.ndim != 1 or times.size < 2 or not (np.diff(times) > 0).all() or not np.isfinite(times).all():
            raise InputError(f"time has shape {times.shape}: pass at least two increasing times of the forcing.")
        span = times[-1] - times[0]
        if span > response.lags[-1] * (1 + 1e-9):
            raise InputError(
                f"the forcing lasts {span:g}, the response is known up to lag {response.lags[-1]:g}: what is forced "
                "earlier than that has an unknown effect; estimate R to a larger max_lag, or begin later."
            )
        hats = Kernel(response.lags, Sampled(times, np.eye(times.size)))
        ((_, weights),) = hats.chunks(times[-1:], times.size)
        measure = np.convolve(np.diff(times), [0.5, 0.5])
        return cls(response, np.ascontiguousarray(weights[0].T), measure, times, scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sites of a homogeneous field."""
        return self.response.shape(self.response.displacement)

    @cached_property
    def cost(self) -> NDArray[np.float64]:
        """Diagonal of N, |f/scale|^2 = f' N f at each wavenumber: (n_steps * n_perturbed,)."""
        scale = np.ones(self.response.n_perturbed) if self.scale is None else self.scale
        return np.outer(self.measure, 1 / scale**2).ravel()

    def matrices(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Turn responses (batch, lag, *dims) into L (mode, batch, observed, step * perturbed)."""
        found = mode_matrices(self.response, apply_to_lags(self.lag_weights, batch))
        n_modes, n_batch, n_steps, n_observed, n_perturbed = found.shape
        return np.moveaxis(found, 2, 3).reshape(n_modes, n_batch, n_observed, n_steps * n_perturbed)

    @cached_property
    def matrix(self) -> NDArray[Any]:
        """L of the estimate: (mode, observed, step * perturbed)."""
        return self.matrices(self.response.values[None])[:, 0]

    def error_rows(self, weight: NDArray[np.float64]) -> NDArray[Any] | None:
        r"""Return rows E with E' E = V, where f' V f is the expected squared error of L f, sum_i w_i E|(dL f)_i|^2.

        Shape (mode, rows, step * perturbed). From the influences exactly; from standard errors taking the entries of
        the step response as independent; None without error bars.
        """
        R = self.response
        root = np.sqrt(weight)[:, None]
        if R.influence is not None:
            n_units = R.influence.shape[0]
            rows = self.matrices(R.influence) * root * np.sqrt(n_units / max(n_units - 1, 1))
            return rows.reshape(rows.shape[0], -1, rows.shape[-1])
        if R.stderr is None:
            return None
        # fully correlated in lag, which is the larger error; |dL_k|^2 of independent sites is the sum over the sites
        bound = apply_to_lags(np.abs(self.lag_weights), R.stderr[None])[0]
        square = bound.reshape(self.lag_weights.shape[0], R.n_observed, -1, R.n_perturbed) ** 2
        diagonal = np.einsum("o,mosp->mp", weight, square).ravel()
        return np.broadcast_to(np.diag(np.sqrt(diagonal)), (self.matrix.shape[0], diagonal.size, diagonal.size))

    def to_modes(self, target: NDArray[np.float64]) -> NDArray[Any]:
        """Turn a target (*observed, *sites) into (mode, observed)."""
        if not self.shape:
            return target.reshape(1, -1)
        return modes_of_field(target.reshape(-1, int(np.prod(self.shape))), self.shape).T

    def to_forcing(self, modes: NDArray[Any]) -> NDArray[np.float64]:
        """Turn (mode, step * perturbed) into the forcing (step, *sites, perturbed) over the sites."""
        R = self.response
        split = modes.reshape(modes.shape[0], self.measure.size, R.n_perturbed)
        fields = field_from_modes(split, self.shape)
        return np.moveaxis(fields, 1, -1) if self.shape else fields

    def achieved(self, forcing: NDArray[np.float64]) -> Estimate:
        """Return L f with the error that R's error makes of it, for a forcing (step, *sites, perturbed)."""
        forced = self._modes_of_forcing(forcing)
        bound = self._modes_of_forcing(np.abs(forcing))
        return propagate(
            self.response,
            lambda batch: self._contract(self.lag_weights, forced, batch),
            lambda batch: self._contract(np.abs(self.lag_weights), bound, batch),
        )

    def _modes_of_forcing(self, forcing: NDArray[np.float64]) -> NDArray[Any]:
        n_steps = self.measure.size
        flat = modes_of_field(forcing.reshape(n_steps, -1), self.shape)
        return np.moveaxis(flat.reshape(n_steps, -1, self.response.n_perturbed), 1, 0)

    def _contract(self, weights: NDArray[np.float64], forced: NDArray[Any], batch: NDArray[Any]) -> NDArray[np.float64]:
        """(batch, lag, *dims) to (batch, *target)."""
        matrices = mode_matrices(self.response, apply_to_lags(weights, batch))
        out = field_from_modes(np.einsum("kbmop,kmp->kbo", matrices, forced, optimize=True), self.shape)
        return out.reshape(batch.shape[0], *self.response.target_shape)

    def norm(self, modes: NDArray[Any]) -> float:
        """Return (sum_x sum |f/scale|^2)^(1/2) with the measure of time, for (mode, step * perturbed)."""
        return float(np.sqrt((parseval_weights(self.shape)[:, None] * np.abs(modes) ** 2 * self.cost).sum()))


def solve_least_squares(matrix: NDArray[Any], target: NDArray[Any], penalty: NDArray[Any] | None) -> NDArray[Any]:
    """Return argmin |matrix f - target|^2 + |penalty f|^2 for one wavenumber, of least norm where it is not unique."""
    if penalty is not None:
        matrix = np.concatenate([matrix, penalty])
        target = np.concatenate([target, np.zeros(penalty.shape[0])])
    # Singular values below 1e-10 of the largest are rounding of the quadrature, not directions that can be forced.
    return scipy.linalg.lstsq(matrix, target, cond=1e-10)[0]
