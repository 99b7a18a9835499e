"""NVIDIA's HelpSteer2 and HelpSteer3 preferences: two responses a row and how much better one is, from -3 to 3.

HelpSteer2: ``{"prompt": str, "response_1": str, "response_2": str, "preference_strength": -3..3, ...}``; a prompt of several
turns is one text with ``<extra_id_1>Assistant`` and ``<extra_id_1>User`` lines between the messages. HelpSteer3:
``{"context": messages, "response1": str, "response2": str, "overall_preference": -3..3, ...}`` (Wang et al. 2024, 2025).

A negative strength means that response 1 is better. 3 becomes significantly_better, 2 better, 1 slightly_better, and 0 is a
tie. The individual annotators of a HelpSteer3 row are left out: they have no names, and the authors publish the overall
preference. Statements, feedback, domain, language and split are not read.
"""

import re
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis, Rating
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import Messages, assistant, user
from preference_data.values import Row, lacks, messages, text, whole_number

NAME = "helpsteer"
SHAPES = {
    "preference_strength": ("prompt", "response_1", "response_2"),
    "overall_preference": ("context", "response1", "response2"),
}
"""By the field of the strength: the fields of the prompt, of response 1 and of response 2."""
FIELDS: dict[str, Cell] = {
    "prompt": "text",
    "response_1": "text",
    "response_2": "text",
    "preference_strength": "json",
    "split": "text",
    "preference_statement": "text",
    "preference_elaboration": "text",
    "three_most_similar_preferences": "json",
    "all_preferences_unprocessed": "json",
    "context": "messages",
    "response1": "text",
    "response2": "text",
    "overall_preference": "json",
    "individual_preference": "json",
    "domain": "text",
    "language": "text",
}
STRENGTHS: dict[int, Rating] = {1: "slightly_better", 2: "better", 3: "significantly_better"}
MARK = "<extra_id_1>"
_SPEAKER = re.compile(rf"\n{MARK}(User|Assistant)\n")


def misfit(row: Row) -> str | None:
    if {"prompt", "response", "helpfulness"} <= row.keys():
        return "it holds single responses with scores (response, helpfulness), not pairs"
    strength = _strength_field(row)
    if strength is None:
        return f"it has neither {' nor '.join(SHAPES)}"
    return lacks(row, SHAPES[strength])


def _strength_field(row: Row) -> str | None:
    return next((name for name in SHAPES if name in row), None)


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    field = _strength_field(row)
    if field is None:
        raise RowError("missing_field", f"the row has neither {' nor '.join(SHAPES)}; every row needs one")
    prompt, one, other = SHAPES[field]
    strength = whole_number(row, field, range(-3, 4))
    if strength == 0:
        raise RowError("tie", f"{field} is 0: neither response was preferred; leave the row out")
    chosen, rejected = (one, other) if strength < 0 else (other, one)
    yield {
        "prompt": messages(row, prompt) if prompt == "context" else prompt_messages(text(row, prompt)),
        "chosen": text(row, chosen),
        "rejected": text(row, rejected),
        "rating": STRENGTHS[abs(strength)],
    }


def prompt_messages(prompt: str) -> Messages:
    """The messages that HelpSteer2 writes as one text. Raises RowError for a mark that is not between two messages."""
    first, *others = _SPEAKER.split(prompt)
    if any(MARK in content for content in (first, *others[1::2])):
        raise RowError("malformed", f"prompt holds {MARK} where no User or Assistant line begins; fix the marks")
    turns = zip(others[::2], others[1::2], strict=True)
    return [user(first), *(user(content) if speaker == "User" else assistant(content) for speaker, content in turns)]
