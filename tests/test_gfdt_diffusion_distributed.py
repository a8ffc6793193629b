"""Two processes that share a training do what one does, end with the same weights, and write every file once."""

import contextlib
import csv
import json
import logging
import os
import shutil
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from reference.launching import torchrun, two_machines

import gfdt
from gfdt.diffusion import speed
from gfdt.diffusion.build import Architecture, make_denoiser
from gfdt.diffusion.data import share_data
from gfdt.diffusion.distributed import Processes
from gfdt.diffusion.objectives import make_objective
from gfdt.diffusion.selection import HeldOut
from gfdt.diffusion.settings import resolve
from gfdt.diffusion.streams import WEIGHTS, stream
from gfdt.diffusion.training import Training
from gfdt.errors import InputError
from gfdt.shares import open_unread

VECTOR = ("member", "time", "component")
SETTINGS = {
    "max_steps": 100,
    "batch_size": 256,
    "learning_rate": 0.05,
    "sigma": 0.3,
    "noise_range": "local",
    "network_options": {"width": 16, "depth": 1},
    "device": "cpu",
}
N_TRAINING = 8 * (150 - 2 * 7)  # held out are two blocks of 7 samples of every member
N_JUDGED = 64  # the least
KILLED_AT = 75  # the loss is at its final 0.9, with a standard deviation of 0.02 over the steps


class Killed(BaseException):
    """What no code catches."""


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


def write_data(folder):
    path = f"{folder}/run.nc"
    xr.Dataset({"u": (VECTOR, make_data())}, coords={"time": np.arange(150.0)}).to_netcdf(path)
    return path


def small_training(states, processes, **changes):
    from gfdt.covariance import DenseCovariance

    covariance = DenseCovariance.estimate(make_data().reshape(-1, 2) - [10.0, 0.0], 0.0)
    architecture = Architecture("mlp", {"width": 8, "depth": 1})
    denoiser = make_denoiser(architecture, covariance, ("component",), (2,), generator=stream(0, WEIGHTS))
    settings = {"batch_size": 333, "learning_rate": 0.01, "max_steps": 20, "max_seconds": None, "seed": 0} | changes
    return Training(denoiser, states, Quadratic(), processes=processes, **settings)


def deterministic_training():
    """Return the losses and the sum of the squared weights after 20 steps over all of 333 states, each its share."""
    processes = Processes.join("cpu")
    states = torch.from_numpy((make_data().reshape(-1, 2)[:333] - [10.0, 0.0]).astype(np.float32))
    training = small_training(states[processes.rank :: processes.size], processes)
    losses = [record.loss for record in training]
    weights = sum(float(p.detach().double().square().sum()) for p in training.denoiser.network.parameters())
    pieces, objective = np.arange(333) // 42, make_objective("dsm", 0.3, 0.5)
    noise = torch.Generator().manual_seed(7)
    held_out = HeldOut(states[processes.rank :: processes.size], pieces, objective, 0.2, noise, processes)
    gains, relative = held_out.gains(training.denoiser)
    return {"losses": losses, "weights": weights, "gains": gains.tolist(), "relative": relative}


def learned(folder, path):
    score = gfdt.DSMScore(log=f"{folder}/log.csv", checkpoint=f"{folder}/training.ckpt", **SETTINGS)
    score.fit(path)
    score.save(f"{folder}/score.safetensors")
    return score


@contextlib.contextmanager
def dying_at(step):
    """Make trainings die after this many steps, on all processes alike."""
    original = Training._step

    def die(self):
        if self.step == step:
            raise Killed
        return original(self)

    Training._step = die
    try:
        yield
    finally:
        Training._step = original


def killed(path, checkpoint, log):
    with contextlib.suppress(Killed), dying_at(KILLED_AT):
        gfdt.DSMScore(checkpoint=checkpoint, checkpoint_minutes=0, log=log, **SETTINGS).fit(path)


def resumed(path, checkpoint, log):
    return gfdt.DSMScore(checkpoint=checkpoint, checkpoint_minutes=0, log=log, **SETTINGS).fit(path)


