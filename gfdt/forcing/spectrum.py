"""Complex spectra as netCDF can hold them: real and imaginary part, amplitude and phase, each with its error."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.propagation import Estimate
from gfdt.responses.sums import standard_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_frequencies", "spectrum_variables"]


def read_frequencies(frequencies: Any, lags: NDArray[np.float64], *, stacklevel: int) -> NDArray[np.float64]:
    """Return omega: what was asked for, or as many as lags up to the Nyquist frequency pi/h, h the mean spacing.

    Warns
    -----
    ReliabilityWarning
        If some lie above the Nyquist frequency, where nothing but the spline between the lags decides.
    """
    nyquist = np.pi * (lags.size - 1) / lags[-1]
    if frequencies is None:
        return np.linspace(0.0, nyquist, lags.size)
    try:
        omega = np.atleast_1d(np.asarray(getattr(frequencies, "values", frequencies), dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"frequencies are not real numbers ({error}): pass angular frequencies omega.") from error
    if omega.ndim != 1 or omega.size == 0 or not np.isfinite(omega).all():
        raise InputError(f"frequencies has shape {omega.shape}: pass a list of finite angular frequencies omega.")
    highest = float(np.abs(omega).max())
    if highest > nyquist * (1 + 1e-9):
        warnings.warn(
            f"frequencies up to {highest:.4g} are asked for, the lags resolve up to their Nyquist frequency pi/spacing "
            f"= {nyquist:.4g}: beyond it the result is that of the interpolation between lags; ask for lower "
            "frequencies, or estimate R at a finer spacing.",
            ReliabilityWarning,
            stacklevel=stacklevel + 1,
        )
    return omega


def spectrum_variables(real: Estimate, imag: Estimate, dims: tuple[str, ...], what: str) -> dict[str, xr.Variable]:
    """Return real, imag, amplitude and phase, and for each <name>_stderr, <name>_lower, <name>_upper where known.

    Amplitude and phase have first-order errors, from Re and Im of e_u chi*/|chi|; where only standard errors of the two
    parts are known, their sum bounds both. The phase of a value whose error exceeds it can be anything: its error
    is pi there at most.
    """
    value = real.value + 1j * imag.value
    size = np.abs(value)
    radial: NDArray[np.float64] | None
    angular: NDArray[np.float64] | None
    safe = np.where(size > 0, size, 1.0)
    turned = value.conj() / safe
    if real.influence is not None and imag.influence is not None:
        error = (real.influence + 1j * imag.influence) * turned
        radial, angular = standard_error(error.real), standard_error(error.imag)
    elif real.stderr is not None and imag.stderr is not None:
        radial = angular = np.hypot(real.stderr, imag.stderr)
    else:
        radial, angular = None, None
    phase_error = None if angular is None else np.minimum(np.where(size > 0, angular / safe, np.pi), np.pi)
    amplitude = Estimate(size, radial, None, real.quantile)
    phase = Estimate(np.angle(value), phase_error, None, real.quantile)
    out: dict[str, xr.Variable] = {}
    for name, text, unit, item in (
        ("real", "real part", "1", real),
        ("imag", "imaginary part", "1", imag),
        ("amplitude", "amplitude", "1", amplitude),
        ("phase", "phase", "rad", phase),
    ):
        attrs = {"long_name": f"{text} of the {what}", "units": unit}
        out |= item.variables(name, dims, attrs, prefix=f"{name}_", keep_influence=False)
    return out
