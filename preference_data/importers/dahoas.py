"""Dahoas' pairs: a prompt and two responses, all text, where the prompt may be a transcript.

- Dahoas/synthetic-instruct-gptj-pairwise (the paper's Table 6) is ``{"prompt": str, "chosen": str, "rejected": str}`` in
  plain text, which ``trl`` recognises and reads.
- Dahoas/rm-static and full-hh-rlhf hold Anthropic's comparisons as ``{"prompt": "\\n\\nHuman: ...\\n\\nAssistant:",
  "response": str, "chosen": str, "rejected": str}``. The prompt becomes messages; white space around each message and
  response is removed, so that these are the same comparisons as ``anthropic_hh`` makes from the transcripts.

There are no ratings and no safety labels. ``response`` is a text to fine-tune on and is not read.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.importers.anthropic_hh import OPENING, transcript
from preference_data.messages import Messages, assistant, user
from preference_data.values import Row, lacks, text

NAME = "dahoas"
FIELDS: dict[str, Cell] = {"prompt": "text", "chosen": "text", "rejected": "text", "response": "text"}


def misfit(row: Row) -> str | None:
    if missing := lacks(row, ("prompt", "chosen", "rejected")):
        return missing
    if not isinstance(row["prompt"], str) or not row["prompt"].startswith(OPENING):
        return f"prompt does not start with {OPENING!r}"
    return None


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any]]:
    prompt, chosen, rejected = (text(row, name) for name in ("prompt", "chosen", "rejected"))
    if prompt.startswith(OPENING):
        yield {"prompt": _prompt(prompt), "chosen": chosen.strip(), "rejected": rejected.strip()}
    else:
        yield {"prompt": [user(prompt)], "chosen": chosen, "rejected": rejected}


def _prompt(content: str) -> Messages:
    """The messages of a transcript, without the empty last one of the Assistant."""
    messages = transcript("prompt", content)
    return messages[:-1] if messages[-1] == assistant("") else messages
