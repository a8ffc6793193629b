"""The Gaussian approximation: the score of a normal density with the data's mean and covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gfdt.covariance import Covariance, DenseCovariance, estimate_covariance, pack_covariance, unpack_covariance
from gfdt.covariance.shrinkage import AUTOMATIC
from gfdt.covariance.storage import COVARIANCE_ARRAYS
from gfdt.density.family import Family
from gfdt.density.standardise import standardised
from gfdt.errors import CheckpointError
from gfdt.scores.base import Score
from gfdt.trajectory import homogeneous_dims
from gfdt.validation import number, one_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

__all__ = ["GaussianScore"]

_BATCH = 4096


class GaussianScore(Score):
    """Score of the Gaussian fit: s(x) = -C^-1 (x - m).

    With it the GFDT response is the classical R(t) = C(t) C(0)^-1 (PRL, text after eq. 5): the baseline
    every other estimator is judged against, exact if the data are Gaussian.

    Parameters
    ----------
    homogeneous : None, True or sequence of str
        The dims along which the field is statistically the same everywhere and periodic, e.g.
        ``("y", "x")`` (True: all state dims). C is then diagonal in Fourier space and needs n numbers, not n^2. All
        but the first: several variables at every site, one small matrix per wavenumber.
        Default None: a general covariance matrix.
    shrinkage : float in [0, 1) or "ledoit-wolf"
        Weight a of the diagonal, C <- (1 - a) C + a diag(C) (of the white spectrum, if homogeneous). Default 0: the
        response is then exactly C(t) C(0)^-1. A small value makes a singular C usable, at the price of a bias: R(0) is
        no longer I, and the band does not hold that bias. "ledoit-wolf" finds the weight with the smallest expected
        error of C (:mod:`gfdt.covariance.shrinkage`).

    Attributes
    ----------
    covariance_ : DenseCovariance, SpectralCovariance or CrossSpectralCovariance
        Mean and eigenvalues of C, in the units of the data squared.
    shrinkage_ : float
        The weight a that was used.

    Notes
    -----
    Directions or wavenumbers without any variance (the Nyquist modes of a dealiased flow) are outside the support of
    the density: the score is zero along them.

    Examples
    --------
    >>> import numpy as np, gfdt
    >>> x = np.random.default_rng(0).normal(2.0, 0.5, (1, 4000, 1))
    >>> score = gfdt.GaussianScore().fit(x, dims=("member", "time", "component"))
    >>> score(np.array([[2.5]])).shape
    (1, 1)

    References
    ----------
    Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024).
    """

    label: ClassVar[str] = "gaussian"

    def __init__(self, homogeneous: bool | str | Sequence[str] | None = None, *, shrinkage: float | str = 0.0) -> None:
        self.homogeneous = homogeneous
        self.shrinkage = shrinkage

    def validate(self, dims: tuple[str, ...]) -> None:
        """Refuse settings that cannot be used on states with these dims; ``fit`` calls it."""
        shrinkage_weight(self.shrinkage)
        homogeneous_dims(self.homogeneous, dims, variables=True)

    def _fit(self, trajectory: xr.DataArray) -> None:
        dims = tuple(str(dim) for dim in trajectory.dims[2:])
        self.validate(dims)
        states = trajectory.values.reshape(-1, *trajectory.shape[2:])
        n_homogeneous = len(homogeneous_dims(self.homogeneous, dims, variables=True))
        self.covariance_: Covariance = estimate_covariance(states, n_homogeneous, self.shrinkage)
        self.shrinkage_ = self.covariance_.shrinkage

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(batch.shape, dtype=batch.dtype)
        for start in range(0, batch.shape[0], _BATCH):
            part = self.covariance_.centre(batch[start : start + _BATCH])
            out[start : start + _BATCH] = self.covariance_.apply(part, _minus_inverse)
        return out

    def _jvp(self, batch: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002  the same at every state
        return self.covariance_.apply(v, _minus_inverse)

    def _transposed_jvp(self, batch: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        return self._jvp(batch, v)  # symmetric

    def _divergence(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        return np.full(len(batch), self.covariance_.trace(_minus_inverse))

    def _family(self) -> Family:
        units, covariance = standardised(self.covariance_, self.state_shape_)
        return Family(units, covariance, self.state_shape_, level=0.0)

    def _noisy(self, sigma: ArrayLike) -> tuple[Family, float]:
        """A Gaussian can be blurred by any noise, not only by such as has the proportions of the components."""
        given = np.asarray(sigma)
        if not (np.issubdtype(given.dtype, np.number) and np.all(given > 0)):
            return super()._noisy(sigma)
        units, covariance = standardised(self.covariance_, self.state_shape_, sigma)
        return Family(units, covariance, self.state_shape_, level=0.0), float(np.ravel(given / units.scale)[0])

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"shrinkage": float(self.shrinkage_)}, pack_covariance(self.covariance_)

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        shape = tuple(config["state_shape"])
        covariance = unpack_covariance(arrays, shape)
        if config["noise_level"] != 0 or not COVARIANCE_ARRAYS.issuperset(arrays):
            raise CheckpointError("the score file holds entries that are not a Gaussian score's: it was altered.")
        shrinkage = config.get("shrinkage", 0.0)
        number("shrinkage", shrinkage, low=0.0, high=1.0 + 1e-9, closed=True)
        dims = tuple(config["state_dims"])
        periodic = None if isinstance(covariance, DenseCovariance) else dims[-len(covariance.shape) :]
        score = cls(periodic, shrinkage=min(shrinkage, 1 - 1e-9))
        score.covariance_, score.shrinkage_ = covariance, shrinkage
        return score


def shrinkage_weight(value: float | str) -> None:
    """Refuse anything but a weight in [0, 1) or the name of the automatic one."""
    if isinstance(value, str):
        one_of("shrinkage", value, (AUTOMATIC,), " or a weight in [0, 1)")
    else:
        number("shrinkage", value, low=0.0, high=1.0, closed=True)


def _minus_inverse(eigenvalues: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -1/c, and 0 where there is no variance."""
    return np.divide(-1.0, eigenvalues, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)
