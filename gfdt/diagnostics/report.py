"""What a score check found, for reading, drawing and saving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.diagnostics.loss import LossComparison
from gfdt.diagnostics.names import Names
from gfdt.diagnostics.sweep import SweepLevel
from gfdt.diagnostics.verdict import Finding, worst_of
from gfdt.responses.departure import Departure
from gfdt.responses.layout import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["ScoreReport"]


@dataclass(frozen=True)
class ScoreReport:
    """What :func:`gfdt.check_score` found; ``print`` it.

    Attributes
    ----------
    findings : tuple of Finding
        One for each check: verdict, number, reason.
    departure : Departure
        From the Stein identity.
    observables : dict of str to Departure
        From <A B> = <A'>, made dimensionless: see :mod:`gfdt.diagnostics.identities`.
    modes : Departure
        From the third-order identity of single principal components or wavenumbers with variance (of several
        variables: principal components of each wavenumber).
    mean_score, mean_score_z : float
        Largest |<s_j>| as a part of the rms of s_j, and in standard errors.
    loss : LossComparison
        Score-matching loss, against the Gaussian's.
    curl : float
        Antisymmetric part of grad s over the whole; 0 for one component.
    sweep : tuple of SweepLevel
        The same score at other noise levels; empty for a score that has only one.
    drift_z : float
        Largest change of the mean from the beginning of the record to its end, in standard errors.
    noise_level : float or ndarray
        sigma of the score.
    in_sample : bool
        Whether the score was fitted on this very record.
    label : str
        What estimated the score.
    resampling : str
        What the standard errors are the spread of: "24 members", or blocks of so many samples.
    n_samples : int
        States of the record, missing ones not counted.
    names : Names
        How the entries of ``stein`` are laid out, and what they are called.
    """

    findings: tuple[Finding, ...]
    departure: Departure
    observables: Mapping[str, Departure]
    modes: Departure
    mean_score: float
    mean_score_z: float
    loss: LossComparison
    curl: float
    sweep: tuple[SweepLevel, ...]
    drift_z: float
    noise_level: float | NDArray[np.float64]
    in_sample: bool
    label: str
    resampling: str
    n_samples: int
    names: Names

    @property
    def layout(self) -> Layout:
        """How the entries of ``stein`` are laid out."""
        return self.names.layout

    @property
    def verdict(self) -> str:
        """The worst of the findings: "green", "amber" or "red"."""
        return worst_of(self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing worse than amber was found."""
        return self.verdict != "red"

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each finding that is not green."""
        return tuple(finding.reason for finding in self.findings if finding.reason)

    @property
    def stein(self) -> NDArray[Any]:
        """M P^-1: (d, d), or the half-plane of wavenumbers (homogeneous), (n_modes, v, v) of several variables."""
        return self.departure.measured

    @property
    def stein_stderr(self) -> NDArray[np.float64]:
        """Standard error of ``stein`` from the resampling units."""
        return self.departure.stderr

    @property
    def stein_excess(self) -> float:
        """Rms of |M P^-1 - I| over its entries, with the squared standard errors subtracted."""
        return self.departure.excess

    @property
    def worst_z(self) -> float:
        """Largest |M P^-1 - I| in standard errors."""
        return self.departure.worst_z

    @property
    def cubic_excess(self) -> float:
        """Rms departure of <x^3 s>/(3 <x^2>) from -1 beyond sampling noise; NaN if moment3 was not looked at."""
        return self.observables["moment3"].excess if "moment3" in self.observables else float("nan")

    def __str__(self) -> str:
        where = "on the record the score was fitted on" if self.in_sample else "on a record new to the score"
        if self.label == "analytical":
            where = "of a formula"
        lines = [f"score check: {self.verdict} ({self.label}, {where})"]
        lines += [f"  {item.verdict:<6}{item.check:<16}{item.text}" for item in self.findings]
        levels = np.unique(np.asarray(self.noise_level, dtype=np.float64))
        shown = f"{levels[0]:.3g}" if levels.size == 1 else f"{levels[0]:.3g} to {levels[-1]:.3g}"
        lines.append(f"  {'':<6}{'noise level':<16}sigma = {shown}")
        lines.append(f"  {'':<6}{'errors':<16}from {self.resampling}, {self.n_samples} states")
        lines += [
            f"  {'':<6}{'':<16}at sigma = {item.noise_level:.3g}: Stein {item.stein.excess:.2g} "
            f"({item.stein.worst_z:.1f} stderr), loss {item.loss}"
            for item in self.sweep
        ]
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])

    def to_dataset(self) -> xr.Dataset:
        """Return every number with its labels.

        Returns
        -------
        Dataset
            ``stein``, ``stein_identity`` and ``stein_stderr`` with dims (*state, *state_src), or (k_<dim>, ...) with
            signed integer wavenumbers (homogeneous; ``stein_imag`` beside), then (variable, variable_src) where there
            are several; ``observable_excess`` and
            ``observable_worst_z`` (observable); ``sweep_stein_excess``, ``sweep_loss_difference`` and
            ``sweep_loss_stderr`` (sigma); ``finding_value`` and ``finding_verdict`` (check); scalars. All pure numbers
            but sigma, which has the units of the data.
        """
        found = self.departure
        coords, shape = self.frame()
        names = tuple(coords)

        def labelled(values: NDArray[Any], text: str) -> tuple[tuple[str, ...], NDArray[Any], dict[str, str]]:
            return names, np.real(values).reshape(shape), {"long_name": text, "units": "1"}

        data: dict[str, Any] = {
            "stein": labelled(found.measured, "measured -<x s^T>, the factor of the noise level divided out"),
            "stein_identity": labelled(found.identity, "what an exact score has"),
            "stein_stderr": labelled(found.stderr, "standard error of stein"),
        }
        if np.iscomplexobj(found.measured):
            data["stein_imag"] = labelled(found.measured.imag, "imaginary part of stein")
        if found.measured.ndim == 3:
            data["stein_identity_imag"] = labelled(np.imag(found.identity), "imaginary part of what an exact score has")
        coords |= {"check": [item.check for item in self.findings]}
        data |= {
            "finding_value": ("check", [item.value for item in self.findings]),
            "finding_verdict": ("check", [item.verdict for item in self.findings]),
            "loss": self.loss.score,
            "loss_gaussian": self.loss.gaussian,
            "loss_difference": self.loss.difference,
            "loss_stderr": self.loss.stderr,
            "curl": self.curl,
            "mean_score": self.mean_score,
            "drift_z": self.drift_z,
        }
        if self.observables:
            coords |= {"observable": list(self.observables)}
            data |= {
                "observable_excess": ("observable", [item.excess for item in self.observables.values()]),
                "observable_worst_z": ("observable", [item.worst_z for item in self.observables.values()]),
            }
        if self.sweep:
            coords |= {"sigma": [item.noise_level for item in self.sweep]}
            data |= {
                "sweep_stein_excess": ("sigma", [item.stein.excess for item in self.sweep]),
                "sweep_loss_difference": ("sigma", [item.loss.difference for item in self.sweep]),
                "sweep_loss_stderr": ("sigma", [item.loss.stderr for item in self.sweep]),
            }
        return xr.Dataset(data, coords=coords).assign_attrs(
            title="score check",
            Conventions="CF-1.11",
            verdict=self.verdict,
            reasons="\n".join(self.reasons),
            estimator=self.label,
            noise_level=np.ravel(np.asarray(self.noise_level, dtype=np.float64)),
            in_sample="yes" if self.in_sample else "no",
            resampling=self.resampling,
            n_samples=self.n_samples,
        )

    def frame(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Return the coordinates of the Stein matrix or spectrum, by dim, and its shape."""
        labels = dict(self.names.coordinates)
        if not self.layout.dense:
            coords: dict[str, Any] = dict(self.names.wavenumbers())
            labels = {self.layout.dims[0]: labels[self.layout.dims[0]]} if self.layout.several else {}
        else:
            coords = {}
        coords |= labels | {f"{dim}_src": values for dim, values in labels.items()}
        return coords, tuple(len(values) for values in coords.values())

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw it: the same as :func:`gfdt.plot_check`."""
        from gfdt.plotting.checks import plot_check

        return plot_check(self, figure=figure)
