"""What every system has in common: the one abstract base class.

Notation used by all systems: u or x is the state, f(u) its drift, noise is Ito and, but for `Triad`, additive,
du = f(u) dt + dN with <dN dN^T> = Q dt; s = grad log rho is the score of the stationary density rho; R(t) is the
linear response of the state to a small kick of the state at time 0, R_ij(t) = -<u_i(t) s_j(u(0))>, R(0) = I
(Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), the "PRL" below).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simulators.checks import check_cluster, check_flags
from simulators.errors import NoScoreError, ParameterError
from simulators.labels import on_state
from simulators.members import require_members
from simulators.plan import Plan, make_plan
from simulators.schema import Layout

if TYPE_CHECKING:
    import xarray as xr

    from simulators.engine import Stepper
    from simulators.output import Sink

__all__ = ["PRL", "System"]

PRL = "Giorgini, Deck, Bischoff, Souza, Phys. Rev. Lett. 133, 267302 (2024), doi:10.1103/PhysRevLett.133.267302"


class System(ABC):
    """A stochastic system with fixed parameters; subclasses are frozen dataclasses.

    A subclass states `name`, `title` and `references`, and implements `layout`, `make_stepper` and
    `_drift_array`; `_score_array` where the stationary density is known.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    references: ClassVar[str]
    # Systems that draw their initial state from the stationary density need no spin-up ...
    default_spinup: ClassVar[float] = 0.0
    # ... and systems with an exact transition law no step smaller than the save interval.
    default_dt: ClassVar[float | None] = None

    @abstractmethod
    def layout(self) -> Layout:
        """Return the labels of the state."""

    @abstractmethod
    def make_stepper(self, dt: float, n_steps: int) -> "Stepper":
        """Return the moves of one member, with `n_steps` steps of `dt` between snapshots."""

    @abstractmethod
    def _drift_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return f(u) for an array (..., *state)."""

    def _score_array(self, u: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: ARG002
        """Return s(u) for an array (..., *state)."""
        raise NoScoreError(
            f"the score of {type(self).__name__} has no closed form: expected a system whose stationary density is "
            "known; learn it from a trajectory with gfdt.DSMScore, or measure the response with direct_response"
        )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain numbers and lists, ready for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}

    def drift(self, u: Any) -> Any:
        """Return the drift f(u), the deterministic part of du/dt.

        Parameters
        ----------
        u : ndarray or xarray.DataArray
            States, shape (..., *state); a DataArray may have the state dimensions anywhere.

        Returns
        -------
        ndarray or xarray.DataArray
            Same type, shape and dimensions as `u`.

        Raises
        ------
        ParameterError
            If the state dimensions are missing or have another size.
        """
        return on_state(self._drift_array, u, self.layout())

    def score(self, u: Any) -> Any:
        """Return the exact score s(u) = grad log rho(u) of the stationary density.

        Parameters
        ----------
        u : ndarray or xarray.DataArray
            States, shape (..., *state); a DataArray may have the state dimensions anywhere.

        Returns
        -------
        ndarray or xarray.DataArray
            Same type, shape and dimensions as `u`; unit 1 / (unit of u).

        Raises
        ------
        NoScoreError
            If the stationary density has no closed form.
        ParameterError
            If the state dimensions are missing or have another size.
        """
        return on_state(self._score_array, u, self.layout())

    def simulate(
        self,
        n_members: int | range = 1,
        duration: float = 100.0,
        save_every: float = 1.0,
        *,
        spinup: float | str | None = None,
        dt: float | None = None,
        seed: int | None = 0,
        workers: int | None = None,
        dtype: str = "float64",
        save_noise: bool = False,
        out: Any = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: bool | None = None,
        client: Any = None,
        members_per_task: int | None = None,
    ) -> "xr.Dataset":
        """Simulate an ensemble of independent members and return the labelled trajectory.

        Parameters
        ----------
        n_members : int or range
            Independent realisations: n for the members 0 ... n - 1, or a range such as ``range(64, 128)``, which is
            what a job of a job array takes. Member k depends on (`seed`, k) alone, so ranges simulated apart are
            together the whole run bit for bit, on machines of one kind. A range takes neither ``seed=None`` nor, where
            there is a spin-up, ``spinup="auto"``.
        duration : float
            Length of the record in model time units. There are ``duration / save_every`` snapshots, rounded down
            (a ratio within 1e-9 of an integer is that integer), at times 0, save_every, 2 save_every, ...; the
            one at 0 is the state at the end of the spin-up.
        save_every : float
            Time between snapshots.
        spinup : float or "auto", optional
            Time simulated and thrown away first, rounded up to whole save intervals. The default is the
            system's own ``default_spinup``: 0 where the initial state is drawn from the stationary density.
            "auto" goes on until the ensemble is found stationary by the rule of `simulators.stationarity`, for a
            quarter to ten times ``default_spinup`` (0 stays 0). The attributes ``spinup_time`` and ``spinup_check``
            say how long that took and why; ``spinup=<spinup_time>`` repeats the record. The length depends on the
            whole ensemble; the path of member k from the start of the spin-up still depends on (`seed`, k) alone.
        dt : float, optional
            Largest time step allowed; the step used is the largest ``save_every / integer`` below it. The
            default is the system's ``default_dt``; None there means one step per save interval, which loses
            nothing where the transition law is exact (a smaller dt then gives other numbers, same law).
        seed : int or None
            Root of all random streams; None draws fresh entropy. Either is recorded as ``seed_entropy``.
        workers : int, optional
            Threads; default all cores, with `client` 1 for each task. The numbers do not depend on it.
        dtype : {"float64", "float32"}
            Precision of the record; the dynamics always run in float64.
        save_noise : bool
            Also save the noise that drove the state, for response estimates that need no score: ``noise``, with the
            dims of the state, is the sum of the increments of all steps between a snapshot and the next (after the
            last one too), and ``noise_covariance`` (component, component_2) their covariance Q per unit time. The
            trajectory is the same bit for bit. For additive noise that enters step by step: `DoubleWell`,
            `ScalarClimate`, `Potential2D`, `Lorenz96`, `CharneyDeVore`.
        out : path-like, optional
            Stream to this netCDF file; memory then stays bounded by a block. It appears only when complete. After
            a failure ``<out>.part`` stays beside it only if `resume` can continue it; after a blow-up it cannot.
        overwrite : bool
            Allow `out` to replace an existing file.
        resume : bool
            Continue an interrupted run with the same arguments from ``<out>.part``, bit for bit; if there is none,
            start from the beginning. Without it an interrupted run is refused. Where `out` is the complete file of this
            run already, nothing is simulated: a command repeated until all is there, as in a job array, ends well.
        progress : bool, optional
            Show a bar on standard error; default only if that is a terminal.
        client : distributed.Client or str, optional
            Simulate on the workers of this Dask cluster, or of the scheduler at this address, for example
            "tcp://10.0.0.1:8786"; see `simulators.cluster`. Each task simulates a range of members and writes a file
            of its own beside `out`, which must be in a directory that all machines share: ``run_000000-000015.nc``
            and so on for ``out="run.nc"``, which itself is not written. What is there of the same run is kept and
            continued, with or without `resume`; `overwrite` replaces files of other runs. `seed` and `spinup` as for
            a range of members.
        members_per_task : int, optional
            Members of a task with `client`; by default so many that each thread of the cluster gets about four tasks.

        Returns
        -------
        xarray.Dataset
            One variable with dims (member, time, *state), and more alike where the layout has `extra` ones; opened
            lazily from the file with `out`, or as dask arrays from the files of all parts with `client`; in memory
            without.

        Raises
        ------
        ParameterError
            If an argument cannot be used.
        ClusterError
            If the cluster of `client` cannot be reached or is lost.
        SimulatorError
            If it needs more memory than there is.
        OutputError
            If `out` cannot be written, before anything is simulated; `OutputExistsError` if it exists.
        ResumeError
            If the unfinished file is damaged or belongs to another run.
        BlowUpError
            If a member stops being finite.
        NotStationaryError
            If the longest spin-up that "auto" tries is not long enough.
        """
        check_flags(overwrite=overwrite, resume=resume, progress=progress)
        check_cluster(client, members_per_task)
        if out is None and (overwrite or resume):
            raise ParameterError("overwrite and resume need a file: pass out='run.nc' or leave them out")
        plan = (self.plan if client is None else self.plan_of_parts)(
            n_members=n_members,
            duration=duration,
            save_every=save_every,
            spinup=spinup,
            dt=dt,
            seed=seed,
            workers=workers,
            dtype=dtype,
            save_noise=save_noise,
        )
        if client is not None:
            from simulators.cluster import simulate_parts
            from simulators.parts import open_parts

            parts = simulate_parts(
                self,
                plan,
                client=client,
                members_per_task=members_per_task,
                out=out,
                overwrite=overwrite,
                progress=progress,
            )
            return open_parts(parts, plan.members)
        if resume and not overwrite:
            from simulators.finished import open_finished

            dataset = open_finished(out, self.record_config(plan))
            if dataset is not None:
                return dataset
        return self.carry_out(plan, out=out, overwrite=overwrite, resume=resume, progress=progress).dataset()

    def carry_out(
        self,
        plan: Plan,
        *,
        out: Any = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: bool | None = None,
        after_block: Callable[[], None] | None = None,
    ) -> "Sink":
        """Simulate a checked `plan` on this machine; arguments as in `simulate` and `simulators.engine.run_plan`."""
        from simulators.engine import check_memory, run_plan

        layout = self.record_layout(plan)
        constants = {}
        if plan.save_noise:
            attrs = {"long_name": "covariance of the noise per unit time", "units": "1"}
            constants["noise_covariance"] = (("component", "component_2"), self.increment_covariance(), attrs)
        check_memory(plan, layout, in_memory=out is None)
        return run_plan(
            plan,
            self.make_stepper(plan.dt, plan.n_steps),
            config=self.record_config(plan),
            layout=layout,
            title=self.title,
            references=self.references,
            constants=constants,
            out=out,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
            after_block=after_block,
        )

    def record_config(self, plan: Plan) -> dict[str, Any]:
        """Return what repeats a run: ``config_json`` of its record."""
        return {"system": self.name, "parameters": self.parameters(), "simulate": plan.request()}

    def plan(
        self,
        n_members: int | range = 1,
        duration: float = 100.0,
        save_every: float = 1.0,
        *,
        spinup: float | str | None = None,
        dt: float | None = None,
        seed: int | None = 0,
        workers: int | None = None,
        dtype: str = "float64",
        save_noise: bool = False,
    ) -> Plan:
        """Return what `simulate` would do with these arguments, without doing it."""
        return make_plan(
            n_members=n_members,
            duration=duration,
            save_every=save_every,
            spinup=spinup,
            dt=dt,
            seed=seed,
            workers=workers,
            dtype=dtype,
            save_noise=save_noise,
            default_spinup=self.default_spinup,
            default_dt=self.default_dt,
        )

    def plan_of_parts(self, n_members: int | range = 1, *args: Any, workers: int | None = None, **options: Any) -> Plan:
        """Return the `plan` of a run in parts, as `simulators.cluster` writes it; `workers` are those of a part."""
        # what does not suit a range of members does not suit the parts of an ensemble
        members = require_members(n_members)
        return self.plan(members, *args, workers=1 if workers is None else workers, **options)

    def record_layout(self, plan: Plan) -> Layout:
        """Return the labels of what ``simulate`` saves: the state, and the noise where `plan` asks for it.

        Raises
        ------
        ParameterError
            If there is no noise to save.
        """
        layout = self.layout()
        if not plan.save_noise:
            return layout
        self.increment_covariance()
        meaning = "sum of the noise increments between this snapshot and the next"
        return replace(layout, extra=layout.extra | {"noise": meaning})

    def increment_covariance(self) -> NDArray[np.float64]:
        """Return Q, shape (d, d), the covariance per unit time of the noise that ``save_noise`` saves.

        Raises
        ------
        ParameterError
            If the steps of the system add no noise that is white in time and independent of the state.
        """
        raise ParameterError(
            f"save_noise = True: {type(self).__name__} has no noise increments to save, its steps draw from a "
            "transition law, which mixes noise and drift, or have noise that depends on the state: expected a "
            "system stepped with additive noise, such as DoubleWell or Potential2D; leave save_noise out"
        )

    def direct_response(
        self,
        max_lag: float,
        save_every: float = 1.0,
        n_members: int = 64,
        amplitude: float | None = None,
        perturbation: Any = "pixel",
        *,
        n_restarts: int = 1,
        decorrelate: float = 0.0,
        check_amplitude: bool = True,
        confidence: float = 0.95,
        spinup: float | None = None,
        dt: float | None = None,
        seed: int | None = 0,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> "xr.Dataset":
        """Measure the linear response with twins: R(t) = <x+(t) - x-(t)> / (2 a), kicked by +-a, same noise.

        Parameters
        ----------
        max_lag, save_every : float
            Largest lag, and time between lags; the lags are 0, save_every, ... up to `max_lag`.
        n_members : int
            Independent realisations, at least 2; the standard error is that of the mean over them.
        amplitude : float, optional
            Size a of the kick, unit of the state. By default 0.1 standard deviations of the state in eight members,
            0.05 for the "pattern" of a field, to two digits; each component of a vector has its own, and the
            component that a given displacement moves most decides. It depends on `seed` alone.
        perturbation : "pixel", "pattern", array_like or callable
            "pixel" kicks one component: each in turn, or one random site of a homogeneous field. "pattern" kicks all
            of them at once, at random with <p p^T> = 1. For a field it spreads the error evenly: smaller than that
            of "pixel" at the kick, larger far from it. For a vector it needs fewer runs than "pixel" by the number of
            components, and as many more members. An array w of the shape of the state, or a function w(x) of the
            state at lag 0, is a displacement a w.
        n_restarts : int
            Pairs (or sets of pairs, one for each component) of a member, `max_lag` + `save_every` + `decorrelate` apart
            on its trajectory. They share a spin-up, and are averaged before anything else.
        decorrelate : float
            Time thrown away between two restarts, rounded up to whole save intervals.
        check_amplitude : bool
            Kick by +-2a as well, in the first restart of every member. Without it the cubic part of the response,
            which is what biases R, cannot be told.
        confidence : float
            Level of the band.
        spinup, dt, seed, workers, progress
            As in `simulate`; "auto" is no `spinup` here.

        Returns
        -------
        xarray.Dataset
            ``response``, ``stderr``, ``lower``, ``upper``: dims (lag, component, component_src) for vectors,
            (lag, dy, dx) for homogeneous fields, as `exact_response`; (lag, *state) for a given displacement, per unit
            of it. ``nonlinearity`` (lag): the part by which the response changes if the kick is doubled, from
            ``even_part`` and ``amplitude_change``; ``nonlinearity_limit``, its upper 95 % limit, means something only
            where the response is larger than its error. ``amplitude``. Attribute ``linear_range``: "yes", "no", or
            "undetermined" where sampling noise hides the answer; see `simulators.linearity`.

        Raises
        ------
        ParameterError
            If an argument cannot be used.
        SimulatorError
            If it needs more memory than there is.
        BlowUpError
            If a member or a twin stops being finite.

        Warns
        -----
        LinearRangeWarning
            If doubling the kick changes the response by more than 10 % at a lag where there is one.

        References
        ----------
        PRL, "dynamical" response. Boffetta et al., Chaos 13, 806 (2003). Lucarini & Sarno, Nonlin. Processes Geophys.
        18, 7 (2011).
        """
        from simulators.direct import direct_response

        return direct_response(
            self,
            max_lag=max_lag,
            save_every=save_every,
            n_members=n_members,
            amplitude=amplitude,
            perturbation=perturbation,
            n_restarts=n_restarts,
            decorrelate=decorrelate,
            check_amplitude=check_amplitude,
            confidence=confidence,
            spinup=spinup,
            dt=dt,
            seed=seed,
            workers=workers,
            progress=progress,
        )

    def forced_response(
        self,
        forcing: Any,
        duration: float,
        save_every: float = 1.0,
        *,
        n_members: int = 1000,
        perturbation: Any = "uniform",
        amplitude: float = 1.0,
        observable: str = "mean",
        antithetic: bool = False,
        confidence: float = 0.95,
        spinup: float | None = None,
        dt: float | None = None,
        seed: int | None = 0,
        workers: int | None = None,
        progress: bool | None = None,
    ) -> "xr.Dataset":
        """Measure the change of the ensemble mean under a finite forcing from t = 0 on.

        The drift becomes drift(u) + amplitude f(t) w(u). Members start in the stationary state. Each has a copy
        without the forcing that sees the same noise, so that the response is known much better than the mean itself
        (`simulators.forced`). The splitting from the steps of the system is of second order in dt; its measured
        errors are in `simulators.forced_runs`.

        Parameters
        ----------
        forcing : float, callable, xarray.DataArray or array_like
            f: a number for a step at t = 0; a function of an array of times; a 1-D DataArray whose ``time`` reaches
            from 0 to `duration`, or an array of one value for each saved time, both joined by straight lines. It
            may jump at multiples of the time step; a jump within a step costs an error of first order in dt.
        duration, save_every : float
            The response is saved at 0, save_every, 2 save_every, ... up to and including `duration`.
        n_members : int
            Independent realisations, at least 2. Vector systems move 10^4 of them in one call.
        perturbation : "uniform", array_like or callable
            w: 1 for every component or site; an array of the shape of the state; or a function w(x) of states
            (..., *state), many at once, that returns their shape.
        amplitude : float
            Of the forcing, in the unit of du/dt; the response is not divided by it.
        observable : str
            "mean", "second_moment", "variance", "moment3" or "moment4", as in `simulators.moments`, of every
            component or site.
        antithetic : bool
            Force a third copy by -amplitude and return the odd part of the response, which is the linear one but for
            a term in amplitude^3.
        confidence : float
            Level of the band.
        spinup, dt, seed, workers, progress
            As in `simulate`, but "auto" is no `spinup` here, and systems with an exact transition law get a default
            step (`forced_dt`): the forcing is split from their steps, with an error O(dt^2).

        Returns
        -------
        xarray.Dataset
            ``response``, ``stderr``, ``lower``, ``upper``, dims (time, *state); ``forcing`` (time), the values of f;
            ``unperturbed_mean`` (*state), the m of the moments; ``perturbation`` (*state), w where it is constant.

        Raises
        ------
        ParameterError
            If an argument cannot be used.
        SimulatorError
            If it needs more memory than there is.
        BlowUpError
            If a member, with or without the forcing, stops being finite.

        References
        ----------
        Lucarini & Sarno, Nonlin. Processes Geophys. 18, 7 (2011), arXiv:1008.0340.
        """
        from simulators.forced import forced_response

        return forced_response(
            self,
            forcing=forcing,
            duration=duration,
            save_every=save_every,
            n_members=n_members,
            perturbation=perturbation,
            amplitude=amplitude,
            observable=observable,
            antithetic=antithetic,
            confidence=confidence,
            spinup=spinup,
            dt=dt,
            seed=seed,
            workers=workers,
            progress=progress,
        )

    def forced_dt(self) -> float | None:
        """Return the default step of `forced_response`; None stands for one step per save interval."""
        return self.default_dt
