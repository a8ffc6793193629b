r"""The change under any small forcing: delta<A>(t) = int_0^t R(t - t') f(t') dt'."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.errors import InputError, ReliabilityWarning
from gfdt.forcing.convolution import Kernel
from gfdt.forcing.drive import Drive, Forcing, Named, Sampled, read_forcing
from gfdt.forcing.linear_range import linear_range
from gfdt.forcing.modes import field_from_modes, mode_matrices, modes_of_field
from gfdt.forcing.propagation import Estimate, propagate
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.resolution import lag_error, warn_of_coarse_lags
from gfdt.forcing.tail import geometric_tail, rms_beyond_noise, warn_of_tail

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["predict"]

_UNRESOLVED = 1e-3
_TAIL_TIMES = 16  # output times at which the missing tail is judged


def predict(
    response: xr.Dataset | xr.DataArray,
    forcing: Forcing,
    time: Sequence[float] | NDArray[Any] | xr.DataArray | None = None,
) -> xr.Dataset:
    r"""Predict the change of the observables under a small forcing f(t).

        delta<A_i>(t) = int_0^t sum_j R_ij(t - t') f_j(t') dt',

    R the cubic spline through its values. For a sampled f, taken linear between its samples, the integral is exact
    whatever the lags and the times of f; for a callable the panels are halved until nothing changes
    (:mod:`gfdt.forcing.convolution`).

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t); see :func:`gfdt.response`.
    forcing : callable, DataArray, or mapping of str to either
        In the unit of the perturbation.

        - R without perturbed dims: f(t), or a DataArray over ``time``.
        - R with perturbed dims, e.g. ``component_src``: a DataArray over ``time`` and these, or a callable that returns
          (times, \*perturbed). With named perturbations also ``{"heating": f, "wind": g}``; what is not named is zero.
        - R of a homogeneous field, with displacements ``dy, dx``: over ``time, y, x`` (and further perturbed dims),
          force per cell; circular convolution in space.

        A callable is switched on at t = 0, called with arrays of times t >= 0. A DataArray is zero before its first and
        after its last time, so that a pulse is followed by its decay.
    time : array, optional
        When the change is wanted, in the unit of the lags. Default: the times of the DataArray; for a callable the
        lags.

    Returns
    -------
    Dataset
        ``prediction`` (time, \*observed dims), with error bars also ``stderr``, ``lower``, ``upper`` and (where R has
        it) ``influence``; ``shift``, the size of the change in natural standard deviations of the observable, where R
        carries ``observable_std``, which is returned too. Attributes: ``linear_range`` ("inside", "outside" or
        "undetermined", see :mod:`gfdt.forcing.linear_range`), ``truncated_tail`` (what is missing because R ends, part
        of the largest change; :mod:`gfdt.forcing.tail`), ``quadrature_error`` (relative, of the forcing),
        ``lag_error`` (of a step response, by the spacing of the lags; :mod:`gfdt.forcing.resolution`).

    Raises
    ------
    InputError
        If the forcing's dims, labels or times do not fit the response.

    Warns
    -----
    ReliabilityWarning
        If the prediction is outside the linear range; if the forcing outlasts the lags and R had not decayed; if a
        callable is too rough for the quadrature, or the lags too far apart.

    Examples
    --------
    >>> lag = np.linspace(0.0, 12.0, 121)
    >>> R = xr.DataArray(np.exp(-lag), dims="lag", coords={"lag": lag})
    >>> ramp = predict(R, lambda t: 0.1 * t, time=[5.0])  # 0.1 (t - 1 + exp(-t))
    >>> round(float(ramp.prediction[0]), 5)
    0.40067

    References
    ----------
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), eq. 3.
    """
    R = read_response(response)
    drive = read_forcing(forcing, R)
    times = _times(time, drive, R)
    shape = R.shape(R.displacement)
    # A mapping of named perturbations has no sites, so it needs no transform.
    spectral = drive if isinstance(drive, Named) else drive.transformed(lambda x: modes_of_field(x, shape))
    width = int(np.prod(R.source_shape))
    kernel, error = Kernel(R.lags, spectral).resolved(times, width)
    if error > _UNRESOLVED:
        warnings.warn(
            f"the forcing is too rough for the quadrature (relative error {error:.1g} after the finest panels): pass "
            "it as a DataArray over 'time' whose samples mark its jumps.",
            ReliabilityWarning,
            stacklevel=2,
        )
    lags_cost, matters = lag_error(R)
    if matters:
        warn_of_coarse_lags(lags_cost, R, stacklevel=2)
    plain = Kernel(R.lags, drive, panels=kernel.panels)
    change = _Change(R, kernel, plain, width)
    estimate = change.at(times)
    natural = R.natural
    half = None if estimate.stderr is None else estimate.quantile * estimate.stderr
    verdict, shift = linear_range(estimate.value, half, natural, stacklevel=2)
    missing = change.missing(times, estimate.value)
    warn_of_tail(missing, float(R.lags[-1]), "largest predicted change", stacklevel=2)
    dims = ("time", *R.target_dims)
    attrs = {"long_name": "predicted change of the observable's mean", "units": _unit(R)}
    variables = estimate.variables("prediction", dims, attrs)
    if shift is not None:
        said = {"long_name": "predicted change in natural standard deviations of the observable", "units": "1"}
        variables["shift"] = xr.Variable(dims, shift, said)
    if natural is not None:
        variables["observable_std"] = R.source["observable_std"].variable
    coords = {"time": ("time", times, {"long_name": "time", "units": R.unit}), **R.side_coords(R.observed)}
    if isinstance(forcing, xr.DataArray):
        coords |= {site: forcing[site] for site in R.sites if site in forcing.coords}
    return xr.Dataset(variables, coords=coords).assign_attrs(
        title="linear prediction of the change under a forcing",
        observable=str(R.source.attrs.get("observable", "mean")),
        estimator=str(R.source.attrs.get("estimator", "")),
        confidence=R.confidence,
        linear_range=verdict,
        truncated_tail=missing,
        quadrature_error=error,
        lag_error=lags_cost,
    )


@dataclass(frozen=True)
class _Change:
    """The map from R to the change, for one forcing."""

    response: ResponseFunction
    kernel: Kernel  # of the forcing, over wavenumbers where there are sites
    plain: Kernel  # of the forcing over sites, whose absolute values bound the error
    width: int

    def at(self, times: NDArray[np.float64]) -> Estimate:
        return propagate(
            self.response,
            lambda batch: self._apply(batch, times, self.kernel, absolute=False),
            lambda batch: self._apply(batch, times, self.plain, absolute=True),
        )

    def _apply(
        self, batch: NDArray[Any], times: NDArray[np.float64], kernel: Kernel, *, absolute: bool
    ) -> NDArray[np.float64]:
        """(batch, lag, *dims) to (batch, time, *target): one matrix product for each wavenumber."""
        R = self.response
        shape = R.shape(R.displacement)
        matrices = np.moveaxis(mode_matrices(R, batch), 2, 1)  # (mode, lag, batch, observed, perturbed)
        n_modes, n_lags, n_batch, n_observed, n_perturbed = matrices.shape
        right = np.moveaxis(matrices, -1, 2).reshape(n_modes, n_lags * n_perturbed, n_batch * n_observed)
        out = np.empty((n_modes, times.size, n_batch * n_observed), dtype=right.dtype)
        for part, weights in kernel.chunks(times, self.width):
            found = weights
            if absolute:
                found = modes_of_field(np.abs(weights).reshape(-1, self.width), shape)
            left = np.moveaxis(found.reshape(-1, n_lags, n_modes, n_perturbed), 2, 0)
            out[:, part] = left.reshape(n_modes, -1, n_lags * n_perturbed) @ right
        fields = field_from_modes(out, shape).reshape(times.size, n_batch, *R.target_shape)
        return np.moveaxis(fields, 1, 0)

    def missing(self, times: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
        """What the lags beyond T would add, as part of the largest change."""
        longest = float(self.response.lags[-1])
        start, largest = self.kernel.drive.start, float(np.abs(prediction).max(initial=0.0))
        late = times[times > start + longest * (1 + 1e-9)]
        if late.size == 0 or largest == 0:
            return 0.0
        probes = late[np.unique(np.linspace(0, late.size - 1, _TAIL_TIMES).astype(int))]
        if late[-1] - self.kernel.drive.end > 0.5 * longest:
            # The forcing is over by then, and the last quarters see none of it: look when they did.
            probes = np.linspace(start + 0.5 * longest, self.kernel.drive.end + longest, _TAIL_TIMES)
        sizes = []
        for low, high in ((0.5, 0.75), (0.75, 1.0)):
            window = (low * longest, high * longest)
            kernel, plain = (Kernel(k.lags, k.drive, window, k.panels) for k in (self.kernel, self.plain))
            part = _Change(self.response, kernel, plain, self.width).at(probes)
            sizes.append(rms_beyond_noise(part.value, part.stderr))
        return geometric_tail(sizes[0], sizes[1], (late[-1] - start - longest) / (0.25 * longest)) / largest


def _times(time: Any, drive: Drive, response: ResponseFunction) -> NDArray[np.float64]:
    if time is None:
        return drive.times if isinstance(drive, Sampled) else response.lags
    try:
        times = np.atleast_1d(np.asarray(getattr(time, "values", time), dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"time is not numeric ({error}): pass times in the unit of the lags ({response.unit})."
        ) from error
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all():
        raise InputError(f"time has shape {times.shape}: pass a list of finite times.")
    return times


def _unit(response: ResponseFunction) -> str:
    return str(response.source.get("observable_mean", xr.DataArray(0.0)).attrs.get("units", "1"))
