"""The Gaussian approximation: the score of a normal density with the data's mean and covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from gfdt.covariance import DenseCovariance, SpectralCovariance, pack_covariance, unpack_covariance
from gfdt.errors import CheckpointError
from gfdt.scores.base import Score
from gfdt.trajectory import homogeneous_dims
from gfdt.validation import number

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

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
        ``("y", "x")`` (True: all state dims). C is then diagonal in Fourier space and needs n numbers, not n^2.
        Default None: a general covariance matrix.
    shrinkage : float in [0, 1)
        Weight a of the diagonal, C <- (1 - a) C + a diag(C) (of the white spectrum, if homogeneous). Default 0: the
        response is then exactly C(t) C(0)^-1. A small value makes a singular C usable, at the price of a bias: R(0) is
        no longer I, and the band does not hold that bias.

    Attributes
    ----------
    covariance_ : DenseCovariance or SpectralCovariance
        Mean and eigenvalues of C, in the units of the data squared.

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

    def __init__(self, homogeneous: bool | str | Sequence[str] | None = None, *, shrinkage: float = 0.0) -> None:
        self.homogeneous = homogeneous
        self.shrinkage = shrinkage

    def validate(self, dims: tuple[str, ...]) -> None:
        """Refuse settings that cannot be used on states with these dims; ``fit`` calls it."""
        number("shrinkage", self.shrinkage, low=0.0, high=1.0, closed=True)
        homogeneous_dims(self.homogeneous, dims)

    def _fit(self, trajectory: xr.DataArray) -> None:
        dims = tuple(str(dim) for dim in trajectory.dims[2:])
        self.validate(dims)
        states = trajectory.values.reshape(-1, *trajectory.shape[2:])
        self.covariance_: DenseCovariance | SpectralCovariance
        if homogeneous_dims(self.homogeneous, dims):
            self.covariance_ = SpectralCovariance.estimate(states, self.shrinkage)
        else:
            self.covariance_ = DenseCovariance.estimate(states, self.shrinkage)

    def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(batch.shape, dtype=batch.dtype)
        for start in range(0, batch.shape[0], _BATCH):
            part = self.covariance_.centre(batch[start : start + _BATCH])
            out[start : start + _BATCH] = self.covariance_.apply(part, lambda c: -1.0 / c)
        return out

    def _pack(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config = {"shrinkage": float(self.shrinkage)}
        return config, pack_covariance(self.covariance_)

    @classmethod
    def _unpack(cls, config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        shape = tuple(config["state_shape"])
        covariance = unpack_covariance(arrays, shape)
        if config["noise_level"] != 0 or not {"mean", "eigenvalues", "eigenvectors"}.issuperset(arrays):
            raise CheckpointError("the score file holds entries that are not a Gaussian score's: it was altered.")
        homogeneous = isinstance(covariance, SpectralCovariance) or None
        shrinkage = config.get("shrinkage", 0.0)
        number("shrinkage", shrinkage, low=0.0, high=1.0, closed=True)
        score = cls(homogeneous, shrinkage=shrinkage)
        score.covariance_ = covariance
        return score
