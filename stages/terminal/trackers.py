"""``--track tensorboard|trackio|wandb``: what a loop logs goes to experiment trackers too, through accelerate's.

Every number of every stats record is logged as ``<label>/<field>`` at the record's step or iteration. The JSON lines in the
artifact's logs are written in any case; tracking is no part of a recipe, a fingerprint or an artifact, and what a tracker does
wrong stops no training.

tensorboard writes to ``<--track-dir>/<run>``, and wandb keeps its files in ``--track-dir``: outside of the registry, so that
runs can be watched side by side while they last, and those that failed are still there. trackio has a place of its own
(``trackio show``). A run is called ``<name>-<time it began>``. One that resumes from saved states is the same run for a
tracker: its name and the step that each label has reached lie with the states, and steps told before are not told again. One
that begins anew is another run.

API keys come from the environment alone (``WANDB_API_KEY``, ``HF_TOKEN``).

    pip install 'llama-rlhf[tensorboard]'
    rlhf ppo --track tensorboard --track-dir tracking &     tensorboard --logdir tracking
"""

import importlib.util
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACKERS = ("tensorboard", "trackio", "wandb")
PROJECT = "llama-rlhf"  # under which trackio and wandb file the runs
MEMORY_FILE = "tracked.json"
_WITHOUT_KEY = ("offline", "disabled")


class TrackerMissing(RuntimeError):
    """A tracker was asked for that is not installed, or lacks what it needs."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """Which trackers are told, the folder of those that write files, and of what their runs are named."""

    trackers: tuple[str, ...]
    folder: Path
    name: str


def tracking(trackers: Sequence[str] | None, folder: Path, name: str) -> Tracking | None:
    """What ``--track`` asks for; None when it was not given.

    Raises ValueError for a tracker that is not one of TRACKERS, TrackerMissing for one that is not installed, and for wandb
    without a key in the environment.
    """
    for tracker in trackers or ():
        if tracker not in TRACKERS:
            raise ValueError(f"--track is {tracker!r}; it is one of {', '.join(TRACKERS)}")
        if importlib.util.find_spec(tracker) is None:
            raise TrackerMissing(
                f"--track {tracker} was asked for, and {tracker} is not installed; run pip install 'llama-rlhf[{tracker}]', or "
                "leave it out: the artifact's logs are written in any case"
            )
        if tracker == "wandb" and not (
            os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") in ("offline", "disabled")
        ):
            raise TrackerMissing(
                "--track wandb was asked for, and the environment has no WANDB_API_KEY; set it, or set WANDB_MODE=offline "
                "to keep the run on this machine"
            )
    return Tracking(tuple(dict.fromkeys(trackers)), folder, name) if trackers else None


class TrackedRun:
    """What the trackers are told of one run. As a context it closes them at its end; the next record opens them again.

    ``memory``: the folder of the run's saved states, which need not exist yet; None for a run that cannot go on. ``say`` is
    told of a tracker that fails, which is left alone from then on.
    """

    def __init__(self, tracking: Tracking, memory: Path | None, say: Callable[[str], None]):
        self.tracking, self._memory, self._say = tracking, memory, say
        self._names = list(tracking.trackers)
        self._open: dict[str, Any] = {}
        known = _remembered(memory)
        self.run = known.get("run") or f"{tracking.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self._reached: dict[str, int] = known.get("reached", {})

    def log(self, label: str, fields: Mapping[str, Any], step: int) -> None:
        """Tell every tracker the numbers of ``fields``, unless ``label`` had reached ``step`` before."""
        if step <= self._reached.get(label, -1):
            return
        self._reached[label] = step
        self._remember()
        numbers = {f"{label}/{key}": float(value) for key, value in fields.items() if isinstance(value, int | float)}
        for name in list(self._names):
            self._tell(name, lambda tracker: tracker.log(numbers, step=step))

    def _tell(self, name: str, do: Callable[[Any], None]) -> None:
        try:
            with redirect_stdout(sys.stderr):  # stdout belongs to results
                if name not in self._open:
                    self._open[name] = _opened(name, self.run, self.tracking.folder)
                do(self._open[name])
        except Exception as error:
            self._names.remove(name)
            self._open.pop(name, None)
            cause = _without_secrets(f"{type(error).__name__}: {error}".splitlines()[0])
            self._say(f"{name} failed and is not used any more; training and its logs continue ({cause})")

    def _remember(self) -> None:
        if self._memory is not None and self._memory.is_dir():  # it is there once a state was saved to resume from
            fresh = self._memory / f"{MEMORY_FILE}.new"
            fresh.write_text(json.dumps({"run": self.run, "reached": self._reached}), encoding="utf-8")
            fresh.replace(self._memory / MEMORY_FILE)

    def __enter__(self) -> "TrackedRun":
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self._open):
            self._tell(name, lambda tracker: tracker.finish())
        self._open.clear()


def _remembered(memory: Path | None) -> dict[str, Any]:
    try:
        return dict(json.loads((memory / MEMORY_FILE).read_text(encoding="utf-8"))) if memory else {}
    except (OSError, ValueError):
        return {}


def _without_secrets(text: str) -> str:
    """``text`` without the values of the environment that are keys, or addresses that may hold one."""
    secret = {value for name, value in os.environ.items() if name.endswith(("_KEY", "_TOKEN", "_URL")) and value}
    for value in sorted(secret, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def _opened(name: str, run: str, folder: Path) -> Any:
    """accelerate's tracker ``name``, started on the run ``run``, which may exist."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's trackers log, and its loggers need to know of which process they are
    folder.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": run, "logging_dir": str(folder)},
        "trackio": {"run_name": PROJECT, "name": run, "resume": "allow"},
        "wandb": {
            "run_name": PROJECT, "name": run, "id": run, "resume": "allow", "dir": str(folder),
            "settings": {"console": "off"},  # the screen is the dashboard's
        },
    }  # fmt: skip
    tracker = LOGGER_TYPE_TO_CLASS[name](**arguments[name])
    tracker.start()
    return tracker
