r"""The change of an ensemble mean under a finite forcing: what predictions of response theory are measured against.

Every member of the stationary ensemble has a copy that sees the same noise (`simulators.twins`) and, from t = 0 on, the
additional drift a f(t) w(x). With x_a the forced and x_0 the unforced copy,

    response(t) = < A(x_a(t)) - A(x_0(t)) >,     no linearisation: a may be large.

To first order in a it is a int_0^t R_A(t - t') f(t') dt'. What the copies have in common drops out of the difference.
Members are independent, so the standard error is that of the mean over members. With `antithetic` a third copy is
forced by -a, and response = < A(x_a) - A(x_-a) > / 2 is the odd part in a: what remains beside the linear response is
then O(a^3).

A moment of x' = x - m takes for m the mean of the unforced copies over members and time (for a field over its sites
too). m is estimated, and moves the response: with Delta_q = <x_a^q - x_0^q> about any origin c and e = m - c,

    <(x_a - m)^p - (x_0 - m)^p> = sum_(q=1..p) binom(p, q) (-e)^(p-q) Delta_q,

so the members' Delta_q and m are kept with their covariance, and the error of m is part of the standard error.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_flag, require_integer, require_number
from simulators.errors import ParameterError, SimulatorError
from simulators.forced_runs import ForcedRuns
from simulators.forcing import Pattern, evaluate_forcing, find_pattern
from simulators.moments import Moment, find_moment
from simulators.schema import make_schema
from simulators.streams import resolve_entropy

if TYPE_CHECKING:
    import xarray as xr

    from simulators.plan import Plan
    from simulators.system import System

__all__ = ["forced_response"]

Array = NDArray[np.float64]

# A band narrower than this part of the largest response is rounding, not knowledge.
_ROUNDING = 1e-9
_MEANINGS = {
    "mean": "state",
    "second_moment": "squared state",
    "variance": "squared anomaly",
    "moment3": "cubed anomaly",
    "moment4": "fourth power of the anomaly",
}


def forced_response(
    system: "System",
    *,
    forcing: Any,
    duration: Any,
    save_every: Any,
    n_members: Any,
    perturbation: Any,
    amplitude: Any,
    observable: Any,
    antithetic: Any,
    confidence: Any,
    spinup: Any,
    dt: Any,
    seed: Any,
    workers: Any,
    progress: Any,
) -> "xr.Dataset":
    """Return the forced response; arguments and result as in `simulators.system.System.forced_response`."""
    n_members = require_integer("n_members", n_members, at_least=2)
    amplitude = require_number("amplitude", amplitude)
    antithetic = require_flag("antithetic", antithetic)
    if progress is not None:
        require_flag("progress", progress)
    confidence = require_number("confidence", confidence, above=0)
    if confidence >= 1:
        raise ParameterError(f"confidence = {confidence:g}: expected a level below 1; pass confidence=0.95")
    if spinup is not None:  # "auto" would make the numbers of a member depend on all the others
        spinup = require_number("spinup", spinup, at_least=0)
    moment = find_moment(observable)
    pattern = find_pattern(perturbation, system.layout())
    plan = _plan(system, n_members, duration, save_every, spinup, dt, seed, workers)
    _check_memory(plan, pattern.layout.size, moment.n_powers)
    middles = np.arange((plan.n_snapshots - 1) * plan.n_steps, dtype=np.float64) * plan.dt + plan.dt / 2
    f_saved, f_steps = (evaluate_forcing(forcing, times, _saved(plan)) for times in (_saved(plan), middles))
    entropy = resolve_entropy(plan.seed)
    runs = ForcedRuns(
        stepper=system.make_stepper(plan.dt, 1),
        plan=plan,
        pattern=pattern,
        kicks=amplitude * plan.dt * f_steps,
        signs=(0, 1, -1) if antithetic else (0, 1),
        moment=moment,
        entropy=entropy,
    )
    origin = np.zeros(pattern.layout.shape)
    if moment.centred or pattern.constant is None:
        states = runs.reference()
        if pattern.constant is None:
            pattern.check(states)
        if moment.centred:  # powers about any member's state lose no digits, however far from 0 the system lives
            origin = runs.pooled(states)[0]
    total = _Total()
    with ThreadPoolExecutor(plan.workers) as pool:
        try:
            for batch in _results(pool, runs, origin, progress):
                total.add(*batch)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    dataset = _labelled(moment, total, origin, plan, f_saved, pattern, confidence)
    request = {
        "forcing": _name(forcing),
        "duration": plan.duration,
        "save_every": plan.save_every,
        "n_members": n_members,
        "perturbation": pattern.name,
        "amplitude": amplitude,
        "observable": moment.name,
        "antithetic": antithetic,
        "confidence": confidence,
        "spinup": plan.spinup,
        "dt": plan.dt,
        "seed": entropy,
    }
    config = {"system": system.name, "parameters": system.parameters()}
    attrs = make_schema(
        layout=pattern.layout,
        title=f"Forced response: {system.title}",
        references=system.references,
        config=config | {"simulate": plan.request()},
        entropy=entropy,
        n_snapshots=plan.n_snapshots,
        dtype=plan.dtype,
    ).attrs | {
        "config_json": json.dumps(config | {"forced_response": request}),
        "estimator": "twin ensemble",
        "method": "members with and without the forcing, identical noise"
        + (", odd part in the amplitude" if antithetic else ""),
        "observable": moment.name,
        "perturbation": pattern.name,
        "amplitude": amplitude,
        "resampling": f"{n_members} members",
        "confidence": confidence,
        "n_members": n_members,
    }
    return dataset.assign_attrs(attrs)


def _plan(
    system: "System", n_members: int, duration: Any, save_every: Any, spinup: Any, dt: Any, seed: Any, workers: Any
) -> "Plan":
    """Return the plan of a record that includes its end, with a step short enough for the splitting."""
    plan = system.plan(n_members, duration, save_every, spinup=spinup, dt=dt, seed=seed, workers=workers)
    if dt is None:
        plan = system.plan(
            n_members, duration, save_every, spinup=spinup, dt=system.forced_dt(), seed=seed, workers=workers
        )
    return replace(plan, n_snapshots=plan.n_snapshots + 1)


def _saved(plan: "Plan") -> Array:
    """Return the saved times."""
    return np.arange(plan.n_snapshots, dtype=np.float64) * plan.save_every


def _name(forcing: Any) -> Any:
    """Return what can be said of a forcing in the record; its values at the saved times are a variable."""
    if callable(forcing) and not hasattr(forcing, "dims"):
        return getattr(forcing, "__qualname__", type(forcing).__name__)
    return float(forcing) if np.ndim(forcing) == 0 else "array"


def _results(
    pool: ThreadPoolExecutor, runs: ForcedRuns, origin: Array, progress: bool | None
) -> Iterator[tuple[Array, Array]]:
    """Yield what the members of each batch say, in order, with no more batches under way than can be held."""
    from tqdm import tqdm

    batches = runs.batches()
    waiting: deque[tuple[int, Future[tuple[Array, Array]]]] = deque()
    submit = ((len(members), pool.submit(runs.run, members, origin)) for members in batches)
    # tqdm's disable=None means "unless standard error is a terminal"
    with tqdm(total=runs.plan.n_members, unit="member", disable=None if progress is None else not progress) as bar:
        waiting.extend(islice(submit, 2 * runs.plan.workers))
        while waiting:
            n, future = waiting.popleft()
            yield future.result()
            waiting.extend(islice(submit, 1))
            bar.update(n)


class _Total:
    """Running mean over members of (Delta_1, ..., Delta_p, m), and their covariance between each other.

    Attributes
    ----------
    n : int
        Members so far.
    mean : ndarray
        Shape (power + 1, time, *state); the last row is the unforced state, the same at all times.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean: Array = np.zeros(())
        self._products: Array = np.zeros(())

    def add(self, differences: Array, means: Array) -> None:
        """Add a batch: (member, power, time, *state) and (member, *state)."""
        n = len(differences)
        unforced = np.broadcast_to(means[:, None, None], (n, 1, *differences.shape[2:]))
        values = np.concatenate([differences, unforced], axis=1)
        mean = values.mean(axis=0)
        values -= mean
        shift = mean - self.mean
        total = self.n + n
        # Chan, Golub & LeVeque, The American Statistician 37, 242 (1983)
        self._products = (
            self._products
            + np.einsum("ma...,mb...->ab...", values, values)
            + shift[:, None] * shift[None] * (self.n * n / total)
        )
        self.mean = self.mean + shift * (n / total)
        self.n = total

    @property
    def unforced(self) -> Array:
        """Mean of the unforced state, shape (*state)."""
        return np.asarray(self.mean[-1, 0])

    def covariance_of_mean(self) -> Array:
        """Return the covariance of the error of `mean`, shape (power + 1, power + 1, time, *state)."""
        return np.asarray(self._products / (self.n * (self.n - 1)))


