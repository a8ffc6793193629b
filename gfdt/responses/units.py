"""Resampling units: the pieces of a trajectory that count as independent when errors are estimated.

With many members each member is a unit; with few, every member is cut into blocks longer than the coherence time
tau = 1/2 + 2 sum_{s>0} |rho(s)|^2 (in samples), so that the block sums are nearly independent (Carlstein's
non-overlapping block resampling). For rho = exp(-s/T) that is T, as is the integrated autocorrelation time
1/2 + sum rho; but for an oscillation sum rho cancels to nothing although the record stays coherent over many periods,
and tau does not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from gfdt.errors import ReliabilityWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Unit", "coherence_time", "resampling_units"]

MIN_MEMBERS = 20  # from here on members are resampled: independent by construction
MIN_BLOCKS = 8  # fewer blocks than this give no usable estimate of a standard error
_BLOCK_TIMES = 10  # block length in coherence times: end effects bias errors by about 1/10
_WINDOW = 5.0  # Sokal's automatic window: sum rho up to the first lag larger than 5 tau
MAX_SERIES = 64  # components looked at for the slowest time: enough to find it, cheap for large states


@dataclass(frozen=True)
class Unit:
    """Start times ``start <= t < stop`` (in samples) of one member."""

    member: int
    start: int
    stop: int


def resampling_units(
    values: NDArray[Any],
    *,
    warn: bool = True,
    most: int | None = None,
    there: NDArray[np.bool_] | None = None,
    stride: int = 1,
    times: int | None = None,
) -> tuple[list[Unit], str]:
    """Choose the units for a centred array of shape (member, time, components), of at most a few components.

    ``warn`` is False where no error bar is wanted; ``most`` bounds the number of blocks, which are longer then;
    ``there`` (member, time) says which samples there are (zero where not). The array may hold every ``stride``-th of
    the ``times`` samples only.

    Returns
    -------
    units : list of Unit, covering every start time once
    description : str, for the attributes of the result

    Warns
    -----
    ReliabilityWarning
        If the record is shorter than eight blocks of ten coherence times.
    """
    members, times = values.shape[0], times or values.shape[1]
    if members >= MIN_MEMBERS:
        return [Unit(m, 0, times) for m in range(members)], f"{members} members"
    tau = stride * max(coherence_time(values[:, :, j], there) for j in range(values.shape[2]))
    length = max(int(np.ceil(_BLOCK_TIMES * tau)), 1)
    per_member = max(times // length, 1)
    if members * per_member < MIN_BLOCKS:
        per_member = min(-(-MIN_BLOCKS // members), times)
        if warn:
            warnings.warn(
                f"the record holds only {members * times / (_BLOCK_TIMES * tau):.1f} stretches of {_BLOCK_TIMES} "
                f"coherence times (tau = {tau:.3g} samples), {MIN_BLOCKS} are needed for an "
                "error bar: the bands are rough; record longer or more members.",
                ReliabilityWarning,
                stacklevel=6,
            )
    if most is not None:
        per_member = max(min(per_member, most // members), 1)
    edges = np.linspace(0, times, per_member + 1).astype(int)
    units = [Unit(m, int(start), int(stop)) for m in range(members) for start, stop in pairwise(edges)]
    if per_member == 1:
        return units, f"{members} members"
    return units, f"{len(units)} blocks of {times // per_member} samples (tau = {tau:.3g} samples)"


def coherence_time(series: NDArray[Any], there: NDArray[np.bool_] | None = None) -> float:
    """Return tau = 1/2 + 2 sum_{s>0} |rho(s)|^2, in samples, of centred series of shape (member, time).

    rho is averaged over members, computed with zero padding and divided by the number of pairs (T - s without gaps;
    ``there`` (member, time) says which samples there are, zero where not); the sum stops at the
    first s > 5 tau(s) (Sokal 1997), which keeps the noise of the tail out. Real or complex series.
    """
    times = series.shape[1]
    n_fft = scipy.fft.next_fast_len(2 * times)
    power = np.zeros(n_fft)
    for row in series:
        spectrum = scipy.fft.fft(row, n_fft)
        power += spectrum.real**2 + spectrum.imag**2
    if there is None:
        pairs = times - np.arange(times, dtype=np.float64)
    else:
        masks = np.zeros(n_fft)
        for row in there:
            spectrum = scipy.fft.fft(row.astype(np.float64), n_fft)
            masks += spectrum.real**2 + spectrum.imag**2
        pairs = np.maximum(scipy.fft.ifft(masks).real[:times], 0.5) / len(there)
    correlation = np.abs(scipy.fft.ifft(power)[:times]) / pairs
    if correlation[0] <= 0:
        return 0.5
    tau = 0.5 + 2 * np.cumsum((correlation[1:] / correlation[0]) ** 2)
    beyond = np.arange(1, times) > _WINDOW * tau
    return float(max(tau[int(np.argmax(beyond))] if beyond.any() else tau[-1], 0.5))
