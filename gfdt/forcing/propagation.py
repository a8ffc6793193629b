r"""Errors of linear functionals of a response: one place that every band comes from.

The estimate of R carries the first-order error e_u that each resampling unit u contributed, at all lags and entries
at once. For a linear map G

    (G R) has the errors G e_u,    stderr^2 = n/(n - 1) sum_u (G e_u)^2,    band = G R +- t_{n-1} stderr,

which is exact: all correlations between lags and entries are in the e_u. Where only stderr[R] is known, nothing is
known about these correlations, and

    stderr[G R] <= sum |weights of G| stderr[R]

holds whatever they are; the band is then too wide rather than too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.forcing.reading import ResponseFunction
from gfdt.responses.sums import standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "propagate"]

Linear = Callable[["NDArray[Any]"], "NDArray[Any]"]


@dataclass(frozen=True)
class Estimate:
    """A quantity derived from R, with its errors.

    Attributes
    ----------
    value : array
    stderr : array like value, or None
    influence : (unit, *shape of value), or None
    quantile : float
        Half-width of the band in standard errors.
    """

    value: NDArray[Any]
    stderr: NDArray[np.float64] | None
    influence: NDArray[Any] | None
    quantile: float

    def map(self, linear: Linear) -> Estimate:
        """Return a further linear map of batches (batch, *shape) with its exact errors.

        Without influences there is no error to carry over: the correlations that decide it are gone.
        """
        value = linear(self.value[None])[0]
        influence = None if self.influence is None else linear(self.influence)
        return Estimate(value, None if influence is None else standard_error(influence), influence, self.quantile)

    def variables(
        self,
        name: str,
        dims: tuple[str, ...],
        attrs: Mapping[str, str],
        *,
        prefix: str = "",
        keep_influence: bool = True,
    ) -> dict[str, xr.Variable]:
        """Return ``name``, and where known ``stderr``, ``lower``, ``upper`` and ``influence``, as labelled variables.

        Parameters
        ----------
        name : str
            Of the value.
        dims : tuple of str
        attrs : mapping
            ``long_name`` and ``units`` of the value.
        prefix : str
            In front of the names of the errors, where a Dataset holds several quantities.
        keep_influence : bool
            Whether the errors of the units are returned too.
        """
        text, unit = attrs["long_name"], attrs["units"]
        out = {name: xr.Variable(dims, self.value, dict(attrs))}
        if self.stderr is None:
            return out
        half = self.quantile * self.stderr
        for key, values, said in (
            ("stderr", self.stderr, f"standard error of the {text}"),
            ("lower", self.value - half, f"lower end of the confidence band of the {text}"),
            ("upper", self.value + half, f"upper end of the confidence band of the {text}"),
        ):
            out[prefix + key] = xr.Variable(dims, values, {"long_name": said, "units": unit})
        if keep_influence and self.influence is not None:
            said = f"first-order error of the {text} that each resampling unit contributes"
            out[prefix + "influence"] = xr.Variable(("unit", *dims), self.influence, {"long_name": said, "units": unit})
        return out


def propagate(response: ResponseFunction, linear: Linear, magnitude: Linear) -> Estimate:
    """Apply a linear map to a response and to its errors.

    Parameters
    ----------
    response : ResponseFunction
    linear : callable
        G, from (batch, lag, *dims) to (batch, *out). It is called once for the response and once for all units.
    magnitude : callable
        The same map with the absolute values of its weights; called only where the influences are missing.
    """
    value = linear(response.values[None])[0]
    if response.influence is not None:
        influence = linear(response.influence)
        return Estimate(value, standard_error(influence), influence, response.quantile)
    stderr = None if response.stderr is None else np.abs(magnitude(response.stderr[None])[0])
    return Estimate(value, stderr, None, response.quantile)
