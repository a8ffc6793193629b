"""From a score file back to the estimator that wrote it."""

from __future__ import annotations

import importlib
from pathlib import Path

from gfdt.certificate.stamp import Stamp
from gfdt.errors import CheckpointError, InputError
from gfdt.scores.base import Score
from gfdt.scores.storage import read_score_file, short

__all__ = ["load_score"]


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
        score = _score_class(config["class"])._unpack(config, arrays)
        score.certificate_ = Stamp.unpack(config.get("certificate"))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {short(error)}") from error
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} does not describe a usable score ({short(error)}): it was altered; fit it anew."
        ) from error
    score.state_dims_ = tuple(config["state_dims"])
    score.state_shape_ = tuple(config["state_shape"])
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
}
