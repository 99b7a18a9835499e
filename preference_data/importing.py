"""Importing: annotation files in, comparisons out, with every row that was refused and why.

Every row that is read is either accepted or rejected, so ``read == accepted + rejected`` always. A rejected row keeps its
file, its line, its text, the reason (a key of ``REASONS``) and how to mend it. Rows that are correct but hold no preference
(``DROPPED_BY_RULE``) are rejected and counted too, but only faulty rows count against ``max_rejected``: a safety batch
with many unsafe choices is no broken file.

Judgements are compared across all files of one import: the first judgement of an annotator on an item stands. Rows
without an annotator count as one unnamed person's.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from preference_data.comparison import AXES, Axis, Comparison
from preference_data.importers import anthropic_hh, native
from preference_data.judgement import DROPPED_BY_RULE, REASONS, RowError
from preference_data.rows import AnnotationFileError, RawRow, check_file, is_csv, printable, read_rows


class Importer(Protocol):
    """What a module of ``importers/`` offers."""

    NAME: str
    FIELDS: tuple[str, ...]
    REQUIRED: tuple[str, ...]

    def recognises(self, row: Mapping[str, Any]) -> bool: ...

    def from_cells(self, cells: Mapping[str, str]) -> dict[str, Any]: ...

    def to_judgement(self, row: Mapping[str, Any], axis: Axis, source: str) -> Comparison: ...


_MODULES: tuple[Importer, ...] = (native, anthropic_hh)
IMPORTERS: dict[str, Importer] = {module.NAME: module for module in _MODULES}


@dataclass(frozen=True, slots=True)
class Reject:
    """A refused row. ``line`` counts from 1 and is where the row starts; ``mend`` says what is wrong and what to do."""

    file: str
    line: int
    reason: str
    mend: str
    row: str


@dataclass(frozen=True)
class ImportResult:
    """What an import made. ``formats``: by file; ``ignored_columns``: rows by column unknown to the format."""

    comparisons: list[Comparison] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    read: int = 0
    formats: dict[str, str] = field(default_factory=dict)
    ignored_columns: dict[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        return len(self.comparisons)

    @property
    def rejected(self) -> dict[str, int]:
        """Counts by reason, in the order of ``REASONS``."""
        counts = Counter(reject.reason for reject in self.rejects)
        return {reason: counts[reason] for reason in REASONS if counts[reason]}

    @property
    def faulty(self) -> int:
        """Rejected rows whose reason is a fault of the file."""
        return sum(count for reason, count in self.rejected.items() if reason not in DROPPED_BY_RULE)


class TooManyRejects(ValueError):
    """More rows were refused than allowed; ``result`` holds everything, so that the rejects can still be written."""

    def __init__(self, result: ImportResult, max_rejected: float):
        counts = ", ".join(f"{count} {reason}" for reason, count in result.rejected.items())
        first = "\n".join(f"  {reject.file}:{reject.line}: {reject.reason}: {reject.mend}" for reject in result.rejects[:3])
        if result.accepted:
            found = f"{result.faulty} of {result.read} rows are faulty, more than the {max_rejected:.2%} allowed"
        else:
            found = f"none of the {result.read} rows can be used"
        super().__init__(f"{found} ({counts}). First:\n{first}\nMend the rows, or raise the share of rejects that is allowed.")
        self.result = result


class _Import:
    """One import in progress."""

    def __init__(self, axis: Axis, source: str | None):
        self.axis, self.source = axis, source
        self.comparisons: list[Comparison] = []
        self.rejects: list[Reject] = []
        self.ignored_columns: Counter[str] = Counter()
        self.read = 0
        self._judged: dict[tuple[str, str | None], tuple[str, str]] = {}

    def add(self, path: Path, row: RawRow, importer: Importer) -> None:
        self.read += 1
        try:
            self._accept(self._judgement(path, row, importer), f"{path}:{row.line}")
        except RowError as error:
            self.rejects.append(Reject(str(path), row.line, error.reason, str(error), row.text))

    def _judgement(self, path: Path, row: RawRow, importer: Importer) -> Comparison:
        if row.problem is not None:
            raise row.problem
        assert row.values is not None
        self.ignored_columns.update(printable(name) for name in row.values if name not in importer.FIELDS)
        try:
            values = importer.from_cells(row.values) if is_csv(path) else row.values
            return importer.to_judgement(values, self.axis, path.stem if self.source is None else self.source)
        except RecursionError as error:
            raise RowError("malformed", "a value is nested too deeply; make it flat") from error

    def _accept(self, comparison: Comparison, place: str) -> None:
        key = (comparison.item_id, comparison.annotator)
        if key in self._judged:
            chosen, first = self._judged[key]
            who = f"annotator {comparison.annotator!r}" if comparison.annotator else "the unnamed annotator"
            reason, which = ("duplicate", "same") if chosen == comparison.chosen else ("contradiction", "opposite")
            raise RowError(reason, f"{who} made the {which} choice on this item at {first}; keep one, or name the annotators")
        self._judged[key] = (comparison.chosen, place)
        self.comparisons.append(comparison)


def _importer_for(path: Path, format: str | None) -> Importer:
    """The importer named ``format``, or the one that recognises the file's first readable row."""
    if format is not None:
        return IMPORTERS[format]
    first: RawRow | None = None
    for row in read_rows(path):
        first = first or row
        if row.values is None:
            continue
        for importer in IMPORTERS.values():
            if importer.recognises(row.values):
                return importer
        if first.values is None:
            first = row
    asked, needs = (
        f"recognise the format of {path}",
        "; ".join(f"{name}: {', '.join(i.REQUIRED)}" for name, i in IMPORTERS.items()),
    )
    if first is None:
        raise AnnotationFileError(f"import {path}", "the file holds no rows", "Check that it was written completely")
    if first.values is None:
        raise AnnotationFileError(asked, f"no row can be read; line {first.line}: {first.problem}", f"Formats need {needs}")
    found = f"line {first.line} has the fields {', '.join(map(repr, first.values)) or '(none)'}"
    raise AnnotationFileError(asked, found, f"Rename the fields, or name the format; formats need {needs}")


