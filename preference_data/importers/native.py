"""The project's own annotation format: one judgement a row, as docs/annotation-format.md describes it for people.

Required: ``prompt`` (text, or messages), ``response_a``, ``response_b``, ``choice`` (``a`` or ``b``). Optional, where
absent, null and empty mean the same: ``rating``, ``safe_a``, ``safe_b``, ``is_safety``, ``risk_category``, ``annotator``,
``batch``, ``policy_a``, ``policy_b``, ``temperature_a``, ``temperature_b``, ``source``.
The axis is the import's, not the row's.
"""

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from preference_data.comparison import RATINGS, Axis, Comparison, Rating
from preference_data.judgement import RowError, make_comparison
from preference_data.messages import Messages, user

NAME = "native"
REQUIRED: tuple[str, ...] = ("prompt", "response_a", "response_b", "choice")
_TEXTS = ("prompt", "response_a", "response_b")
_BOOLEANS = ("safe_a", "safe_b", "is_safety")
_NUMBERS = ("temperature_a", "temperature_b")
_LABELS = ("risk_category", "annotator", "batch", "policy_a", "policy_b", "source")
_MESSAGES = re.compile(r"\s*\[\s*\{")
FIELDS: tuple[str, ...] = (*REQUIRED, "rating", *_BOOLEANS, *_NUMBERS, *_LABELS)


def recognises(row: Mapping[str, Any]) -> bool:
    """Whether ``row`` looks native; a row that lacks a field or two still does, so that it can be told which."""
    return sum(name in row for name in REQUIRED) >= 2


def from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """A row from the cells of a CSV record: messages are JSON, booleans true or false, numbers numbers, empty is absent.

    A prompt cell that starts with ``[{`` must be a JSON list of messages; every other prompt cell is the user's text as it
    stands. Booleans and numbers that cannot be read are left as text, for ``to_judgement`` to refuse. Raises RowError.
    """
    row: dict[str, Any] = {
        name: cell for name, cell in cells.items() if cell != "" or name in ("prompt", "response_a", "response_b")
    }
    for name in _BOOLEANS:
        if name in row:
            row[name] = {"true": True, "false": False}.get(cells[name].strip().lower(), cells[name])
    for name in _NUMBERS:
        if name in row:
            try:
                row[name] = float(cells[name])
            except ValueError:
                continue
    if _MESSAGES.match(row.get("prompt", "")):
        try:
            row["prompt"] = json.loads(row["prompt"])
        except ValueError as error:
            raise RowError(
                "malformed", f"the prompt cell starts like messages but is not JSON ({error}); mend the JSON"
            ) from error
    return row


def _prompt(row: Mapping[str, Any]) -> Messages:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return [user(prompt)]
    if isinstance(prompt, list):
        return prompt
    raise RowError("malformed", f"prompt must be text or a list of messages; it is {prompt!r:.80}")


def _response(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise RowError("malformed", f"{name} must be text; it is {row[name]!r:.80}")
    return row[name]


def _rating(row: Mapping[str, Any]) -> Rating:
    rating = row.get("rating")
    if rating in (None, "", "unrated"):
        return "unrated"
    if rating not in RATINGS:
        near = difflib.get_close_matches(str(rating)[:40], RATINGS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RowError("unknown_rating", f"rating is {rating!r:.80}; it must be one of {', '.join(RATINGS)}, or left out{hint}")
    return rating


def _boolean(row: Mapping[str, Any], name: str) -> bool | None:
    value = row.get(name)
    if value in (None, "") or isinstance(value, bool):
        return value if isinstance(value, bool) else None
    raise RowError("malformed", f"{name} must be true, false or left out; it is {value!r:.80}")


def _temperature(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    # A whole number may be too large for a float, so it is compared before it is converted.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6 or math.isnan(value):
        raise RowError("malformed", f"{name} must be a number from 0 up; it is {value!r:.80}")
    return float(value)


def _label(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowError("malformed", f"{name} must be text or a whole number; it is {value!r:.80}")
    return value


def to_judgement(row: Mapping[str, Any], axis: Axis, source: str) -> Comparison:
    """The Comparison in ``row``; its own ``source`` column goes before ``source``. Raises RowError."""
    if missing := [name for name in REQUIRED if row.get(name) is None]:
        raise RowError("missing_field", f"the row has no {', '.join(missing)}; every row needs {', '.join(REQUIRED)}")
    if row["choice"] not in ("a", "b"):
        raise RowError("unknown_choice", f"choice is {row['choice']!r:.80}; write a or b")
    chosen, rejected = ("a", "b") if row["choice"] == "a" else ("b", "a")
    return make_comparison(
        prompt=_prompt(row),
        chosen=_response(row, f"response_{chosen}"),
        rejected=_response(row, f"response_{rejected}"),
        axis=axis,
        source=_label(row, "source") or source,
        rating=_rating(row),
        is_safety=_boolean(row, "is_safety"),
        chosen_safe=_boolean(row, f"safe_{chosen}"),
        rejected_safe=_boolean(row, f"safe_{rejected}"),
        risk_category=_label(row, "risk_category"),
        annotator=_label(row, "annotator"),
        batch=_label(row, "batch"),
        chosen_policy=_label(row, f"policy_{chosen}"),
        rejected_policy=_label(row, f"policy_{rejected}"),
        chosen_temperature=_temperature(row, f"temperature_{chosen}"),
        rejected_temperature=_temperature(row, f"temperature_{rejected}"),
    )
