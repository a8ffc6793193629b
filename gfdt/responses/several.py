r"""One response from several scores: networks of different seeds, or different estimators.

With R_i of n scores on one record: R = mean R_i, spread^2 = sum (R_i - R)^2/(n - 1); the errors of the record are those
of the mean (e_u = mean e_u,i), and stderr^2 = SE[record]^2 + spread^2/n.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

__all__ = ["average"]


def average(results: list[xr.Dataset], confidence: float | None) -> xr.Dataset:
    """Return the average of responses that differ in their score alone."""
    out = results[0].copy()
    values = np.stack([item["response"].values for item in results])
    spread = values.std(axis=0, ddof=1)
    out["response"] = out["response"].copy(data=values.mean(axis=0))
    out["score_spread"] = out["response"].copy(data=spread)
    out["score_spread"].attrs["long_name"] = "standard deviation of the response over the scores"
    labels = list(dict.fromkeys(str(item.attrs["estimator"]) for item in results))
    worst = max(results, key=lambda item: ["green", "amber", "red"].index(str(item.attrs["score_verdict"])))
    out.attrs |= {
        "n_scores": len(results),
        "estimator": labels[0] if len(labels) == 1 else ", ".join(labels),
        "score_verdict": worst.attrs["score_verdict"],
        "stein_departure": max(float(item.attrs["stein_departure"]) for item in results),
    }
    if confidence is None or "stderr" not in out:
        return out
    if "influence" in out:
        influence = np.mean([item["influence"].values for item in results], axis=0)
        out["influence"] = out["influence"].copy(data=influence)
        n_units = len(influence)
        record = np.sqrt((influence**2).sum(axis=0) * n_units / max(n_units - 1, 1))
    else:
        # Errors of one record with almost the same score hardly differ: their mean bounds that of the mean.
        record = np.mean([item["stderr"].values for item in results], axis=0)
    stderr = np.sqrt(record**2 + spread**2 / len(results))
    n_units = int(out.attrs["n_units"])
    half = stats.t.ppf(0.5 + confidence / 2, max(n_units - 1, 1)) * stderr
    for name, data in (
        ("stderr", stderr),
        ("lower", out["response"].values - half),
        ("upper", out["response"].values + half),
    ):
        out[name] = out[name].copy(data=data)
    return out