def losses_in(log):
    with open(log) as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What two processes found, by rank; and the folder they wrote to, with what one process had begun."""
    folder = tmp_path_factory.mktemp("shared")
    path = write_data(folder)
    killed(path, folder / "one.ckpt", folder / "one.csv")
    two_machines(__file__, str(folder))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    return learned(folder, write_data(folder)), folder


def test_two_processes_take_the_same_steps_as_one_where_there_is_no_noise(shared):
    by_one = deterministic_training()
    for found in shared[0]:
        np.testing.assert_allclose(found["exact"]["losses"], by_one["losses"], rtol=1e-4)
        assert found["exact"]["weights"] == pytest.approx(by_one["weights"], rel=1e-4)


def test_each_of_two_processes_keeps_half_of_the_training_states(shared):
    float32, n_components = 4, 2
    for found in shared[0]:
        assert found["kept"] == N_TRAINING // 2
        assert found["bytes"] == N_TRAINING // 2 * n_components * float32
    assert [found["judged"] for found in shared[0]] == [N_JUDGED // 2] * 2


def test_two_processes_judge_by_the_sums_of_all_states(shared):
    by_one = deterministic_training()
    one, other = (found["exact"] for found in shared[0])
    assert one["gains"] == other["gains"]
    np.testing.assert_allclose(one["gains"], by_one["gains"], rtol=1e-3)
    assert one["relative"] == other["relative"] == pytest.approx(by_one["relative"], rel=1e-4)


def test_statistics_of_the_shares_are_those_of_the_record(shared, alone):
    one, other = shared[0]
    assert one["statistics"] == other["statistics"]
    linear = alone[0]._fitted.linear
    expected = np.concatenate([linear.units.mean.ravel(), linear.units.scale.ravel(), linear.covariance.eigenvalues])
    np.testing.assert_allclose(one["statistics"], expected, rtol=1e-12)
    assert one["fingerprint"] == other["fingerprint"] == alone[0].fingerprint_
    np.testing.assert_allclose(one["spread"], alone[0]._spread, rtol=1e-12)


def test_both_processes_end_with_the_same_score(shared):
    one, other = shared[0]
    assert sorted([one["rank"], other["rank"]]) == [0, 1]
    assert one["selected"] == other["selected"] != "gaussian start"
    assert one["score"] == other["score"]
    assert one["loaded"] == other["loaded"] == one["score"]


def test_two_processes_learn_as_well_as_one(shared, alone):
    x = make_data()
    exact = -x
    v = 0.09 + 0.09
    exact[..., 0] = (np.tanh((x[..., 0] - 10) / v) - (x[..., 0] - 10)) / v
    exact[..., 1] /= 1.09
    size = np.linalg.norm(exact)
    two = gfdt.load_score(shared[1] / "score.safetensors")
    errors = [np.linalg.norm(score(x) - exact) / size for score in (alone[0], two)]
    assert abs(errors[0] - errors[1]) < 0.05
    curves = [[loss for _, loss in losses_in(folder / "log.csv")] for folder in (alone[1], shared[1])]
    assert len(curves[0]) == len(curves[1]) == SETTINGS["max_steps"]
    assert np.mean(curves[0][-40:]) == pytest.approx(np.mean(curves[1][-40:]), rel=0.05)


def test_orders_of_the_processes_differ_and_use_every_state_once_in_a_pass(shared):
    one, other = (found["order"] for found in shared[0])
    assert one != other
    assert sorted(one) == sorted(other) == list(range(N_TRAINING // 2))


def test_two_killed_processes_go_on_bit_for_bit(shared):
    for found in shared[0]:
        assert found["two to two"] == found["score"]


def test_one_process_goes_on_from_two(shared, tmp_path, caplog):
    checkpoint, log = tmp_path / "two.ckpt", tmp_path / "two.csv"
    checkpoint.write_bytes((shared[1] / "two.ckpt").read_bytes())
    log.write_bytes((shared[1] / "two.csv").read_bytes())
    before = losses_in(log)
    with caplog.at_level(logging.INFO, "gfdt"):
        score = resumed(shared[1] / "run.nc", checkpoint, log)
    assert "was written by 2 processes and goes on with 1 at step 75: with other random numbers" in caplog.text
    check_goes_on(before, losses_in(log))
    assert score.stopped_ == "budget"
    again = resumed(shared[1] / "run.nc", checkpoint, log)
    np.testing.assert_array_equal(again(make_data()), score(make_data()))


def test_two_processes_go_on_from_one(shared):
    found, folder = shared
    assert [("was written by 1 process and goes on with 2" in each["said"]) for each in found] == [True, False]
    assert found[0]["one to two"] == found[1]["one to two"]
    assert [each["one to two stopped"] for each in found] == ["budget", "budget"]
    log = losses_in(folder / "one.csv")
    check_goes_on(log[:KILLED_AT], log)


def check_goes_on(before, after):
    """The log is kept, no step is missing, and the loss goes on where it was: not at the start, which has 1."""
    assert [step for step, _ in after] == list(range(1, SETTINGS["max_steps"] + 1))
    assert after[:KILLED_AT] == before
    losses = np.array([loss for _, loss in after])
    last, first = losses[KILLED_AT - 15 : KILLED_AT], losses[KILLED_AT : KILLED_AT + 15]
    error = np.sqrt(last.var(ddof=1) / 15 + first.var(ddof=1) / 15)
    assert abs(last.mean() - first.mean()) < 4 * error
    assert first.mean() < losses[:5].mean() - 4 * error


def test_what_cannot_be_compiled_on_one_process_is_used_by_none(shared):
    assert [found["tuned"] for found in shared[0]] == ["float32", "float32"]
    assert [found["tried"] for found in shared[0]] == [["float32", "bf16"]] * 2


def test_shares_smaller_than_their_part_of_a_batch_are_refused_on_all_processes(shared):
    for found in shared[0]:
        assert found["uneven"].startswith("process 1 of 2 holds 3 of 203 training states, and its part of a batch is")
        assert found["small"].startswith("a batch of 1 states cannot be shared by 2 processes")


def test_command_line_under_torchrun_prints_and_writes_once(tmp_path):
    path = write_data(tmp_path)
    got = torchrun("-m", "gfdt", "train", path, "--max-steps", "5", "--checkpoint", str(tmp_path / "c.ckpt"))
    assert got.stdout == f"{tmp_path / 'run-dsm.safetensors'}\n"
    assert got.stderr.count("DSMScore of states") == 1
    assert gfdt.load_score(tmp_path / "run-dsm.safetensors").state_shape_ == (2,)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.ckpt", "run-dsm.safetensors", "run.nc"]


def test_training_that_more_processes_began_goes_on_with_all_but_the_random_numbers():
    states = torch.from_numpy((make_data().reshape(-1, 2) - [10.0, 0.0]).astype(np.float32))
    first = small_training(states, Processes(), batch_size=32, max_steps=5)
    for _ in first:
        pass
    tensors, numbers = first.state()
    as_of_three = tensors | {name: tensors[name].expand(3, -1) for name in ("random.noise", "random.order")}
    second = small_training(states, Processes(), batch_size=32, max_steps=5)
    second.restore(as_of_three, numbers | {"positions": [0, 0, 0]})
    assert (second.step, second.seconds) == (first.step, first.seconds)
    for name, value in second.state()[0].items():
        assert torch.equal(value, tensors[name]) == (not name.startswith("random.")), name
    fresh = small_training(states, Processes(), batch_size=32)
    draws = [torch.rand(4, generator=training.noise).tolist() for training in (second, fresh)]
    assert draws[0] != draws[1]
    orders = [next(training._order).tolist() for training in (first, second, fresh)]
    assert len({str(order) for order in orders}) == 3


# ---- what each of two processes does ------------------------------------------------------------------


def _main(folder):
    path, x = f"{folder}/run.nc", make_data()
    processes = Processes.join("cpu")
    found = {"rank": int(os.environ["RANK"]), "exact": deterministic_training()}
    found |= _data(path, processes)
    score = learned(folder, path)
    found |= {
        "selected": score.selected_,
        "score": float(np.square(score(x)).sum()),
        "loaded": float(np.square(gfdt.load_score(f"{folder}/score.safetensors")(x)).sum()),
        "fingerprint": score.fingerprint_,
        "spread": score._spread.tolist(),
    }
    killed(path, f"{folder}/same.ckpt", f"{folder}/same.csv")
    if processes.first:
        shutil.copy(f"{folder}/same.ckpt", f"{folder}/two.ckpt")
        shutil.copy(f"{folder}/same.csv", f"{folder}/two.csv")
    found["two to two"] = float(np.square(resumed(path, f"{folder}/same.ckpt", f"{folder}/same.csv")(x)).sum())
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    log = logging.getLogger("gfdt")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    other = resumed(path, f"{folder}/one.ckpt", f"{folder}/one.csv")
    found |= {"one to two": float(np.square(other(x)).sum()), "one to two stopped": other.stopped_, "said": str(said)}
    found |= _tuned(path)
    states = torch.zeros(200 if processes.first else 3, 2)
    found |= {"uneven": _refused(states, processes, 100), "small": _refused(states, processes, 1)}
    with open(f"{folder}/{os.environ['RANK']}.json", "w") as file:
        json.dump(found, file)


def _data(path, processes):
    array = open_unread(path)
    data = share_data(array, resolve(gfdt.DSMScore(**SETTINGS), ("component",), (2,)), processes)
    linear = data.linear
    training = small_training(data.training, processes, batch_size=2, max_steps=1)
    return {
        "kept": len(data.training),
        "bytes": data.training.nbytes,
        "judged": len(data.judged),
        "statistics": [*linear.units.mean.ravel(), *linear.units.scale.ravel(), *linear.covariance.eigenvalues],
        "order": [int(next(training._order)) for _ in range(len(data.training))],
    }


def _tuned(path):
    measure, tried = speed._Timing._measure, []

    def fail_on_one(self, execution):
        tried.append(str(execution))
        if execution.precision == "bf16":
            if os.environ["RANK"] == "1":
                raise RuntimeError("no compiler")
            return 1e-9
        return measure(self, execution)

    speed._Timing._measure = fail_on_one
    score = gfdt.DSMScore(tune=True, **(SETTINGS | {"max_steps": 3})).fit(path)
    speed._Timing._measure = measure
    return {"tuned": score.execution_, "tried": tried}


def _refused(states, processes, batch_size):
    try:
        small_training(states, processes, batch_size=batch_size)
    except InputError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    _main(sys.argv[1])
