"""The project's own annotation format, one judgement a row; docs/annotation-format.md describes it for users.

Required: ``prompt`` (text, or messages), ``response_a``, ``response_b``, ``choice`` (``a`` or ``b``). Optional, where
absent, null and empty mean the same: ``rating``, ``safe_a``, ``safe_b``, ``safety_bin`` (one of the three in place of the two
labels), ``is_safety``, ``risk_category``, ``annotator``, ``batch``, ``policy_a``, ``policy_b``, ``temperature_a``,
``temperature_b``, ``source``, and ``item_id`` of a pair that was handed out. The axis is the import's, not the row's.
"""

import difflib
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import RATINGS, SAFETY_BINS, Axis, Rating
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import Messages, user
from preference_data.values import Row, boolean, label, messages_in, needed, shown, temperature, text

NAME = "native"
REQUIRED = ("prompt", "response_a", "response_b", "choice")
FIELDS: dict[str, Cell] = {
    "prompt": "messages",
    "response_a": "text",
    "response_b": "text",
    "choice": "text",
    "rating": "text",
    "safe_a": "json",
    "safe_b": "json",
    "safety_bin": "text",
    "is_safety": "json",
    "risk_category": "text",
    "annotator": "text",
    "batch": "text",
    "policy_a": "text",
    "policy_b": "text",
    "temperature_a": "json",
    "temperature_b": "json",
    "source": "text",
    "item_id": "text",
}


def misfit(row: Row) -> str | None:
    """A row that lacks one or two fields still counts as native, so that the error can name them."""
    missing = [name for name in REQUIRED if name not in row]
    return f"it has no {', '.join(missing)}" if len(missing) > 2 else None


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    needed(row, [name for name in REQUIRED if name != "choice" or name not in row])
    choice = row["choice"]
    if choice is None or choice == "":
        raise RowError("not_judged", "choice is empty; write a or b where the pair was judged")
    if choice == "tie":
        raise RowError("tie", "neither response was preferred; leave the row out")
    if choice not in ("a", "b"):
        raise RowError("unknown_choice", f"choice is {shown(choice)}; write a or b, or tie")
    chosen, rejected = ("a", "b") if choice == "a" else ("b", "a")
    chosen_safe, rejected_safe = safety_labels(row, f"safe_{chosen}", f"safe_{rejected}")
    yield {
        "prompt": prompt_of(row),
        "chosen": text(row, f"response_{chosen}"),
        "rejected": text(row, f"response_{rejected}"),
        "source": label(row, "source"),
        "rating": rating_of(row),
        "is_safety": boolean(row, "is_safety"),
        "chosen_safe": chosen_safe,
        "rejected_safe": rejected_safe,
        "risk_category": label(row, "risk_category"),
        "annotator": label(row, "annotator"),
        "batch": label(row, "batch"),
        "chosen_policy": label(row, f"policy_{chosen}"),
        "rejected_policy": label(row, f"policy_{rejected}"),
        "chosen_temperature": temperature(row, f"temperature_{chosen}"),
        "rejected_temperature": temperature(row, f"temperature_{rejected}"),
        "item_id": label(row, "item_id"),
    }


def prompt_of(row: Row) -> Messages:
    """The prompt: a user's text, or messages."""
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return [user(prompt)]
    if isinstance(prompt, list):
        return messages_in(prompt, "prompt")
    raise RowError("malformed", f"prompt must be text or a list of messages; it is {shown(prompt)}")


def rating_of(row: Row) -> Rating:
    rating = row.get("rating")
    if rating in (None, "", "unrated"):
        return "unrated"
    if rating not in RATINGS:
        near = difflib.get_close_matches(str(rating)[:40], RATINGS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RowError(
            "unknown_rating", f"rating is {shown(rating)}; it must be one of {', '.join(RATINGS)}, or left out{hint}"
        )
    return rating


def safety_labels(row: Row, chosen: str, rejected: str) -> tuple[bool | None, bool | None]:
    """The labels in the fields ``chosen`` and ``rejected``, or those of the safety bin (paper 3.2.1)."""
    labels = boolean(row, chosen), boolean(row, rejected)
    bin_ = row.get("safety_bin")
    if bin_ is None or bin_ == "":
        return labels
    if not isinstance(bin_, str) or bin_ not in SAFETY_BINS:
        raise RowError("malformed", f"safety_bin is {shown(bin_)}; it must be one of {', '.join(SAFETY_BINS)}, or left out")
    if any(label is not None and label != of_bin for label, of_bin in zip(labels, SAFETY_BINS[bin_], strict=True)):
        raise RowError("malformed", f"safety_bin is {bin_} and the labels differ from it; keep one of them, or correct it")
    return SAFETY_BINS[bin_]
