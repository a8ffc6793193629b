"""From a score file back to the estimator that wrote it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfdt.certificate.stamp import Stamp
from gfdt.errors import CheckpointError, InputError
from gfdt.scores.base import Score
from gfdt.scores.storage import check_description, read_score_file, short

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load_score", "restore_inner"]


def load_score(path: str | Path) -> Score:
    """Read a score written by ``score.save(path)``.

    Parameters
    ----------
    path : path
        The safetensors file.

    Returns
    -------
    Score
        The fitted estimator: the same call gives the same numbers.

    Raises
    ------
    MissingFileError
        If there is no such file.
    CheckpointError
        If it is not a gfdt score, is damaged, or was altered.
    """
    config, arrays = read_score_file(path)
    try:
        return _restore(config, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {short(error)}") from error
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} does not describe a usable score ({short(error)}): it was altered; fit it anew."
        ) from error


def restore_inner(config: Any, arrays: dict[str, NDArray[Any]], *, outer: str) -> Score:
    """Return a score that is part of another, a score of the class ``outer``, which it cannot be itself.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the description is not one.
    """
    checked = check_description(config)
    if checked["class"] == outer:
        raise ValueError(f"a {outer} in a {outer}")
    return _restore(checked, arrays)


def _restore(config: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Score:
    """Make the score that a checked description and its arrays stand for."""
    score = _score_class(config["class"])._unpack(config, arrays)
    score.certificate_ = Stamp.unpack(config.get("certificate"))
    score.state_dims_ = tuple(config["state_dims"])
    score.state_shape_ = tuple(config["state_shape"])
    score.state_labels_ = config["state_labels"]
    score.noise_level_ = config["noise_level"]
    score.fingerprint_ = config["fingerprint"]
    return score


def _score_class(name: str) -> type[Score]:
    module = importlib.import_module(_HOME[name])
    return getattr(module, name)


_HOME = {
    "DSMScore": "gfdt.scores.dsm",
    "GaussianScore": "gfdt.scores.gaussian",
    "KDEScore": "gfdt.scores.kde",
    "KGMMScore": "gfdt.scores.kgmm",
    "KernelScore": "gfdt.scores.kernel",
    "PolishedScore": "gfdt.scores.polished",
}
