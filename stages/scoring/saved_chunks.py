"""The scored chunks of a file as saved states: each is on the disk before the next begins, and is read back after a stop.

State n holds the chunk n: its lines of output, its lines of rejects, and the sums up to its last row. Only the sums of one
chunk are in memory at a time, so the file may be of any size.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from eval.score_accuracy import Agreement, added
from registry.manifest import LOGS_FOLDER
from registry.saved_states import SavedStates
from stages.scoring.scored_chunk import ScoredChunk

SCORED_FILE, REJECTS_FILE = "scored.jsonl", f"{LOGS_FOLDER}/rejects.jsonl"
"""What the artifact holds; the second only where a row was rejected."""
_LINES_FILE, _REJECTED_FILE, _SUMS_FILE = "scored.jsonl", "rejected.jsonl", "sums.json"


class Sums(BaseModel):
    """What the first ``rows`` rows of a file came to, in ``chunks`` chunks.

    ``rows_sha256`` is of these rows as they were read: where the file was changed while it was scored, it tells.
    """

    model_config = ConfigDict(frozen=True)
    chunks: int = 0
    rows: int = 0
    rows_sha256: str = ""
    scored: int = 0
    rejected: int = 0
    agreement: Agreement = {}

    def with_chunk(self, chunk: ScoredChunk, num_rows: int, rows_sha256: str) -> "Sums":
        """The sums with one more chunk, of ``num_rows`` rows; ``rows_sha256`` is of all rows up to its end."""
        return Sums(
            chunks=self.chunks + 1,
            rows=self.rows + num_rows,
            rows_sha256=rows_sha256,
            scored=self.scored + len(chunk.scored),
            rejected=self.rejected + len(chunk.rejected),
            agreement=added(self.agreement, chunk.verdicts),
        )


class SavedChunks:
    """The chunks that this run and stopped ones have saved in ``states``."""

    def __init__(self, states: SavedStates):
        self._states = states
        self._whole = set(states.numbers())

    def sums_after(self, number: int) -> Sums | None:
        """The sums up to the end of chunk ``number`` (from 0); None where no stopped run has saved it whole."""
        if number not in self._whole:
            return None
        return Sums.model_validate_json((self._states.path(number) / _SUMS_FILE).read_bytes())

    def save(self, chunk: ScoredChunk, sums: Sums) -> None:
        """Save ``chunk``, the last of those that ``sums`` counts."""

        def write(folder: Path) -> None:
            _write_lines(folder / _LINES_FILE, chunk.scored)
            _write_lines(folder / _REJECTED_FILE, chunk.rejected)
            (folder / _SUMS_FILE).write_text(sums.model_dump_json(), encoding="utf-8")

        self._states.save(sums.chunks - 1, write)

    def write_to(self, out: Path, sums: Sums) -> None:
        """Write the lines of all chunks that ``sums`` counts into the folder ``out``, in their order."""
        self._join(_LINES_FILE, out / SCORED_FILE, sums.chunks)
        if sums.rejected:
            (out / REJECTS_FILE).parent.mkdir(exist_ok=True)
            self._join(_REJECTED_FILE, out / REJECTS_FILE, sums.chunks)

    def _join(self, name: str, path: Path, num_chunks: int) -> None:
        with path.open("wb") as joined:
            for number in range(num_chunks):
                with (self._states.path(number) / name).open("rb") as lines:
                    shutil.copyfileobj(lines, joined)


def _write_lines(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(lines))
