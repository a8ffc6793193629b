"""Starting a command in two processes."""

import os
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
RUN = [sys.executable, "-m", "torch.distributed.run"]


def torchrun(*arguments):
    command = [*RUN, "--standalone", "--nproc-per-node=2", *arguments]
    got = subprocess.run(command, capture_output=True, text=True, timeout=240, env=ENVIRONMENT)
    assert got.returncode == 0, got.stderr
    return got


def two_machines(*arguments):
    """Start one process on each of two machines, both of which are this one."""
    place = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{free_port()}"]
    command = [*RUN, *place, "--rdzv-id=test", *arguments]
    agents = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for _ in range(2)
    ]
    said = [agent.communicate(timeout=240)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
