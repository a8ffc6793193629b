"""Checkpoints: a training that was killed goes on bit for bit, and files that lie are refused."""

import contextlib
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gfdt
from gfdt.diffusion.checkpoint import _digest
from gfdt.diffusion.resume import read
from gfdt.diffusion.training import Training
from gfdt.errors import CheckpointError, ReliabilityWarning

VECTOR = ("member", "time", "component")
SETTINGS = {
    "max_steps": 60,
    "batch_size": 64,
    "learning_rate": 0.02,
    "sigma": 0.3,
    "network_options": {"width": 8, "depth": 1},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def peaks():
    x = np.random.default_rng(0).normal(size=(4, 60, 2))
    x[..., 0] = 10.0 + np.sign(x[..., 0]) + 0.3 * x[..., 0]
    return x


class Killed(BaseException):
    """What no code catches."""


def fit(x, **changes):
    return gfdt.DSMScore(**(SETTINGS | changes)).fit(x, dims=VECTOR)


@pytest.fixture
def kill(monkeypatch):
    """Make trainings die in the middle of a step, once."""
    step = Training._step

    def dying(after):
        def die(self):
            if self.step == after:
                monkeypatch.setattr(Training, "_step", step)
                raise Killed
            return step(self)

        monkeypatch.setattr(Training, "_step", die)

    return dying


@pytest.fixture
def half(peaks, tmp_path, kill):
    """The checkpoint of a training that was killed after 37 steps."""
    path = tmp_path / "training.ckpt"
    kill(37)
    with pytest.raises(Killed):
        fit(peaks, checkpoint=path, checkpoint_minutes=0)
    return path


def same_but_for_the_clock(one, other):
    """Compare everything that was learned; only seconds may differ."""
    timeless = [[{k: v for k, v in e.items() if k != "seconds"} for e in s.history_] for s in (one, other)]
    assert timeless[0] == timeless[1]
    assert (one.selected_, one.stopped_) == (other.selected_, other.stopped_)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"objective": "fd-ssm"},
        {"symmetries": ("sign",), "energy": True},
        {"precision": "bf16"},
        {"max_steps": 60, "patience": 1},
    ],
)
def test_killed_training_goes_on_bit_for_bit(peaks, tmp_path, kill, changes):
    whole = fit(peaks, **changes)
    path, log = tmp_path / "training.ckpt", tmp_path / "training.csv"
    for after in (0, 23, 37):
        kill(after)
        with contextlib.suppress(Killed):
            fit(peaks, checkpoint=path, checkpoint_minutes=0, log=log, **changes)
    resumed = fit(peaks, checkpoint=path, checkpoint_minutes=0, log=log, **changes)
    np.testing.assert_array_equal(resumed(peaks), whole(peaks))
    same_but_for_the_clock(resumed, whole)
    steps = [int(line.split(",")[0]) for line in log.read_text().splitlines()[1:]]
    assert steps == list(range(1, len(steps) + 1))
    assert steps[-1] >= resumed.history_[-1]["step"]


def test_steps_after_the_last_write_are_repeated_and_logged_once(peaks, tmp_path, kill, monkeypatch):
    from gfdt.diffusion.checkpoint import Checkpoint

    path, log = tmp_path / "training.ckpt", tmp_path / "training.csv"
    calls = iter(range(1000))
    monkeypatch.setattr(Checkpoint, "due", lambda self: next(calls) % 10 == 9)
    kill(37)
    with pytest.raises(Killed):
        fit(peaks, checkpoint=path, log=log)
    assert len(log.read_text().splitlines()) == 38
    resumed = fit(peaks, checkpoint=path, log=log)
    np.testing.assert_array_equal(resumed(peaks), fit(peaks)(peaks))
    assert [line.split(",")[0] for line in log.read_text().splitlines()[1:]] == [str(k) for k in range(1, 61)]


def test_finished_checkpoint_gives_its_result_without_training(peaks, tmp_path, monkeypatch):
    path = tmp_path / "training.ckpt"
    first = fit(peaks, checkpoint=path)
    monkeypatch.setattr(Training, "_step", lambda self: pytest.fail("trained again"))
    again = fit(peaks, checkpoint=path)
    np.testing.assert_array_equal(again(peaks), first(peaks))
    same_but_for_the_clock(again, first)


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_ctrl_c_writes_a_checkpoint_first(peaks, tmp_path, monkeypatch, number):
    path = tmp_path / "training.ckpt"
    step = Training._step

    def interrupted(self):
        if self.step == 41:
            os.kill(os.getpid(), number)
        return step(self)

    monkeypatch.setattr(Training, "_step", interrupted)
    with pytest.warns(ReliabilityWarning, match=r"interrupted.*the same call goes on from .*training\.ckpt"):
        score = fit(peaks, checkpoint=path)
    assert score.interrupted_
    monkeypatch.setattr(Training, "_step", step)
    resumed = fit(peaks, checkpoint=path)
    assert not resumed.interrupted_
    np.testing.assert_array_equal(resumed(peaks), fit(peaks)(peaks))


