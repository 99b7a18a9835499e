"""Kill a piece of work at any point, start it again, and see whether anything can tell.

A *target* is a call that changes a folder which holds ``registry/``: one stage, one command of the registry. It runs in a
child forked from a server that has imported the heavy libraries, so that a start costs milliseconds and kills fall into the
work. A *kill* is SIGKILL: after a share of the target's working time (its point is TIME), sent by the parent; or at a fault
point (``faults.POINTS``), at a share of the times that the target passes it, by the child's own hand.

``unkilled`` runs the target to its end: that gives its working time, how often it passes each point, and what it must leave
behind. ``killed`` makes the same call again and again in a copy of the folder, with one kill each time and at most
KILLS_PER_RUN of them, and then without. A start that ended before its kill ends the run; that kill and the rest are done on
the next copy. After every kill the registry must hold what it held before, or all that it holds after; a start that finds a
saved state must resume from it; no process may be left. In the end every artifact, alias and file is that of the unkilled run,
and there is no other. What fails carries a note with the kills that led there.

The targets, and the plan of the kills, are in ``kill_targets``.
"""

import dataclasses
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from faults import Faults
from rich.console import Console

from registry.drafts import STATES
from registry.saved_states import SavedStates
from registry.store import Registry
from stages.environment import quiet_libraries
from stages.terminal.progress import Progress

TIME, TEMPORARY = "time", "tmp"
KILLS_PER_RUN = 5
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["pytest", "stages.reproduce", "stages.scoring.score", "trl.trainer.sft_trainer", "safetensors.torch"]
)


@dataclass(frozen=True)
class Target:
    """``call(folder, progress)`` does the work; ``operations``: those of ``faults.PLACES`` that it is made of."""

    name: str
    call: Callable[[Path, Progress], object]
    operations: frozenset[str]


@dataclass(frozen=True)
class Kill:
    """At a ``share`` (0 to 1) of the working time, or of the passes of ``point``."""

    point: str
    share: float


@dataclass(frozen=True)
class End:
    """How one start ended. ``said``: the lines of its progress; ``hits`` and ``seconds`` are None where it was killed."""

    said: list[str]
    hits: Counter[str] | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Unkilled:
    """What a folder held ``before`` and ``after``, all ``files`` then, and what the work took."""

    before: dict[str, str]
    after: dict[str, str]
    files: dict[str, str]
    hits: Counter[str]
    seconds: float


def unkilled(target: Target, template: Path, folder: Path) -> Unkilled:
    """Run ``target`` to its end in a copy of ``template``, which is as the target finds it."""
    shutil.copytree(template, folder)
    before = holdings(folder)
    end = start(target, folder)
    assert end.hits is not None and end.seconds is not None
    passed = {point.partition(":")[0] for point in end.hits}
    assert passed == target.operations, f"{target.name} is made of {passed}"
    return Unkilled(before, holdings(folder), files(folder), end.hits, end.seconds)


def killed(target: Target, template: Path, folder: Path, whole: Unkilled, kills: Sequence[Kill]) -> int:
    """Do all ``kills``, in as many runs as it takes; returns how many starts resumed from a saved state."""
    told: list[str] = []
    num_resumed, left = 0, list(kills)
    try:
        while left:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(template, folder)
            done, resumed = _run(target, folder, whole, left[:KILLS_PER_RUN], told)
            if not done:  # it ended a moment sooner than the unkilled run
                assert left[0].point == TIME, f"{target.name} did not pass {left[0]} this time"
                left[0] = Kill(TIME, 0.8 * left[0].share)
            left, num_resumed = left[done:], num_resumed + resumed
    except BaseException as error:
        error.add_note(f"{target.name}: {', '.join(told)}; planned were {list(kills)}")
        raise
    return num_resumed


def _run(target: Target, folder: Path, whole: Unkilled, kills: Sequence[Kill], told: list[str]) -> tuple[int, int]:
    """One run: (kills before it came to its end, starts that resumed from a state). ``told``: a line on each start."""
    saved, resumed, done = False, 0, 0
    for done, kill in enumerate([*kills, None]):
        found = holdings(folder)
        assert found in (whole.before, whole.after), f"this is neither the old nor the new: {found}"
        saved = found == whole.before and _has_states(folder)
        point, number, seconds = _place(kill, whole)
        told.append(f"start {done + 1}" + (f", killed at {point} {number}" if point else f" {seconds or 'to the end'}"))
        end = start(target, folder, point, number, seconds)
        resumes = any(" resumes from what an earlier run saved" in line for line in end.said)
        resumed += resumes
        if end.hits is not None:
            assert resumes == saved, f"{'a' if saved else 'no'} state was there to resume from, and it said {end.said}"
            assert not saved or end.hits["save:before"] < whole.hits["save:before"], "what had been saved was made again"
            break
    _same("holds", holdings(folder), whole.after)
    registry = Registry(folder / "registry")
    problems = {reference: registry.verify(str(reference)) for reference in registry.references()}
    assert not any(problems.values()), problems
    _same("has the files", files(folder), whole.files)
    return done, resumed


