"""JSONL files that people write by hand: read as strictly as annotation files, and refused as a whole for one faulty row.

They are small compared with annotation files, so all faulty rows are reported at once and can be fixed together.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from preference_data.judgement import check_text
from preference_data.messages import MessagesError

Record = TypeVar("Record")
_SHOWN = 20  # faulty rows that a message lists


class RowsError(ValueError):
    """A file with rows that cannot be used, or without rows; the text lists their lines."""


def records_in(file: Path, make: Callable[[dict[str, Any]], Record], what: str = "rows") -> list[Record]:
    """The record that ``make`` makes of each row of ``file``, in order; a ValueError that it raises is a fault of the row.

    ``what`` names the rows in messages. Raises RowsError with every faulty row, and FileNotFoundError.
    """
    records: list[Record] = []
    faults: list[str] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    records.append(make(row_of(line)))
                except (ValueError, RecursionError) as error:
                    faults.append(f"  line {number}: {error}")
    if faults or not records:
        listed = "\n".join(faults[:_SHOWN]) + (f"\n  and {len(faults) - _SHOWN} more" if faults[_SHOWN:] else "")
        found = f"{len(faults)} {what} that cannot be used; fix them" if faults else f"no {what}; add some"
        raise RowsError(f"{file} has {found} and run the same command again\n{listed}".rstrip())
    return records


def row_of(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises ValueError or RecursionError for anything else, and for text that is not UTF-8."""
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n").removeprefix("\ufeff")
    check_text("the line", text)
    row = json.loads(text)
    check_text("the row", json.dumps(row, ensure_ascii=False))  # an escape can hold half a character
    if not isinstance(row, dict):
        raise MessagesError("malformed", f"a row must be a JSON object, this one is {type(row).__name__}")
    return row


def boolean(row: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; false where it is missing. Raises MessagesError for other values, "true" included."""
    value = row.get(name, False)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise MessagesError("malformed", f"{name} must be true, false or left out; it is {value!r:.80}")
