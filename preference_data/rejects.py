"""Judgements that an import rejected, each with the row as it stands and how to fix it."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Reject:
    """A rejected judgement. ``line``: where its row starts, from 1; ``fix``: what is wrong and what to do."""

    file: str
    line: int
    reason: str
    fix: str
    row: str


class Rejects:
    """Rejected judgements in the order of their rows, in a temporary file; ``first`` holds the first three."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Reject] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as this object)

    def __len__(self) -> int:
        return self.counts.total()

    def add(self, reject: Reject) -> None:
        self.counts[reject.reason] += 1
        if len(self.first) < 3:
            self.first.append(reject)
        line = json.dumps(asdict(reject), ensure_ascii=False) + "\n"
        self._file.write(line.encode("utf-8", "backslashreplace"))

    def write_to(self, file: BinaryIO) -> None:
        """Write all as JSONL: ``{"file", "line", "reason", "fix", "row"}`` a line, the row as its text."""
        self._file.seek(0)
        shutil.copyfileobj(self._file, file)

    def __iter__(self) -> Iterator[Reject]:
        self._file.seek(0)
        for line in self._file:
            yield Reject(**json.loads(line))
        self._file.seek(0, 2)
