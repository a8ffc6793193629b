"""Predictions from unperturbed records against ensembles that were really forced: step, ramp and sine.

`gfdt.predict` sees an unperturbed record and a formula f(t); `forced_response` runs twins with and without f, other
seeds. Two systems without a Gaussian density, and one without symmetry for moments beyond the mean:

    double well         dx = (x - x^3 + f) dt + dW/sqrt(2)
    scalar climate      mean, variance and third moment about the unperturbed mean
    Allen-Cahn, 32^2    f(t) cos(6 x); the change of the field projected on cos(6 x)

Each is predicted with the exact score, with a learned one (double well: KDE) and with the Gaussian fit, for contrast.
Errors of both sides are combined, SE^2 = SE_predicted^2 + SE_forced^2. "inside" is the part of the times where the
forced change lies in the 95 % band of that; the times of one run are correlated, so it is not a rate to hold to 95 %.
"z" is the rms of difference/SE, "difference" and "SE" are the rms over the times in per cent of the rms of the forced
change. The twins of the first three tables are forced with both signs: even orders of f, which linear response leaves
out, drop out. The amplitudes in the last table lie outside the linear range, and are forced with one sign.

    python benchmarks/prediction.py [--only TEXT] [--members N] [--fields N]        (some ten minutes on two cores)
    python benchmarks/prediction.py --coverage 60                                   (how often the band holds)
"""

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import stats

import gfdt
import simulators

CONFIDENCE = 0.95
# Members of the Allen-Cahn ensemble are split into groups: the error of the projected field is their spread.
N_GROUPS = 16
# The field still coarsens then, slowly; record and forced ensemble are at the same stage, and cos(6 x) forgets the
# start within tens of time units.
SPINUP = 400.0
WAVENUMBER = 6
# Domain walls remember a push for longer than the forecast, so lags beyond it are not needed.
FIELD_HORIZON, FIELD_RECORD = 10.0, 200.0


# ---- forcings of unit size


def step(t):
    """Return f = 1 from t = 0 on."""
    return np.ones_like(t)


def ramp(duration):
    """Return an f that grows from 0 to 1 within the duration."""
    return lambda t: t / duration


def sine(period):
    """Return f = sin(2 pi t / period)."""
    return lambda t: np.sin(2 * np.pi * t / period)


# ---- predicted and forced changes, dims (time,), with standard errors


@dataclass(frozen=True)
class Change:
    """A change of one number in time: its values and standard errors at ``time``."""

    time: np.ndarray
    value: np.ndarray
    stderr: np.ndarray
    quantile: float
    verdict: str = ""
    shift: float = float("nan")

    @property
    def band(self):
        """Lower and upper end of the confidence band."""
        half = self.quantile * self.stderr
        return self.value - half, self.value + half


