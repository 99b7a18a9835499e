"""Batches of a sampling loop that outlive the process: each is saved when it is done, and read back by the next run."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter

from registry.saved_states import SavedStates

Stats = TypeVar("Stats")


class SavedBatches(Generic[Stats]):
    """The stats records of a loop, one a batch, each with all that the batch made.

    ``done`` is what earlier runs saved, for the loop to yield again and go on after; ``save`` stands between the loop and its
    reader and saves what is new.
    """

    def __init__(self, states: SavedStates, stats_type: type[Stats]):
        self._states = states
        self._json = TypeAdapter(list[stats_type], config=ConfigDict(ser_json_inf_nan="constants"))  # type: ignore[valid-type]
        self.done = list(self._read())

    def _read(self) -> Iterator[Stats]:
        whole = set(self._states.numbers())
        number = 0
        while number in whole:  # up to the first that is torn: what came after it is made again
            yield from self._json.validate_json((self._states.path(number) / "batch.json").read_bytes())
            number += 1

    def save(self, batches: Iterator[Stats]) -> Iterator[Stats]:
        for number, stats in enumerate(batches):
            if number >= len(self.done):
                self._states.save(number, partial(self._write, stats))
            yield stats

    def _write(self, stats: Stats, folder: Path) -> None:
        (folder / "batch.json").write_bytes(self._json.dump_json([stats]))
