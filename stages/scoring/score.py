"""``rlhf score``: a file of prompts and responses, or of pairs of responses, scored by one or several reward models.

The file is JSONL, JSON, CSV or Parquet; ``stages/scoring/rows_to_score.py`` says what its rows may be, ``scored_chunk.py`` what
is written of each: lines of JSONL in the order of the rows, and those that cannot be scored into a rejects file with their line
and reason. Of pairs that were judged the accuracy of each model is told, and that of the combined reward.

The file may be larger than memory (but for a JSON list, which is read whole), and the work may be stopped at any point: rows
are scored a chunk at a time, and the same command goes on after the last chunk (``scored_output.py`` has the files). It
reads the rows before that again, and does not score them. They are known by their sha256 and the models by their digests: where
one of them is another now, that is said, and the work begins again. Rows that were not yet read may change, and more may be
added. The result is the same, byte for byte, as without an interruption.

The output appears under its name when it is whole. The same command then finds it up to date, by the sha256 of the file. It may
have cost days, so an output that was made of something else is replaced with ``--force`` alone.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from preference_data.files.opening import AnnotationFileError, check_file, file_type, packing_of
from preference_data.files.reading import read_rows
from preference_data.files.rows import RawRow
from reward_model.scoring import Scorer
from stages.engine.outside_files import sha256_of
from stages.scoring.rows_to_score import DIALOGUES, form_of, scorables
from stages.scoring.score_accuracy import Accuracy, accuracies, added
from stages.scoring.scored_chunk import judged_on, score_chunk
from stages.scoring.scored_output import ScoredOutput, ScoringRecord
from stages.terminal.progress import Progress

CHUNK_SIZE = 512


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """A reward model: its full reference, its digest, its axis (helpfulness, safety or ''), and how to open it."""

    reference: str
    digest: str
    axis: str
    load: Callable[[], Scorer]


@dataclass(frozen=True, slots=True)
class Scored:
    """What was scored, and where it went.

    ``form``: DIALOGUES, or the format of the pairs. ``read`` is ``scored + rejected``, in pairs where there are any.
    ``rejects_file`` None: everything was scored. ``up_to_date``: by an earlier run. ``accuracy``: see ``accuracies``; empty
    where nothing was judged. ``rows_per_second``: of the rows that this run scored, without the time to open the models.
    """

    form: str
    read: int
    scored: int
    rejected: int
    output: Path
    rejects_file: Path | None
    up_to_date: bool
    accuracy: dict[str, dict[str, Accuracy]]
    rows_per_second: float | None


def score_file(
    path: Path,
    output: Path,
    models: Sequence[ScoringModel],
    progress: Progress,
    force: bool = False,
    chunk_size: int = CHUNK_SIZE,
) -> Scored:
    """Score ``path`` with ``models`` into ``output``, from where an earlier run stopped; ``chunk_size``: rows at a time.

    ``force`` begins again, and replaces what is there.

    Raises AnnotationFileError for a file that cannot be read, or that holds nothing to score; ValueError for an output that is
    the input or was made of something else; CannotWrite when the disk is full, RuntimeError while another process writes the
    same output.
    """
    files = ScoredOutput(output)
    if path.resolve() in {each.resolve() for each in files.all}:
        raise ValueError(f"scoring into {output} would write over {path}, the file to score; give another --out")
    with _asked_to_score(path), files.held():
        before = None if force else files.read_record(progress.say)
        asked, rows = _asked(path, models, chunk_size), _Rows(path)
        differs = _difference(before, asked, rows, files) if before else None
        if before and before.whole and not differs:
            files.publish(before)
            return _scored(files, before, None)
        if output.exists() and not force and (before is None or before.whole or differs):
            found = differs or "what it was made from is not known"
            raise ValueError(f"{output} exists, and {found}; give another --out, or --force to replace it")
        scorers = {each.reference: each.load() for each in models}
        if before and not differs:
            progress.say(f"{output} goes on after row {before.rows:,} of {path}")
            record = before.model_copy(update={"input_sha256": asked.input_sha256})
        else:
            if before:
                progress.say(f"{output} begins again, because {differs}")
            files.clear()
            record, rows = asked, _Rows(path)
        progress.say(_form_text(asked, path))
        started = time.monotonic()
        done = _score_rest(rows, record, scorers, files, progress)
        files.publish(done)
        return _scored(files, done, (done.rows - record.rows) / max(time.monotonic() - started, 1e-9))


@contextmanager
def _asked_to_score(path: Path) -> Iterator[None]:
    try:
        yield
    except AnnotationFileError as error:
        raise AnnotationFileError(f"score {path}", error.found, error.do) from error


class _Rows:
    """The rows of a file, one after the other; ``sha256`` is of those that were taken, ``position`` where they end."""

    def __init__(self, path: Path):
        self.path, self.position = path, 0.0
        self.size, self.unit = _extent(path)
        self._rows, self._sum = read_rows(path), hashlib.sha256()

    def take(self, count: int) -> list[RawRow]:
        taken = list(itertools.islice(self._rows, count))
        for row in taken:
            text = row.verbatim.encode("utf-8", "backslashreplace")
            about = "\x1f".join([str(row.line), str(len(text)), str(row.problem or ""), *(row.values or ())])
            self._sum.update(about.encode("utf-8", "backslashreplace"))
            self._sum.update(text)
            self.position += 1 if self.unit == "row" else (len(text) + 1) / 1e3
        if len(taken) < count and self.size is not None:
            self.position = self.size  # what stands between rows was not counted
        return taken

    def pass_over(self, count: int) -> None:
        while count > 0 and self.take(min(count, CHUNK_SIZE)):
            count -= CHUNK_SIZE

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


def _asked(path: Path, models: Sequence[ScoringModel], chunk_size: int) -> ScoringRecord:
    """The record of a scoring in which nothing is done yet."""
    check_file(path)
    return ScoringRecord(
        models=[(each.reference, each.digest, each.axis) for each in models],
        chunk_size=chunk_size,
        type=file_type(path),
        form=form_of(path),
        input_sha256=sha256_of(path) or "",
    )


def _difference(before: ScoringRecord, asked: ScoringRecord, rows: _Rows, files: ScoredOutput) -> str | None:
    """Why what was recorded is not a beginning (or, where it is whole, not the end) of what is asked for; None when it is.

    Passes over the rows that were read before, unless it is whole.
    """
    if before.models != asked.models:
        was, now = (", ".join(f"{each[0]} ({each[1][:12]})" for each in record.models) for record in (before, asked))
        return f"it was made with {was}, and asked for is {now}"
    if before.chunk_size != asked.chunk_size:
        return f"it was made {before.chunk_size} rows at a time, and now {asked.chunk_size} are read"
    if (before.type, before.form) != (asked.type, asked.form):
        return f"it was made of a {before.type} file of {before.form}, and {rows.path} is a {asked.type} file of {asked.form}"
    if before.whole and before.input_sha256 != asked.input_sha256:
        return f"{rows.path} is not what it was then"
    if not before.whole:
        rows.pass_over(before.rows)
        if rows.sha256 != before.rows_sha256:
            return f"the {before.rows:,} rows that were read of {rows.path} are not what they were"
    return files.damage(before)


def _form_text(asked: ScoringRecord, path: Path) -> str:
    holds = "dialogues" if asked.form == DIALOGUES else f"pairs of responses in the format {asked.form}"
    whole = "; a .json file is read into memory whole, which .jsonl is not" if asked.type == "json" else ""
    return f"{path} holds {holds}{whole}"


def _scored(files: ScoredOutput, record: ScoringRecord, rows_per_second: float | None) -> Scored:
    return Scored(
        form=record.form,
        read=record.scored + record.rejected,
        scored=record.scored,
        rejected=record.rejected,
        output=files.output,
        rejects_file=files.rejects if record.rejected else None,
        up_to_date=rows_per_second is None,
        accuracy=accuracies(record.agreement),
        rows_per_second=rows_per_second,
    )


def _score_rest(
    rows: _Rows, record: ScoringRecord, scorers: dict[str, Scorer], files: ScoredOutput, progress: Progress
) -> ScoringRecord:
    """Score ``rows``, which come after ``record``, chunk by chunk; the record of it all."""
    axes = {name: axis for name, _, axis in record.models}
    read = partial(
        scorables, form=record.form, is_csv=record.type == "csv", axes=tuple(dict.fromkeys(judged_on(axes).values()))
    )
    rest = None if rows.size is None else rows.size - rows.position
    with progress.meter(rest, "scoring", rows.unit) as advance:
        while not record.whole:
            before = rows.position
            taken = rows.take(record.chunk_size)
            chunk = score_chunk(taken, read, scorers, axes)
            lines, rejects = b"".join(chunk.scored), b"".join(chunk.rejected)
            files.append(record, lines, rejects)
            record = record.model_copy(
                update={
                    "rows": record.rows + len(taken),
                    "rows_sha256": rows.sha256,
                    "scored": record.scored + len(chunk.scored),
                    "rejected": record.rejected + len(chunk.rejected),
                    "output_bytes": record.output_bytes + len(lines),
                    "rejects_bytes": record.rejects_bytes + len(rejects),
                    "agreement": added(record.agreement, chunk.verdicts),
                    # a chunk that is not full ends the file: recorded as any other, rows added to it would be a new chunk
                    "whole": len(taken) < record.chunk_size,
                }
            )
            files.write_record(record)
            advance(None, rows.position - before)
    return record


def _extent(path: Path) -> tuple[float | None, str]:
    """The size of a file and its unit; None for a packed one."""
    if file_type(path) != "parquet":
        return None if packing_of(path) else path.stat().st_size / 1e3, "kB"
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows, "row"
