"""Units of responses, as far as the record says what its own are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gfdt.responses.bound import Bound
from gfdt.responses.perturbations import Kick, Perturbation

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["units_of"]

_POWERS = {"mean": 1, "second_moment": 2, "variance": 2, "covariance": 2, "spectrum": 2, "moment3": 3, "moment4": 4}


def units_of(observable: Bound, perturbation: Perturbation, trajectory: xr.DataArray) -> tuple[str, str]:
    """Return the units of the response and of the observable; empty where they are not known.

    A state of several variables has no one unit. The response to a kick is in units of A over those of x; that to an
    amplitude in units of A, per unit of f and of time, which the record does not know.
    """
    unit = str(trajectory.attrs.get("units", "")).strip()
    if observable.name.startswith("exceedance"):
        own = "1"
    elif observable.name == "pdf":
        own = "1" if unit == "1" else f"({unit})-1" if unit else ""
    elif observable.name in _POWERS:
        own = _power(unit, _POWERS[observable.name])
    else:
        own = ""
    if not isinstance(perturbation, Kick):
        return "", own
    if unit == "1":
        return own, own
    if observable.name in _POWERS:
        return ("1" if unit else "") if _POWERS[observable.name] == 1 else _power(
            unit, _POWERS[observable.name] - 1
        ), own
    return f"({unit})-1" if own == "1" and unit else f"({unit})-2" if observable.name == "pdf" and unit else "", own


def _power(unit: str, power: int) -> str:
    if not unit or unit == "1" or power == 1:
        return unit
    return f"({unit}){power}"
