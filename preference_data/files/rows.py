"""Rows of annotation files, one at a time, each with its line number and its text as it stands.

A row that cannot be read becomes a row with a ``problem``, never an exception and never a gap; blank lines are not rows. What
breaks a file as a whole (compressed data that ends too soon, a JSON list that is not JSON) raises AnnotationFileError.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preference_data.files.opening import AnnotationFileError, opened
from preference_data.judgement import RowError, check_text

MAX_ROW = 1 << 24
"""Bytes of a row; no annotator has read a longer text."""
MAX_LINE = 1 << 28
"""Bytes of a line; reading stops at a longer one."""
MARK = b"\xef\xbb\xbf"
"""The byte order mark that some programs put before UTF-8 text."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row: its first line (from 1; in Parquet the number of the row), its text, and its values or its problem."""

    line: int
    text: str | None
    values: dict[str, Any] | None
    problem: RowError | None = None

    @property
    def verbatim(self) -> str:
        """The row as it stands in the file; for Parquet, as JSON."""
        return json.dumps(self.values, ensure_ascii=False, default=repr) if self.text is None else self.text


def printable(text: str) -> str:
    """``text`` with what UTF-8 cannot hold shown as escapes: undecodable bytes as ``\\xNN``, half characters as ``\\uNNNN``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of ``path``, each with its end. Raises AnnotationFileError for a line of more than MAX_LINE bytes."""
    number = 0
    with opened(path) as file:
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise AnnotationFileError(
                    f"import {path}", f"line {number} has more than {MAX_LINE:,} bytes", "Write one judgement a line"
                )
            yield line.removeprefix(MARK) if number == 1 else line


def decoded(line: bytes) -> tuple[str, RowError | None]:
    """The text of a line without its end, and its problem if it has one. Bytes that are not UTF-8 become ``\\xNN``."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    try:
        check_text("the row", text)
    except RowError as problem:
        return printable(text), problem
    return text, too_large(len(line))


def too_large(size: int) -> RowError | None:
    """The problem of a row of ``size`` bytes, if it is too large."""
    found = f"the row has {size:,} bytes, more than the {MAX_ROW:,} that are read"
    return RowError("too_large", f"{found}; check whether rows have run together") if size > MAX_ROW else None
