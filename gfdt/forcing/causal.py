r"""Who drives whom: cumulative strength of the links of a response matrix, with significance.

    squared: D_{k<-j} = int_0^tau R_kj(t)^2 dt,        signed: D_{k<-j} = int_0^tau R_kj(t) dt

(Falasca, Perezhogin & Zanna, Phys. Rev. E 109, 044202 (2024)). A link is a response that cannot be noise around zero.

- signed: z = D/stderr, a t test with the degrees of freedom of the units.
- squared: without a link, R is noise with the covariance Sigma = n/(n - 1) sum_u e_u e_u' between lags, and D = sum_l
  w_l R_l^2 has mean tr(w Sigma) and variance 2 tr[(w Sigma)^2]. D over its mean is compared with F(nu, nu (n - 1)),
  nu = tr(w Sigma)^2 / tr[(w Sigma)^2] (Satterthwaite; for one lag this is the t test of R). tr[(w Sigma)^2] is
  corrected for being estimated from n - 1 degrees of freedom. Without influences the lags count as one (nu = 1), the
  cautious choice.

Where the natural standard deviations sd are known, R is measured by them, R_kj sd_j/sd_k: the response of component k,
in its natural spread, to a push of component j by its own. Strengths of components of different units are then
comparable. Tests do not depend on it.

Many links are tested at once: p-values are adjusted by Benjamini and Hochberg, so that of the links that are reported
the part that is false is at most the level, on average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import stats

from gfdt.errors import InputError
from gfdt.forcing.propagation import propagate
from gfdt.forcing.reading import ResponseFunction, read_response
from gfdt.forcing.scale import natural_scale
from gfdt.forcing.spline import apply_to_lags, integral_weights
from gfdt.validation import number, one_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["causal_strength"]

_CHUNK = 4_000_000


def causal_strength(
    response: xr.Dataset | xr.DataArray,
    *,
    kind: str = "squared",
    max_lag: float | None = None,
    level: float = 0.05,
    self_links: bool = False,
    standardised: bool = True,
) -> xr.Dataset:
    r"""Return the cumulative strength of every link, and which are significant.

    Parameters
    ----------
    response : Dataset with ``response``, or DataArray
        R(t), e.g. ``(lag, component, component_src)``. Links are tested if it has error bars.
    kind : "squared" or "signed"
        D = int R^2 dt (how strong, whatever the sign) or int R dt (which way in the end). Default "squared".
    max_lag : float, optional
        tau, rounded down to a lag, at most the longest lag. Default: the longest lag.
    level : float in (0, 1)
        False discovery rate of ``link``. Default 0.05, the custom.
    self_links : bool
        Whether a component's response to its own kick (or a field's at displacement zero) is tested too. Default
        False: R(0) = I makes it a link by construction, which would only loosen the adjusted level for the others.
    standardised : bool
        Whether D is that of R_kj sd_j/sd_k, comparable between components of different units; p-values are the same.
        It needs the response of the mean of the state to pushes of the same state, with ``observable_std``; of any
        other R it is the plain one. Default True; False: D in the units of R.

    Returns
    -------
    Dataset
        Dims of R without ``lag``. ``strength``; with error bars ``noise`` (what noise alone would give), ``z``
        (strength less noise, in standard deviations of the noise), ``p_value``, ``p_adjusted`` (Benjamini-Hochberg),
        ``link`` (p_adjusted <= level); NaN and False for self-links that are not tested. Where R carries a band
        ``null_lower``, ``null_upper`` of a null model, ``strength_outside`` integrates R only at the lags where it
        leaves the band, and without error bars ``link`` is where that is not zero. Attributes ``kind``, ``max_lag``,
        ``level``, ``n_tests``, ``n_links``, and ``standardised`` (1 or 0: whether R was measured in natural standard
        deviations).

    Raises
    ------
    InputError
        If an option is out of range, ``max_lag`` exceeds the lags, or fewer than two lags are left.
    """
    one_of("kind", kind, ("squared", "signed"))
    number("level", level, low=0.0, high=1.0)
    number("max_lag", max_lag, low=0.0, optional=True)
    R = read_response(response)
    if max_lag is not None and max_lag > R.lags[-1] * (1 + 1e-9):
        raise InputError(
            f"max_lag={max_lag:g} is beyond the longest lag of the response, {R.lags[-1]:g}: give at most that, or "
            "estimate R to a larger max_lag."
        )
    keep = int(np.count_nonzero(R.lags <= (np.inf if max_lag is None else max_lag * (1 + 1e-9))))
    if keep < 2:
        raise InputError(f"max_lag={max_lag:g} leaves {keep} lag(s) of spacing {R.lags[1]:g}: at least two are needed.")
    lag_weights = np.zeros(R.lags.size)
    lag_weights[:keep] = integral_weights(R.lags[:keep], R.lags[keep - 1 : keep])[0]
    tested = np.ones(R.values.shape[1:], dtype=bool) if self_links else ~_self_links(R)
    found = _squared(R, lag_weights) if kind == "squared" else _signed(R, lag_weights)
    outside = _outside(R, lag_weights, kind)
    if "p_value" in found:
        found |= _tests(found["p_value"], tested, level)
    elif outside is not None:
        found["link"] = (outside != 0) & tested
    if outside is not None:
        found["strength_outside"] = outside
    ratio = _spread_ratio(R) if standardised else None
    if ratio is not None:
        for key in {"strength", "noise", "strength_outside"} & set(found):
            found[key] = found[key] * (ratio**2 if kind == "squared" else ratio)
    long_names = {
        "strength": f"integral of the {'squared ' if kind == 'squared' else ''}response over the lags"
        + ("" if ratio is None else ", in natural standard deviations"),
        "noise": "strength that noise alone would give",
        "z": "strength less that of noise, in standard deviations of the noise",
        "p_value": "probability of such a strength without a link",
        "p_adjusted": "p-value adjusted for the number of links tested (Benjamini-Hochberg)",
        "link": "whether there is a link at the level",
        "strength_outside": "strength from the lags at which the response leaves the null band",
    }
    data = {key: (R.dims, values, {"long_name": long_names[key], "units": "1"}) for key, values in found.items()}
    return xr.Dataset(data, coords=R.side_coords(R.dims)).assign_attrs(
        title="cumulative causal strength",
        references="Falasca, Perezhogin & Zanna, Phys. Rev. E 109, 044202 (2024)",
        kind=kind,
        max_lag=float(R.lags[keep - 1]),
        level=float(level),
        self_links=int(self_links),
        standardised=int(ratio is not None),
        n_tests=int(tested.sum()) if "p_value" in found else 0,
        n_links=int(found["link"].sum()) if "link" in found else 0,
    )


def _signed(response: ResponseFunction, weights: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    row = weights[None]
    estimate = propagate(response, lambda x: apply_to_lags(row, x)[:, 0], lambda x: apply_to_lags(np.abs(row), x)[:, 0])
    if estimate.stderr is None:
        return {"strength": estimate.value}
    z = _ratio(estimate.value, estimate.stderr)
    dof = np.inf if response.influence is None else max(response.influence.shape[0] - 1, 1)
    p = 2 * stats.t.sf(np.abs(z), dof)
    return {"strength": estimate.value, "noise": np.zeros_like(z), "z": z, "p_value": p}


def _squared(response: ResponseFunction, weights: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    strength = np.tensordot(weights, response.values**2, axes=(0, 0))
    if response.stderr is None:
        return {"strength": strength}
    noise = np.tensordot(weights, response.stderr**2, axes=(0, 0))
    if response.influence is None:
        freedom, dof = np.ones_like(noise), np.inf
    else:
        dof = max(response.influence.shape[0] - 1, 1)
        freedom = np.clip(_ratio(noise**2, _trace_of_square(response.influence, weights, noise)), 1.0, None)
    ratio = _ratio(strength, noise)
    p = stats.chi2.sf(ratio * freedom, freedom) if np.isinf(dof) else stats.f.sf(ratio, freedom, freedom * dof)
    z = _ratio(strength - noise, noise * np.sqrt(2 / freedom))
    return {"strength": strength, "noise": noise, "z": z, "p_value": p}


def _trace_of_square(
    influence: NDArray[np.float64], weights: NDArray[np.float64], trace: NDArray[np.float64]
) -> NDArray[np.float64]:
    """tr[(w Sigma)^2] of every entry, without the bias of a Sigma estimated from n - 1 degrees of freedom."""
    n_units, n_lags = influence.shape[:2]
    dof = max(n_units - 1, 1)
    used = np.flatnonzero(weights)
    root = np.sqrt(np.abs(weights[used]))[:, None]
    flat = influence.reshape(n_units, n_lags, -1)
    out = np.empty(flat.shape[-1])
    columns = max(_CHUNK // (n_units * used.size), 1)
    for start in range(0, out.size, columns):
        part = slice(start, start + columns)
        scaled = np.moveaxis(flat[:, used, part] * root, -1, 0)  # (entry, unit, lag)
        short = scaled @ scaled.mT if n_units <= used.size else scaled.mT @ scaled
        out[part] = (short**2).sum(axis=(1, 2)) * (n_units / dof) ** 2
    square = out.reshape(trace.shape)
    if dof == 1:
        return square
    return np.maximum(dof**2 / ((dof - 1) * (dof + 2)) * (square - trace**2 / dof), 0.0)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quotient; infinite where there is no noise at all, zero for nothing over nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == 0, 0.0, above / below)


def _tests(p: NDArray[np.float64], tested: NDArray[np.bool_], level: float) -> dict[str, NDArray[Any]]:
    raw, adjusted = np.full(p.shape, np.nan), np.full(p.shape, np.nan)
    raw[tested] = p[tested]
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p[tested], method="bh")
    return {"p_value": raw, "p_adjusted": adjusted, "link": np.nan_to_num(adjusted, nan=1.0) <= level}


def _spread_ratio(response: ResponseFunction) -> NDArray[np.float64] | None:
    """sd_j/sd_k for every entry of R without lag, or None where the record does not tell it."""
    sources = natural_scale(response)
    if sources is None or response.natural is None:
        return None
    observed = response.natural.reshape((*response.natural.shape, *(1 for _ in response.perturbed)))
    return sources.reshape(response.shape(response.perturbed)) / observed


def _self_links(response: ResponseFunction) -> NDArray[np.bool_]:
    """Where the observable is what is kicked: pairs <dim>, <dim>_src with equal index, and displacement zero."""
    out = np.zeros(response.values.shape[1:], dtype=bool)
    pairs = [(dim, f"{dim}_src") for dim in response.observed if f"{dim}_src" in response.perturbed]
    if len(pairs) != len(response.perturbed) or len(pairs) != len(response.observed) or out.ndim == 0:
        return out
    same = np.ones(out.shape, dtype=bool)
    grid: dict[str, NDArray[Any]] = dict(zip(response.dims, np.indices(out.shape, sparse=True), strict=True))
    for dim, source in pairs:
        same &= grid[dim] == grid[source]
    for dim in response.displacement:
        same &= grid[dim] == response.sizes[dim] // 2
    return same


def _outside(response: ResponseFunction, weights: NDArray[np.float64], kind: str) -> NDArray[np.float64] | None:
    source = response.source
    if not {"null_lower", "null_upper"} <= set(source.data_vars):
        return None
    dims = ("lag", *response.dims)
    low, high = (np.asarray(source[key].transpose(*dims).values, np.float64) for key in ("null_lower", "null_upper"))
    kept = np.where((response.values < low) | (response.values > high), response.values, 0.0)
    return np.tensordot(weights, kept**2 if kind == "squared" else kept, axes=(0, 0))
