"""UltraFeedback, binarised: two model responses to a prompt, each with its score from GPT-4.

A row of HuggingFaceH4/ultrafeedback_binarized is ``{"prompt": str, "prompt_id": str, "chosen": [user, assistant], "rejected":
[...], "messages": [...], "score_chosen": float, "score_rejected": float}``;
argilla/ultrafeedback-binarized-preferences-cleaned calls the scores ``chosen-rating`` and ``rejected-rating`` and adds
``chosen-model`` and ``rejected-model``, which become the policies. Prompt and responses are read as ``trl`` reads them.

Equal scores are a tie, because then chance decided which response is called chosen. A score does not rate the difference, so
the rows are unrated. Left out: ``messages``, which repeats the chosen side, and ``source``, which says where the prompt is
from.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.importers.trl import SCORES, SIDES, pair
from preference_data.judgement import RowError
from preference_data.values import Row, label, lacks, number

NAME = "ultrafeedback"
FIELDS: dict[str, Cell] = {
    "prompt": "messages",
    "chosen": "messages",
    "rejected": "messages",
    "messages": "messages",
    "prompt_id": "text",
    "source": "text",
    "chosen-model": "text",
    "rejected-model": "text",
    **dict.fromkeys([name for names in SCORES for name in names], "json"),
}


def misfit(row: Row) -> str | None:
    if missing := lacks(row, SIDES):
        return missing
    if not any(all(name in row for name in names) for names in SCORES):
        return f"it has no {', nor '.join(' and '.join(names) for names in SCORES)}"
    return None


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    names = next((names for names in SCORES if any(name in row for name in names)), SCORES[0])
    chosen, rejected = (number(row, name) for name in names)
    if chosen == rejected:
        raise RowError("tie", f"{' and '.join(names)} are both {chosen:g}; leave the pair out")
    if chosen < rejected:
        raise RowError("malformed", f"{names[0]} ({chosen:g}) is less than {names[1]} ({rejected:g}); swap the two sides")
    policies = {f"{side}_policy": label(row, f"{side}-model") for side in SIDES}
    yield pair(row) | policies
