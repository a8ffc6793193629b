r"""Statistics of modes: the covariance or spectrum, and the shape of the density of single modes.

Modes z are the coordinates in which the record, blurred as the score has it, is white: principal components of the
components in units of their standard deviations; for a homogeneous field Fourier coefficients z_k = a_k/(n C_k)^½, and
with several variables the principal components of each wavenumber. So <|z|²> = 1 for the record.

- second order: <|z|²> for every mode, which is the ratio of the two spectra; for up to 16 components <z_i z_j> of all
  pairs, which should be δ_ij.
- shape: the fourth moment [<|z|⁴>/<|z|²>² - 3]/√24 of real modes, [<|z|⁴>/<|z|²>² - 2]/2 of complex ones (orthonormal
  polynomials of degree four, as in :mod:`gfdt.certificate.one_point`): the sites of a field may look Gaussian when a
  single large-scale mode is bimodal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.certificate.comparison import Statistic
from gfdt.covariance import CrossSpectralCovariance, DenseCovariance, SpectralCovariance
from gfdt.diagnostics.sample import blurred_covariance, covariance_of
from gfdt.responses.prepare import Prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Modes", "mode_shape", "modes_of", "second_order"]

_PAIRS = 16  # components up to which all pairs are looked at


@dataclass(frozen=True)
class Modes:
    """The modes of a record.

    Attributes
    ----------
    coordinates : callable
        Maps a, (n, *state), to z, (n, mode), real or complex.
    real : (mode,) bool
        Which modes are real.
    where : (mode, 1 or 2) int
        As :class:`gfdt.diagnostics.names.Names` takes it: the number of the principal component, 1 for that with the
        largest variance, or the index of the wavenumber in the half plane, with several variables also the variable
        that has most of it.
    power : (mode,)
        Variance of each in the blurred record, in squared standard deviations.
    """

    coordinates: Callable[[NDArray[np.float64]], NDArray[Any]]
    real: NDArray[np.bool_]
    where: NDArray[np.int64]
    power: NDArray[np.float64]

    @property
    def all_pairs(self) -> bool:
        """Whether <z_i z_j> is looked at for all pairs."""
        return bool(self.real.all()) and self.real.size <= _PAIRS

    def pair(self, entry: int) -> tuple[int, int]:
        """Return the two modes of an entry of :func:`second_order`."""
        return divmod(entry, self.real.size) if self.all_pairs else (entry, entry)


def modes_of(ready: Prepared, noise_level: float | NDArray[np.float64]) -> Modes:
    """Return the modes with variance of a record blurred by σ."""
    covariance = covariance_of(ready, blurred_covariance(ready, ready.covariance, noise_level))
    if isinstance(covariance, DenseCovariance):
        return _principal_components(covariance)
    return _wavenumbers(covariance) if isinstance(covariance, SpectralCovariance) else _cross(covariance)


def second_order(modes: Modes) -> Statistic:
    """<|z|²> of every mode, or <z_i z_j> of all pairs; summary (1, entry)."""
    n_modes = modes.real.size

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        z = modes.coordinates(values)
        if modes.all_pairs:
            return (z[:, :, None] * z[:, None, :]).reshape(len(z), -1)
        return np.abs(z) ** 2

    def unit(expected: NDArray[np.float64]) -> NDArray[np.float64]:
        if not modes.all_pairs:
            return expected
        spread = np.sqrt(expected[..., :: n_modes + 1])
        return (spread[..., :, None] * spread[..., None, :]).reshape(expected.shape)

    return Statistic(features, n_modes**2 if modes.all_pairs else n_modes, lambda means: means[..., None, :], unit)


def mode_shape(modes: Modes) -> Statistic:
    """Fourth moment of every mode; summary (1, mode)."""
    gaussian = np.where(modes.real, 3.0, 2.0)
    scale = np.where(modes.real, math.sqrt(24), 2.0)

    def features(values: NDArray[np.float64]) -> NDArray[np.float64]:
        power = np.abs(modes.coordinates(values)) ** 2
        return np.concatenate([power, power**2], axis=1)

    def summary(means: NDArray[np.float64]) -> NDArray[np.float64]:
        second, fourth = np.split(means, 2, axis=-1)
        return ((fourth / np.maximum(second, 1e-300) ** 2 - gaussian) / scale)[..., None, :]

    def unit(expected: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(1 + scale * expected / gaussian, 1.0)

    return Statistic(features, 2 * modes.real.size, summary, unit)


def _principal_components(covariance: DenseCovariance) -> Modes:
    present = np.flatnonzero(covariance.eigenvalues > 0)[::-1]
    power = covariance.eigenvalues[present]
    basis = covariance.eigenvectors[:, present] / np.sqrt(power)
    where = np.arange(1, present.size + 1)[:, None]
    return Modes(lambda a: a.reshape(len(a), -1) @ basis, np.ones(present.size, dtype=bool), where, power)


def _wavenumbers(covariance: SpectralCovariance) -> Modes:
    shape, power = covariance.shape, covariance.eigenvalues.ravel()
    present = np.flatnonzero(power > 0)
    scale = np.sqrt(power[present] * math.prod(shape))

    def coordinates(a: NDArray[np.float64]) -> NDArray[Any]:
        spectrum = scipy.fft.rfftn(a, axes=tuple(range(1, a.ndim))).reshape(len(a), -1)
        return spectrum[:, present] / scale

    return Modes(coordinates, _self_conjugate(shape)[present], present[:, None], power[present])


def _cross(covariance: CrossSpectralCovariance) -> Modes:
    shape, vectors = covariance.shape, covariance.eigenvectors
    n_variables = vectors.shape[0]
    power = covariance.eigenvalues.reshape(n_variables, -1)
    component, wave = np.nonzero(power > 0)
    flat = vectors.reshape(n_variables, n_variables, -1)
    basis = flat[:, component, wave].conj() / np.sqrt(power[component, wave] * math.prod(shape))

    def coordinates(a: NDArray[np.float64]) -> NDArray[Any]:
        spectrum = scipy.fft.rfftn(a, axes=tuple(range(2, a.ndim))).reshape(len(a), n_variables, -1)
        return np.einsum("vm,nvm->nm", basis, spectrum[:, :, wave])

    variable = np.abs(flat[:, component, wave]).argmax(axis=0)
    where = np.stack([wave, variable], axis=1)
    return Modes(coordinates, _self_conjugate(shape)[wave], where, power[component, wave])


def _self_conjugate(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which wavenumbers of the half plane equal their negatives, so that the coefficients are real."""
    half = (*shape[:-1], shape[-1] // 2 + 1)
    waves = np.stack(np.unravel_index(np.arange(math.prod(half)), half))
    return ((2 * waves) % np.array(shape)[:, None] == 0).all(axis=0)
