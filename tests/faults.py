"""Fault points: places in a process's work where it can be made to die by its own hand, with SIGKILL.

A point is ``<operation>:<place>``. ``before`` and ``after`` stand on both sides of the operation, ``inside`` in its middle:
half of a file is written, half of a folder removed, half of a state's files there, half of a manifest, a lock held. A
sync and a rename are done or not done, and have no inside.

The points are reached by wrapping, for the rest of the process, the functions that write, sync, rename, remove, save and
lock. A library that writes files by other means passes no point; there only a kill by time can strike.
"""

import builtins
import functools
import io
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
from filelock import BaseFileLock

from preference_data import parquet
from registry import manifest
from registry.saved_states import SavedStates

_PARTS = ("before", "inside", "after")
PLACES = {
    "write": _PARTS,
    "fsync": ("before", "after"),
    "rename": ("before", "after"),
    "remove": _PARTS,
    "save": _PARTS,
    "manifest": _PARTS,
    "lock": _PARTS,
}
POINTS = tuple(f"{operation}:{place}" for operation, places in PLACES.items() for place in places)

Call = Callable[..., Any]


class Faults:
    """Counts in ``hits`` how often this process passes each point, and ends it at the ``number``-th pass of ``point``.

    Files outside ``folder`` do not count.
    """

    def __init__(self, folder: Path, point: str | None = None, number: int = 0):
        assert point is None or point in POINTS, f"there is no point {point}"
        self.folder, self._last = folder, (point, number)
        self.hits: Counter[str] = Counter()

    def install(self) -> None:
        """Wrap everything, for the rest of this process."""
        os.fsync = self._around("fsync", os.fsync, counts=lambda *_: True)
        os.rename = self._around("rename", os.rename)
        os.replace = self._around("rename", os.replace)
        shutil.rmtree = self._around(
            "remove", shutil.rmtree, _half_removed, lambda path, *_: self._ours(path) and Path(path).exists()
        )
        io.open = builtins.open = self._around_open(io.open)
        _replace(parquet.write_records, self._around("write", parquet.write_records, _halved))
        put = manifest.write_manifest
        _replace(put, self._around("manifest", put, functools.partial(_halved, name=manifest.MANIFEST_FILE)))
        save = safetensors.torch.save_file
        _replace(save, self._around("write", save, lambda do, _, path: _halved(do, path), lambda _, path: self._ours(path)))
        SavedStates.save = self._around_save(SavedStates.save)  # type: ignore[method-assign]
        BaseFileLock.acquire = self._between("lock:before", BaseFileLock.acquire, "lock:inside")  # type: ignore[method-assign]
        BaseFileLock.release = self._around_release(BaseFileLock.release)  # type: ignore[method-assign]

    def _passed(self, point: str, half: Callable[[], object] = lambda: None) -> None:
        """Note a pass; where the process is to end here, do ``half`` of what it was at."""
        assert point in POINTS
        self.hits[point] += 1
        if (point, self.hits[point]) == self._last:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def _ours(self, path: Any) -> bool:
        return not isinstance(path, int) and Path(path).is_relative_to(self.folder)

    def _around(self, operation: str, real: Call, half: Call | None = None, counts: Call | None = None) -> Call:
        """``real`` with its points; ``half(do, *arguments)``: what a death inside leaves; ``counts``: which calls count."""

        @functools.wraps(real)
        def faulty(*arguments: Any, **options: Any) -> Any:
            do = functools.partial(real, *arguments, **options)
            if not (counts(*arguments) if counts else self._ours(arguments[0])):
                return do()
            self._passed(f"{operation}:before")
            if half:
                self._passed(f"{operation}:inside", lambda: half(do, *arguments))
            result = do()
            self._passed(f"{operation}:after")
            return result

        return faulty

    def _around_open(self, real: Call) -> Call:
        """A file opened for writing is a write that lasts until it is closed."""

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or not self._ours(file):
                return real(file, mode, *arguments, **options)
            self._passed("write:before")
            handle = real(file, mode, *arguments, **options)
            close = handle.close

            def closing() -> None:
                if not handle.closed:
                    self._passed("write:inside", lambda: _halved(handle.flush, file))
                    close()
                    self._passed("write:after")

            handle.close = closing
            return handle

        return opened

    def _around_save(self, real: Call) -> Call:
        def save(states: SavedStates, number: int, write: Callable[[Path], None]) -> None:
            def filled(folder: Path) -> None:
                write(folder)
                self._passed("save:inside", lambda: _half_removed(None, folder))

            self._passed("save:before")
            real(states, number, filled)
            self._passed("save:after")

        return save

    def _between(self, before: str, real: Call, after: str) -> Call:
        """``real`` with a point ``before`` and one ``after`` it."""

        @functools.wraps(real)
        def faulty(*arguments: Any, **options: Any) -> Any:
            self._passed(before)
            result = real(*arguments, **options)
            self._passed(after)
            return result

        return faulty

    def _around_release(self, real: Call) -> Call:
        def release(lock: BaseFileLock, *arguments: Any, **options: Any) -> None:
            held = lock.is_locked
            real(lock, *arguments, **options)
            if held:
                self._passed("lock:after")

        return release


def _replace(real: Call, faulty: Call) -> None:
    """Put ``faulty`` in the place of ``real`` in every module that has it by name."""
    for module in list(sys.modules.values()):
        for name in [name for name, value in list(vars(module).items()) if value is real]:
            setattr(module, name, faulty)


def _halved(write: Callable[[], object], path: Path | str, *_: Any, name: str = "") -> None:
    """Write the file ``path`` (or ``name`` in it), and take away its second half."""
    write()
    file = Path(path, name)
    os.truncate(file, file.stat().st_size // 2)


def _half_removed(_: object, folder: Path | str, *__: Any) -> None:
    """Remove the first half of a folder's files, and not its folders."""
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    for path in found[: (len(found) + 1) // 2]:
        path.unlink()
