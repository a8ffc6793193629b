r"""One response from several scores: networks of different seeds, or different estimators.

With R_i of n scores on one record: R = mean R_i, spread^2 = sum (R_i - R)^2/(n - 1); the errors of the record are those
of the mean (e_u = mean e_u,i), and stderr^2 = SE[record]^2 + spread^2/n. Every score is one more entry of
``influence``, so that whatever is made of the response carries both.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from gfdt.certificate.stamp import joint_attributes

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
        **joint_attributes([item.attrs for item in results]),
        "stein_departure": max(float(item.attrs["stein_departure"]) for item in results),
    }
    if confidence is None or "stderr" not in out:
        return out
    n_units, n_scores = int(out.attrs["n_units"]), len(results)
    if "influence" in out:
        influence = np.mean([item["influence"].values for item in results], axis=0)
        record = np.sqrt((influence**2).sum(axis=0) * n_units / max(n_units - 1, 1))
        total = n_units + n_scores
        # Scaled so that n/(n - 1) sum e^2 over units and scores together is the variance of both.
        of_units = influence * np.sqrt(n_units / max(n_units - 1, 1) * (total - 1) / total)
        of_scores = (values - values.mean(axis=0)) * np.sqrt((total - 1) / (total * n_scores * (n_scores - 1)))
        both = np.concatenate([of_units, of_scores])
        attrs = out["influence"].attrs | {"long_name": "first-order error from each resampling unit, then each score"}
        out = out.drop_vars("influence").assign(influence=(results[0]["influence"].dims, both, attrs))
    else:
        # Errors of one record with almost the same score hardly differ: their mean bounds that of the mean.
        record = np.mean([item["stderr"].values for item in results], axis=0)
    between = spread / np.sqrt(n_scores)
    stderr = np.sqrt(record**2 + between**2)
    # Two seeds hardly know their own spread: degrees of freedom of both together (Welch and Satterthwaite).
    weight = record**4 / max(n_units - 1, 1) + between**4 / (n_scores - 1)
    freedom = np.where(weight > 0, stderr**4 / np.where(weight > 0, weight, 1.0), n_units - 1)
    half = stats.t.ppf(0.5 + confidence / 2, np.maximum(freedom, 1.0)) * stderr
    for name, data in (
        ("stderr", stderr),
        ("lower", out["response"].values - half),
        ("upper", out["response"].values + half),
    ):
        out[name] = out[name].copy(data=data)
    return out