def _moment(total: _Total, moment: Moment) -> tuple[Array, Array]:
    """Return the response of the moment and its standard error, shape (time, *state)."""
    if not moment.centred:
        return total.mean[0], np.sqrt(total.covariance_of_mean()[0, 0])
    p, e = moment.power, total.unforced
    response, slope, weights = np.zeros(()), np.zeros(()), []
    for q in range(1, p + 1):
        weight = math.comb(p, q) * (-e) ** (p - q)
        weights.append(np.broadcast_to(weight, total.mean[0].shape))
        response = response + weight * total.mean[q - 1]
        if q < p:  # the derivative of the weight by e
            slope = slope - math.comb(p, q) * (p - q) * (-e) ** (p - q - 1) * total.mean[q - 1]
    gradient = np.stack([*weights, np.broadcast_to(slope, response.shape)])
    variance = np.einsum("a...,ab...,b...->...", gradient, total.covariance_of_mean(), gradient)
    return response, np.sqrt(np.maximum(variance, 0))  # rounding could make a variance of 0 negative


def _check_memory(plan: "Plan", size: int, n_powers: int) -> None:
    """Refuse a record that cannot fit in the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    one = 8 * plan.n_snapshots * size
    # powers of every batch in flight, covariance and its temporary, and what is returned; f at all steps
    needed = one * (2 * plan.workers * (n_powers + 1) + 3 * (n_powers + 1) ** 2 + 6)
    needed += 24 * plan.n_snapshots * plan.n_steps
    if needed > memory:
        raise SimulatorError(
            f"the response takes {one / 1e9:.3g} GB and its averages {needed / 1e9:.3g} GB, this machine has "
            f"{memory / 1e9:.1f} GB of memory: save less often (a larger save_every) or use fewer workers"
        )


def _labelled(
    moment: Moment, total: _Total, origin: Array, plan: "Plan", forcing: Array, pattern: Pattern, confidence: float
) -> "xr.Dataset":
    """Return the Dataset, without the attributes that describe the run."""
    import xarray as xr
    from scipy import stats

    response, stderr = _moment(total, moment)
    half = stats.t.ppf(0.5 + confidence / 2, total.n - 1) * stderr + _ROUNDING * np.abs(response).max()
    layout = pattern.layout
    on_all = {
        "response": (response, f"change of the ensemble average of the {_MEANINGS[moment.name]} under the forcing"),
        "stderr": (stderr, "standard error of the response"),
        "lower": (response - half, "lower end of the confidence band"),
        "upper": (response + half, "upper end of the confidence band"),
    }
    on_state = {"unperturbed_mean": (origin + total.unforced, "mean of the state without the forcing, m")}
    if pattern.constant is not None:
        on_state["perturbation"] = (pattern.constant, "pattern w of the forcing")
    dataset = xr.Dataset(
        {name: (("time", *layout.dims), values, {"long_name": text}) for name, (values, text) in on_all.items()}
        | {name: (layout.dims, values, {"long_name": text}) for name, (values, text) in on_state.items()}
        | {"forcing": ("time", forcing, {"long_name": "forcing f, to be multiplied by the amplitude"})},
        coords={
            "time": ("time", _saved(plan), {"long_name": "time since the forcing was switched on"}),
            **{
                name: (name, values, {"long_name": layout.coordinate_long_name})
                for name, values in layout.coordinates.items()
            },
        },
    )
    for name in dataset.variables:
        dataset[name].attrs["units"] = "1"
    return dataset
