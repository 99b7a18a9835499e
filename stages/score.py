"""``rlhf score``: a file of prompts and responses, scored by one or several reward models.

Rows are ``{"prompt": str | messages, "response": str}`` or ``{"messages": [...]}`` in JSONL. The file is read and written in
chunks, so it may be larger than memory; rows that cannot be scored go to a rejects file with their line and reason. With a
helpfulness and a safety model the combined reward is written too, reading ``is_safety`` from the row
(false where it is missing).
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from preference_data.messages import Messages, MessagesError, assistant, check_dialogue, user
from reward_model.combined_reward import combined_score
from reward_model.scoring import RewardScorer
from stages.progress import Progress

CHUNK = 512


@dataclass(frozen=True, slots=True)
class Scored:
    """Counts of one run, and where the rows went; ``rejects_file`` None: every row was scored."""

    read: int
    scored: int
    rejected: int
    output: Path
    rejects_file: Path | None


def score_file(
    path: Path, output: Path, scorers: Mapping[str, RewardScorer], axes: Mapping[str, str], progress: Progress
) -> Scored:
    """Score ``path`` with ``scorers`` (reference -> scorer) into ``output``; ``axes``: reference -> helpfulness or safety.

    Each row keeps its fields and gets ``scores``: per model the raw ``logit`` and its ``sigmoid``, and ``combined`` where both
    axes are there. Raises ValueError for an empty file.
    """
    rejects = output.with_suffix(".rejects.jsonl")
    read = scored = rejected = 0
    with (
        path.open(encoding="utf-8") as file,
        output.open("w", encoding="utf-8") as good,
        rejects.open("w", encoding="utf-8") as bad,
        progress.meter(None, "scoring", "row") as advance,
    ):
        for chunk in _chunks((number, line) for number, line in enumerate(file, start=1) if line.strip()):
            rows: list[dict[str, Any]] = []
            dialogues: list[Messages] = []
            for number, line in chunk:
                read += 1
                try:
                    row = json.loads(line)
                    dialogues.append(dialogue_of(row))
                    rows.append(row)
                except (json.JSONDecodeError, MessagesError) as error:
                    rejected += 1
                    bad.write(json.dumps({"line": number, "reason": str(error), "row": line.rstrip("\n")}) + "\n")
            for row, scores in zip(rows, _scores(rows, dialogues, scorers, axes), strict=True):
                good.write(json.dumps({**row, "scores": scores}, ensure_ascii=False) + "\n")
            scored += len(rows)
            advance(None, len(chunk))
    if not read:
        output.unlink()
        rejects.unlink()
        raise ValueError(f"{path} is empty; give a JSONL file with a prompt and a response, or messages, on each line")
    if not rejected:
        rejects.unlink()
    return Scored(read, scored, rejected, output, rejects if rejected else None)


def dialogue_of(row: Any) -> Messages:
    """The dialogue in a row. Raises MessagesError that says which fields are needed."""
    if not isinstance(row, dict):
        raise MessagesError("malformed", f"a row must be a JSON object, this one is {type(row).__name__}")
    if "messages" in row:
        dialogue = row["messages"]
    elif "prompt" in row and isinstance(row.get("response"), str):
        prompt = [user(row["prompt"])] if isinstance(row["prompt"], str) else row["prompt"]
        dialogue = [*prompt, assistant(row["response"])]
    else:
        raise MessagesError(
            "missing_field", f"a row needs prompt and response, or messages; this one has {', '.join(sorted(row)) or 'nothing'}"
        )
    check_dialogue(dialogue)
    return dialogue


def _scores(
    rows: Sequence[dict[str, Any]], dialogues: Sequence[Messages], scorers: Mapping[str, RewardScorer], axes: Mapping[str, str]
) -> list[dict[str, Any]]:
    if not rows:
        return []
    logits = {name: scorer.score(dialogues) for name, scorer in scorers.items()}
    found: list[dict[str, Any]] = [
        {name: {"logit": value[i].item(), "sigmoid": torch.sigmoid(value[i]).item()} for name, value in logits.items()}
        for i in range(len(rows))
    ]
    by_axis = {axes[name]: name for name in scorers if name in axes}
    if {"helpfulness", "safety"} <= set(by_axis):
        is_safety = torch.tensor([bool(row.get("is_safety", False)) for row in rows])
        combined = combined_score(logits[by_axis["helpfulness"]], logits[by_axis["safety"]], is_safety)
        for scores, value in zip(found, combined.tolist(), strict=True):
            scores["combined"] = {"logit": value, "sigmoid": torch.sigmoid(torch.tensor(value)).item()}
    return found


def _chunks(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    while chunk := list(itertools.islice(lines, CHUNK)):
        yield chunk
