r"""The response of a system from twin experiments: what its response theory is measured against.

Twins are copies of one state x0(0) with all of its hidden variables and with the position of its random stream, so
that they see the same noise for ever; then one is kicked by +q and one by -q (`simulators.perturbation` lists the
kicks; Boffetta et al. 2003 average over such pairs, the PRL kicks one pixel). With q of size a,

    R(t) = < x+(t) - x-(t) > / (2 a) + O(a^2),

the mean over states of the stationary law and over noise. Subtracting twins removes the noise they have in common, in
a linear system all of it: then every single pair is exact. R(0) is the identity, or the projector on the modes that a
system has (`NavierStokes` has no Nyquist modes).

A member starts with its own stream, spins up, and gives `n_restarts` pairs, one after the other along its unperturbed
trajectory x0(t). Restarts of one member are not independent: they are averaged first, and the standard error is that
of the mean over members. Member k depends on the seed, k and the amplitude alone; its kicks come from a stream of
their own, so that its base trajectory is that of member k of ``simulate`` with the same seed.

Rounding limits the amplitude from below (relative error about 1e-16 max|x| / a), the linear range from above
(`simulators.linearity`). In chaotic systems twins separate exponentially until they are as far apart as two
independent states. From then on the variance of a pair grows as (sd / a)^2, so a smaller amplitude costs more
members and buys no accuracy. Where most twins meet again and few stay apart, the distribution over members is skewed:
with few members the band then misses the truth more often than it says, by being too narrow when it is low.
"""

import json
import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from simulators.checks import require_flag, require_integer, require_number
from simulators.errors import ParameterError, SimulatorError
from simulators.linearity import MAX_GROUPS, THRESHOLD, LinearRange, LinearRangeWarning, find_linear_range
from simulators.perturbation import Perturbation, find_perturbation
from simulators.schema import make_schema
from simulators.streams import resolve_entropy
from simulators.twins import Position, TwinResult, Twins

if TYPE_CHECKING:
    import xarray as xr

    from simulators.system import System

__all__ = ["REFERENCES", "direct_response"]

REFERENCES = (
    "Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024), doi:10.1103/PhysRevLett.133.267302; Boffetta, Lacorata, "
    "Musacchio & Vulpiani, Chaos 13, 806 (2003), doi:10.1063/1.1579643; Lucarini & Sarno, Nonlin. Processes Geophys. "
    "18, 7 (2011), arXiv:1008.0340"
)

# The default amplitude follows from the spread of this many members, so that it does not depend on `n_members`.
_N_PILOT = 8
# More lags or restarts than anybody computes, few enough to be counted exactly.
_MAX_COUNT = 10**9
# A band narrower than this part of the largest response is rounding, not knowledge.
_ROUNDING = 1e-9


def direct_response(
    system: "System",
    *,
    max_lag: Any,
    save_every: Any,
    n_members: Any,
    amplitude: Any,
    perturbation: Any,
    n_restarts: Any,
    decorrelate: Any,
    check_amplitude: Any,
    confidence: Any,
    spinup: Any,
    dt: Any,
    seed: Any,
    workers: Any,
    progress: Any,
) -> "xr.Dataset":
    """Return the response of `system`; arguments and result as in `simulators.system.System.direct_response`."""
    n_members = require_integer("n_members", n_members, at_least=2)
    n_restarts = require_integer("n_restarts", n_restarts, at_least=1, at_most=_MAX_COUNT)
    check_amplitude = require_flag("check_amplitude", check_amplitude)
    if progress is not None:
        require_flag("progress", progress)
    confidence = require_number("confidence", confidence, above=0)
    if confidence >= 1:
        raise ParameterError(f"confidence = {confidence:g}: expected a level below 1; pass confidence=0.95")
    if amplitude is not None:
        amplitude = require_number("amplitude", amplitude, above=0)
    max_lag, save_every, decorrelate, n_lags, n_between = _times(max_lag, save_every, decorrelate)
    if spinup is not None:  # "auto" would make the numbers of a member depend on all the others
        spinup = require_number("spinup", spinup, at_least=0)
    layout = system.layout()
    kind = find_perturbation(perturbation, layout)
    plan = system.plan(n_members, max_lag, save_every, spinup=spinup, dt=dt, seed=seed, workers=workers)
    n_groups = min(n_members, MAX_GROUPS)
    _check_memory(n_lags, kind, n_groups, plan.workers)
    entropy = resolve_entropy(plan.seed)
    stepper = system.make_stepper(plan.dt, plan.n_steps)
    twins = Twins(stepper, layout, plan, kind, entropy, n_lags, n_restarts, n_between, check_amplitude)
    with ThreadPoolExecutor(plan.workers) as pool:
        try:
            begun: dict[int, Position] = {}
            if amplitude is None:
                begun = dict(enumerate(pool.map(twins.begin, range(_N_PILOT))))
                size = _default_amplitude(twins, list(begun.values()))
            else:
                size = np.asarray(amplitude)
            total = _Total(n_groups, kind, size)
            for result in _results(pool, twins, size, begun, progress):
                total.add(result)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    linear_range = total.linear_range()
    _warn(linear_range, size, save_every)

    request = {
        "max_lag": max_lag,
        "save_every": save_every,
        "n_members": n_members,
        "amplitude": amplitude,
        "perturbation": kind.name,
        "n_restarts": n_restarts,
        "decorrelate": decorrelate,
        "check_amplitude": check_amplitude,
        "confidence": confidence,
        "spinup": plan.spinup,
        "dt": plan.dt,
        "seed": entropy,
    }
    config = {"system": system.name, "parameters": system.parameters()}
    attrs = make_schema(
        layout=layout,
        title=f"Direct response: {system.title}",
        references=f"{system.references}; {REFERENCES}",
        config=config | {"simulate": plan.request()},
        entropy=entropy,
        n_snapshots=n_lags,
        dtype=plan.dtype,
    ).attrs | {
        "config_json": json.dumps(config | {"direct_response": request}),
        "estimator": "twin ensemble",
        "method": f"twins with identical noise, kicked by +-amplitude, perturbation {kind.name}",
        "observable": "mean",
        "resampling": f"{n_members} members, restarts averaged",
        "confidence": confidence,
        "n_members": n_members,
        "n_restarts": n_restarts,
        "n_pairs": n_members * n_restarts,
        "linear_range": linear_range.verdict,
        "linear_range_threshold": THRESHOLD,
    }
    lags = save_every * np.arange(n_lags)
    return _labelled(total, linear_range, lags, confidence).assign_attrs(attrs)


