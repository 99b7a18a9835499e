"""What ``rlhf score`` writes: an output that appears when it is whole, and until then all that is needed to go on.

Beside OUTPUT (``answers.scored.jsonl``) lie, while it is made, ``answers.scored.jsonl.part`` and
``answers.scored.rejects.jsonl.part``, and ``answers.scored.record.json``, which says how many of their bytes count and what
they were made from. Rows are forced to the disk before the record that counts them; what a stopped process wrote after the last
record is cut off. The record stays beside the whole output, to tell later what that was made from.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from preference_data.files.opening import FileType
from registry.errors import CannotWrite
from registry.manifest import fsync
from stages.scoring.score_accuracy import Agreement


class ScoringRecord(BaseModel):
    """How far a scoring has come, and what it was made from. ``models``: (reference, digest, axis) in their order.

    ``type`` and ``form`` say how the input is read; ``input_sha256`` is of the whole file as the last run found it. ``rows``
    of it were read, and ``rows_sha256`` is of them. They made ``scored`` lines of output and ``rejected`` ones of rejects, and
    of these files ``output_bytes`` and ``rejects_bytes`` count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    models: list[tuple[str, str, str]]
    chunk_size: int
    type: FileType
    form: str
    input_sha256: str
    rows: int = 0
    rows_sha256: str = hashlib.sha256().hexdigest()
    scored: int = 0
    rejected: int = 0
    output_bytes: int = 0
    rejects_bytes: int = 0
    agreement: Agreement = {}
    whole: bool = False


class ScoredOutput:
    """The files of one scoring, named after its output."""

    def __init__(self, output: Path):
        self.output, self.rejects = output, output.with_suffix(".rejects.jsonl")
        self.output_part, self.rejects_part = (path.with_name(path.name + ".part") for path in (self.output, self.rejects))
        self.record = output.with_suffix(".record.json")
        self.all = (self.output, self.rejects, self.output_part, self.rejects_part, self.record)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away, and say what a full disk means. Raises RuntimeError, CannotWrite."""
        lock = FileLock(self.output.with_name(self.output.name + ".lock"))
        try:
            with lock.acquire(timeout=0):
                try:
                    yield
                finally:
                    Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout as error:
            raise RuntimeError(
                f"another process is scoring into {self.output} at this moment; wait for it, or give another --out"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise CannotWrite(
                f"the disk of {self.output.absolute().parent} is full; what was scored is kept. Free some space and run the "
                "same command again, which goes on from there"
            ) from error

    def read_record(self, say: Callable[[str], None]) -> ScoringRecord | None:
        """What an earlier run recorded; None, aloud where that is odd, without a record that can be read."""
        try:
            return ScoringRecord.model_validate_json(self.record.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            say(f"{self.record} is no record of a scoring, and is not used")
            return None

    def damage(self, record: ScoringRecord) -> str | None:
        """What is wrong with the files that ``record`` counts the bytes of; None when they are as they were left."""
        for path, part, size in (
            (self.output, self.output_part, record.output_bytes),
            (self.rejects, self.rejects_part, record.rejects_bytes),
        ):
            place = path if record.whole and not part.exists() else part
            found = place.stat().st_size if place.exists() else 0
            if found < size or (record.whole and found > size):
                return f"{place} has {found} bytes where {size} were written"
        return None

    def append(self, record: ScoringRecord, rows: bytes, rejects: bytes) -> None:
        """Write after the bytes that ``record`` counts, which are all that is left of what was there."""
        _write_at(self.output_part, record.output_bytes, rows)
        _write_at(self.rejects_part, record.rejects_bytes, rejects)

    def write_record(self, record: ScoringRecord) -> None:
        fresh = self.record.with_name(self.record.name + ".new")
        fresh.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        fsync(fresh)
        fresh.replace(self.record)
        fsync(self.record.parent)

    def publish(self, record: ScoringRecord) -> None:
        """Give the files of a whole scoring their names; where that was done, nothing changes."""
        assert record.whole
        if not record.rejected:
            self.rejects_part.unlink(missing_ok=True)
            self.rejects.unlink(missing_ok=True)
        for part, path in ((self.rejects_part, self.rejects), (self.output_part, self.output)):
            if part.exists():
                part.replace(path)
        fsync(self.output.parent)

    def clear(self) -> None:
        """Forget what is not whole; the record goes first, as it must not count the bytes of another run."""
        for path in (self.record, self.output_part, self.rejects_part):
            path.unlink(missing_ok=True)
            fsync(path.parent)


def _write_at(path: Path, offset: int, data: bytes) -> None:
    if not data and path.exists() and path.stat().st_size == offset:
        return
    with path.open("r+b" if offset else "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
