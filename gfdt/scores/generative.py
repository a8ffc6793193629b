"""What a score can do as the model of a density: samples, denoising, likelihood, and a bound that judges it.

The methods are those of every :class:`gfdt.Score`. They work on the scores of one density at all noise levels, the
:class:`gfdt.density.family.Family` that an estimator gives with ``_family()``, in coordinates in which the noise is
white; here states go into these coordinates and answers come back in the units of the data. The numerics are in
:mod:`gfdt.density`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from gfdt.errors import InputError
from gfdt.validation import integer, one_of, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from gfdt.density.family import Family
    from gfdt.density.schedules import Schedule
    from gfdt.scores.base import Score

__all__ = ["Generative"]

UNITS = ("nats", "bits/dim")


class Generative:
    """The methods of a score as a generative model; :class:`gfdt.Score` inherits them."""

    if TYPE_CHECKING:
        state_dims_: tuple[str, ...]
        state_shape_: tuple[int, ...]
        noise_level_: float | NDArray[np.float64]

        def _require_fit(self) -> None: ...
        def _require_state(self) -> None: ...
        def _ordered(self, x: xr.DataArray) -> xr.DataArray: ...
        def _batch(self, x: NDArray[Any], name: str = "x") -> NDArray[Any]: ...
        def _evaluate(self, batch: NDArray[Any]) -> NDArray[Any]: ...

    def family(self) -> Family:
        """Return the scores of the density at every noise level, the object that :mod:`gfdt.density` works on.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        InputError
            If the estimator knows its own noise level only.
        """
        self._require_state()
        return self._family()

    def sample(
        self,
        n: int,
        *,
        method: str = "heun",
        lam: float | None = None,
        n_steps: int | None = None,
        schedule: str | Schedule = "edm",
        given: Any = None,
        n_particles: int = 8,
        decode: bool = True,
        seed: int = 0,
        progress: bool | None = None,
    ) -> xr.DataArray:
        """Draw independent states from the density.

        Noise is taken off from the highest level down, by a member of the family of reverse processes that all have
        the same densities if the score is exact (:mod:`gfdt.density.steps`): λ = 0 is the reverse SDE, λ = 1 the
        probability-flow ODE. What differs between them is an error of the score.

        Parameters
        ----------
        n : int
            Number of states.
        method : {"heun", "sde", "ode", "euler", "euler-maruyama", "predictor-corrector", "langevin"}
            heun (or sde): the exponential Heun scheme with λ = 0, of order 2; ode: the same with λ = 1;
            euler (or euler-maruyama): of order 1; predictor-corrector: Heun, and Metropolis-adjusted Langevin steps
            after each; langevin: only such steps, at the score's own noise level, from the Gaussian of the same
            covariance (for scores that know no other level; modes far apart do not get their weights).
            Default heun: see ``benchmarks/sampling.py``.
        lam : float <= 1, optional
            λ. Default: 0, and 1 for ode. Not for langevin.
        n_steps : int, optional
            Steps from the highest level down. Default: see :data:`gfdt.density.sampling.STEPS`.
        schedule : {"edm", "ve", "vp"} or Schedule
            Where the steps are placed (:mod:`gfdt.density.schedules`). Default edm (Karras et al. 2022).
        given : optional
            What is known of the state: an array or DataArray with NaN where it is not known, ``gfdt.Partial`` (the
            same, with noise), ``gfdt.Coarse`` or ``gfdt.LinearObservation``; see :mod:`gfdt.density.conditional`,
            which has a scheme of its own and takes no method or lam.
        n_particles : int
            With ``given``: particles that each sample is drawn from, at that multiple of the cost. More of them lessen
            the bias of what separate modes weigh, which grows with the number of components. Default 8; see there.
        decode : bool
            Take the noise of the score's own level off too, so that the samples are states of the system; it is done
            in one step, which blurs structure finer than that level. Default True. False: samples of the density
            whose score this is, blurred at ``noise_level_``.
        seed : int
            Sample k depends on the seed and on k only, not on how many there are.
        progress : bool, optional
            Show a progress bar. Default: in a terminal.

        Returns
        -------
        DataArray with dims (sample, *state)
            In the units of the data.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        InputError
            If an argument cannot be used, the estimator knows one noise level only (except langevin), or the states
            do not stay finite.

        Warns
        -----
        ReliabilityWarning
            If the density is far from a Gaussian at the largest noise level that is known; with ``given``, if few of
            the particles are effective.

        References
        ----------
        Huang, Lim & Courville, arXiv:2106.02808, section 4; Song et al., arXiv:2011.13456, section 4.
        """
        from gfdt.density.sampling import Sampler, sample

        integer("n", n, 1, 10**9)
        integer("seed", seed, 0, 2**63 - 1)
        self._require_state()
        sampler = Sampler.make(method, lam=lam, n_steps=n_steps, schedule=schedule, decode=decode)
        if given is not None:
            from gfdt.density.conditional import parse_given, sample_given

            family = self.family()
            a = sample_given(
                family,
                parse_given(given, cast("Score", self)),
                n,
                method=sampler.method,
                lam=sampler.lam,
                n_steps=sampler.steps(family),
                schedule=schedule,
                decode=decode,
                n_particles=n_particles,
                seed=seed,
                progress=progress,
            )
        else:
            family = self._single_level() if sampler.method == "langevin" else self.family()
            a = sample(family, n, sampler, seed=seed, progress=progress)
        return self._labelled(family.units.data(a.reshape(-1, *family.shape)))

    def denoise(self, x: NDArray[Any] | xr.DataArray, sigma: ArrayLike) -> Any:
        """Return the mean of the states that a noisy one may come from, E[x0 | x0 + σ z = x], z white.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            Noisy states, in the units of the data.
        sigma : float or ndarray broadcastable to a state
            Standard deviation of the noise in the units of the data; per component it has the proportions of
            ``noise_level_``, or of the standard deviations where that is 0: the noise the score was learned for.

        Returns
        -------
        ndarray or DataArray, of the type and shape of x

        Raises
        ------
        NotFittedError, InputError
            If x or sigma cannot be used.

        References
        ----------
        Efron, J. Am. Stat. Assoc. 106, 1602 (2011), eq. 1.4 (Tweedie's formula): x + σ² s(x; σ).
        """
        self._require_state()
        family, level = self._noisy(sigma)
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            return ordered.copy(data=self.denoise(ordered.values, sigma)).transpose(*x.dims)
        x = np.asarray(x)
        batch = self._batch(x)
        out = np.empty(batch.shape)
        for part in _parts(batch.shape):
            out[part] = family.units.data(family.denoised(family.units.states(batch[part]), level))
        return out.astype(np.float32 if x.dtype == np.float32 else np.float64, copy=False).reshape(x.shape)

    def log_prob(
        self,
        x: NDArray[Any] | xr.DataArray,
        *,
        n_steps: int | None = None,
        n_probes: int | None = None,
        seed: int = 0,
        unit: str = "nats",
        return_stderr: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Return ln ρ(x) of the density whose score this is, blurred at ``noise_level_``, by the probability flow.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.
        n_steps : int, optional
            Steps of the flow. Default: see :mod:`gfdt.density.likelihood`. Their error is not in ``stderr``.
        n_probes : int, optional
            Estimate the divergence with so many random vectors (Hutchinson). Default None: exact, or a fixed number
            of probes where d > 64.
        seed : int
            Of the probes.
        unit : {"nats", "bits/dim"}
            nats: ln ρ, of a density in the units of the data. bits/dim: -log2 ρ/d, the usual code length, smaller for
            more likely states.
        return_stderr : bool
            Return ``(log_prob, stderr)``, stderr from the spread over the probes.
        progress : bool, optional
            Show a progress bar. Default: in a terminal.

        Returns
        -------
        ndarray of shape (...) or DataArray without the state dims
            A tuple of two with ``return_stderr``.

        Raises
        ------
        NotFittedError, InputError
            If an argument cannot be used, or the estimator knows one noise level only.
        """
        from gfdt.density import likelihood

        options = {"n_steps": n_steps, "n_probes": n_probes}
        return self._per_state(likelihood.log_prob, x, "log_prob", options, seed, unit, return_stderr, progress)

    def elbo(
        self,
        x: NDArray[Any] | xr.DataArray,
        *,
        n_levels: int | None = None,
        schedule: str | Schedule = "edm",
        decode: bool = False,
        seed: int = 0,
        unit: str = "nats",
        return_stderr: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Return a lower bound on ln ρ(x), tight if the score is exact; only scores are evaluated, no derivatives.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States, in the units of the data.
        n_levels : int, optional
            Noise levels drawn for each state, 16 or more. Default: see :mod:`gfdt.density.bound`.
        schedule : {"edm", "ve", "vp", "learned"} or Schedule
            Their distribution, which the bound does not depend on; its noise does. learned: the one with the least
            noise for this score (Kingma et al. 2021), found from 64 of the states; worth its cost for some hundred.
        decode : bool
            Bound the density of the data instead of the one blurred at ``noise_level_``, so that scores of different
            noise levels can be compared. Default False.
        seed : int
            Of levels and noise.
        unit, return_stderr, progress
            As in :meth:`log_prob`; stderr is that of the Monte-Carlo estimate, for each state. Of a single state it
            is rough (a deviation is distributed like a Student t of few degrees of freedom); the root of the sum of
            squares over states is the right error of their mean.

        Returns
        -------
        ndarray of shape (...) or DataArray without the state dims
            A tuple of two with ``return_stderr``.

        Raises
        ------
        NotFittedError, InputError
            As :meth:`log_prob`.

        References
        ----------
        Huang, Lim & Courville, arXiv:2106.02808, eq. 20.
        """
        from gfdt.density import bound

        options = {"n_levels": n_levels, "schedule": schedule, "decode": decode}
        return self._per_state(bound.elbo, x, "elbo", options, seed, unit, return_stderr, progress)

    def bound(
        self,
        x: NDArray[Any] | xr.DataArray,
        *,
        reference: Any = None,
        n_levels: int | None = None,
        schedule: str | Schedule = "edm",
        decode: bool = True,
        seed: int = 0,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Return the mean bound over held-out states, and which noise levels it is won and lost at.

        Parameters
        ----------
        x : ndarray of shape (..., *state) or DataArray with the state dims
            States the score was not fitted on, in the units of the data. Along a dim ``member`` they are independent:
            standard errors are over members then, else over the states, or stretches of them.
        reference : Score, optional
            A score taken for exact, e.g. an :class:`gfdt.AnalyticScore`: the gap to it is then known at every level.
        decode : bool
            As in :meth:`elbo`, but with True for the default: ``x`` are states of the data, not blurred ones.
        n_levels, schedule, seed, progress
            As in :meth:`elbo`.

        Returns
        -------
        Dataset
            What it holds is said at :func:`gfdt.density.bound.bound`.

        Raises
        ------
        NotFittedError, InputError
            As :meth:`log_prob`; or if the reference is of other states or other noise.
        """
        from gfdt.density import bound
        from gfdt.density.recast import recast

        integer("n_levels", n_levels, 2, 10**6, optional=True)
        integer("seed", seed, 0, 2**63 - 1)
        family = self.family()
        unit_of = None
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            frame = ordered.isel(dict.fromkeys(self.state_dims_, 0), drop=True)
            if frame.sizes.get("member", 1) > 1:
                members = xr.DataArray(np.arange(frame.sizes["member"]), dims="member")
                unit_of = members.broadcast_like(frame).transpose(*frame.dims).values.ravel()
            x = ordered.values
        a = family.units.states(self._batch(np.asarray(x)))
        other = None if reference is None else recast(reference.family(), family)
        options: dict[str, Any] = {} if n_levels is None else {"n_levels": n_levels}
        return bound.bound(
            family,
            a,
            reference=other,
            schedule=schedule,
            decode=decode,
            unit_of=unit_of,
            seed=seed,
            progress=progress,
            **options,
        )

    # ---- what an estimator overrides

    def _family(self) -> Family:
        """Return the family of a fitted score; see :class:`gfdt.density.family.Family`."""
        raise InputError(
            f"a {type(self).__name__} is known at one noise level only, and this takes the scores at all of them: use "
            'DSMScore, GaussianScore, KDEScore, AnalyticScore(..., blurred=...), or sample(method="langevin").'
        )

    def _noisy(self, sigma: ArrayLike) -> tuple[Family, float]:
        """Return a family in whose coordinates noise of standard deviation sigma is white, and its level there."""
        family = self._family()
        return family, _level(family, sigma)

    def _single_level(self) -> Family:
        """Return a family with f at the score's own level only, for Langevin dynamics."""
        from gfdt.density.family import Family
        from gfdt.density.standardise import standardised
        from gfdt.density.whitened import covariance_of_data

        covariance = getattr(self, "covariance_", None)
        if covariance is None and hasattr(self, "_whitening"):
            covariance = covariance_of_data(self._whitening)
        if covariance is None:
            raise InputError(
                f"this {type(self).__name__} does not know mean and covariance of the data, where Langevin dynamics "
                "starts: for an AnalyticScore pass gaussian=gfdt.GaussianScore() and fit it."
            )
        noisy = bool(np.any(np.asarray(self.noise_level_) > 0))
        units, rescaled = standardised(covariance, self.state_shape_, self.noise_level_ if noisy else None)
        linear = Family(units, rescaled, self.state_shape_, level=float(np.ravel(self.noise_level_ / units.scale)[0]))

        def correction(a: NDArray[np.float64], level: float) -> NDArray[np.float64]:
            return units.scale * self._evaluate(units.data(a)) - linear.linear_score(a, level)

        return dataclasses.replace(linear, correction=correction)

    # ---- between the data and the coordinates of the family

    def _per_state(
        self,
        function: Any,
        x: NDArray[Any] | xr.DataArray,
        name: str,
        options: dict[str, Any],
        seed: int,
        unit: str,
        return_stderr: bool,
        progress: bool | None,
    ) -> Any:
        """Return function(family, a, ...) with its standard error as log densities in the units of the data."""
        one_of("unit", unit, UNITS)
        integer("seed", seed, 0, 2**63 - 1)
        family = self.family()
        options = {key: value for key, value in options.items() if value is not None}
        if isinstance(x, xr.DataArray):
            ordered = self._ordered(x)
            both = self._per_state(function, ordered.values, name, options, seed, unit, True, progress)
            frame = ordered.isel(dict.fromkeys(self.state_dims_, 0), drop=True)
            order = [dim for dim in x.dims if dim not in self.state_dims_]
            texts = ("log density" if name == "log_prob" else "lower bound on the log density", "standard error")
            named = [
                frame.copy(data=values).transpose(*order).rename(key).assign_attrs(long_name=text, units=unit)
                for values, key, text in zip(both, (name, "stderr"), texts, strict=True)
            ]
            return tuple(named) if return_stderr else named[0]
        x = np.asarray(x)
        batch = self._batch(x)
        value, stderr = function(family, family.units.states(batch), seed=seed, progress=progress, **options)
        value = value - family.units.log_volume(family.shape)
        if unit == "bits/dim":
            scale = 1 / (family.size * math.log(2))
            value, stderr = -scale * value, scale * stderr
        lead = x.shape[: x.ndim - len(self.state_shape_)]
        return (value.reshape(lead), stderr.reshape(lead)) if return_stderr else value.reshape(lead)

    def _labelled(self, x: NDArray[np.float64]) -> xr.DataArray:
        dims = ("sample", *self.state_dims_)
        return xr.DataArray(x, dims=dims, coords={"sample": np.arange(len(x))}, name="sample")


def _level(family: Family, sigma: ArrayLike) -> float:
    """Return the level of noise of standard deviation sigma in the data."""
    scale = getattr(family.units, "scale", None)
    if scale is None:
        raise InputError(
            "the noise that this score knows has the correlations of the data, as it is white in whitened coordinates: "
            "it cannot take off noise that is independent in every component. Use DSMScore, or GaussianScore."
        )
    value = np.asarray(sigma)
    numeric = np.issubdtype(value.dtype, np.floating) or np.issubdtype(value.dtype, np.integer)
    try:
        ratio = np.broadcast_to(value.astype(np.float64) / scale if numeric else np.nan, family.shape)
    except ValueError:
        ratio = np.array(np.nan)
    level = float(ratio.flat[0])
    if not (np.isfinite(ratio).all() and level >= 0 and np.allclose(ratio, level, rtol=1e-6, atol=0.0)):
        raise InputError(
            f"sigma={shown(sigma)} is not noise of this score's kind, whose standard deviation is in every component "
            f"the same multiple of {shown(np.squeeze(scale))}: pass such a multiple, not negative."
        )
    return level


def _parts(shape: tuple[int, ...]) -> Any:
    """Yield slices of a batch that bound the memory of an evaluation."""
    from gfdt.record import state_batches

    return state_batches(shape)