def import_files(
    paths: Sequence[Path], axis: Axis, format: str | None = None, source: str | None = None, max_rejected: float = 0.01
) -> ImportResult:
    """Read annotation files (``.jsonl`` or ``.csv``, UTF-8) into comparisons of one axis.

    ``format`` is a key of ``IMPORTERS`` (None: recognised for each file by its first readable row); ``source`` names where
    the judgements of rows that do not say so come from (None: the file's name without its suffix); ``max_rejected`` is the
    largest share of faulty rows, in [0, 1]; at 1 nothing is too much.

    Raises AnnotationFileError for a file that cannot be imported at all, TooManyRejects (with the result) for one with too
    many faulty rows or without a single usable one, ValueError for an unknown axis or a share outside [0, 1].
    """
    if axis not in AXES:
        raise ValueError(f"the axis is {axis!r}; it must be {' or '.join(AXES)}")
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"max_rejected is {max_rejected}; it is a share, from 0 to 1")
    if format is not None and format not in IMPORTERS:
        raise AnnotationFileError(
            "import", f"there is no format {format!r}", f"Use one of {', '.join(IMPORTERS)}, or leave it out"
        )
    if not paths:
        raise AnnotationFileError("import", "no file was named", "Name at least one annotation file")
    for path in paths:
        check_file(path)
    work, formats = _Import(axis, source), {}
    for path in paths:
        importer = _importer_for(path, format)
        formats[str(path)] = importer.NAME
        before = work.read
        for row in read_rows(path):
            work.add(path, row, importer)
        if work.read == before:
            raise AnnotationFileError(f"import {path}", "the file holds no rows", "Check that it was written completely")
    result = ImportResult(work.comparisons, work.rejects, work.read, formats, dict(work.ignored_columns))
    if max_rejected < 1 and (not result.accepted or result.faulty > max_rejected * result.read):
        raise TooManyRejects(result, max_rejected)
    return result


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write refused rows as JSONL: ``{"file", "line", "reason", "mend", "row"}`` a line, the row as its text."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for reject in rejects:
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
