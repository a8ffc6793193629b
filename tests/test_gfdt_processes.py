"""One process among several: what the environment says, and what happens when another is lost."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from reference.launching import ENVIRONMENT, free_port

from gfdt.diffusion.distributed import Processes
from gfdt.errors import InputError
from gfdt.processes import TIMEOUT, is_first, launched, timeout

_LOST = """
import os, sys, time
from gfdt.cli import main
from gfdt.diffusion.training import Training

step = Training._step

def lose(self):
    if self.step == 3 and os.environ["RANK"] == "1":
        os._exit(7) if sys.argv[1] == "ends" else time.sleep(600)
    return step(self)

Training._step = lose
main(["train", sys.argv[2], "--out", sys.argv[3], "--max-steps", "200", "--device", "cpu"])
"""


def lose(how, seconds, folder):
    """Start two processes of which number 1 is lost; return both."""
    x = np.random.default_rng(0).normal(size=(8, 150, 2))
    xr.Dataset({"u": (("member", "time", "component"), x)}, coords={"time": np.arange(150.0)}).to_netcdf(
        folder / "run.nc"
    )
    command = [sys.executable, "-c", _LOST, how, str(folder / "run.nc"), str(folder / "score.safetensors")]
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", TIMEOUT: str(seconds)}
    return [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | place | {"RANK": str(rank)})
        for rank in range(2)
    ]


def test_a_lost_process_ends_the_others_with_a_sentence(tmp_path):
    waits, started = {"ends": 600, "hangs": 10}, {}
    try:
        for how, seconds in waits.items():
            (tmp_path / how).mkdir()
            started[how] = lose(how, seconds, tmp_path / how)
        for how, seconds in waits.items():
            first = started[how][0]
            said = first.communicate(timeout=100)[1]
            assert first.returncode == 2, said
            (line,) = [text for text in said.splitlines() if "lost another one" in text]
            assert line.startswith(
                f"gfdt: error: process 0 of 2 lost another one, which ended or did not answer for {seconds} s"
            )
            assert "Traceback" not in said
            assert not (tmp_path / how / "score.safetensors").exists()
    finally:
        for process in itertools.chain(*started.values()):
            process.kill()
            process.communicate()


def test_a_timeout_that_is_no_time_is_refused(monkeypatch):
    assert timeout() == 600.0
    monkeypatch.setenv(TIMEOUT, "20")
    assert timeout() == 20.0
    for text in ("soon", "-1", "nan", "inf"):
        monkeypatch.setenv(TIMEOUT, text)
        with pytest.raises(InputError, match=f"{TIMEOUT}={text} is not a time"):
            timeout()


def test_one_process_is_the_first_and_not_launched():
    assert is_first()
    assert not launched()
    processes = Processes()
    assert processes.agree(1.5, 2.0) == (1.5, 2.0)
    assert processes.every(3.0) == [3.0]
    assert [Processes(rank, 3).part(8) for rank in range(3)] == [3, 3, 2]