def test_termination_is_delivered_after_the_checkpoint(peaks, tmp_path, monkeypatch):
    path, delivered = tmp_path / "training.ckpt", []
    step = Training._step

    def terminated(self):
        if self.step == 41:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Training, "_step", terminated)
    previous = signal.signal(signal.SIGTERM, lambda number, frame: delivered.append(path.exists()))
    try:
        with pytest.warns(ReliabilityWarning, match="interrupted"):
            fit(peaks, checkpoint=path)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert delivered == [True]


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"seed": 1}, 1.0, "with seed 0, not 1"),
        ({"max_steps": 70}, 1.0, "with max_steps 60, not 70"),
        ({"learning_rate": 0.01}, 1.0, r"with learning_rate 0\.02, not 0\.01"),
        ({"network_options": {"width": 9, "depth": 1}}, 1.0, "with architecture"),
        ({}, 2.0, "with other data"),
    ],
)
def test_checkpoint_of_another_run_is_refused_with_advice(half, peaks, changes, data, message):
    before = half.read_bytes()
    with pytest.raises(CheckpointError, match=f"belongs to another run, {message}.*remove it or name another file"):
        fit(data * peaks, checkpoint=half, **changes)
    assert half.read_bytes() == before


def altered(path, change):
    """Apply ``change(content, tensors)`` to a checkpoint, with a digest that fits again."""
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(header["content"])
    change(content, tensors)
    header["content"] = json.dumps(content)
    header["digest"] = _digest(header["content"], tensors)
    save_file(tensors, path, metadata=header)


LAST = "network.last.weight"
TAMPERED = {
    "missing weights": lambda c, t: t.pop(LAST),
    "wrong shape": lambda c, t: t.update({LAST: t[LAST][:1].clone()}),
    "wrong type": lambda c, t: t.update({LAST: t[LAST].double()}),
    "NaN": lambda c, t: t.update({LAST: t[LAST] * np.nan}),
    "more": lambda c, t: t.update(more=torch.zeros(1)),
    "no momentum": lambda c, t: t.pop("optimizer.0.momentum"),
    "other pieces": lambda c, t: t.update(best=torch.zeros(3, dtype=torch.float64)),
    "random numbers cut": lambda c, t: t.update({"random.order": t["random.order"][:, :-8].clone()}),
    "random numbers of nobody": lambda c, t: t.update({"random.noise": torch.zeros_like(t["random.noise"])}),
    "no numbers": lambda c, t: c.pop("numbers"),
    "no training": lambda c, t: c["numbers"].pop("training"),
    "odd step": lambda c, t: c["numbers"]["training"].update(step=-1),
    "odd position": lambda c, t: c["numbers"]["training"].update(positions=[10**6]),
    "no positions": lambda c, t: c["numbers"]["training"].update(positions=3),
    "positions of nobody": lambda c, t: c["numbers"]["training"].update(positions=[]),
    "positions of more processes": lambda c, t: c["numbers"]["training"].update(positions=[0, 0]),
    "odd clock": lambda c, t: c["numbers"]["training"].update(seconds="late"),
    "odd history": lambda c, t: c["numbers"]["selection"].update(history=[1]),
    "odd selection": lambda c, t: c["numbers"]["selection"].update(selected=0.5),
    "odd patience": lambda c, t: c["numbers"]["selection"].update(worse=-3),
    "odd losses": lambda c, t: c["numbers"]["selection"].update(losses=[1]),
    "odd execution": lambda c, t: c["numbers"].update(execution={"precision": "int1"}),
    "content is a list": lambda c, t: c.update(numbers=[]),
}


@pytest.mark.parametrize("change", TAMPERED)
def test_an_altered_checkpoint_is_refused_in_one_line(half, peaks, change):
    altered(half, TAMPERED[change])
    with pytest.raises(CheckpointError) as caught:
        fit(peaks, checkpoint=half)
    assert "\n" not in str(caught.value)
    assert "altered" in str(caught.value)


def test_something_else_under_the_name_is_refused_and_left_alone(half, peaks, tmp_path):
    content = half.read_bytes()
    flipped = bytearray(content)
    flipped[-1] ^= 1
    score = fit(peaks, max_steps=1).save(tmp_path / "score.safetensors").read_bytes()
    for data in (content[: len(content) // 2], content[:20], b"", b"my thesis", bytes(flipped), score):
        half.write_bytes(data)
        with pytest.raises(CheckpointError):
            fit(peaks, checkpoint=half)
        assert half.read_bytes() == data


def test_a_checkpoint_in_another_format_is_refused_with_the_version_that_wrote_it(half, peaks):
    with safe_open(half, framework="pt") as file:
        header = dict(file.metadata()) | {"format_version": "1", "gfdt_version": "0.0.7"}
        save = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(save, half, metadata=header)
    with pytest.raises(CheckpointError, match=r"written by gfdt 0\.0\.7 in another format.*remove the file"):
        fit(peaks, checkpoint=half)


@pytest.mark.parametrize("steps", [[3.0, -1.0], [3.0, 4.0]])
def test_a_checkpoint_that_the_processes_see_differently_is_refused(steps):
    checkpoint = SimpleNamespace(path="train.ckpt", read=lambda: ({}, {"training": {"step": 3}}))
    with pytest.raises(CheckpointError, match=r"do not see the same checkpoint train\.ckpt.*all machines share"):
        read(checkpoint, SimpleNamespace(every=lambda step: steps))
    assert read(checkpoint, SimpleNamespace(every=lambda step: [step, 3.0])) == checkpoint.read()
