"""Importing: annotation files in, comparisons out, with every rejected row and the reason.

An importer (a module of ``importers/``) reads the rows of one format; the rest is the same for all formats and is here. The
import counts judgements: a row that holds one, or cannot be read, counts once, a row that holds several counts as many. Each is
accepted or rejected, so that ``read == accepted + rejected``. A reject keeps the file, the line, the row as it stands, the
reason (a key of ``REASONS``) and how to fix it. Judgements that are written correctly but hold no preference
(``DROPPED_BY_RULE``) are rejected and counted too, but only faulty ones count against ``max_rejected``: a safety batch with
many unsafe choices is not a broken file.

Judgements are compared across all files of one import: the first one of an annotator on an item counts. Rows without an
annotator count as those of one unnamed person. Memory stays small for files of any size: comparisons are yielded as they come,
rejects go to a temporary file, and only a few numbers are kept of each accepted judgement.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preference_data.comparison import AXES, Axis, Comparison
from preference_data.files.csv_rows import from_cells
from preference_data.files.opening import AnnotationFileError, check_file, file_type, plain_name
from preference_data.files.reading import read_rows
from preference_data.files.rows import MAX_ROW, RawRow, printable
from preference_data.formats import IMPORTERS, Importer, recognise
from preference_data.handing_out import Pair, rejoined
from preference_data.judgement import DROPPED_BY_RULE, REASONS, RowError, make_comparison
from preference_data.messages import Messages
from preference_data.rejects import Reject, Rejects
from preference_data.values import Row

CHUNK = 1024
"""Rows that are read before their comparisons are yielded."""
MOST_COLUMNS = 100_000
"""Columns that are counted by name."""
Lengths = Callable[[Sequence[Messages]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class LongestDialogue:
    """Dialogues of more than ``tokens`` tokens are rejected; ``lengths`` counts the tokens of each dialogue."""

    tokens: int
    lengths: Lengths


class TooManyRejects(ValueError):
    """More rows were rejected than allowed; ``work`` holds the counts and the rejects."""

    def __init__(self, work: "Import", max_rejected: float):
        counts = ", ".join(f"{count} {reason}" for reason, count in work.rejected.items())
        first = "\n".join(f"  {reject.file}:{reject.line}: {reject.reason}: {reject.fix}" for reject in work.rejects.first)
        if work.accepted:
            found = f"{work.faulty} of {work.read} rows are faulty, more than the {max_rejected:.2%} allowed"
        else:
            found = f"none of the {work.read} rows can be used"
        super().__init__(f"{found} ({counts}). First:\n{first}\nFix the rows, or raise the share of rejects that is allowed.")
        self.work = work


class Import:
    """One import, with its counts and rejects.

    ``format``: a key of ``IMPORTERS`` or an importer; None recognises the format of each file by its first rows. ``source``:
    the source of rows that name none; None takes the file's name without its type. ``longest``: a limit on the length of
    dialogues. ``pairs``: those that were handed out, by item; with them no other pairs are accepted.

    Raises ValueError for an unknown axis, AnnotationFileError for an unknown format.
    """

    def __init__(
        self,
        axis: Axis,
        format: str | Importer | None = None,
        source: str | None = None,
        longest: LongestDialogue | None = None,
        pairs: Mapping[str, Pair] | None = None,
    ):
        if axis not in AXES:
            raise ValueError(f"the axis is {axis!r}; it must be {' or '.join(AXES)}")
        if isinstance(format, str) and format not in IMPORTERS:
            known = ", ".join(IMPORTERS)
            raise AnnotationFileError("import", f"there is no format {format!r}", f"Use one of {known}, or leave it out")
        self.axis, self.source, self.longest, self.pairs = axis, source, longest, pairs
        self.importer = IMPORTERS[format] if isinstance(format, str) else format
        self.read = self.accepted = self.bytes_read = 0
        self.rejects = Rejects()
        self.formats: dict[str, str] = {}
        self.ignored_columns: Counter[str] = Counter()
        self._first_choices: dict[bytes, int] = {}

    @property
    def rejected(self) -> dict[str, int]:
        """Counts by reason, in the order of ``REASONS``."""
        return {reason: self.rejects.counts[reason] for reason in REASONS if self.rejects.counts[reason]}

    @property
    def faulty(self) -> int:
        """Rejected judgements whose reason is a fault of the file."""
        return sum(count for reason, count in self.rejected.items() if reason not in DROPPED_BY_RULE)

    def comparisons(self, paths: Sequence[Path]) -> Iterator[list[Comparison]]:
        """The accepted comparisons of ``paths``, some at a time. Raises AnnotationFileError for an unusable file."""
        if not paths:
            raise AnnotationFileError("import", "no file was named", "Name at least one annotation file")
        for path in paths:
            check_file(path)
        for number, path in enumerate(paths):
            importer = self.importer or recognise(path)
            self.formats[str(path)] = importer.NAME
            before = self.read
            rows = read_rows(path)
            while chunk := list(_some(rows)):
                self.bytes_read += sum(len(row.text or "") + 1 for row in chunk)
                yield self._accepted(paths, number, importer, chunk)
            if self.read == before:
                raise AnnotationFileError(f"import {path}", "the file holds no rows", "Check that it was written completely")

    def check(self, max_rejected: float) -> None:
        """Raise TooManyRejects when a larger share than ``max_rejected`` is faulty or nothing can be used.

        At 1 everything is allowed. Raises ValueError for a share outside [0, 1].
        """
        if not 0 <= max_rejected <= 1:
            raise ValueError(f"max_rejected is {max_rejected}; it is a share, from 0 to 1")
        if max_rejected < 1 and (not self.accepted or self.faulty > max_rejected * self.read):
            raise TooManyRejects(self, max_rejected)

    def _accepted(self, paths: Sequence[Path], number: int, importer: Importer, chunk: Sequence[RawRow]) -> list[Comparison]:
        path = paths[number]
        is_csv, source = file_type(path) == "csv", self.source or plain_name(path)
        judgements = [(row, judgement) for row in chunk for judgement in self._judgements(row, importer, is_csv, source)]
        too_long = self._too_long([judgement for _, judgement in judgements if isinstance(judgement, Comparison)])
        kept = []
        for row, judgement in judgements:
            self.read += 1
            if isinstance(judgement, Comparison):
                problem = too_long.get(judgement.id) or self._chosen_before(judgement, paths, number, row.line)
                if problem is None:
                    kept.append(judgement)
                    continue
            else:
                problem = judgement
            self.rejects.add(Reject(str(path), row.line, problem.reason, str(problem), row.verbatim))
        self.accepted += len(kept)
        return kept

    def _judgements(self, row: RawRow, importer: Importer, is_csv: bool, source: str) -> Iterator[Comparison | RowError]:
        """Each judgement of a row, as a comparison or as the error that rejects it."""
        if row.problem is not None:
            yield row.problem
            return
        assert row.values is not None
        self._count_unknown(row.values, importer)
        try:
            values = from_cells(row.values, importer.FIELDS) if is_csv else row.values
            for fields in importer.judgements(values, self.axis):
                if isinstance(fields, RowError):
                    yield fields
                else:
                    yield self._comparison(fields | {"source": fields.get("source") or source})
        except RowError as error:
            yield error
        except RecursionError:
            yield RowError("malformed", "a value is nested too deeply; make it flat")

    def _comparison(self, fields: Mapping[str, Any]) -> Comparison | RowError:
        """``item_id`` in ``fields`` is the id under which the item was handed out."""
        item = fields.get("item_id")
        try:
            comparison = make_comparison(axis=self.axis, **_without_id(fields))
            if self.pairs is not None:
                return make_comparison(axis=self.axis, **_without_id(rejoined(fields, comparison, self.pairs)))
            if item and item != comparison.item_id:
                raise RowError(
                    "changed_text",
                    f"the texts do not make the item {item} that the row names; give them back as they were handed out, "
                    "or import with --pairs",
                )
            return comparison
        except RowError as error:
            return error

    def _count_unknown(self, values: Row, importer: Importer) -> None:
        for name in sorted(values.keys() - importer.FIELDS.keys()):
            if name in self.ignored_columns or len(self.ignored_columns) < MOST_COLUMNS:
                self.ignored_columns[printable(name)] += 1

    def _too_long(self, comparisons: Sequence[Comparison]) -> dict[str, RowError]:
        """By the ids of the comparisons that are too long, the error that rejects them."""
        if self.longest is None:
            return {}
        most = self.longest.tokens
        chosen = self.longest.lengths([comparison.chosen_dialogue for comparison in comparisons])
        rejected = self.longest.lengths([comparison.rejected_dialogue for comparison in comparisons])
        errors = {}
        for comparison, length in zip(comparisons, map(max, chosen, rejected), strict=True):
            if length > most:
                found = f"the dialogue has {length} tokens, more than the {most} asked for"
                errors[comparison.id] = RowError("too_long", f"{found}; leave the row out, or allow more tokens")
        return errors

    def _chosen_before(self, comparison: Comparison, paths: Sequence[Path], number: int, line: int) -> RowError | None:
        """The error that rejects a second choice of one annotator on one item; the first choice is remembered.

        The choice, the line and the number of the file are kept in one integer.
        """
        annotator, item = comparison.annotator, bytes.fromhex(comparison.item_id)
        key = hashlib.blake2b((annotator or "").encode(), digest_size=8, key=item).digest()
        here = (number << 40 | line) << 1 | (comparison.chosen < comparison.rejected)
        if (first := self._first_choices.get(key)) is None:
            self._first_choices[key] = here
            return None
        name = f"annotator {annotator!r}" if annotator else "the unnamed annotator"
        same = "duplicate" if annotator else "repeated"
        reason, which = ("contradiction", "opposite") if (first ^ here) & 1 else (same, "same")
        place = f"{paths[first >> 41]}:{first >> 1 & (1 << 40) - 1}"
        return RowError(reason, f"{name} made the {which} choice on this item at {place}; keep one, or name the annotators")


def _some(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """The next CHUNK rows; fewer where they hold much text."""
    size = 0
    for row in itertools.islice(rows, CHUNK):
        yield row
        size += len(row.text or "")
        if size > MAX_ROW:
            return


def _without_id(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "item_id"}


@dataclass(frozen=True)
class ImportResult:
    """What ``import_files`` made."""

    comparisons: list[Comparison]
    rejects: list[Reject]
    read: int
    rejected: dict[str, int]
    formats: dict[str, str]
    ignored_columns: dict[str, int]

    @property
    def accepted(self) -> int:
        return len(self.comparisons)


def import_files(
    paths: Sequence[Path],
    axis: Axis,
    format: str | Importer | None = None,
    source: str | None = None,
    max_rejected: float = 0.01,
) -> ImportResult:
    """All of ``paths`` at once, for files that fit into memory; see ``Import`` for the arguments and what is raised."""
    work = Import(axis, format, source)
    comparisons = [comparison for chunk in work.comparisons(paths) for comparison in chunk]
    work.check(max_rejected)
    return ImportResult(comparisons, list(work.rejects), work.read, work.rejected, work.formats, dict(work.ignored_columns))
