"""What stays on a score after :func:`gfdt.certify`: the verdict, its reasons, and on which record it was passed.

It is saved with the score, and :func:`gfdt.response` writes it into the attributes of its result, with whether the
record there is the same. Another one is no fault: one certifies on data that were held out, and responds on all there
are. A score that is fitted again has no stamp, and one evaluated at another noise level is another score, which was
never certified.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.trajectory import fingerprint
from gfdt.validation import is_number

if TYPE_CHECKING:
    import xarray as xr

    from gfdt.scores.base import Score

__all__ = ["NEVER", "Stamp", "attributes", "joint_attributes", "level_of", "stamp_of"]

NEVER = "none"  # the verdict of a score that was never certified
_VERDICTS = ("green", "amber", "red")
_MOST_REASONS, _LONGEST = 64, 4000
_OTHER_RECORD = "certified on another record: the verdict holds for this one if both are of the same system."
_LEVEL_RTOL = 1e-6  # a noise level is written to a file and read again as it was


@dataclass(frozen=True)
class Stamp:
    """The outcome of a certificate.

    Attributes
    ----------
    verdict : "green", "amber" or "red"
    reasons : tuple of str
        Empty where it is green.
    fingerprint : str
        Digest of the record the score was judged on.
    noise_level : float
        Rms over the components of the σ it was judged at.
    """

    verdict: str
    reasons: tuple[str, ...]
    fingerprint: str
    noise_level: float

    def pack(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "fingerprint": self.fingerprint,
            "noise_level": self.noise_level,
        }

    @classmethod
    def unpack(cls, value: Any) -> Stamp | None:
        """Return what ``pack`` gave, from a file that may come from a stranger; None for None.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        if value is None:
            return None
        if not _is_valid(value):
            raise ValueError("the certificate in the file is not one")
        return cls(value["verdict"], tuple(value["reasons"]), value["fingerprint"], float(value["noise_level"]))


def level_of(score: Score) -> float:
    """Return the rms over the components of the noise level of a score."""
    return float(np.sqrt(np.mean(np.square(np.asarray(score.noise_level_, dtype=np.float64)))))


def stamp_of(score: Score, record: xr.DataArray, verdict: str, reasons: Sequence[str]) -> Stamp:
    """Return the stamp of a verdict on a score, passed on a validated record.

    Reasons name what the record's labels say, and are brought to what a file may hold.
    """
    clean = ("".join(letter if letter.isprintable() else " " for letter in reason)[:_LONGEST] for reason in reasons)
    return Stamp(verdict, tuple(clean)[:_MOST_REASONS], fingerprint(record), level_of(score))


def attributes(score: Score, digest: Callable[[], str] | None = None) -> dict[str, str]:
    """Return ``certificate_verdict`` and ``certificate_reasons`` for a result made with a score.

    With ``digest``, which returns the fingerprint of the record that the result was made from, also
    ``certificate_record``: "same" as the score was
    certified on, or "other", which is then one of the reasons; "none" for a score that was never certified.
    """
    stamp = score.certificate_
    if stamp is None or not np.isclose(stamp.noise_level, level_of(score), rtol=_LEVEL_RTOL, atol=0.0):
        out = {"certificate_verdict": NEVER, "certificate_reasons": ""}
        return out if digest is None else out | {"certificate_record": NEVER}
    reasons, where = stamp.reasons, {}
    if digest is not None:
        same = stamp.fingerprint == digest()
        where = {"certificate_record": "same" if same else "other"}
        reasons = reasons if same else (*reasons, _OTHER_RECORD)
    return {"certificate_verdict": stamp.verdict, "certificate_reasons": "\n".join(reasons), **where}


def joint_attributes(each: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the same for a result made with several scores: the worst verdict, all reasons, and the record.

    A score that was never certified is worse than an amber one, of which something is known, and better than a red one.
    ``certificate_record`` is "other" if it is for any of them, or else "none" if any was never certified.
    """
    order = ("green", "amber", NEVER, "red")
    worst = max((str(item["certificate_verdict"]) for item in each), key=order.index)
    reasons = dict.fromkeys(line for item in each for line in str(item["certificate_reasons"]).splitlines())
    record = max((str(item["certificate_record"]) for item in each), key=("same", NEVER, "other").index)
    return {"certificate_verdict": worst, "certificate_reasons": "\n".join(reasons), "certificate_record": record}


def _is_valid(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"verdict", "reasons", "fingerprint", "noise_level"}:
        return False
    reasons, level = value["reasons"], value["noise_level"]
    return (
        value["verdict"] in _VERDICTS
        and isinstance(reasons, list)
        and len(reasons) <= _MOST_REASONS
        and all(_is_text(item, _LONGEST) for item in reasons)
        and _is_text(value["fingerprint"], 64)
        and is_number(level)
        and level >= 0
    )


def _is_text(value: Any, longest: int) -> bool:
    """Whether it is a string without control characters, which would act on the terminal it is printed on."""
    return isinstance(value, str) and len(value) <= longest and value.isprintable()