def predicted(R, forcing, amplitude, times, weights=None):
    """Predict a change; of a field its projection sum(weights * field), error from the influence of each unit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gfdt.ReliabilityWarning)  # the verdict is in the table
        got = gfdt.predict(R, lambda t: amplitude * forcing(t), time=times)
    n_units = got.sizes["unit"]
    project = (lambda field: field.squeeze()) if weights is None else lambda field: (field * weights).sum(("y", "x"))
    errors = project(got["influence"])
    stderr = np.sqrt(n_units / (n_units - 1) * (errors**2).sum("unit"))
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, n_units - 1)
    value = project(got["prediction"]).values
    return Change(times, value, stderr.values, quantile, got.attrs["linear_range"], float(got["shift"].max()))


def forced_number(system, forcing, amplitude, duration, *, observable="mean", n_members, seed, antithetic=True):
    """Change of an observable of a scalar system in a forced ensemble."""
    got = system.forced_response(
        forcing,
        duration,
        duration / 60,
        n_members=n_members,
        amplitude=amplitude,
        observable=observable,
        antithetic=antithetic,
        seed=seed,
        progress=False,
    )
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, n_members - 1)
    return Change(got["time"].values, got["response"].values[:, 0], got["stderr"].values[:, 0], quantile)


def forced_field(
    system, forcing, amplitude, duration, pattern, *, n_members, seed, spinup, n_groups=N_GROUPS, antithetic=True
):
    """Change of a field projected on the pattern that forces it; the error is the spread of groups of members."""
    weights = pattern / float((pattern**2).sum())
    groups = []
    for group in range(n_groups):
        got = system.forced_response(
            forcing,
            duration,
            duration / 20,
            n_members=n_members // n_groups,
            perturbation=pattern.values,
            amplitude=amplitude,
            antithetic=antithetic,
            spinup=spinup,
            seed=seed + group,
            progress=False,
        )
        groups.append((got["response"] * weights.values).sum(("y", "x")).values)
    stderr = np.std(groups, axis=0, ddof=1) / np.sqrt(n_groups)
    quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, n_groups - 1)
    return Change(got["time"].values, np.mean(groups, axis=0), stderr, quantile)


def wave(system, wavenumber=WAVENUMBER):
    """Return the pattern cos(k x)."""
    y, x = (xr.DataArray(values, dims=dim) for dim, values in system.layout().coordinates.items())
    return (np.cos(wavenumber * x) * xr.ones_like(y)).transpose("y", "x")


# ---- records and their responses


def scores_of(system, record, *, learned=True, homogeneous=None):
    """Exact, learned and Gaussian score."""
    found = {"exact score": gfdt.AnalyticScore(system.score)}
    if learned:
        found["KDE score"] = gfdt.KDEScore().fit(record)
    return found | {"Gaussian": gfdt.GaussianScore(homogeneous=homogeneous).fit(record)}


@dataclass(frozen=True)
class Experiment:
    """One system and observable: its responses, and how to force it."""

    name: str
    responses: dict[str, xr.Dataset]
    forcings: dict[str, Callable]
    amplitude: float  # in the linear range
    outside: float
    force: Callable[..., Change]  # (forcing, amplitude, seed, antithetic)
    weights: xr.DataArray | None = None


def double_well(n_members):
    """100 members x 5000 time units; the slow hops between the wells have an e-folding time of 5.25."""
    system, duration = simulators.DoubleWell(), 60.0
    record = system.simulate(100, 5000.0, 0.25, seed=1, progress=False)["x"]
    R = {
        name: gfdt.response(record, score, max_lag=duration, perturbation=np.ones(1), progress=False)
        for name, score in scores_of(system, record).items()
    }

    def force(forcing, amplitude, seed, antithetic=True):
        return forced_number(
            system, forcing, amplitude, duration, n_members=n_members, seed=seed, antithetic=antithetic
        )

    forcings = {"step": step, "ramp": ramp(duration), "sine": sine(20.0)}
    return [Experiment("double well, mean", R, forcings, 0.04, 0.3, force)]


def climate(n_members):
    """100 members x 2500 time units of the asymmetric scalar climate model: three moments."""
    system, duration = simulators.ScalarClimate(), 20.0
    record = system.simulate(100, 2500.0, 0.125, seed=2, progress=False)["x"]
    experiments = []
    for observable in ("mean", "variance", "moment3"):
        R = {
            name: gfdt.response(
                record, score, max_lag=duration, observable=observable, perturbation=np.ones(1), progress=False
            )
            for name, score in scores_of(system, record, learned=False).items()
        }

        def force(forcing, amplitude, seed, antithetic=True, observable=observable):
            return forced_number(
                system,
                forcing,
                amplitude,
                duration,
                observable=observable,
                n_members=n_members,
                seed=seed,
                antithetic=antithetic,
            )

        forcings = {"step": step, "ramp": ramp(duration), "sine": sine(8.0)}
        experiments.append(Experiment(f"climate, {observable}", R, forcings, 0.05, 0.4, force))
    return experiments


def allen_cahn(n_members):
    """128 members x 200 time units; lags 0.5 apart (``quadrature`` shows that this is fine enough)."""
    system = simulators.AllenCahn()
    record = system.simulate(128, FIELD_RECORD, 0.5, spinup=SPINUP, seed=3, dtype="float32", progress=False)["u"]
    pattern = wave(system)
    R = {
        name: gfdt.response(
            record, score, max_lag=FIELD_HORIZON, perturbation=pattern, homogeneous=("y", "x"), progress=False
        )
        for name, score in scores_of(system, record, learned=False, homogeneous=("y", "x")).items()
    }

    def force(forcing, amplitude, seed, antithetic=True):
        return forced_field(
            system,
            forcing,
            amplitude,
            FIELD_HORIZON,
            pattern,
            n_members=n_members,
            seed=seed,
            spinup=SPINUP,
            antithetic=antithetic,
        )

    forcings = {"step": step, "ramp": ramp(FIELD_HORIZON), "sine": sine(5.0)}
    weights = pattern / float((pattern**2).sum())
    return [Experiment("Allen-Cahn, cos(6 x)", R, forcings, 0.05, 0.3, force, weights)]


# ---- tables

HEADER = (
    f"{'system':<22}{'forcing':<8}{'amplitude':>9}  {'score':<12}{'shift':>7}  {'linear range':<13}{'inside':>7}"
    f"{'z':>7}{'largest':>8}{'difference':>11}{'SE':>7}"
)


def compared(guess, truth):
    """Part of the times inside the combined band, rms and largest z, relative rms difference and combined error."""
    at = slice(1, None)  # both are zero at t = 0
    difference = (guess.value - truth.value)[at]
    error = np.hypot(guess.stderr, truth.stderr)[at]
    half = np.hypot(guess.quantile * guess.stderr, truth.quantile * truth.stderr)[at]
    size = np.sqrt((truth.value[at] ** 2).mean())
    z = difference / error
    relative = np.sqrt((difference**2).mean()) / size, np.sqrt((error**2).mean()) / size
    return float((np.abs(difference) <= half).mean()), np.sqrt((z**2).mean()), np.abs(z).max(), *relative


def row(experiment, forcing, amplitude, score, guess, truth):
    """Print one line of a table."""
    inside, z, largest, difference, error = compared(guess, truth)
    print(
        f"{experiment.name:<22}{forcing:<8}{amplitude:9.3g}  {score:<12}{guess.shift:7.3f}  {guess.verdict:<13}"
        f"{100 * inside:5.0f} %{z:7.2f}{largest:8.2f}{100 * difference:9.1f} %{100 * error:5.1f} %",
        flush=True,
    )


def quadrature(experiment, record_step):
    """Print the predicted step response with lags thinned: the part of the error that no record makes smaller."""
    R = experiment.responses["exact score"]
    times = np.array([1.0, 2.0, 4.0, float(R["lag"][-1])])
    finest = predicted(R, step, 1.0, times, experiment.weights).value
    for stride in (2, 4, 8):
        thinned = R.isel(lag=slice(None, None, stride))
        if (R.sizes["lag"] - 1) % stride:
            continue
        off = predicted(thinned, step, 1.0, times, experiment.weights).value / finest - 1
        text = ", ".join(f"{100 * value:.2g} %" for value in off)
        spacing = f"{stride * record_step:g} instead of {record_step:g}"
        print(f"{experiment.name}: lags {spacing} apart change the step response at t = 1, 2, 4, end by {text}")


def coverage(repeats):
    """Print how often the combined band holds, over fresh records and fresh forced ensembles (step, small ones)."""
    duration = 20.0
    cases = (
        (simulators.DoubleWell(), "double well", "mean", 0.04),
        (simulators.ScalarClimate(), "climate", "mean", 0.05),
        (simulators.ScalarClimate(), "climate", "variance", 0.05),
        (simulators.ScalarClimate(), "climate", "moment3", 0.05),
    )
    print(
        f"\n{repeats} records of 40 x 1000 time units, forced ensembles of 2000: part of the times inside the band, z"
    )
    for system, name, observable, amplitude in cases:
        parts, squares = [], []
        for seed in range(repeats):
            record = system.simulate(40, 1000.0, 0.25, seed=10_000 + seed, progress=False)["x"]
            R = gfdt.response(
                record,
                gfdt.AnalyticScore(system.score),
                max_lag=duration,
                observable=observable,
                perturbation=np.ones(1),
                progress=False,
            )
            truth = forced_number(
                system, step, amplitude, duration, observable=observable, n_members=2000, seed=20_000 + seed
            )
            inside, z, *_ = compared(predicted(R, step, amplitude, truth.time), truth)
            parts.append(inside)
            squares.append(z**2)
        spread = np.std(parts, ddof=1) / np.sqrt(repeats)
        print(
            f"{name + ', ' + observable:<22}{100 * np.mean(parts):6.1f} +- {100 * spread:.1f} %   z "
            f"{np.sqrt(np.mean(squares)):.2f}",
            flush=True,
        )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="systems whose name holds this text")
    parser.add_argument("--members", type=int, default=40_000, help="of the forced ensembles of scalar systems")
    parser.add_argument("--fields", type=int, default=128, help="of the forced ensembles of fields")
    parser.add_argument("--coverage", type=int, metavar="N", help="only this: the same with N small records")
    arguments = parser.parse_args()
    if arguments.coverage:
        return coverage(arguments.coverage)
    makers = {"double well": double_well, "climate": climate, "Allen-Cahn": allen_cahn}
    for name, make in makers.items():
        if arguments.only not in name:
            continue
        began = time.perf_counter()
        experiments = make(arguments.fields if make is allen_cahn else arguments.members)
        print(f"\n{name}: records and responses, {time.perf_counter() - began:.0f} s\n{HEADER}")
        for experiment in experiments:
            for index, (forcing, f) in enumerate(experiment.forcings.items()):
                truth = experiment.force(f, experiment.amplitude, 100 * (index + 1))
                for score, R in experiment.responses.items():
                    guess = predicted(R, f, experiment.amplitude, truth.time, experiment.weights)
                    row(experiment, forcing, experiment.amplitude, score, guess, truth)
            truth = experiment.force(step, experiment.outside, 1000, antithetic=False)
            R = experiment.responses["exact score"]
            guess = predicted(R, step, experiment.outside, truth.time, experiment.weights)
            row(experiment, "step", experiment.outside, "exact score", guess, truth)
        quadrature(experiments[0], float(experiments[0].responses["exact score"]["lag"][1]))
        print(f"{time.perf_counter() - began:.0f} s in all")
    return None


if __name__ == "__main__":
    main()
