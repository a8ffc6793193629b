"""Two processes that share a training do what one does, end with the same weights, and write every file once."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

import gfdt
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.streams import WEIGHTS, stream
from gfdt.diffusion.training import Training
from gfdt.processes import is_first, launched

VECTOR = ("member", "time", "component")
SETTINGS = {
    "max_steps": 250,
    "batch_size": 256,
    "learning_rate": 0.02,
    "sigma": 0.3,
    "network_options": {"width": 16, "depth": 1},
    "device": "cpu",
}


class Quadratic:
    """A loss without noise, so that one process and several take the same steps."""

    evaluations_per_state = 1

    def draw(self, anomalies, _):
        return None, 0.1 + 0.01 * torch.arange(len(anomalies))

    def excess(self, denoiser, anomalies, _, level):
        wanted = anomalies[:, :1] ** 2 - anomalies
        return (denoiser.residual(anomalies, torch.full_like(level, 0.2)) - wanted).square().mean(dim=1)

    def baseline(self, _denoiser, _anomalies, _, level):
        return torch.ones_like(level)


def make_data():
    x = np.random.default_rng(0).normal(size=(8, 150, 2))
    x[..., 0] = 10.0 + np.random.default_rng(1).choice([-1.0, 1.0], (8, 150)) + 0.3 * x[..., 0]
    return x


def deterministic_training():
    """Return the losses and the sum of the squared weights after 20 steps; batches of 33 do not divide by two."""
    from gfdt.covariance import DenseCovariance

    states = torch.from_numpy((make_data().reshape(-1, 2) - [10.0, 0.0]).astype(np.float32))
    covariance = DenseCovariance.estimate(states.numpy(), 0.0)
    architecture = Architecture("mlp", {"width": 8, "depth": 1})
    denoiser = make_denoiser(architecture, covariance, ("component",), (2,), generator=stream(0, WEIGHTS))
    settings = {"batch_size": 33, "learning_rate": 0.01, "max_steps": 20, "max_seconds": None, "seed": 0}
    training = Training(denoiser, states, Quadratic(), processes=Processes.join("cpu"), **settings)
    losses = [record.loss for record in training]
    return {
        "losses": losses,
        "weights": sum(float(p.detach().double().square().sum()) for p in denoiser.network.parameters()),
    }


def learned(folder):
    score = gfdt.DSMScore(log=f"{folder}/log.csv", checkpoint=f"{folder}/training.ckpt", **SETTINGS)
    score.fit(make_data(), dims=VECTOR)
    score.save(f"{folder}/score.safetensors")
    return score


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes found, by rank; and the folder they wrote to."""
    folder = tmp_path_factory.mktemp("shared")
    torchrun(__file__, str(folder))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], folder


def torchrun(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    got = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert got.returncode == 0, got.stderr
    return got


def test_two_processes_take_the_same_steps_as_one_where_there_is_no_noise(shared):
    alone = deterministic_training()
    for found in shared[0]:
        np.testing.assert_allclose(found["exact"]["losses"], alone["losses"], rtol=1e-4)
        assert found["exact"]["weights"] == pytest.approx(alone["weights"], rel=1e-4)


def test_both_processes_end_with_the_same_score(shared):
    one, other = shared[0]
    assert one["rank"] != other["rank"]
    assert one["selected"] == other["selected"] != "gaussian start"
    assert one["score"] == other["score"]
    assert one["loaded"] == other["loaded"] == one["score"]


def test_two_processes_learn_as_well_as_one(shared, tmp_path):
    _, folder = shared
    x = make_data()
    alone = learned(tmp_path)
    exact = -x
    v = 0.09 + 0.09
    exact[..., 0] = (np.tanh((x[..., 0] - 10) / v) - (x[..., 0] - 10)) / v
    exact[..., 1] /= 1.09
    size = np.linalg.norm(exact)
    two = gfdt.load_score(folder / "score.safetensors")
    errors = [np.linalg.norm(score(x) - exact) / size for score in (alone, two)]
    assert abs(errors[0] - errors[1]) < 0.05
    curves = []
    for place in (tmp_path, folder):
        with (place / "log.csv").open() as stream_:
            curves.append([float(row["loss"]) for row in csv.DictReader(stream_)])
    assert len(curves[0]) == len(curves[1]) == SETTINGS["max_steps"]
    assert np.mean(curves[0][-100:]) == pytest.approx(np.mean(curves[1][-100:]), rel=0.05)


def test_command_line_under_torchrun_prints_and_writes_once(tmp_path):
    path = tmp_path / "run.nc"
    x = make_data()
    xr.Dataset({"u": (VECTOR, x)}, coords={"time": np.arange(150.0)}).to_netcdf(path)
    got = torchrun("-m", "gfdt", "train", str(path), "--max-steps", "5", "--checkpoint", str(tmp_path / "c.ckpt"))
    assert got.stdout == f"{tmp_path / 'run-dsm.safetensors'}\n"
    assert got.stderr.count("DSMScore of states") == 1
    assert gfdt.load_score(tmp_path / "run-dsm.safetensors").state_shape_ == (2,)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.ckpt", "run-dsm.safetensors", "run.nc"]


def test_one_process_is_the_first_and_not_launched():
    assert is_first()
    assert not launched()
    processes = Processes()
    assert processes.agree(1.5, 2.0) == (1.5, 2.0)
    batch = torch.arange(5)
    assert torch.equal(processes.part(batch), batch)
    parts = [Processes(rank, 2).part(batch) for rank in range(2)]
    assert torch.equal(torch.cat(parts), batch)


def _main(folder):
    exact = deterministic_training()
    score = learned(folder)
    x = make_data()
    found = {
        "rank": int(os.environ["RANK"]),
        "exact": exact,
        "selected": score.selected_,
        "score": float(np.square(score(x)).sum()),
        "loaded": float(np.square(gfdt.load_score(f"{folder}/score.safetensors")(x)).sum()),
    }
    with open(f"{folder}/{os.environ['RANK']}.json", "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    _main(sys.argv[1])
