"""Rows of annotation files: JSONL and CSV read one row at a time, each with its line number and its text as it stands.

A line that cannot be read becomes a row with a ``problem``, never an exception and never a gap; blank lines are no rows.
Bytes that are not UTF-8 pass through as lone surrogates, so that exactly the rows that hold them are refused. A CSV record
with a broken quote gives back the lines it swallowed: only its own first line is lost.
"""

import codecs
import csv
import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preference_data.judgement import RowError, check_text

MAX_CELL = 1 << 24
"""Characters in one CSV cell; more than this is an unclosed quote, not a response."""


class AnnotationFileError(ValueError):
    """A file that cannot be imported at all: what was asked, what was found, what to do."""

    def __init__(self, asked: str, found: str, do: str):
        super().__init__(f"{asked}: {found}. {do}")
        self.asked, self.found, self.do = asked, found, do


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row: its first line (from 1), its text, and either its values or the problem that hides them."""

    line: int
    text: str
    values: dict[str, Any] | None
    problem: RowError | None = None


def printable(text: str) -> str:
    """``text`` with what UTF-8 cannot hold shown as escapes: undecodable bytes as ``\\xNN``, half characters as ``\\uNNNN``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            text = line.decode("utf-8", "surrogateescape")
            yield text.removeprefix("\ufeff") if number == 0 else text


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _json_row(line: int, text: str) -> RawRow:
    try:
        check_text("the line", text)
        values = json.loads(text, parse_constant=_no_constant)
    except RowError as problem:
        return RawRow(line, printable(text), None, problem)
    except (ValueError, RecursionError) as error:
        return RawRow(
            line, text, None, RowError("broken_json", f"the line is not JSON ({error}); write one JSON object a line")
        )
    if not isinstance(values, dict):
        kind = type(values).__name__
        return RawRow(line, text, None, RowError("malformed", f"the line holds a {kind}; write one JSON object a line"))
    return RawRow(line, text, values)


def _jsonl_rows(path: Path) -> Iterator[RawRow]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            yield _json_row(number, line.rstrip("\r\n"))


class _Records:
    """CSV records with their first line number and their lines; a broken record is ``(line, text, csv.Error)``."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self._given_back: deque[str] = deque()
        self._taken: list[str] = []

    def _take(self) -> Iterator[str]:
        while True:
            if self._given_back:
                line = self._given_back.popleft()
            elif (line := next(self._lines, "")) == "":
                return
            self._taken.append(line)
            yield line

    def __iter__(self) -> Iterator[tuple[int, str, list[str] | csv.Error]]:
        number = 1
        while True:
            record: list[str] | csv.Error | None
            try:
                record = next(csv.reader(self._take(), strict=True), None)
            except csv.Error as error:
                record = error
                self._given_back.extendleft(reversed(self._taken[1:]))
                del self._taken[1:]
            if record is None:
                return
            text = "".join(self._taken).rstrip("\r\n")
            if text.strip():
                yield number, text, record
            number += len(self._taken)
            self._taken.clear()


def _header(path: Path, record: list[str] | csv.Error) -> list[str]:
    asked = f"read the columns of {path}"
    if isinstance(record, csv.Error):
        raise AnnotationFileError(asked, f"its first row is not CSV ({record})", "The first row must name the columns")
    names = [name.strip() for name in record]
    if len(names) == 1 and (separator := next((mark for mark in ";\t" if mark in names[0]), None)):
        raise AnnotationFileError(
            asked, f"its columns are separated by {separator!r}", "Save the file as CSV separated by commas"
        )
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise AnnotationFileError(
            asked, f"columns named twice: {', '.join(map(repr, repeated))}", "Give each column a name of its own"
        )
    return names


def _csv_row(line: int, text: str, record: list[str] | csv.Error, names: list[str]) -> RawRow:
    try:
        check_text("the row", text)
    except RowError as problem:
        return RawRow(line, printable(text), None, problem)
    if isinstance(record, csv.Error):
        hint = "close every quote, and double the quotes inside a cell"
        return RawRow(line, text, None, RowError("malformed", f"the row is not CSV ({record}); {hint}"))
    if len(record) != len(names):
        found = f"the row has {len(record)} cells and the header names {len(names)} columns"
        return RawRow(line, text, None, RowError("malformed", f"{found}; quote cells that hold commas or line breaks"))
    return RawRow(line, text, dict(zip(names, record, strict=True)))


def _csv_rows(path: Path) -> Iterator[RawRow]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    names: list[str] | None = None
    for line, text, record in _Records(_lines(path)):
        if names is None:
            names = _header(path, record)
        else:
            yield _csv_row(line, text, record, names)


READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {".jsonl": _jsonl_rows, ".csv": _csv_rows}


def check_file(path: Path) -> None:
    """Raise AnnotationFileError unless ``path`` is a readable file of a known suffix that starts like UTF-8."""
    asked = f"import {path}"
    if path.suffix.lower() not in READERS:
        known = " or ".join(READERS)
        raise AnnotationFileError(asked, f"its name ends in {path.suffix!r}", f"Give a file whose name ends in {known}")
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "there is no such file"
        raise AnnotationFileError(asked, found, "Check the path, and name each file")
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise AnnotationFileError(asked, f"it cannot be read ({error.strerror})", "Check its permissions") from error
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise AnnotationFileError(asked, "its text is UTF-16", "Save it as UTF-8")


def read_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file that passed ``check_file``, one at a time. Raises AnnotationFileError for a broken CSV header."""
    return READERS[path.suffix.lower()](path)


def is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"
