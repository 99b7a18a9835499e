"""``rlhf score``: a file of prompts and responses, or of pairs of responses, scored by one or several reward models.

The file is JSONL, JSON, CSV or Parquet. ``preference_data/rows_to_score.py`` says what its rows may be, ``scored_chunk.py``
what is written of each. The artifact holds ``scored.jsonl``, in the order of the rows, and ``logs/rejects.jsonl`` for rows that
cannot be scored, with line and reason. For pairs with a choice the metrics have the accuracy of each model and of the combined
reward.

The file may be larger than memory (except a JSON list, which is read whole). Rows are scored and saved a chunk at a time, and a
run that was stopped resumes after its last saved chunk (``saved_chunks.py``): it reads the rows before that again, and does not
score them. The result is the same, byte for byte, as without an interruption. The file is known by its sha256, so an edited
file is another input, and its scoring starts from the first row.
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from eval.score_accuracy import accuracies
from preference_data.files.opening import AnnotationFileError, check_file, compression_of, file_type
from preference_data.files.reading import read_rows
from preference_data.files.rows import RawRow
from preference_data.rows_to_score import DIALOGUES, form_of, scorables
from registry.saved_states import SavedStates
from reward_model.opening import open_scorer
from reward_model.scoring import Scorer
from stages.external_files import check_unchanged
from stages.scoring.saved_chunks import SavedChunks, Sums
from stages.scoring.scored_chunk import ScoredChunk, judged_on, score_chunk
from stages.sections import ScoreConfig
from stages.stage import Inputs
from stages.terminal.progress import Progress


def run(config: ScoreConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates) -> dict[str, Any]:
    """Score with the reward models of the role ``models``, in the order of ``config.models``. Raises as ``score_file``."""
    names = [str(artifact.reference) for artifact in inputs["models"]]
    assert names == [name for name, _ in config.models], f"the config names {config.models}, and the inputs are {names}"

    def load_scorers() -> dict[str, Scorer]:
        return {str(artifact.reference): open_scorer(artifact.path) for artifact in inputs["models"]}

    return score_file(config, load_scorers, out, progress, states)


def score_file(
    config: ScoreConfig,
    load_scorers: Callable[[], Mapping[str, Scorer]],
    out: Path,
    progress: Progress,
    states: SavedStates,
) -> dict[str, Any]:
    """Score the file into the folder ``out``; ``load_scorers`` opens the models by name, once there is a row to score.

    Returns the metrics. ``form`` is DIALOGUES, or the format of the pairs. ``read`` is ``scored + rejected``, in pairs where
    there are any. ``accuracy``: see ``accuracies``; empty without a choice. ``rows_per_second``: of the rows that this run
    scored, without the time to open the models; None where all were scored before.

    Raises FileProblem for a file that is not what it was as the run began, AnnotationFileError for one that cannot be read, or
    that holds nothing to score.
    """
    path = Path(config.file)
    check_unchanged(config.file, config.sha256)
    with _asked_to_score(path):
        check_file(path)
        form = form_of(path)
        progress.say(_form_text(path, form))
        saved, rows = SavedChunks(states), _Rows(path, config.rows_per_chunk)
        before, first = _pass_saved(rows, saved)
        if before.rows:
            progress.say(f"the first {before.rows:,} rows of {path} are scored already; scoring resumes after them")
        sums, seconds = before, 0.0
        if first:
            score = _chunk_scorer(config, form, load_scorers())
            started = time.monotonic()
            sums = _score_rest(rows, first, score, before, saved, progress)
            seconds = time.monotonic() - started
    check_unchanged(config.file, config.sha256)  # also when all is scored, because rows are read for as long as that takes
    saved.write_to(out, sums)
    return {
        "form": form,
        "read": sums.scored + sums.rejected,
        "scored": sums.scored,
        "rejected": sums.rejected,
        "accuracy": {
            model: {rating: asdict(accuracy) for rating, accuracy in by_rating.items()}
            for model, by_rating in accuracies(sums.agreement).items()
        },
        "rows_per_second": (sums.rows - before.rows) / seconds if seconds else None,
    }


@contextmanager
def _asked_to_score(path: Path) -> Iterator[None]:
    try:
        yield
    except AnnotationFileError as error:
        raise AnnotationFileError(f"score {path}", error.found, error.do) from error


class _Rows:
    """The rows of a file, a chunk at a time.

    The last chunk lies between ``start`` and ``end``, counted in ``unit``; ``size`` is the end of the file, None where that is
    not known. ``sha256`` is of all rows taken so far.
    """

    def __init__(self, path: Path, rows_per_chunk: int):
        self.start, self.end = 0.0, 0.0
        self.size, self.unit = _extent(path)
        self._rows, self._rows_per_chunk, self._sum = read_rows(path), rows_per_chunk, hashlib.sha256()

    def take(self) -> list[RawRow]:
        """The rows of the next chunk; none at the end of the file."""
        taken = list(itertools.islice(self._rows, self._rows_per_chunk))
        self.start = self.end
        for row in taken:
            text = row.verbatim.encode("utf-8", "backslashreplace")
            about = "\x1f".join([str(row.line), str(len(text)), str(row.problem or ""), *(row.values or ())])
            self._sum.update(about.encode("utf-8", "backslashreplace"))
            self._sum.update(text)
            self.end += 1 if self.unit == "row" else (len(text) + 1) / 1e3
        if len(taken) < self._rows_per_chunk and self.size is not None:
            self.end = self.size  # what stands between rows was not counted
        return taken

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


def _pass_saved(rows: _Rows, saved: SavedChunks) -> tuple[Sums, list[RawRow]]:
    """Take the rows whose chunks are saved: what they came to, and the chunk of rows after them."""
    sums = Sums()
    while taken := rows.take():
        after = saved.sums_after(sums.chunks)
        if after is None or after.rows_sha256 != rows.sha256:
            break
        sums = after
    return sums, taken


def _chunk_scorer(config: ScoreConfig, form: str, scorers: Mapping[str, Scorer]) -> Callable[[Sequence[RawRow]], ScoredChunk]:
    axes = dict(config.models)
    is_csv = file_type(Path(config.file)) == "csv"
    read = partial(scorables, form=form, is_csv=is_csv, axes=tuple(dict.fromkeys(judged_on(axes).values())))
    return partial(score_chunk, read=read, scorers=scorers, axes=axes, safety_threshold=config.safety_threshold)


def _score_rest(
    rows: _Rows,
    taken: list[RawRow],
    score: Callable[[Sequence[RawRow]], ScoredChunk],
    sums: Sums,
    saved: SavedChunks,
    progress: Progress,
) -> Sums:
    """Score and save the rows that were ``taken`` and those after them, chunk by chunk; the sums of the whole file."""
    left = None if rows.size is None else rows.size - rows.start
    with progress.meter(left, "scoring", rows.unit) as advance:
        while taken:
            chunk = score(taken)
            sums = sums.with_chunk(chunk, len(taken), rows.sha256)
            saved.save(chunk, sums)
            advance(None, rows.end - rows.start)
            taken = rows.take()
        advance(None, rows.end - rows.start)  # blank lines after a last chunk that was full
    return sums


def _form_text(path: Path, form: str) -> str:
    holds = "dialogues" if form == DIALOGUES else f"pairs of responses in the format {form}"
    whole = "; a .json file is read into memory whole, which .jsonl is not" if file_type(path) == "json" else ""
    return f"{path} holds {holds}{whole}"


def _extent(path: Path) -> tuple[float | None, str]:
    """The size of a file and its unit; None for a compressed one."""
    if file_type(path) != "parquet":
        return None if compression_of(path) else path.stat().st_size / 1e3, "kB"
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows, "row"