def _same(what: str, found: dict[str, str], expected: dict[str, str]) -> None:
    differ = {key: (found.get(key), expected.get(key)) for key in found | expected if found.get(key) != expected.get(key)}
    assert not differ, f"what the folder {what} (found, expected without a kill) differs: {differ}"


def _place(kill: Kill | None, whole: Unkilled) -> tuple[str | None, int, float | None]:
    """(point, which pass of it, None) or (None, 0, seconds)."""
    if kill is None:
        return None, 0, None
    if kill.point == TIME:
        return None, 0, kill.share * whole.seconds
    return kill.point, 1 + int(kill.share * whole.hits[kill.point]), None


def holdings(folder: Path) -> dict[str, str]:
    """Every artifact with its digest, every alias with its target."""
    registry = Registry(folder / "registry")
    return {str(each.reference): each.digest for each in registry.list()} | registry.aliases()


def files(folder: Path) -> dict[str, str]:
    """The paths of everything under ``folder``, with the sha256 of files that lie beside the registry.

    The logs of a study are left out: a start that finds a training done does not log it again.
    """
    beside = {path.name: _sha256(path) for path in folder.iterdir() if path.is_file()}
    paths = [path.relative_to(folder) for path in folder.rglob("*")]
    return {path.as_posix(): "" for path in paths if not {"study", "logs"} <= set(path.parts)} | beside


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _has_states(folder: Path) -> bool:
    """Whether there is a saved state to resume from."""
    return any(SavedStates(path).numbers() for path in folder.rglob(STATES))


def start(target: Target, folder: Path, point: str | None = None, number: int = 0, seconds: float | None = None) -> End:
    """Make the call in a child, which is killed at a pass of ``point`` or after ``seconds`` unless it ends before.

    Raises AssertionError when the call fails or leaves a process behind.
    """
    receiver, sender = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=_work, args=(target, folder, point, number, sender), daemon=True)
    process.start()
    sender.close()
    assert receiver.recv() == "started"
    if seconds is not None:
        time.sleep(seconds)
        process.kill()
    told: list[str | End] = []
    try:
        while True:
            told.append(receiver.recv())
    except EOFError:
        process.join()
    assert process.pid is not None
    no_process_is_left(process.pid)
    said = [each for each in told if isinstance(each, str)]
    for each in told:
        if isinstance(each, End):
            return dataclasses.replace(each, said=said)
    assert process.exitcode == -signal.SIGKILL, f"{target.name} failed:\n{said[-1] if said else process.exitcode}"
    return End(said)


def _work(target: Target, folder: Path, point: str | None, number: int, parent: Connection) -> None:
    """What the child does."""
    import torch

    os.setpgid(0, 0)
    torch.set_num_threads(1)
    quiet_libraries()
    (folder / TEMPORARY).mkdir(exist_ok=True)
    tempfile.tempdir = str(folder / TEMPORARY)  # so that what a kill leaves there is seen
    faults = Faults(folder, point, number)
    faults.install()
    parent.send("started")
    started = time.perf_counter()
    try:
        target.call(folder, _Told(parent))
    except Exception:
        parent.send(traceback.format_exc())
        raise SystemExit(1) from None
    parent.send(End([], faults.hits, time.perf_counter() - started))


class _Told(Progress):
    """Hands every line to the parent."""

    def __init__(self, parent: Connection):
        super().__init__(console=Console(file=io.StringIO()))
        self._parent = parent

    def say(self, text: str) -> None:
        self._parent.send(text)


def no_process_is_left(group: int, seconds: float = 5.0) -> None:
    """Assert that a process group dies out: git, asked for the revision of the code, may need a moment."""
    deadline = time.monotonic() + seconds
    while left := [process for process in psutil.process_iter(["status"]) if _lives_in(process, group)]:
        assert time.monotonic() < deadline, f"processes were left: {left}"
        time.sleep(0.02)


def _lives_in(process: psutil.Process, group: int) -> bool:
    try:
        return process.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(process.pid) == group
    except ProcessLookupError:
        return False
