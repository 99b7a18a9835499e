"""Anthropic's helpful and harmless comparisons: two transcripts a row, the same up to the last assistant text.

A row is ``{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": ...}`` (Bai et al. 2022, the paper's Table 6).
What both transcripts share is the prompt. There are no ratings and no safety labels. White space around each message is
taken off, as the speaker marks bring some along.
"""

import re
from collections.abc import Mapping
from typing import Any

from preference_data.comparison import Axis, Comparison
from preference_data.judgement import RowError, make_comparison
from preference_data.messages import Message, Messages, assistant, user

NAME = "anthropic_hh"
FIELDS: tuple[str, ...] = ("chosen", "rejected")
REQUIRED = FIELDS

_OPENING = "\n\nHuman:"
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def recognises(row: Mapping[str, Any]) -> bool:
    """Whether ``row`` looks like two transcripts."""
    return all(name in row for name in FIELDS) and any(
        isinstance(row[name], str) and row[name].startswith(_OPENING) for name in FIELDS
    )


def from_cells(cells: Mapping[str, str]) -> dict[str, Any]:
    """A row from the cells of a CSV record: they are text already."""
    return dict(cells)


def _transcript(name: str, row: Mapping[str, Any]) -> tuple[Messages, str]:
    """(prompt, last assistant text) of one transcript."""
    text = row.get(name)
    if text is None:
        raise RowError("missing_field", f"the row has no {name!r}; every row needs {' and '.join(map(repr, FIELDS))}")
    if not isinstance(text, str) or not text.startswith(_OPENING):
        raise RowError("malformed", f"{name} must be a transcript that starts with {_OPENING!r}; it is {text!r:.80}")
    pieces = _SPEAKER.split(text)[1:]
    messages: list[Message] = [
        user(content.strip()) if speaker == "Human" else assistant(content.strip())
        for speaker, content in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if messages[-1]["role"] != "assistant":
        raise RowError("malformed", f"{name} ends with a Human message; the last message must be the Assistant's")
    return messages[:-1], messages[-1]["content"]


def to_judgement(row: Mapping[str, Any], axis: Axis, source: str) -> Comparison:
    """The Comparison in ``row``. Raises RowError."""
    prompt, chosen = _transcript("chosen", row)
    other_prompt, rejected = _transcript("rejected", row)
    if prompt != other_prompt:
        raise RowError(
            "malformed",
            f"chosen ({len(prompt)} messages before its last answer) and rejected ({len(other_prompt)}) differ before their "
            "last Assistant message; only the last one may differ",
        )
    return make_comparison(prompt=prompt, chosen=chosen, rejected=rejected, axis=axis, source=source)
