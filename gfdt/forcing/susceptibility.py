r"""The response in frequency: chi(omega) = int_0^inf e^{i omega t} R(t) dt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.forcing.kramers_kronig import kramers_kronig_of_response
from gfdt.forcing.propagation import Estimate, propagate
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.spectrum import read_frequencies, spectrum_variables
from gfdt.forcing.spline import apply_to_lags, fourier_weights
from gfdt.forcing.tail import geometric_tail, rms_beyond_noise, warn_of_tail
from gfdt.validation import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SIGN", "susceptibility", "taper_weights", "transformed", "truncated_part"]

SIGN = (
    "chi(omega) = int_0^inf exp(+i omega t) R(t) dt: a forcing f exp(-i omega t) changes <A> by chi f exp(-i omega t)"
)
_TAIL_QUARTERS = 12  # how far beyond the longest lag the tail is followed: three times its length
_MAX_SERIES = 16  # entries the Kramers-Kronig relation is checked on


def susceptibility(
    response: xr.Dataset | xr.DataArray,
    frequencies: Sequence[float] | NDArray[Any] | xr.DataArray | None = None,
    *,
    taper: float = 0.0,
) -> xr.Dataset:
    r"""Return the susceptibility, the Fourier transform of the response.

        chi(omega) = int_0^inf e^{+i omega t} R(t) dt,

    so that a forcing Re[f e^{-i omega t}] changes the mean by Re[chi f e^{-i omega t}]: a positive phase is a delay,
    and chi = 1/(a - i omega) for R = exp(-a t). The integral is exact for the cubic spline through R at every
    frequency (:mod:`gfdt.forcing.spline`) and ends at the longest lag.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t); see :func:`gfdt.response`.
    frequencies : array, optional
        Angular frequencies omega, radians per unit of the lags. Default: as many as there are lags, from 0 to the
        Nyquist frequency pi/h of the lag spacing h.
    taper : float in [0, 1]
        Part of the lags, at the end, over which R is brought down to zero by half a cosine: less ringing from the cut
        at the longest lag, less resolution. Default 0: R as it is.

    Returns
    -------
    Dataset
        ``real``, ``imag``, ``amplitude``, ``phase`` with dims ``frequency`` and those of R without ``lag``; with
        error bars ``real_stderr``, ``real_lower``, ``real_upper`` and so on (propagated through all correlations
        between lags where R has ``influence``). Attributes: ``truncated_tail``, an estimate of int_T^4T |R| over the
        largest amplitude (:mod:`gfdt.forcing.tail`); ``kramers_kronig``, the relative departure from the
        Kramers-Kronig relation (:mod:`gfdt.forcing.kramers_kronig`), below 1e-4 where the lags resolve R (a wrong
        sign in the exponent gives 2).

    Raises
    ------
    InputError
        If R cannot be read, or frequencies are not finite real numbers.

    Warns
    -----
    ReliabilityWarning
        If the tail beyond the longest lag is more than 5 %, or frequencies exceed the Nyquist frequency of the lags:
        what R does between two lags is the spline's guess there.

    Examples
    --------
    >>> lag = np.linspace(0.0, 20.0, 201)
    >>> R = xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag})
    >>> chi = susceptibility(R, [0.0, 1.0, 10.0])  # 1/(1 - i omega)
    >>> chi["real"].values.round(4).tolist(), chi["imag"].values.round(4).tolist()
    ([1.0, 0.5, 0.0099], [0.0, 0.5, 0.099])
    """
    number("taper", taper, low=0.0, high=1.0 + 1e-12, closed=True)
    R = read_response(response)
    omega = read_frequencies(frequencies, R.lags, stacklevel=2)
    fade = taper_weights(R.lags, taper)
    weights = fourier_weights(R.lags, omega) * fade
    real, imag = transformed(R, weights)
    dims = ("frequency", *R.dims)
    missing = truncated_part(R, float(np.abs(real.value + 1j * imag.value).max()))
    warn_of_tail(missing, float(R.lags[-1]), "susceptibility", stacklevel=2)
    tapered = R.values.reshape(R.lags.size, -1) * fade[:, None]
    out = xr.Dataset(
        spectrum_variables(real, imag, dims, "susceptibility"),
        coords={"frequency": ("frequency", omega, frequency_attrs(R)), **R.coords},
    ).drop_vars("lag", errors="ignore")
    return out.assign_attrs(
        title="susceptibility",
        sign_convention=SIGN,
        observable=str(R.source.attrs.get("observable", "mean")),
        estimator=str(R.source.attrs.get("estimator", "")),
        observable_dims=" ".join(R.observed),
        perturbation_dims=" ".join(R.perturbed),
        displacement_dims=" ".join(R.displacement),
        confidence=R.confidence,
        taper=float(taper),
        truncated_tail=missing,
        kramers_kronig=kramers_kronig_of_response(R.lags, _strongest(tapered)),
    )


def frequency_attrs(response: ResponseFunction) -> dict[str, str]:
    """Return the attributes of the coordinate ``frequency``."""
    return {"long_name": "angular frequency", "units": f"rad / {response.unit}"}


def taper_weights(lags: NDArray[np.float64], taper: float) -> NDArray[np.float64]:
    """Return 1 up to (1 - taper) T, then half a cosine to 0 at T: shape (n_lags,)."""
    if taper == 0:
        return np.ones(lags.size)
    reached = np.clip((lags / lags[-1] - (1 - taper)) / taper, 0.0, 1.0)
    return (1 + np.cos(np.pi * reached)) / 2


def transformed(response: ResponseFunction, weights: NDArray[np.complex128]) -> tuple[Estimate, Estimate]:
    """Return real and imaginary part of sum_l weights(m, l) R(t_l), with errors."""
    real, imag = (
        propagate(
            response,
            lambda batch, part=part: apply_to_lags(part, batch),  # type: ignore[misc]
            lambda batch, part=part: apply_to_lags(np.abs(part), batch),  # type: ignore[misc]
        )
        for part in (weights.real, weights.imag)
    )
    return real, imag


def truncated_part(response: ResponseFunction, largest: float) -> float:
    """Return an estimate of int_T^4T |R|, rms over the entries, over the largest amplitude."""
    lags, quarter = response.lags, response.lags[-1] / 4
    sizes = []
    for low in (2 * quarter, 3 * quarter):
        inside = (lags >= low) & (lags <= low + quarter)
        if not inside.any():
            return float("nan")
        stderr = None if response.stderr is None else response.stderr[inside]
        sizes.append(rms_beyond_noise(response.values[inside], stderr) * quarter)
    return geometric_tail(sizes[0], sizes[1], _TAIL_QUARTERS) / largest if largest > 0 else 0.0


def _strongest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entries with the largest integral of R^2: the relation is linear, so it holds for each."""
    order = np.argsort((values**2).sum(axis=0))[::-1]
    return values[:, order[:_MAX_SERIES]]
