"""Rows of CSV files with any common separator.

A record with a broken quote gives back the lines that it swallowed: only its first line is lost. Every cell is text; the
importer's ``FIELDS`` say what it stands for (``from_cells``).
"""

import csv
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from preference_data.files.opening import AnnotationFileError, check_columns
from preference_data.files.rows import MAX_ROW, RawRow, decoded, lines_of
from preference_data.judgement import RowError

Cell = Literal["text", "json", "messages"]
"""What a cell holds: text; a JSON value; or a list of messages, where it starts like one, and text otherwise."""
SEPARATORS = ",;\t|"
MAX_READ_AGAIN = 1 << 27
"""Bytes that broken records may give back before reading stops; else the file could be read again for every row."""
_MESSAGES = re.compile(r"\s*\[\s*\{")


def csv_rows(path: Path) -> Iterator[RawRow]:
    """The rows below the header. Raises AnnotationFileError for a header that names no columns, or one twice."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW))
    names: list[str] | None = None
    for line, raw, record in _Records(path):
        if names is None:
            names = _header(path, record)
        else:
            text, problem = decoded(raw)
            yield RawRow(line, text, None, problem) if problem else _row(line, text, record, names)


class _Records:
    """CSV records with their first line number and their bytes; a broken record is a csv.Error.

    The separator is the most frequent one in the first line that is not blank. Raises AnnotationFileError after MAX_READ_AGAIN.
    """

    def __init__(self, path: Path):
        self._path, self._lines = path, lines_of(path)
        self._read_again = 0
        self._given_back: deque[bytes] = deque()
        self._taken: list[bytes] = []
        self._separator: str | None = None

    def _take(self) -> Iterator[str]:
        """The lines of a record; it is cut off after MAX_ROW bytes."""
        size = 0
        while size <= MAX_ROW:
            line = self._given_back.popleft() if self._given_back else next(self._lines, b"")
            if not line:
                return
            size += len(line)
            self._taken.append(line)
            yield line.decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[tuple[int, bytes, list[str] | csv.Error]]:
        number = 1
        while True:
            record: list[str] | csv.Error | None
            try:
                record = next(csv.reader(self._take(), strict=True, delimiter=self._separator_found()), None)
            except csv.Error as error:
                record = error
                self._give_back(number)
            if record is None:
                return
            raw = b"".join(self._taken)
            if raw and not raw.isspace():
                yield number, raw, record
            number += len(self._taken)
            self._taken.clear()

    def _give_back(self, number: int) -> None:
        """Give all but the first line of the broken record that starts at line ``number`` to the next records."""
        self._read_again += sum(map(len, self._taken[1:]))
        if self._read_again > MAX_READ_AGAIN:
            found = f"many rows open a quote that no line closes; the last one that was read is in line {number}"
            raise AnnotationFileError(f"import {self._path}", found, "Close every quote, and double the quotes inside a cell")
        self._given_back.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]

    def _separator_found(self) -> str:
        if self._separator is None:
            first = b""
            while not first.strip() and (first := next(self._lines, b"")):
                self._given_back.append(first)
            self._separator = max(SEPARATORS, key=first.decode("utf-8", "replace").count)
        return self._separator


def _header(path: Path, record: list[str] | csv.Error) -> list[str]:
    if isinstance(record, csv.Error):
        raise AnnotationFileError(
            f"read the columns of {path}", f"its first row is not CSV ({record})", "The first row must name the columns"
        )
    names = [name.strip() or f"(column {number})" for number, name in enumerate(record, start=1)]
    check_columns(path, names)
    return names


def _row(line: int, text: str, record: list[str] | csv.Error, names: list[str]) -> RawRow:
    if isinstance(record, csv.Error):
        hint = "close every quote, and double the quotes inside a cell"
        return RawRow(line, text, None, RowError("malformed", f"the row is not CSV ({record}); {hint}"))
    if len(record) != len(names):
        found = f"the row has {len(record)} cells and the header names {len(names)} columns"
        return RawRow(line, text, None, RowError("malformed", f"{found}; quote cells that hold commas or line breaks"))
    return RawRow(line, text, dict(zip(names, record, strict=True)))


def from_cells(cells: Mapping[str, str], fields: Mapping[str, Cell]) -> dict[str, Any]:
    """The values that the cells of one row stand for. Raises RowError for messages that are not JSON.

    A JSON cell that is not JSON stays text, for the importer to refuse; an empty one is no value.
    """
    return {name: _value(name, cell, fields.get(name, "text")) for name, cell in cells.items()}


def _value(name: str, cell: str, holds: Cell) -> Any:
    if holds == "json":
        plain = cell.strip()
        try:
            return json.loads(plain.lower() if plain in ("True", "False", "TRUE", "FALSE") else plain) if plain else None
        except (ValueError, RecursionError):
            return cell
    if holds == "messages" and _MESSAGES.match(cell):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise RowError(
                "malformed", f"the cell of {name} starts like messages but is not JSON ({error}); fix the JSON"
            ) from error
    return cell
