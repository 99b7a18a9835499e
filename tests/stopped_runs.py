"""Runs that are killed: what ends them, what they had saved, and what they say when they go on."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.saved_states import SavedStates
from registry.store import Registry
from stages.terminal.progress import Progress


class Killed(BaseException):
    """The process ends here."""


class Told(Progress):
    """Keeps what is said in ``said``."""

    def __init__(self, said: list[str]):
        super().__init__(quiet=True)
        self.said = said

    def say(self, text: str) -> None:
        self.said.append(text)


class Stopping(Progress):
    """Kills the process at the ``at``-th advance of its meters, or with a ``word`` at the ``at``-th line that holds it.

    ``labels`` are those of the meters that began. With ``at`` 0 it kills nothing.
    """

    def __init__(self, at: int = 0, word: str | None = None):
        super().__init__(quiet=True)
        self.left, self.word = at, word
        self.labels: list[str] = []

    def bound(self, log_folder: Path | None) -> Progress:
        return self

    def say(self, text: str) -> None:
        if self.word and self.word in text:
            self._count()

    @contextmanager
    def meter(self, total: float | None, label: str, unit: str = "step") -> Any:
        self.labels.append(label)
        with super().meter(total, label, unit) as advance:

            def advancing(item: Any, amount: float = 1, total: float | None = None) -> None:
                advance(item, amount, total)
                if self.word is None:
                    self._count()

            yield advancing

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def states_in(registry: Registry, folder: str = "") -> SavedStates:
    """What the one unfinished run of ``registry`` saved, in ``folder`` of its states (a pattern)."""
    (found,) = (registry.root / ".drafts").glob(f"*/states/{folder}".rstrip("/"))
    return SavedStates(found)


def change_state(states: SavedStates, number: int, file: str, change: Callable[[bytes], bytes]) -> None:
    """Save state ``number`` again with other content in ``file``."""
    folder = states.path(number)
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "complete.json"}
    kept[file] = change(kept[file])

    def write(path: Path) -> None:
        for name, content in kept.items():
            (path / name).write_bytes(content)

    states.save(number, write)


def change_records(states: SavedStates, number: int, file: str, change: Callable[[Any], object]) -> None:
    """The same where ``file`` is JSON, which ``change`` changes in its place."""

    def rewritten(content: bytes) -> bytes:
        records = json.loads(content)
        change(records)
        return json.dumps(records).encode()

    change_state(states, number, file, rewritten)