def _times(max_lag: Any, save_every: Any, decorrelate: Any) -> tuple[float, float, float, int, int]:
    """Return the three times, the number of lags, and the save intervals between two restarts."""
    max_lag = require_number("max_lag", max_lag, above=0)
    save_every = require_number("save_every", save_every, above=0)
    decorrelate = require_number("decorrelate", decorrelate, at_least=0)
    if max(max_lag, decorrelate) > _MAX_COUNT * save_every:
        raise ParameterError(
            f"max_lag = {max_lag:g} or decorrelate = {decorrelate:g} is more than {_MAX_COUNT:.0e} times save_every = "
            f"{save_every:g}: expected fewer lags; pass a larger save_every"
        )
    # ratios this close to an integer are that integer, as in `simulators.plan`
    n_intervals = math.floor(max_lag / save_every * (1 + 1e-9))
    if n_intervals < 1:
        raise ParameterError(
            f"max_lag = {max_lag:g} is shorter than save_every = {save_every:g}: expected at least one lag beside 0; "
            f"pass a save_every of {max_lag:g} or less"
        )
    return max_lag, save_every, decorrelate, n_intervals + 1, math.ceil(decorrelate / save_every * (1 - 1e-9))


def _check_memory(n_lags: int, kind: Perturbation, n_groups: int, workers: int) -> None:
    """Refuse a response that cannot fit in the memory of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    one = 8 * n_lags * math.prod(len(values) for values in kind.axes.values())
    # response, even and change of every member in flight and of every group; mean, its error, and what is returned
    needed = one * (3 * 2 * workers + 3 * n_groups + 6)
    if needed > memory:
        raise SimulatorError(
            f"the response takes {one / 1e9:.3g} GB and its averages {needed / 1e9:.3g} GB, this machine has "
            f"{memory / 1e9:.1f} GB of memory: use fewer lags (a larger save_every) or fewer workers"
        )


def _default_amplitude(twins: Twins, begun: list[Position]) -> NDArray[np.float64]:
    """Return the amplitude from the spread of the pilot members, to two digits."""
    states = np.array([twins.snapshot(position) for position in begun])
    size = twins.perturbation.amplitude(states)
    if not np.all(size > 0):
        raise ParameterError(
            f"{_N_PILOT} members of the system are in the same state after the spin-up: expected a spread from which "
            "to choose an amplitude; pass amplitude=, or a longer spinup"
        )
    return np.array([float(f"{value:.2g}") for value in size.flat]).reshape(size.shape)


def _results(
    pool: ThreadPoolExecutor, twins: Twins, size: NDArray[np.float64], begun: dict[int, Position], progress: bool | None
) -> Iterator[TwinResult]:
    """Yield the members' results in order, with no more of them under way than can be held."""
    from tqdm import tqdm

    n_members = twins.plan.n_members
    waiting: deque[Future[TwinResult]] = deque()
    submit = (pool.submit(twins.run, member, begun.pop(member, None), size) for member in range(n_members))
    # tqdm's disable=None means "unless standard error is a terminal"
    with tqdm(total=n_members, unit="member", disable=None if progress is None else not progress) as bar:
        waiting.extend(islice(submit, 2 * twins.plan.workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(submit, 1))
            bar.update()


class _Total:
    """Running mean and variance over members (Welford), and sums over groups of members."""

    def __init__(self, n_groups: int, kind: Perturbation, size: NDArray[np.float64]) -> None:
        self.kind, self.size, self.n = kind, size, 0
        self.mean: NDArray[np.float64] = np.zeros(())
        self._squares: NDArray[np.float64] = np.zeros(())
        self._counts = np.zeros(n_groups)
        self._groups: dict[str, list[Any]] = {part: [0.0] * n_groups for part in ("odd", "even", "change")}

    def add(self, member: TwinResult) -> None:
        """Add the next member."""
        group = self.n % len(self._counts)
        self.n += 1
        departure = member.response - self.mean
        self.mean = self.mean + departure / self.n
        self._squares = self._squares + departure * (member.response - self.mean)
        self._counts[group] += 1
        self._groups["odd"][group] += self.kind.pure(member.response, self.size)
        self._groups["even"][group] += member.even
        if member.change is not None:
            self._groups["change"][group] += member.change

    def stderr(self) -> NDArray[np.float64]:
        """Return the standard error of the mean over members."""
        return np.sqrt(self._squares / (self.n * (self.n - 1)))

    def linear_range(self) -> LinearRange:
        """Return what the groups of members say about the linear range."""
        groups = {
            part: np.array([total / n for total, n in zip(sums, self._counts, strict=True)])
            for part, sums in self._groups.items()
        }
        return find_linear_range(groups["odd"], groups["even"], groups["change"] if groups["change"].ndim > 1 else None)


def _warn(linear_range: LinearRange, size: NDArray[np.float64], save_every: float) -> None:
    worst = linear_range.worst
    if worst is None:
        return
    found = float(linear_range.nonlinearity[worst])
    warn(
        f"doubling the kick changes the response by {100 * found:.0f} % at lag {worst * save_every:g} (even part "
        f"{100 * linear_range.even[worst]:.0f} %): expected at most {100 * THRESHOLD:.0f} %, the kick is too large for "
        f"a linear response; pass an amplitude of about {float(size.min()) * THRESHOLD / found:.1g}, or use the lags "
        "where `nonlinearity` is small",
        LinearRangeWarning,
        stacklevel=4,
    )


def _labelled(total: _Total, linear_range: LinearRange, lags: NDArray[np.float64], confidence: float) -> "xr.Dataset":
    """Return the Dataset, without the attributes that describe the run."""
    import xarray as xr
    from scipy import stats

    axes = total.kind.axes
    stderr = total.stderr()
    half = stats.t.ppf(0.5 + confidence / 2, total.n - 1) * stderr + _ROUNDING * np.abs(total.mean).max()
    on_axes = {
        "response": (total.mean, "response of the state to a unit kick at lag 0"),
        "stderr": (stderr, "standard error of the response"),
        "lower": (total.mean - half, "lower end of the confidence band"),
        "upper": (total.mean + half, "upper end of the confidence band"),
    }
    on_lags = {
        "nonlinearity": (linear_range.nonlinearity, "part by which the response changes if the kick is doubled"),
        "nonlinearity_limit": (linear_range.limit, "upper 95 % limit of the nonlinearity"),
        "even_part": (linear_range.even, "even part of the response over its odd part"),
        "amplitude_change": (linear_range.change, "change of the odd part with twice the amplitude, over the odd part"),
    }
    out = xr.Dataset(
        {name: (("lag", *axes), values, {"long_name": text, "units": "1"}) for name, (values, text) in on_axes.items()}
        | {name: ("lag", values, {"long_name": text, "units": "1"}) for name, (values, text) in on_lags.items()},
        coords={"lag": ("lag", lags, {"long_name": "lag", "units": "1"}), **axes},
    )
    out["amplitude"] = (list(axes)[-total.size.ndim :] if total.size.ndim else [], total.size)
    out["amplitude"].attrs.update(long_name="amplitude of the kicks", units="1")
    if total.kind.given is not None:
        out["perturbation"] = (list(axes), total.kind.given, {"long_name": "displacement for amplitude 1"})
    for dim in axes:
        if dim not in total.kind.layout.dims and not dim.endswith("_src"):
            out[dim].attrs.update(long_name=f"displacement from the kick along {dim[1:]}", units="grid cells")
    return out
