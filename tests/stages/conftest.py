"""Two real runs of ``micro``, side by side, the second with sockets refused; every test of artifacts reads their folders."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import rlhf


def reproduce_micro(folder, sockets):
    done = rlhf("reproduce", "--recipe", "micro", "--dir", folder, "--seed", "100", "--json", "--quiet", sockets=sockets)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def _micro_runs(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) / "run" for name in ("micro", "micro-offline")]
    with ThreadPoolExecutor() as pool:
        return list(zip(folders, pool.map(reproduce_micro, folders, (True, False)), strict=True))


@pytest.fixture(scope="session")
def micro(_micro_runs):
    """(folder, what ``--json`` printed) of a micro run."""
    return _micro_runs[0]


@pytest.fixture(scope="session")
def micro_offline(_micro_runs):
    """The same run again elsewhere, with every connection refused."""
    return _micro_runs[1]
