"""Rows of JSONL files that people hand over: read as strictly as annotation files are."""

import json
from collections.abc import Mapping
from typing import Any

from preference_data.judgement import check_text
from preference_data.messages import MessagesError


def row_of(line: bytes) -> dict[str, Any]:
    """The JSON object on a line. Raises ValueError or RecursionError for what is none, and for text that is not UTF-8."""
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n").removeprefix("\ufeff")
    check_text("the line", text)
    row = json.loads(text)
    check_text("the row", json.dumps(row, ensure_ascii=False))  # an escape can hold half a character
    if not isinstance(row, dict):
        raise MessagesError("malformed", f"a row must be a JSON object, this one is {type(row).__name__}")
    return row


def boolean(row: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false, false where it is missing. Raises MessagesError for a text that only says so."""
    value = row.get(name, False)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise MessagesError("malformed", f"{name} must be true, false or left out; it is {value!r:.80}")
