"""Two real runs of the ``micro`` recipe, the second with sockets refused; every test of artifacts reads their folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_SOCKETS = """
import socket, sys
def refuse(*arguments, **options):
    raise OSError("a connection was tried: " + repr(arguments[1:]))
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
sys.argv = ["rlhf", *sys.argv[1:]]
from stages.cli import main
main()
"""


def rlhf(*arguments, sockets=True, cwd=ROOT, env=None, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "stages.cli"] if sockets else [sys.executable, "-c", NO_SOCKETS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RLHF_REGISTRY": "", **(env or {})}
    return subprocess.run([*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, **options)


def reproduce_micro(folder, sockets):
    done = rlhf("reproduce", "--recipe", "micro", "--dir", folder, "--seed", "100", "--json", "--quiet", sockets=sockets)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    """(folder, what ``--json`` printed) of a micro run."""
    folder = tmp_path_factory.mktemp("micro") / "run"
    return folder, reproduce_micro(folder, sockets=True)


@pytest.fixture(scope="session")
def micro_offline(tmp_path_factory):
    """The same run again elsewhere, with every connection refused."""
    folder = tmp_path_factory.mktemp("micro-offline") / "run"
    return folder, reproduce_micro(folder, sockets=False)
