r"""The response of a homogeneous field in wavenumber and frequency: its Green function G(k, omega)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
import xarray as xr

from gfdt.errors import InputError
from gfdt.forcing.propagation import Estimate, propagate
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.spectrum import read_frequencies, spectrum_variables
from gfdt.forcing.spline import apply_to_lags, fourier_weights
from gfdt.forcing.susceptibility import SIGN, frequency_attrs, taper_weights, truncated_part
from gfdt.forcing.tail import warn_of_tail
from gfdt.validation import number, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["green_function"]


def green_function(
    response: xr.Dataset | xr.DataArray,
    frequencies: Sequence[float] | NDArray[Any] | xr.DataArray | None = None,
    *,
    taper: float = 0.0,
) -> xr.Dataset:
    r"""Return the Green function of a homogeneous field.

        G(k, omega) = sum_r int_0^inf e^{-i (2 pi/n) k.r + i omega t} R(r, t) dt,

    r in grid cells, n the number of cells along each dim, k integer (waves per box). A forcing per cell
    Re[f e^{i phi}] with phi = (2 pi/n) k.x - omega t changes the mean by Re[G f e^{i phi}]. The inverse, R's
    susceptibility at displacement r, is (1/n_sites) sum_k e^{i (2 pi/n) k.r} G(k, omega): the plain ``ifftn``.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R with displacement dims, e.g. ``(lag, dy, dx)``.
    frequencies, taper
        As in :func:`gfdt.susceptibility`.

    Returns
    -------
    Dataset
        ``real``, ``imag``, ``amplitude``, ``phase`` and their errors, with dims ``frequency``, the observable's,
        ``ky, kx`` (one for each displacement dim) and the perturbation's. Wavenumbers are centred and in waves
        per box; multiply by 2 pi/(n cells) for radians per cell. Attribute ``truncated_tail`` as in
        :func:`gfdt.susceptibility`.

    Raises
    ------
    InputError
        If R has no displacement dims.
    """
    number("taper", taper, low=0.0, high=1.0 + 1e-12, closed=True)
    R = read_response(response)
    if not R.displacement:
        raise InputError(
            f"R has dims {shown(R.dims)} without displacements: a Green function in wavenumber needs the "
            "response of a homogeneous field, gfdt.response(..., homogeneous=('y', 'x')); susceptibility takes any."
        )
    omega = read_frequencies(frequencies, R.lags, stacklevel=2)
    weights = fourier_weights(R.lags, omega) * taper_weights(R.lags, taper)
    real, imag = (_part(R, weights, pick) for pick in (np.real, np.imag))
    missing = truncated_part(R, float(_largest_local(R, weights)))
    warn_of_tail(missing, float(R.lags[-1]), "Green function", stacklevel=2)
    waves = tuple(f"k{site}" for site in R.sites)
    coords: dict[str, Any] = {"frequency": ("frequency", omega, frequency_attrs(R))}
    coords |= R.side_coords((*R.observed, *R.perturbed))
    for wave, n in zip(waves, R.shape(R.displacement), strict=True):
        coords[wave] = (
            wave,
            np.arange(n) - n // 2,
            {"long_name": f"wavenumber along {wave[1:]}", "units": "waves per box"},
        )
    dims = ("frequency", *R.observed, *waves, *R.perturbed)
    return xr.Dataset(spectrum_variables(real, imag, dims, "Green function"), coords=coords).assign_attrs(
        title="Green function of a homogeneous field",
        sign_convention=f"{SIGN}; plane waves exp(i (2 pi/n) k.x - i omega t)",
        observable=str(R.source.attrs.get("observable", "mean")),
        estimator=str(R.source.attrs.get("estimator", "")),
        confidence=R.confidence,
        taper=float(taper),
        truncated_tail=missing,
    )


def _part(response: ResponseFunction, weights: NDArray[np.complex128], pick: Any) -> Estimate:
    first = 2 + len(response.observed)
    axes = tuple(range(first, first + len(response.displacement)))

    def linear(batch: NDArray[Any]) -> NDArray[Any]:
        field = scipy.fft.ifftshift(apply_to_lags(weights, batch), axes=axes)
        return pick(scipy.fft.fftshift(scipy.fft.fftn(field, axes=axes), axes=axes))

    def magnitude(batch: NDArray[Any]) -> NDArray[Any]:
        # |weights of e^{-ik.r} W| = |W| at every k: the sum over displacements, the same for all wavenumbers
        bound = apply_to_lags(np.abs(weights), batch)
        return np.broadcast_to(bound.sum(axis=axes, keepdims=True), bound.shape).copy()

    return propagate(response, linear, magnitude)


def _largest_local(response: ResponseFunction, weights: NDArray[np.complex128]) -> float:
    """Largest amplitude of the susceptibility at a displacement, which the tail of R is compared with."""
    return float(np.abs(apply_to_lags(weights, response.values[None])).max())
