"""Two real runs of ``micro``, side by side, the second with sockets refused; every test of artifacts reads their folders."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import rlhf
from filelock import FileLock


def reproduce_micro(folder, sockets):
    done = rlhf("reproduce", "--recipe", "micro", "--dir", folder, "--seed", "100", "--json", "--quiet", sockets=sockets)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def _micro_runs(tmp_path_factory):
    """Made once, by the first of pytest's workers that needs them."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made = shared / "micro-runs.json"
    with FileLock(shared / "micro-runs.lock"):
        if not made.is_file():
            folders = [shared / name / "run" for name in ("micro", "micro-offline")]
            with ThreadPoolExecutor() as pool:
                printed = list(pool.map(reproduce_micro, folders, (True, False)))
            made.write_text(json.dumps([[str(folder), each] for folder, each in zip(folders, printed, strict=True)]))
    return [(Path(folder), printed) for folder, printed in json.loads(made.read_text())]


@pytest.fixture(scope="session")
def micro(_micro_runs):
    """(folder, what ``--json`` printed) of a micro run."""
    return _micro_runs[0]


@pytest.fixture(scope="session")
def micro_offline(_micro_runs):
    """The same run again elsewhere, with every connection refused."""
    return _micro_runs[1]
