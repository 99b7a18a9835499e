"""Comparisons as rows of other formats: the native one, TRL's, and Anthropic's transcripts.

Native and TRL rows hold everything, and ``rlhf import`` makes the same comparisons from them again. Transcripts hold only
texts: comparisons that they cannot express (system messages, speaker marks inside a text, a second judgement of an item) are
left out and counted. Which response becomes ``a`` follows from the sort order of the two texts. So the order says nothing about
the choice, and the file can be given to annotators again. No format has a column for the axis: a file holds one axis.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from preference_data.comparison import Axis, Comparison
from preference_data.messages import assistant

MARKS = ("\n\nHuman:", "\n\nAssistant:")


class CannotExport(ValueError):
    """Comparisons that a format cannot hold."""


def native_row(comparison: Comparison) -> dict[str, Any]:
    """The native row of ``comparison``, without unknown fields."""
    chosen, rejected = ("a", "b") if comparison.chosen < comparison.rejected else ("b", "a")
    responses = {chosen: comparison.chosen, rejected: comparison.rejected}
    row = {
        "prompt": comparison.prompt,
        "response_a": responses["a"],
        "response_b": responses["b"],
        "choice": chosen,
        "rating": None if comparison.rating == "unrated" else comparison.rating,
        f"safe_{chosen}": comparison.chosen_safe,
        f"safe_{rejected}": comparison.rejected_safe,
        "is_safety": comparison.is_safety,
        "risk_category": comparison.risk_category,
        "annotator": comparison.annotator,
        "batch": comparison.batch,
        f"policy_{chosen}": comparison.chosen_policy,
        f"policy_{rejected}": comparison.rejected_policy,
        f"temperature_{chosen}": comparison.chosen_temperature,
        f"temperature_{rejected}": comparison.rejected_temperature,
        "source": comparison.source,
    }
    return {name: value for name, value in row.items() if value is not None}


def trl_row(comparison: Comparison) -> dict[str, Any]:
    """A row with prompt, chosen and rejected as messages, as TRL's trainers take it; all else in columns of its own.

    Every row has all columns, because tables of messages need them.
    """
    return {
        "prompt": comparison.prompt,
        "chosen": [assistant(comparison.chosen)],
        "rejected": [assistant(comparison.rejected)],
        "rating": comparison.rating,
        "chosen_safe": comparison.chosen_safe,
        "rejected_safe": comparison.rejected_safe,
        "is_safety": comparison.is_safety,
        "risk_category": comparison.risk_category,
        "annotator": comparison.annotator,
        "batch": comparison.batch,
        "chosen_policy": comparison.chosen_policy,
        "rejected_policy": comparison.rejected_policy,
        "chosen_temperature": comparison.chosen_temperature,
        "rejected_temperature": comparison.rejected_temperature,
        "source": comparison.source,
    }


def hh_row(comparison: Comparison) -> dict[str, Any]:
    """Two transcripts. Raises CannotExport for a system message, and for a text that holds the mark of a speaker."""
    if comparison.prompt[0]["role"] == "system":
        raise CannotExport("a transcript has no system message")
    texts = [message["content"].strip() for message in comparison.prompt]
    responses = {"chosen": comparison.chosen.strip(), "rejected": comparison.rejected.strip()}
    if any(mark in text for text in (*texts, *responses.values()) for mark in MARKS):
        raise CannotExport("a text holds the mark of a speaker")
    prompt = "".join(f"{mark} {text}" for mark, text in zip(itertools.cycle(MARKS), texts, strict=False))
    return {side: f"{prompt}{MARKS[1]} {text}" for side, text in responses.items()}


ROWS: dict[str, Callable[[Comparison], dict[str, Any]]] = {"native": native_row, "trl": trl_row, "anthropic_hh": hh_row}
"""By format, the function that makes a row."""

HELD_BACK = {"anthropic_hh": "ratings, safety labels, annotators, batches and policies"}
"""What a format's rows leave out of every comparison."""


def export(path: Path, comparisons: Iterable[Comparison], format: str, axis: Axis | None = None) -> tuple[int, dict[str, int]]:
    """Write ``comparisons`` (those of ``axis``, if it is given) as JSONL rows. The file is written whole or not at all.

    Returns how many were written, and by reason how many the format cannot hold. Raises CannotExport for comparisons of both
    axes, because no format says which is which, and where there is nothing to write.
    """
    left_out: Counter[str] = Counter()
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            of_axis = (comparison for comparison in comparisons if axis in (None, comparison.axis))
            rows = _rows(of_axis, format, left_out)
            written = sum(file.write(json.dumps(row, ensure_ascii=False) + "\n") > 0 for row in rows)
        if not written:
            reasons = ", ".join(f"{count} because {reason}" for reason, count in left_out.items()) or "there are none"
            raise CannotExport(f"export to {path}: no comparison can be written ({reasons}); see `rlhf data stats`")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return written, dict(left_out)


def _rows(comparisons: Iterable[Comparison], format: str, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    axes: set[Axis] = set()
    items: set[str] = set()
    for comparison in comparisons:
        axes.add(comparison.axis)
        if len(axes) > 1:
            raise CannotExport("there are comparisons of both axes; export each to its own file with --axis")
        if format == "anthropic_hh" and comparison.item_id in items:
            left_out["the pair is in the file already, and a transcript names no annotators"] += 1
            continue
        try:
            yield ROWS[format](comparison)
        except CannotExport as error:
            left_out[str(error)] += 1
            continue
        if format == "anthropic_hh":
            items.add(comparison.item_id)
