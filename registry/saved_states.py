"""Saved states of unfinished work: numbered folders, each whole or absent.

A state is written to a folder of its own, synced, summed in ``complete.json`` and renamed into place. One whose sums do not
match (a faulty disk, an edited file) is skipped with a message. What a state holds is up to its writer: weights are
safetensors and the rest JSON, so that no state is ever unpickled.
"""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registry.errors import RegistryError
from registry.manifest import file_entry, file_paths, fsync

COMPLETE_FILE = "complete.json"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class SaveEvery:
    """How far apart the states of a loop lie: ``steps``, or ``seconds`` where ``steps`` is None.

    It is an option of a run: the result does not depend on it, so no recipe and no fingerprint holds it.
    """

    seconds: float = 60.0
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> "SaveEvery":
        """The interval written as 90s, 10m, 2h or, in steps, 200. Raises ValueError for anything else, and for zero."""
        match = re.fullmatch(r"([0-9]+)([smh]?)", text.strip())
        if not match or int(match[1]) == 0:
            raise ValueError(
                f"the interval between saved states is {text!r}; it is a time such as 90s, 10m or 2h, or a number of steps "
                "such as 200, and more than zero"
            )
        return cls(seconds=int(match[1]) * _SECONDS[match[2]]) if match[2] else cls(steps=int(match[1]))


class SavedStates:
    """The states under ``root``, which is made with the first of them. ``say`` is called for each state that is skipped.

    ``clock`` (seconds, monotonic) is for tests to replace.
    """

    def __init__(
        self,
        root: Path,
        say: Callable[[str], None] = lambda text: None,
        every: SaveEvery = SaveEvery(),
        clock: Callable[[], float] = time.monotonic,
    ):
        self.root, self.say, self.every = root, say, every
        self._clock, self._last = clock, clock()

    def due(self, step: int) -> bool:
        """Is it time to save, after ``step`` steps (counted from the beginning of the whole loop)?"""
        if self.every.steps is not None:
            return step % self.every.steps == 0
        return self._clock() - self._last >= self.every.seconds

    def numbers(self) -> list[int]:
        """The numbers of all whole states, ascending. Recomputes their sums."""
        if not self.root.is_dir():
            return []
        return [number for number in self._numbered() if self._is_whole(number)]

    def path(self, number: int) -> Path:
        return self.root / f"{number:09d}"

    def save(self, number: int, write: Callable[[Path], None]) -> None:
        """Let ``write`` fill a folder, and make it state ``number`` once it is on the disk. Later states are removed."""
        fresh = self.root / f"{number:09d}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        write(fresh)
        entries = [file_entry(fresh, path) for path in file_paths(fresh)]
        (fresh / COMPLETE_FILE).write_text(json.dumps({entry.path: entry.sha256 for entry in entries}), encoding="utf-8")
        for path in (*(fresh / entry.path for entry in entries), fresh / COMPLETE_FILE, fresh):
            fsync(path)
        for other in self._numbered():
            if other >= number:  # torn, or after one that was torn: it is made again
                shutil.rmtree(self.path(other))
        fresh.rename(self.path(number))
        fsync(self.root)
        self._last = self._clock()

    def keep_newest(self, count: int) -> None:
        """Remove all but the ``count`` newest states."""
        for number in self._numbered()[:-count]:
            shutil.rmtree(self.path(number))

    def _numbered(self) -> list[int]:
        """The numbers of all states, whole or torn, ascending."""
        return sorted(int(path.name) for path in self.root.iterdir() if path.name.isdecimal())

    def _is_whole(self, number: int) -> bool:
        folder = self.path(number)
        try:
            sums = dict(json.loads((folder / COMPLETE_FILE).read_text(encoding="utf-8")))
            present = {path: file_entry(folder, path).sha256 for path in file_paths(folder) if path != COMPLETE_FILE}
            is_whole = sums == present
        except (OSError, ValueError, RegistryError):
            is_whole = False
        if not is_whole:
            self.say(f"the saved state {folder} is torn, and is skipped")
        return is_whole
