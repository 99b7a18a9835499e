"""How a stage shows that it moves, and keeps its stats.

On a terminal: a bar with throughput and the time left. Into a pipe: a plain line at most every ten seconds and one at the
end. Quiet: nothing. In every case each stats record goes to ``<log folder>/<label>.jsonl`` as one JSON line, and to the
trackers that were asked for (``stages/terminal/trackers.py``). All drawing is on stderr; stdout belongs to results.
"""

import copy
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import rich.progress
from rich.console import Console
from rich.text import Text

from stages.terminal.trackers import TrackedRun, Tracking

SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")
Show = Callable[[float, float | None], None]
"""Shows how much is done, and of how much where that has become known."""


class Advance(Protocol):
    """Logs ``item`` and shows that ``amount`` more is done; ``total``, where the loop learns it only once it runs."""

    def __call__(self, item: Any, amount: float = 1, total: float | None = None) -> None: ...


class Progress:
    """What stages are given to report with.

    ``log_folder`` None keeps no logs. ``console`` (stderr by default) and ``clock`` (seconds, monotonic) are the world
    outside, which a test replaces. ``tracking``: which trackers are told of each record, besides the logs.
    """

    def __init__(
        self,
        quiet: bool = False,
        log_folder: Path | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        tracking: Tracking | None = None,
    ):
        self.quiet = quiet
        self.log_folder = log_folder
        self._tracked = TrackedRun(tracking, None, self.say) if tracking else None
        self._listener: Callable[[str], None] | None = None
        self._console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self._clock = clock
        self._started = clock()

    def bound(self, log_folder: Path | None) -> "Progress":
        """A copy that logs into ``log_folder``; console and elapsed time stay those of this one."""
        other = copy.copy(self)
        other.log_folder = log_folder
        return other

    def remembering(self, folder: Path) -> "Progress":
        """A copy whose trackers note in ``folder``, of saved states, what they were told; a run that goes on reads it there."""
        if self._tracked is None:
            return self
        other = copy.copy(self)
        other._tracked = TrackedRun(self._tracked.tracking, folder, other.say)
        return other

    @property
    def terminal(self) -> Console | None:
        """The console, where it is a terminal that can be drawn on, and is to be."""
        console = self._console
        return console if console.is_terminal and not console.is_dumb_terminal and not self.quiet else None

    @property
    def clock(self) -> Callable[[], float]:
        return self._clock

    @contextmanager
    def drawn_by(self, listener: Callable[[str], None]) -> Iterator[None]:
        """Within it the terminal is someone else's: no bar is drawn, and lines for the reader go to ``listener``."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    def say(self, text: str) -> None:
        """One line for the reader."""
        if self._listener:
            self._listener(text)
        elif not self.quiet:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stage(self, index: int, count: int, name: str, seconds_left: float | None = None) -> None:
        """The header of stage ``index`` (from 1) of ``count``, with the time since this Progress was made."""
        left = "" if seconds_left is None else f", about {clock_text(seconds_left)} left"
        self.say(f"[{index}/{count}] {name} - {clock_text(self._clock() - self._started)} elapsed{left}")

    def track(
        self,
        stats: Iterable[Item],
        total: float | None,
        label: str,
        unit: str = "step",
        amount: Callable[[Item], float] = lambda item: 1,
    ) -> Iterator[Item]:
        """Yield the items of ``stats`` while showing how far it is.

        ``total`` and ``amount`` (of one item) are counted in ``unit``; ``total`` None means unknown. Items that are
        dataclasses are logged: their str, int, float, bool and None fields, floats as they are.
        """
        with self.meter(total, label, unit) as advance:
            for item in stats:
                advance(item, amount(item))
                yield item

    @contextmanager
    def meter(self, total: float | None, label: str, unit: str = "step") -> Iterator[Advance]:
        """As ``track``, for loops that call back: within it, ``advance(item, amount)`` logs and shows one item."""
        with self.log(label) as log, self._shown(total, label, unit) as show, self._tracked or nullcontext():
            done = 0.0

            def advance(item: Any, amount: float = 1, total: float | None = None) -> None:
                nonlocal done
                if dataclasses.is_dataclass(item):
                    log(item)
                done += amount
                show(done, total)

            yield advance

    @contextmanager
    def log(self, label: str) -> Iterator[Callable[[Any], None]]:
        """Within it, calling with a dataclass logs it under ``label`` and shows nothing. The first record makes the file."""
        with ExitStack() as stack:
            file, count = None, 0

            def log(record: Any) -> None:
                nonlocal file, count
                count += 1
                fields = scalar_fields(record)
                if self.log_folder is not None:
                    file = file or stack.enter_context(_log_file(self.log_folder, label))
                    file.write(json.dumps(fields) + "\n")
                if self._tracked:
                    self._tracked.log(label, fields, fields.get("step", fields.get("iteration", count)))

            yield log

    def _shown(self, total: float | None, label: str, unit: str) -> AbstractContextManager[Show]:
        if self.quiet or self._listener:
            return nullcontext(lambda done, total: None)
        if self._console.is_terminal:
            return _Bar(self._console, total, label, unit)
        return _Lines(self.say, self._clock, total, label, unit)


def _log_file(folder: Path, label: str) -> IO[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / (re.sub(r"[^A-Za-z0-9._-]+", "-", label) + ".jsonl")).open("a", buffering=1, encoding="utf-8")


class _Bar:
    """A rich bar: label, bar, amount, throughput, time left."""

    def __init__(self, console: Console, total: float | None, label: str, unit: str):
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            _Throughput(),
            rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
        )
        self._task = self._bar.add_task(label, total=total, unit=unit)

    def __enter__(self) -> Show:
        self._bar.start()
        return lambda done, total: self._bar.update(self._task, completed=done, total=total)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


class _Throughput(rich.progress.ProgressColumn):
    def render(self, task: rich.progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{rate_text(speed)} {task.fields['unit']}/s")


class _Lines:
    """Plain lines for a pipe: at most one in SECONDS_BETWEEN_LINES, and one at the end, also when the loop was left early."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float], total: float | None, label: str, unit: str):
        self._say, self._clock, self._total, self._label, self._unit = say, clock, total, label, unit
        self._done = 0.0

    def __enter__(self) -> Show:
        self._started = self._last = self._clock()
        return self._show

    def _show(self, done: float, total: float | None) -> None:
        self._done, self._total = done, total or self._total
        now = self._clock()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            speed = done / (now - self._started)
            left = "" if not self._total or not speed else f", {clock_text((self._total - done) / speed)} left"
            self._say(f"{self._position()}, {rate_text(speed)} {self._unit}/s{left}")

    def _position(self) -> str:
        return f"{self._label}: {_amount(self._done)}{'' if self._total is None else f'/{_amount(self._total)}'} {self._unit}"

    def __exit__(self, *exception: object) -> None:
        seconds = self._clock() - self._started
        speed = f" ({rate_text(self._done / seconds)} {self._unit}/s)" if seconds > 0 else ""
        self._say(f"{self._position()} in {clock_text(seconds)}{speed}")


def scalar_fields(record: Any) -> dict[str, Any]:
    """The str, int, float, bool and None fields of a dataclass instance; those of a dict field as ``field.key``."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        fields |= (
            {f"{field.name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {field.name: value}
        )
    return {name: value for name, value in fields.items() if value is None or isinstance(value, str | int | float)}


def _amount(value: float) -> str:
    """Whole numbers as they are, others in three digits or more."""
    return f"{value:,.0f}" if value >= 100 or float(value).is_integer() else f"{value:.3g}"


def clock_text(seconds: float) -> str:
    """``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def rate_text(speed: float) -> str:
    """Three significant digits below 1000, whole numbers above."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"
