"""Fixtures for all tests; above all the watch that no test (and so no library call) changes global state."""

import os
import sys

import numpy as np
import pytest

os.environ["MPLBACKEND"] = "Agg"  # before anything imports matplotlib: figures without a display


def _global_state():
    state = {
        "numpy generator": str(np.random.get_state()[1:]),  # noqa: NPY002  it is the legacy global that is watched
        "numpy error handling": np.geterr(),
        "working directory": os.getcwd(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch generator"] = torch.get_rng_state().numpy().tobytes()
        state["torch dtype"] = torch.get_default_dtype()
        state["torch threads"] = torch.get_num_threads()
        state["torch gradients"] = torch.is_grad_enabled()
        state["torch deterministic"] = torch.are_deterministic_algorithms_enabled()
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is not None:
        state["matplotlib style"] = dict(matplotlib.rcParams)
    return state


@pytest.fixture(scope="session")
def peaks():
    """Two components, one of them with two peaks."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 200, 2))
    x[..., 0] = 10.0 + rng.choice([-1.0, 1.0], (8, 200)) + 0.3 * x[..., 0]
    return x


@pytest.fixture
def run(capsys):
    """Call the command line; returns (exit code, stdout, stderr)."""
    from gfdt.cli import main

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(item) for item in arguments])
        captured = capsys.readouterr()
        return caught.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture(autouse=True)
def global_state_is_left_alone():
    before = _global_state()
    yield
    after = _global_state()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"global state changed: {changed}"
