"""Anthropic's helpful and harmless comparisons: two transcripts a row, the same up to the last assistant text.

A row is ``{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": ...}`` (Bai et al. 2022, the paper's Table 6).
What both transcripts share is the prompt. There are no ratings and no safety labels. White space around each message is
removed, because the speaker marks add some.
"""

import re
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.judgement import RowError
from preference_data.messages import Message, Messages, assistant, user
from preference_data.values import Row, lacks, text

NAME = "anthropic_hh"
FIELDS: dict[str, Cell] = {"chosen": "text", "rejected": "text"}
OPENING = "\n\nHuman:"
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def misfit(row: Row) -> str | None:
    if missing := lacks(row, tuple(FIELDS)):
        return missing
    starts = [isinstance(row[name], str) and row[name].startswith(OPENING) for name in FIELDS]
    return None if any(starts) else f"neither text starts with {OPENING!r}"


def transcript(name: str, content: str) -> Messages:
    """The messages of a transcript. Raises RowError."""
    if not content.startswith(OPENING):
        raise RowError("malformed", f"{name} must be a transcript that starts with {OPENING!r}; it is {content!r:.80}")
    pieces = _SPEAKER.split(content)[1:]
    messages: list[Message] = [
        user(words.strip()) if speaker == "Human" else assistant(words.strip())
        for speaker, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    return messages


def split_sides(sides: dict[str, Messages]) -> dict[str, Any]:
    """The messages before the last one, which must be the same on both sides, and the text of each last message."""
    for name, side in sides.items():
        if not side:
            raise RowError("empty", f"{name} holds no messages; it must end with the assistant's")
        if side[-1]["role"] != "assistant":
            raise RowError("malformed", f"{name} ends with a {side[-1]['role']} message; the last one must be the assistant's")
    (*prompt, chosen), (*other, rejected) = sides.values()
    if prompt != other:
        raise RowError(
            "different_prompts",
            f"chosen ({len(prompt)} messages before its last) and rejected ({len(other)}) differ before their last message; "
            "only the last one may differ",
        )
    return {"prompt": prompt, "chosen": chosen["content"], "rejected": rejected["content"]}


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    yield split_sides({name: transcript(name, text(row, name)) for name in FIELDS})
