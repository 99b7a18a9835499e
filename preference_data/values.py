"""Typed values from the rows of annotation files. Each function raises RowError, with the value, for one of another type.

Absent, null and empty mean the same: no value.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from preference_data.judgement import RowError
from preference_data.messages import Message, Messages

Row = Mapping[str, Any]


def shown(value: Any) -> str:
    """``value`` for a message, cut to 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, TypeError, RecursionError):
        text = repr(type(value).__name__)
    return text if len(text) <= 80 else f"{text[:77]}..."


def needed(row: Row, names: Sequence[str]) -> None:
    """Raise RowError unless every name has a value."""
    if missing := [name for name in names if row.get(name) is None]:
        raise RowError("missing_field", f"the row has no {', '.join(missing)}; every row needs {', '.join(names)}")


def lacks(row: Row, names: Sequence[str]) -> str | None:
    """The columns that a row does not have, in the words of an importer's ``misfit``; None when it has all."""
    missing = [name for name in names if name not in row]
    return f"it has no {', '.join(missing)}" if missing else None


def text(row: Row, name: str) -> str:
    """A required field that holds text. Empty text is allowed here; ``make_comparison`` refuses it."""
    needed(row, [name])
    if not isinstance(row[name], str):
        raise RowError("malformed", f"{name} must be text; it is {shown(row[name])}")
    return row[name]


def label(row: Row, name: str) -> str | None:
    """Text or a whole number, as text."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
        return str(value)
    if not isinstance(value, str):
        raise RowError("malformed", f"{name} must be text or a whole number; it is {shown(value)}")
    return value


def boolean(row: Row, name: str) -> bool | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, bool):
        raise RowError("malformed", f"{name} must be true, false or left out; it is {shown(value)}")
    return value


def whole_number(row: Row, name: str, among: Collection[int]) -> int:
    """A required whole number, one of ``among``."""
    needed(row, [name])
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in among:
        raise RowError("malformed", f"{name} must be one of {', '.join(map(str, sorted(among)))}; it is {shown(value)}")
    return int(value)


def number(row: Row, name: str) -> float:
    """A required number of less than 1e15 in size."""
    needed(row, [name])
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise RowError("malformed", f"{name} must be a number; it is {shown(value)}")
    return float(value)


def temperature(row: Row, name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    # a whole number may be too large for a float, so it is compared before it is converted
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6 or math.isnan(value):
        raise RowError("malformed", f"{name} must be a number from 0 up; it is {shown(value)}")
    return float(value)


def messages(row: Row, name: str) -> Messages:
    """A required list of messages; only the role and the content of each message are read."""
    needed(row, [name])
    return messages_in(row[name], name)


def messages_in(value: Any, name: str) -> Messages:
    """As ``messages``, for a value that messages call ``name``."""
    if not isinstance(value, list):
        raise RowError("malformed", f"{name} must be a list of messages; it is {shown(value)}")
    return [_message(message, f"message {position} of {name}") for position, message in enumerate(value)]


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str) or not isinstance(value.get("content"), str):
        raise RowError("malformed", f"{name} is {shown(value)}; it needs a role and a content, both text")
    if value.get("tool_calls"):
        raise RowError("malformed", f"{name} calls tools, which the chat format does not support; leave the row out")
    role = value["role"]
    if role not in ("system", "user", "assistant"):
        raise RowError("malformed", f"{name} has the role {shown(role)}; roles are system, user and assistant")
    return {"role": role, "content": value["content"]}


def dictionary(row: Row, name: str) -> Row:
    """A required object."""
    needed(row, [name])
    if not isinstance(row[name], dict):
        raise RowError("malformed", f"{name} must be an object; it is {shown(row[name])}")
    return row[name]


def items(row: Row, name: str) -> list[Any]:
    """A required list."""
    needed(row, [name])
    if not isinstance(row[name], list):
        raise RowError("malformed", f"{name} must be a list; it is {shown(row[name])}")
    return row[name]
