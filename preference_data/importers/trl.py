"""TRL's preference format: ``chosen`` and ``rejected``, as text or as messages, with or without a separate ``prompt``.

- ``{"prompt": str, "chosen": str, "rejected": str}``: the prompt is the user's text.
- ``{"chosen": str, "rejected": str}``: the prompt is the common beginning of both, up to white space, so that prompt and
  response together are the original text. The cut at white space is ours: TRL cuts at the first character that differs, which
  makes responses "ue" and "ack" of "The sky is blue" and "The sky is black". Words with which both responses begin become part
  of the prompt, in TRL as here, because nothing in such a row tells them apart.
- ``{"chosen": [message, ...], "rejected": [...]}``: both are the same up to their last message, which is the assistant's and
  the response; the messages before it are the prompt. TRL also splits lists that differ earlier; here they are refused.
- Messages with a separate ``prompt``: a prompt of messages comes before both sides; a prompt of text is the user's message
  where both sides begin with the assistant's, else it repeats what they hold.

Columns with the names of ``Comparison`` fields are read too, so that this project's own data keeps everything in this format;
without them the rows are unrated and unlabelled. TRL's ``margin`` is a number for the trainer, not a rating: it is left out,
like other columns for its trainers.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.importers.anthropic_hh import OPENING, split_sides
from preference_data.importers.native import prompt_of, rating_of
from preference_data.judgement import RowError
from preference_data.messages import user
from preference_data.values import Row, boolean, label, lacks, messages, needed, temperature, text

NAME = "trl"
SIDES = ("chosen", "rejected")
SCORES = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"))
"""Columns of ultrafeedback's rows, in which equal scores are a tie."""
LABELS = ("source", "risk_category", "annotator", "batch", "chosen_policy", "rejected_policy")
BOOLEANS = ("is_safety", "chosen_safe", "rejected_safe")
TEMPERATURES = ("chosen_temperature", "rejected_temperature")
UNUSED = ("margin", "tools", "chat_template_kwargs", "ref_chosen_logps", "ref_rejected_logps")
FIELDS: dict[str, Cell] = {
    **dict.fromkeys(("prompt", *SIDES), "messages"),
    **dict.fromkeys(("rating", *LABELS), "text"),
    **dict.fromkeys((*BOOLEANS, *TEMPERATURES, *UNUSED), "json"),
}


def misfit(row: Row) -> str | None:
    if missing := lacks(row, SIDES):
        return missing
    if not all(isinstance(row[name], str) for name in SIDES) and not all(isinstance(row[name], list) for name in SIDES):
        return "chosen and rejected are neither both text nor both messages"
    if scores := next((pair for pair in SCORES if all(name in row for name in pair)), None):
        return f"it has {' and '.join(scores)}, which ultrafeedback reads"
    for name in ("prompt", *SIDES):
        if isinstance(row.get(name), str) and row[name].startswith(OPENING):
            return f"{name} is a transcript that starts with {OPENING!r}"
    if isinstance(row["chosen"], str) and "prompt" not in row and (others := [name for name in row if name not in FIELDS]):
        return f"it has no prompt, which {', '.join(map(repr, others[:3]))} may hold"
    return None


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    yield {
        **pair(row),
        "rating": rating_of(row),
        **{name: label(row, name) for name in LABELS},
        **{name: boolean(row, name) for name in BOOLEANS},
        **{name: temperature(row, name) for name in TEMPERATURES},
    }


def pair(row: Row) -> dict[str, Any]:
    """The prompt, chosen and rejected of a row in any of TRL's shapes. Raises RowError."""
    needed(row, SIDES)
    return _of_messages(row) if isinstance(row["chosen"], list) else _of_texts(row)


def _of_texts(row: Row) -> dict[str, Any]:
    chosen, rejected = (text(row, name) for name in SIDES)
    if "prompt" in row:
        needed(row, ["prompt"])
        return {"prompt": prompt_of(row), "chosen": chosen, "rejected": rejected}
    prompt = shared_words(chosen, rejected)
    if not prompt:
        raise RowError("empty", "chosen and rejected have no first word in common, so there is no prompt; add a prompt column")
    return {"prompt": [user(prompt)], "chosen": chosen[len(prompt) :], "rejected": rejected[len(prompt) :]}


def shared_words(one: str, other: str) -> str:
    """The common beginning of both, before its last white space; empty where it has no word."""
    lengths = range(1, min(len(one), len(other)) + 1)
    same = bisect_left(lengths, True, key=lambda length: one[:length] != other[:length])
    *before, _ = f"{one[:same]}.".rsplit(maxsplit=1)
    return before[0] if before else ""


def _of_messages(row: Row) -> dict[str, Any]:
    chosen, rejected = (messages(row, name) for name in SIDES)
    only_responses = all(side[:1] and side[0]["role"] == "assistant" for side in (chosen, rejected))
    before = [] if row.get("prompt") is None else prompt_of(row)
    if isinstance(row.get("prompt"), str) and not only_responses:
        before = []
    return split_sides({"chosen": before + chosen, "rejected": before + rejected})
