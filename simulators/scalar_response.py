"""Exact responses of the scalar systems, for any observable and perturbation (`simulators.fokker_planck`).

    R_A(t) = <A(x(t)) B(x(0))>,   B = -(w' + w s) for dx = (f + w(x) f_p(t)) dt + s_0 dW,
                                  B = s_0 (s' + s^2) for dx = f dt + (s_0 + f_p(t)) dW,

f_p(t) the small amplitude of the perturbation, s = d log rho / dx the score, s_0 the noise. At t = 0 it is <w A'>, or
s_0 <A''> for the noise (Ito).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulators.answers import label_response
from simulators.checks import MAX_MAGNITUDE, require_array, show
from simulators.errors import ParameterError
from simulators.fokker_planck import FokkerPlanck
from simulators.moments import find_moment
from simulators.scalar_law import CubicLaw

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["scalar_response"]

# High moments and the noise weigh the flanks, where the grid errs most, and their integrals over lag cancel: with 2400
# volumes these agree with differences of the stationary moments to 1e-4, with 1200 to 2.6e-4.
_N_VOLUMES = 2400

Array = NDArray[np.float64]
Axes = dict[str, NDArray[np.int64]]


def scalar_response(law: CubicLaw, lags: Array, observable: Any, perturbation: Any) -> "xr.DataArray":
    """Return R_A(t).

    Parameters
    ----------
    law : CubicLaw
        Stationary law of the system.
    lags : ndarray
        Times t >= 0, shape (lag,).
    observable, perturbation
        As in `simulators.scalar.DoubleWell.exact_response`.

    Returns
    -------
    xarray.DataArray
        "response", dims (lag, *observable, *perturbation).

    Raises
    ------
    ParameterError
        If the observable or the perturbation is none of those, or the density too narrow for the grid.
    """
    if [name for name in (observable, perturbation) if isinstance(name, str)] == ["mean", "drift"]:
        return label_response(law.response(lags)[:, None, None], lags, _component("component", "component_src"))
    generator = law.generator(_N_VOLUMES)
    values, observed = _observable(generator, observable)
    w, perturbed = _perturbation(law, generator, perturbation)
    axes = observed | perturbed
    response = generator.response(lags, values, w)
    return label_response(response.reshape(len(lags), *map(len, axes.values())), lags, axes)


def _component(*names: str) -> Axes:
    return {name: np.arange(1) for name in names}


def _observable(generator: FokkerPlanck, observable: Any) -> tuple[Array, Axes]:
    """Return A at the nodes, and the dimensions of its values."""
    x = generator.nodes
    if not callable(observable):
        moment = find_moment(observable, " or a function A(x) of an array")
        return (x - generator.weights @ x if moment.centred else x) ** moment.power, _component("component")
    values = _evaluated("observable", observable, x, "(n,) or (n, n_outputs)")
    if values.ndim not in (1, 2) or len(values) != len(x) or values.size == 0:
        raise _shape_error("observable", values, f"({len(x)},) or ({len(x)}, n_outputs)", len(x))
    return values, {} if values.ndim == 1 else {"output": np.arange(values.shape[1])}


def _perturbation(law: CubicLaw, generator: FokkerPlanck, perturbation: Any) -> tuple[Array, Axes]:
    """Return the drift w at the faces that has the flux of the perturbation, and the dimensions of the source."""
    x = generator.faces
    if callable(perturbation):
        w = _evaluated("perturbation", perturbation, x, "(n,)")
        if w.shape != x.shape:
            raise _shape_error("perturbation", w, f"({len(x)},)", len(x))
        return w, {}
    if isinstance(perturbation, str) and perturbation == "drift":
        return np.ones(len(x)), _component("component_src")
    if isinstance(perturbation, str) and perturbation == "noise":
        return -law.noise * law.score(x), {}
    raise ParameterError(
        f"perturbation = {show(perturbation)}: expected 'drift', 'noise' or a drift w(x), a function of an array; pass "
        "perturbation='drift'"
    )


def _evaluated(name: str, function: Callable[[Array], Any], x: Array, shape: str) -> Array:
    # a copy: a function that changes its argument must not change the grid
    values = require_array(f"{name}(x)", function(x.copy()), f"an array of shape {shape} for x of shape (n,)")
    if not np.all(np.abs(values) <= MAX_MAGNITUDE):
        raise ParameterError(
            f"{name}(x) is not finite somewhere between x = {x[0]:.4g} and {x[-1]:.4g}: expected finite numbers "
            "wherever the density is above exp(-60) of its maximum; give it other values there"
        )
    return values


def _shape_error(name: str, values: Array, expected: str, n: int) -> ParameterError:
    return ParameterError(
        f"{name}(x) has shape {values.shape} for x of shape ({n},): expected {expected}; return one row for each x"
    )
