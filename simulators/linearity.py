r"""Was the kick small enough? The linear range of a twin experiment.

The mean response to a kick of +a, per unit kick, is R + a R2 + a^2 R3 + ... Two parts of it can be measured:

    even(t)   = < x+ + x- - 2 x0 > / (2 a) = a R2 + ...           from the unperturbed twin x0,
    change(t) = R_2a(t) - R_a(t)           = 3 a^2 R3 + ...       from twins kicked by +-2a,

R_a(t) = <x+ - x-> / (2 a). Both are needed: in a symmetric system (double well, Allen-Cahn) even vanishes however
large the kick, and change alone is what biases R_a (by a third of it). Doubling the kick changes the one-sided
response per unit by even + change, to this order, hence the indicator

    nu(t) = [ (|even|^2 + |change|^2) / |R|^2 ]^(1/2),           |.|^2 sums over the state,

the part by which the response would change if the kick were doubled. Squares of means over a sample are biased by the
sampling noise, so every |.|^2 is the product of *different* groups g of members,
|m|^2 = sum_(g != h) m_g m_h / (G (G - 1)), which is not; its error comes from leaving out one group at a time
(jackknife).

The same split per pair, before averaging, says little: in a double well kicked by a tenth of its standard deviation
the rms over pairs of the even part is 0.6 of that of the odd part at lag 4, while the error of the mean is 0.2 %.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_GROUPS", "THRESHOLD", "LinearRange", "LinearRangeWarning", "find_linear_range"]

# More groups would cost memory and gain little: the quantiles of t are near their limit.
MAX_GROUPS = 8
# Fewer groups give no error of the indicator.
_MIN_GROUPS = 4
# Doubling the kick changes the response by less than this part: then its cubic bias is below a third of it.
THRESHOLD = 0.1
# A verdict is wrong that often, at one lag: "no" raises a warning, so it must be certain.
_LEVEL_NO, _LEVEL_YES = 0.999, 0.95


class LinearRangeWarning(UserWarning):
    """The kick was too large for a linear response; the message carries the evidence."""


@dataclass(frozen=True)
class LinearRange:
    """What is known about the linear range.

    Attributes
    ----------
    nonlinearity, limit : ndarray
        nu at every lag and its upper 95 % limit, shape (lag,); NaN where it cannot be told.
    even, change : ndarray
        |even| / |R| and |change| / |R|, the two parts of nu, shape (lag,).
    verdict : str
        "yes", "no" (beyond `THRESHOLD` at some lag with a significant response) or "undetermined" (sampling noise
        hides the answer).
    worst : int or None
        Lag index behind a "no".
    """

    nonlinearity: NDArray[np.float64]
    limit: NDArray[np.float64]
    even: NDArray[np.float64]
    change: NDArray[np.float64]
    verdict: str
    worst: int | None


def find_linear_range(
    odd: NDArray[np.float64], even: NDArray[np.float64], change: NDArray[np.float64] | None
) -> LinearRange:
    """Return the linear range from means over groups of members.

    Parameters
    ----------
    odd, even, change : ndarray
        R_a, even and R_2a - R_a, shape (group, lag, ...), lag 0 first, as pure numbers; without `change` odd
        nonlinearities are not seen and there is no "yes".

    Returns
    -------
    LinearRange
    """
    from scipy import stats

    n_groups, n_lags = odd.shape[:2]
    unknown = np.full(n_lags, np.nan)
    if n_groups < _MIN_GROUPS:
        return LinearRange(unknown, unknown, unknown, unknown, "undetermined", None)
    size = _leave_one_out(odd)
    with np.errstate(divide="ignore", invalid="ignore"):
        even_part = np.where(size > 0, _leave_one_out(even) / size, np.nan)
        change_part = None if change is None else np.where(size > 0, _leave_one_out(change) / size, np.nan)
    ratio = even_part if change_part is None else even_part + change_part
    square, error = ratio[0], _jackknife_error(ratio)
    quantile_no, quantile_yes = stats.t.ppf((_LEVEL_NO, _LEVEL_YES), n_groups - 1)
    significant = size[0] > quantile_no * _jackknife_error(size)
    if n_lags > 1:  # at lag 0 the response is the kick itself, large or small
        significant[0] = False
    limit = square + quantile_yes * error
    beyond = significant & (square - quantile_no * error > THRESHOLD**2)
    worst, verdict = None, "undetermined"
    if beyond.any():
        worst, verdict = int(np.argmax(np.where(beyond, square, -np.inf))), "no"
    elif change is not None and significant.any() and np.all(limit[significant] < THRESHOLD**2):
        verdict = "yes"
    parts = (_root(even_part[0]), unknown if change_part is None else _root(change_part[0]))
    return LinearRange(_root(square), _root(limit), *parts, verdict, worst)


def _leave_one_out(groups: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return |mean|^2 per lag without the bias of noise, from all groups and without each: (1 + group, lag)."""
    flat = groups.reshape(*groups.shape[:2], -1)
    products = np.einsum("glc,hlc->lgh", flat, flat)
    np.einsum("lgg->lg", products)[...] = 0
    total = products.sum(axis=(1, 2))
    without = total[:, None] - 2 * products.sum(axis=2)
    n = len(groups)
    return np.concatenate([total[None] / (n * (n - 1)), without.T / ((n - 1) * (n - 2))])


def _jackknife_error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    replicates = values[1:]
    n = len(replicates)
    return np.sqrt((n - 1) / n * ((replicates - replicates.mean(axis=0)) ** 2).sum(axis=0))


def _root(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the square root, 0 where noise made the square negative."""
    return np.sqrt(np.maximum(square, 0))
