"""Every stage of the recipe, killed again and again, ends as if nothing had happened; ``tests/kills.py`` is the harness."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import kill_targets
import pytest
from command_line import ROOT
from faults import POINTS
from kill_targets import TARGETS, kill_plan
from kills import TIME, Kill, Target, holdings, killed, no_process_is_left, unkilled

from registry.store import Registry

SEED = 20230718
PLAN = kill_plan(TARGETS, timed=60, named=60, seed=SEED)


@pytest.fixture(scope="module")
def template(micro, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kill_targets.template(micro[0], tmp_path_factory.mktemp("killed") / "template")


def survives(target: Target, template: Path, folder: Path, kills: list[Kill]) -> None:
    whole = unkilled(target, template, folder / "unkilled")
    resumed = killed(target, template, folder / "killed", whole, kills)
    assert resumed or "save" not in target.operations


def test_the_plan_has_a_hundred_and_twenty_kills_half_of_them_at_named_points_and_leaves_none_out() -> None:
    points = Counter(kill.point for kills in PLAN.values() for kill in kills)
    assert points.pop(TIME) == 60 and points.total() == 60
    assert set(points) == set(POINTS)
    assert min(len(kills) for kills in PLAN.values()) >= 4


@pytest.mark.parametrize(
    ("name", "point"),
    [("train-reward", "save:after"), ("rejection-sample", "save:after"), ("import", "rename:after"), ("score", "save:inside")],
)
def test_two_kills(name: str, point: str, template: Path, tmp_path: Path) -> None:
    (target,) = (target for target in TARGETS if target.name == name)
    survives(target, template, tmp_path, [Kill(TIME, random.Random(f"{SEED}:{name}").random()), Kill(point, 0.5)])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_many_kills(target: Target, template: Path, tmp_path: Path) -> None:
    survives(target, template, tmp_path, PLAN[target.name])


@pytest.mark.slow
@pytest.mark.parametrize("run", [1, 2])
def test_four_kills_of_the_command(run: int, micro, tmp_path: Path) -> None:
    """At times drawn from the whole run, each counted from where the kill before left off."""
    rng = random.Random(f"{SEED}:command:{run}")
    times = sorted(rng.random() * micro[1]["seconds"] for _ in range(4))
    left = [later - earlier for earlier, later in pairwise([0.0, *times])]
    while left:
        process, log = start_reproduce(tmp_path)
        while "[1/" not in log.read_text():  # until then the libraries are loaded
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        try:
            assert process.wait(left[0]) == 0, log.read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            left.pop(0)
            assert holdings(tmp_path / "run").items() <= holdings(micro[0]).items()
        else:  # the machine has become faster than it was when the times were taken
            left = [seconds / 2 for seconds in left]
            shutil.rmtree(tmp_path / "run")
        no_process_is_left(process.pid)
    process, log = start_reproduce(tmp_path)
    assert process.wait() == 0, log.read_text()
    no_process_is_left(process.pid)
    assert holdings(tmp_path / "run") == holdings(micro[0])
    registry = Registry(tmp_path / "run" / "registry")
    assert [problem for reference in registry.references() for problem in registry.verify(str(reference))] == []


def start_reproduce(folder: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """The same command each time, in a group of its own, and the file that it talks to."""
    log = folder / "log"
    arguments = ["reproduce", "--recipe", "micro", "--dir", folder / "run", "--seed", "100", "--save-every", "1s"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "commands.cli", *map(str, arguments)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    return process, log
