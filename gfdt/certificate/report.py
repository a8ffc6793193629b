"""What a certificate found, for reading, drawing and saving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from gfdt.certificate.sliced import SlicedDistance
from gfdt.diagnostics.report import ScoreReport
from gfdt.diagnostics.verdict import Finding, worst_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Certificate"]

_LABEL = 20  # letters of the name of a check


@dataclass(frozen=True)
class Certificate:
    """What :func:`gfdt.certify` found; ``print`` it.

    Attributes
    ----------
    sections : dict of str to tuple of Finding
        By part: "identities", "samples against the record", "reverse processes", "likelihood", "score". A part that
        could not be done is missing.
    diagnosis : tuple of str
        What the findings together point to; empty where nothing is wrong.
    identities : ScoreReport
        Of :func:`gfdt.check_score`.
    distance, spread : SlicedDistance or None
        Samples (λ = 0) against the record, and samples with λ = 1 against those with λ = 0.
    likelihood : Dataset or None
        The bound on held-out states and where in σ it is won and lost (``score.bound``).
    pictures : Dataset
        What is drawn: ``density`` (source, place, bin) in the units of the data, ``power_ratio`` (mode) of the samples'
        spectrum to the record's with its standard error, and ``example`` states (source, state, ...) of fields.
    label : str
        What estimated the score.
    in_sample : bool
        Whether the score was fitted on this very record.
    noise_level : float or ndarray
        σ of the score.
    n_samples, n_states : int
        Samples drawn, and states of the record they were compared with.
    resampling : str
        What the standard errors are the spread of.
    """

    sections: Mapping[str, tuple[Finding, ...]]
    diagnosis: tuple[str, ...]
    identities: ScoreReport
    distance: SlicedDistance | None
    spread: SlicedDistance | None
    likelihood: xr.Dataset | None
    pictures: xr.Dataset
    label: str
    in_sample: bool
    noise_level: Any
    n_samples: int
    n_states: int
    resampling: str

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in order."""
        return tuple(item for section in self.sections.values() for item in section)

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
        """The diagnosis, and one sentence for each finding that is not green."""
        return (*self.diagnosis, *(item.reason for item in self.findings if item.reason))

    def __str__(self) -> str:
        where = (
            "on the record the score was fitted on"
            if self.in_sample
            else "on a record not identical to that of the fit"
        )
        lines = [f"certificate: {self.verdict} ({self.label}, {where})"]
        for title, section in self.sections.items():
            lines.append(f" {title}")
            lines += [f"  {item.verdict:<6}{item.check:<{_LABEL}}{item.text}" for item in section]
        drawn = f"{self.n_samples} samples against {self.n_states} states, " if self.n_samples else ""
        lines.append(f" {drawn}errors from {self.resampling}")
        return "\n".join(lines + [f"  - {reason}" for reason in self.reasons])

    def to_dataset(self) -> xr.Dataset:
        """Return every number with its labels.

        Returns
        -------
        Dataset
            ``finding_value`` and ``finding_verdict`` (check), the part of the certificate each belongs to in the
            coordinate ``part``; ``distance``, ``distance_floor``, ``spread`` and ``spread_floor`` in standard
            deviations; those of ``pictures``; those of ``likelihood``, with the prefix ``likelihood_``.
        """
        names, parts = [], []
        for title, section in self.sections.items():
            names += [item.check for item in section]
            parts += [title] * len(section)
        data: dict[str, Any] = {
            "finding_value": ("check", [float(item.value) for item in self.findings]),
            "finding_verdict": ("check", [item.verdict for item in self.findings]),
        }
        for name, found in (("distance", self.distance), ("spread", self.spread)):
            if found is not None:
                data |= {name: found.distance, f"{name}_floor": found.floor}
        out = xr.Dataset(data, coords={"check": names, "part": ("check", parts)}).merge(self.pictures)
        for name in data:
            if not name.startswith("finding"):
                out[name].attrs.update(long_name=name.replace("_", " of the "), units="standard deviations")
        if self.likelihood is not None:
            own = self.likelihood
            renamed = {name: f"likelihood_{name}" for name in (*own.data_vars, *own.coords, *own.dims)}
            out = out.merge(own.rename({old: new for old, new in renamed.items() if old in own.variables}))
        return out.assign_attrs(
            title="score certificate",
            Conventions="CF-1.11",
            verdict=self.verdict,
            reasons="\n".join(self.reasons),
            estimator=self.label,
            noise_level=np.ravel(np.asarray(self.noise_level, dtype=np.float64)),
            in_sample="yes" if self.in_sample else "no",
            resampling=self.resampling,
            n_samples=self.n_samples,
            n_states=self.n_states,
        )

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw it; see :func:`gfdt.plotting.certificate.plot_certificate`."""
        from gfdt.plotting.certificate import plot_certificate

        return plot_certificate(self, figure=figure)

    def to_html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write one file that needs no other: text, tables and pictures.

        Parameters
        ----------
        path : path
        overwrite : bool
            Replace an existing file. Default False.

        Raises
        ------
        OutputError
            If it exists, or cannot be written.
        """
        from gfdt.certificate.page import page
        from gfdt.output import atomic_path, check_output

        check_output(path, overwrite=overwrite)
        text = page(self)
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return Path(path)
