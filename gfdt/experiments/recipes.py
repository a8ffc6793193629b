"""What is done with each of the three systems of the PRL, at three sizes.

Presets: ``quick`` is a first look (under three minutes on two cores), ``cpu`` half an hour on two cores, ``paper`` the
data volumes of the PRL, for one GPU. A recipe has two records of its own: the score is learned from snapshots that are
far apart (``training``), and judged and used on a record that is close in time (``record``), which it has not seen.
Both, and the twin experiments, have their own random streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulators import System

__all__ = ["PRESETS", "SYSTEMS", "Recipe", "find_recipe"]

PRESETS = ("quick", "cpu", "paper")


@dataclass(frozen=True)
class Recipe:
    """One system, and how much is done with it.

    Attributes
    ----------
    name, title : str
        On the command line and in tables; above figures.
    system : System
        The simulator.
    training, record : mapping
        Arguments of ``system.simulate``, but for seed and file.
    twins : mapping
        Arguments of ``system.direct_response`` for one batch of twin experiments.
    n_batches : int
        Batches of them, each with its own seed: what is interrupted loses one at most.
    max_lag : float
        Of the responses, at every sample of ``record``.
    judged : (float, float)
        The lags, ends included, over which errors are summed up in one number.
    pictured : tuple of float
        The lags at which the response is drawn along x.
    score : mapping
        Arguments of :class:`gfdt.DSMScore`.
    certified : (int, int)
        How many members of ``record``, and how many samples of each, the certificate looks at.
    n_samples : int
        Drawn from the score for the certificate.
    hidden : str
        A second variable that ``system`` can save, which drives the first and which the first alone does not determine.
    """

    name: str
    title: str
    system: System
    training: Mapping[str, Any]
    record: Mapping[str, Any]
    twins: Mapping[str, Any]
    n_batches: int
    max_lag: float
    judged: tuple[float, float]
    pictured: tuple[float, ...]
    score: Mapping[str, Any] = field(default_factory=dict)
    certified: tuple[int, int] = (32, 32)
    n_samples: int = 128
    hidden: str = ""

    @property
    def analytical(self) -> bool:
        """Whether the score is known in closed form."""
        return self.name != "navier-stokes"


def find_recipe(system: str, preset: str) -> Recipe:
    """Return the recipe of a system, a key of :data:`SYSTEMS`, at a preset of :data:`PRESETS`."""
    return SYSTEMS[system](preset)


def _ornstein_uhlenbeck(preset: str) -> Recipe:
    from simulators import OrnsteinUhlenbeck

    # The slowest modes take 150 time units, so members count more than snapshots. There is nothing to learn beyond the
    # Gaussian start: training only has to see that.
    n_members, duration = {"quick": (64, 1000.0), "cpu": (256, 2000.0), "paper": (128, 10000.0)}[preset]
    minutes = {"quick": 0.4, "cpu": 4.0, "paper": 30.0}[preset]
    return Recipe(
        name="ou",
        title="Ornstein-Uhlenbeck field",
        system=OrnsteinUhlenbeck(n=32),
        training={"n_members": n_members, "duration": duration, "save_every": 40.0, "dtype": "float32"},
        record={"n_members": n_members, "duration": duration, "save_every": 5.0, "dtype": "float32"},
        twins={"n_members": 16, "perturbation": "pattern"},
        n_batches={"quick": 4, "cpu": 8, "paper": 64}[preset],
        max_lag=100.0,
        judged=(5.0, 100.0),
        pictured=(10.0, 50.0, 100.0),
        score={"max_minutes": minutes},
        certified=(32, 8) if preset == "quick" else (64, 16),
        n_samples=64 if preset == "quick" else 128,
    )


def _allen_cahn(preset: str) -> Recipe:
    from simulators import AllenCahn

    training = {
        "quick": {"n_members": 256, "duration": 160.0, "save_every": 10.0, "spinup": 200.0, "dt": 1 / 8},
        "cpu": {"n_members": 256, "duration": 1000.0, "save_every": 10.0, "spinup": 500.0},
        "paper": {"n_members": 128, "duration": 2000.0, "save_every": 10.0},
    }[preset]
    record = {
        "quick": {"n_members": 32, "duration": 150.0, "save_every": 1.0, "spinup": 200.0},
        "cpu": {"n_members": 64, "duration": 600.0, "save_every": 1.0, "spinup": 500.0},
        "paper": {"n_members": 128, "duration": 2000.0, "save_every": 1.0},
    }[preset]
    twins = {
        "quick": {"n_members": 16, "n_restarts": 4, "decorrelate": 10.0, "spinup": 200.0},
        "cpu": {"n_members": 32, "n_restarts": 8, "decorrelate": 20.0, "spinup": 500.0},
        "paper": {"n_members": 32, "n_restarts": 25, "decorrelate": 20.0},
    }[preset]
    return Recipe(
        name="allen-cahn",
        title="Stochastic Allen-Cahn field",
        system=AllenCahn(n=32),
        training={**training, "dtype": "float32"},
        record={**record, "dtype": "float32"},
        twins={**twins, "perturbation": "pattern", "amplitude": 0.05},
        n_batches={"quick": 4, "cpu": 8, "paper": 16}[preset],
        max_lag={"quick": 10.0, "cpu": 20.0, "paper": 100.0}[preset],
        judged=(1.0, 10.0) if preset == "quick" else (1.0, 20.0),
        pictured=(1.0, 4.0, 10.0),
        score={"max_minutes": {"quick": 1.0, "cpu": 12.0, "paper": 60.0}[preset]},
        certified=(32, 8) if preset == "quick" else (64, 32),
        n_samples=64 if preset == "quick" else 256,
    )


def _navier_stokes(preset: str) -> Recipe:
    from simulators import NavierStokes

    # Larger steps than the PRL's 1/128, of order 1 (`NavierStokes`, Notes); what is gained goes into more samples.
    sizes = {
        "quick": {"n_members": 64, "duration": 30.0, "spinup": 100.0, "dt": 1 / 32},
        "cpu": {"n_members": 128, "duration": 200.0, "dt": 1 / 64},
        "paper": {"n_members": 2048, "duration": 64.0, "spinup": 1024.0},
    }[preset]
    lengths: dict[str, dict[str, Any]] = {
        "quick": {"n_members": 32},
        "cpu": {"n_members": 64, "duration": 160.0},
        "paper": {},
    }
    twins = {
        "quick": {"n_members": 32, "n_restarts": 2, "decorrelate": 1.0, "spinup": 100.0, "dt": 1 / 32},
        "cpu": {"n_members": 16, "n_restarts": 16, "decorrelate": 1.0, "dt": 1 / 64},
        "paper": {"n_members": 128, "n_restarts": 16, "decorrelate": 1.0, "spinup": 1024.0},
    }[preset]
    return Recipe(
        name="navier-stokes",
        title="Two-dimensional turbulence",
        system=NavierStokes(n=32, save_forcing=True),
        training={**sizes, "save_every": 0.5, "dtype": "float32"},
        record={**sizes, **lengths[preset], "save_every": 0.25, "dtype": "float32"},
        twins={**twins, "perturbation": "pattern", "amplitude": 0.05},
        n_batches={"quick": 4, "cpu": 8, "paper": 16}[preset],
        max_lag=3.0,
        judged=(0.5, 1.0),
        pictured=(0.25, 0.5, 0.75),
        # The level that the spectrum asks for is five times smaller, for the sake of the smallest scales: there the
        # noise of learning and of B is larger, and responses at lags above 0.5 are worse.
        score={"sigma": 0.02, "max_minutes": {"quick": 1.0, "cpu": 12.0, "paper": 60.0}[preset]},
        certified=(32, 8) if preset == "quick" else (64, 32),
        n_samples=64 if preset == "quick" else 128,
        hidden="forcing",
    )


SYSTEMS: dict[str, Callable[[str], Recipe]] = {
    "ou": _ornstein_uhlenbeck,
    "allen-cahn": _allen_cahn,
    "navier-stokes": _navier_stokes,
}
