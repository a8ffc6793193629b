"""What a score file keeps of a covariance, and how it is checked when it comes back from a stranger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.covariance.cross import CrossSpectralCovariance
from gfdt.covariance.dense import DenseCovariance
from gfdt.covariance.spectral import SpectralCovariance
from gfdt.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COVARIANCE_ARRAYS", "pack_covariance", "unpack_covariance"]

COVARIANCE_ARRAYS = frozenset({"mean", "eigenvalues", "eigenvectors", "eigenvectors_real", "eigenvectors_imag"})


def pack_covariance(
    covariance: DenseCovariance | SpectralCovariance | CrossSpectralCovariance,
) -> dict[str, NDArray[Any]]:
    """Return the arrays a score file keeps of a covariance."""
    arrays = {"mean": np.atleast_1d(np.asarray(covariance.mean)), "eigenvalues": covariance.eigenvalues}
    if isinstance(covariance, DenseCovariance):
        arrays["eigenvectors"] = covariance.eigenvectors
    if isinstance(covariance, CrossSpectralCovariance):
        arrays["eigenvectors_real"] = covariance.eigenvectors.real
        arrays["eigenvectors_imag"] = covariance.eigenvectors.imag
    return arrays


def unpack_covariance(
    arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]
) -> DenseCovariance | SpectralCovariance | CrossSpectralCovariance:
    """Rebuild a covariance from saved arrays, refusing any that do not belong to a state of this shape."""
    expected = _expected(arrays, shape)
    for name, wanted in expected.items():
        if name not in arrays or arrays[name].shape != wanted or arrays[name].dtype.kind != "f":
            found = f"{arrays[name].dtype} {arrays[name].shape}" if name in arrays else "nothing"
            raise CheckpointError(
                f"the score file holds {found} for {name!r}, expected real numbers of shape {wanted} for a state of "
                f"shape {shape}: it was altered or cut; fit the score anew."
            )
    checked = {name: arrays[name].astype(np.float64) for name in expected}
    eigenvalues = checked["eigenvalues"]
    if not (eigenvalues.min() >= 0 and 0 < eigenvalues.max() < np.inf):
        raise CheckpointError(
            "the score file holds a covariance that is not positive: it was altered; fit the score anew."
        )
    if "eigenvectors" in checked:
        return DenseCovariance(checked["mean"], eigenvalues, checked["eigenvectors"])
    if "eigenvectors_real" in checked:
        vectors = checked["eigenvectors_real"] + 1j * checked["eigenvectors_imag"]
        return CrossSpectralCovariance(checked["mean"], eigenvalues, vectors, tuple(shape[1:]))
    return SpectralCovariance(float(checked["mean"][0]), eigenvalues, tuple(shape))


def _expected(arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    size = int(np.prod(shape))
    if "eigenvectors" in arrays:
        return {"mean": (size,), "eigenvalues": (size,), "eigenvectors": (size, size)}
    if not shape:
        raise CheckpointError("the score file holds a spectrum for a state without dims: it was altered.")
    half = (*shape[:-1], shape[-1] // 2 + 1)
    if "eigenvectors_real" in arrays and len(shape) > 1:
        n, grid = shape[0], half[1:]
        vectors = (n, n, *grid)
        return {
            "mean": (n,),
            "eigenvalues": (n, *grid),
            "eigenvectors_real": vectors,
            "eigenvectors_imag": vectors,
        }
    return {"mean": (1,), "eigenvalues": half}
