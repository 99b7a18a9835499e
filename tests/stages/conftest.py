"""Two real runs of the ``micro`` recipe, the second with sockets refused; every test of artifacts reads their folders."""

import json

import pytest
from commands import rlhf


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
