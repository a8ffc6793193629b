"""When a spin-up has lasted long enough, judged from the run itself: the rule of ``spinup="auto"``.

A few scalars of each member, the diagnostics d(t), are noted at every save interval (`simulators.monitor`). T is the
time since the start, M the number of members watched, s^2 the variance of d about its mean over all members and times
of a window, tau its integrated autocorrelation time,

    tau = save_every (1/2 + sum_{j=1}^W rho(j)),     W the smallest window with W save_every >= 5 tau,

so that the mean over M members and a window of length L has the variance 2 tau s^2 / (M L). The last half of the time
is compared with the quarter before it; the first quarter is never looked at. The spin-up ends when for every diagnostic

    1.  T >= 20 (tau + its standard error)            (the start is forgotten),
    2.  SE <= 0.3 s,  SE^2 = 12 tau s^2 / (M T)       (a drift would be seen; the stricter rule below 7 members),
    3.  |mean(T/2 .. T) - mean(T/4 .. T/2)| <= z SE   (and is not),

with z such that a stationary run passes all of its comparisons in 95 % of cases if they are independent. tau, s and rho
are those of the last half. They are taken about the mean over ALL members: members that sit in different wells, or of
which a few have changed wells, have long tau by this measure, and the run goes on until changes are frequent.

The check is made at T_0, 1.25 T_0, 1.25^2 T_0, ...; T_0 is a quarter of the system's own ``default_spinup`` or 32 save
intervals, whichever is longer, and the last T ten times ``default_spinup`` or 128 intervals. Two things cannot be seen:
a transition that has happened to no member yet, and a drift so slow that it is still below SE. The lower limit is there
to make them unlikely, and more members make both easier to see.

References: Sokal, Monte Carlo Methods in Statistical Mechanics, in Functional Integration (1997), for the window and
the standard error of tau; Wolff, Comput. Phys. Commun. 156, 143 (2004), for its bias from the estimated mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Autocorrelation",
    "Finding",
    "autocorrelation_time",
    "check_times",
    "compare_windows",
    "describe",
    "expectation",
    "longest_spinup",
    "z_limit",
]

_MIN_TAUS = 20.0
_MAX_ERROR = 0.3
_CONFIDENCE = 0.95
_WINDOW_FACTOR = 5.0

_GROWTH = 1.25
_MIN_INTERVALS, _MAX_OVER_MIN = 32, 4
# Relative to a system's own guess.
_SHORTEST, _LONGEST = 0.25, 10.0


@dataclass(frozen=True)
class Autocorrelation:
    """Integrated autocorrelation time `tau` in samples with its standard error `tau_error`, and `variance` s^2."""

    tau: float
    tau_error: float
    variance: float


def autocorrelation_time(series: NDArray[np.float64]) -> Autocorrelation:
    """Return tau = 1/2 + sum_{j=1}^W rho(j) of an ensemble of series.

    rho from FFTs with zero padding, division by the number of products at each lag, deviations from the mean over all
    members and times; W the smallest window with W >= 5 tau(W). That the mean is estimated lowers every rho by about
    2 tau / (M L); division by 1 - (2 W + 1) / (M L) makes up for it. The relative error of tau is
    sqrt[2 (2 W + 1) / (M L)].

    Parameters
    ----------
    series : ndarray
        Shape (member, time), M x L samples.

    Returns
    -------
    Autocorrelation
        `tau` is at least 1/2, the value of white noise and of a constant. Where no window is long enough, it is the
        largest tau(W): too small, but more than L / 5.
    """
    n_members, length = series.shape
    deviation = series - series.mean()
    variance = float(np.mean(deviation**2))
    if not variance > 0:
        return Autocorrelation(0.5, 0.0, variance)
    spectrum = np.fft.rfft(deviation, n=2 * length, axis=1)
    covariance = np.fft.irfft(np.mean(spectrum.real**2 + spectrum.imag**2, axis=0), n=2 * length)[:length]
    rho = covariance / (length - np.arange(length)) / variance
    taus = 0.5 + np.concatenate([[0.0], np.cumsum(rho[1:])])
    enough = np.flatnonzero(np.arange(length) >= _WINDOW_FACTOR * taus)
    if enough.size == 0:
        tau, window = float(taus.max()), length - 1
    else:
        window = int(enough[0])
        tau = max(0.5, float(taus[window]) / max(1 - (2 * window + 1) / (n_members * length), 0.1))
    return Autocorrelation(tau, tau * math.sqrt(2 * (2 * window + 1) / (n_members * length)), variance)


@dataclass(frozen=True)
class Finding:
    """One diagnostic at one check.

    Attributes
    ----------
    name : str
        Of the diagnostic.
    mean, sd : float
        Mean and standard deviation in the last half of the time; `sd` 0 stands for a constant.
    tau, tau_error : float
        Integrated autocorrelation time there and its standard error, in time units.
    drift, se : float
        Mean of the last half less that of the quarter before it, and its standard error.
    """

    name: str
    mean: float
    sd: float
    tau: float
    tau_error: float
    drift: float
    se: float

    @property
    def z(self) -> float:
        """Drift in standard errors."""
        return self.drift / self.se if self.se > 0 else 0.0

    def passes(self, time: float, z_limit: float) -> bool:
        """Tell whether the diagnostic is stationary after `time`: the three conditions of the module docstring."""
        if self.sd == 0:
            return True
        known = time >= _MIN_TAUS * (self.tau + self.tau_error)
        return known and self.se <= _MAX_ERROR * self.sd and abs(self.z) <= z_limit

    def describe(self) -> str:
        """Return the figures that decide, in a few words."""
        if self.sd == 0:
            return f"{self.name}: constant"
        return (
            f"{self.name}: tau {self.tau:.3g} +- {self.tau_error:.1g}, drift {self.drift / self.sd:.2g} sd with "
            f"standard error {self.se / self.sd:.2g} sd"
        )


def compare_windows(name: str, series: NDArray[np.float64], interval: float, rounding: float = 0.0) -> Finding:
    """Compare the last half of a series with the quarter before it.

    Parameters
    ----------
    name : str
        Of the diagnostic.
    series : ndarray
        Shape (member, time), at least four times.
    interval : float
        Time between samples.
    rounding : float
        Standard deviations up to this count as a constant.

    Returns
    -------
    Finding
    """
    length = series.shape[1]
    late, early = series[:, length - length // 2 :], series[:, length // 4 : length - length // 2]
    found = autocorrelation_time(late)
    mean, sd = float(late.mean()), math.sqrt(found.variance)
    if sd <= rounding:
        return Finding(name, mean, 0.0, 0.0, 0.0, 0.0, 0.0)
    se = math.sqrt(2 * found.tau * found.variance * (1 / late.size + 1 / early.size))
    return Finding(name, mean, sd, found.tau * interval, found.tau_error * interval, mean - float(early.mean()), se)


def z_limit(n_diagnostics: int) -> float:
    """Return the largest drift, in standard errors, that passes."""
    return NormalDist().inv_cdf((1 + _CONFIDENCE ** (1 / n_diagnostics)) / 2)


def expectation(time: float, n_diagnostics: int) -> str:
    """Return what each diagnostic should be after `time`, for a message."""
    return (
        f"each tau and its error <= {time / _MIN_TAUS:.3g} together, each standard error <= {_MAX_ERROR:g} sd and "
        f"each drift within {z_limit(n_diagnostics):.2f} standard errors"
    )


def describe(findings: Sequence[Finding]) -> str:
    """Return the figures that decide, in one line."""
    return "; ".join(finding.describe() for finding in findings)


def longest_spinup(default_spinup: float) -> float:
    """Return the longest time that is tried for a system whose own guess is `default_spinup`."""
    return _LONGEST * default_spinup


def check_times(default_spinup: float, save_every: float) -> list[int]:
    """Return the numbers of save intervals after which the check is made; the last one is the longest spin-up tried."""
    first = max(math.ceil(_SHORTEST * default_spinup / save_every), _MIN_INTERVALS)
    last = max(math.ceil(longest_spinup(default_spinup) / save_every), _MAX_OVER_MIN * _MIN_INTERVALS, first)
    times = [first]
    while times[-1] < last:
        times.append(min(math.ceil(times[-1] * _GROWTH), last))
    return times
