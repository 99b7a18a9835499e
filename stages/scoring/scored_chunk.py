"""Some rows of a file, scored: each as a line of output, or as a line of rejects.

A dialogue's line is its row with ``scores``: of each model ``{"logit": raw, "sigmoid": of it}``, and as ``combined`` the
combined reward where there is a model of each axis, reading ``is_safety`` from the row (false where it is missing). A pair's
line has them by side, ``scores[model][side]``, and the responses under the names of the sides, where the row does not hold
them so. A line of rejects is ``{"line", "reason", "row"}``, the row as its text.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from eval.score_accuracy import Verdict
from preference_data.comparison import Axis
from preference_data.files.rows import RawRow
from preference_data.messages import Messages
from preference_data.rows_to_score import ALONE, Scorable
from reward_model.combined_reward import combined_score
from reward_model.own_template import TemplateRefusal
from reward_model.scoring import Scorer, TooLong

COMBINED = "combined"
Read = Callable[[RawRow], Iterable[Scorable | str]]
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str)
_Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """Lines in the order of the rows, and each model's verdict on each pair among them that was judged on its axis."""

    scored: list[bytes]
    rejected: list[bytes]
    verdicts: list[Verdict]


def score_chunk(
    rows: Sequence[RawRow], read: Read, scorers: Mapping[str, Scorer], axes: Mapping[str, str], safety_threshold: float
) -> ScoredChunk:
    """Score what ``read`` finds in each row; what cannot be scored is rejected. A dialogue that occurs twice is scored once.

    ``axes``: what the scores of each model stand for, ``""`` where that is not known. ``safety_threshold``: of the combined
    reward.
    """
    contents = [(row, content) for row in rows for content in read(row)]
    scorables = [content for _, content in contents if isinstance(content, Scorable)]
    dialogues = {_key(dialogue): dialogue for scorable in scorables for dialogue in scorable.dialogues.values()}
    logits, refusals = _logits(dialogues, scorers)
    chunk, on = ScoredChunk([], [], []), judged_on(axes)
    for row, content in contents:
        if isinstance(content, Scorable):
            content = _refusal(content, refusals) or content
        if isinstance(content, Scorable):
            scores = _scores(content, logits, axes, safety_threshold)
            try:
                chunk.scored.append(_line({**content.fields, "scores": _shown(scores)}))
            except (ValueError, RecursionError) as error:
                content = f"the row cannot be written as JSON ({error})"
            else:
                chunk.verdicts.extend(_verdicts(content, scores, on))
        if isinstance(content, str):
            chunk.rejected.append(_line({"line": row.line, "reason": content, "row": row.verbatim}, "backslashreplace"))
    return chunk


def judged_on(axes: Mapping[str, str]) -> dict[str, Axis]:
    """The axis whose choices a model is held against: its own, helpfulness where it has none; COMBINED, the first model's."""
    on: dict[str, Axis] = {name: "safety" if axis == "safety" else "helpfulness" for name, axis in axes.items()}
    return on | {COMBINED: next(iter(on.values()))}


def _key(dialogue: Messages) -> _Key:
    return tuple((message["role"], message["content"]) for message in dialogue)


def _logits(
    dialogues: Mapping[_Key, Messages], scorers: Mapping[str, Scorer]
) -> tuple[dict[str, dict[_Key, float]], dict[_Key, str]]:
    """Each model's logits of the dialogues that all of them can take, and why the others are left out."""
    refusals: dict[_Key, str] = {}
    while kept := [key for key in dialogues if key not in refusals]:
        texts = [dialogues[key] for key in kept]
        try:
            logits = {name: scorer.score(texts).tolist() for name, scorer in scorers.items()}
            return {name: dict(zip(kept, values, strict=True)) for name, values in logits.items()}, refusals
        except TooLong as error:
            for position, length in error.lengths.items():
                refusals[kept[position]] = f"the dialogue has {length} tokens, and a model takes {error.max_length} at most"
        except TemplateRefusal as error:
            refusals.update((kept[position], reason) for position, reason in error.reasons.items())
    return {}, refusals


def _refusal(scorable: Scorable, refusals: Mapping[_Key, str]) -> str | None:
    return next((refusals[key] for key in map(_key, scorable.dialogues.values()) if key in refusals), None)


def _scores(
    scorable: Scorable, logits: Mapping[str, Mapping[_Key, float]], axes: Mapping[str, str], safety_threshold: float
) -> dict[str, dict[str, float]]:
    """The raw logits by model and side; of two models of one axis, neither is the one to combine."""
    keys = {side: _key(dialogue) for side, dialogue in scorable.dialogues.items()}
    scores = {name: {side: by_key[key] for side, key in keys.items()} for name, by_key in logits.items()}
    if sorted(axes.values()) == ["helpfulness", "safety"]:
        by_axis = {axis: torch.tensor(list(scores[name].values())) for name, axis in axes.items()}
        is_safety = torch.full((len(keys),), scorable.is_safety)
        combined = combined_score(by_axis["helpfulness"], by_axis["safety"], is_safety, safety_threshold)
        scores[COMBINED] = dict(zip(keys, combined.tolist(), strict=True))
    return scores


def _shown(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    by_side = {name: {side: _with_sigmoid(logit) for side, logit in sides.items()} for name, sides in scores.items()}
    return {name: sides.get(ALONE, sides) for name, sides in by_side.items()}


def _with_sigmoid(logit: float) -> dict[str, float]:
    small = math.exp(-abs(logit))  # which cannot overflow
    return {"logit": logit, "sigmoid": (1 if logit >= 0 else small) / (1 + small)}


def _verdicts(scorable: Scorable, scores: Mapping[str, Mapping[str, float]], on: Mapping[str, Axis]) -> Iterator[Verdict]:
    for name, by_side in scores.items():
        if (chosen := scorable.chosen.get(on[name])) is not None:
            (rejected,) = by_side.keys() - {chosen}
            reward_margin = by_side[chosen] - by_side[rejected]
            yield name, scorable.rating, (reward_margin > 0) + (reward_margin >= 0)


def _line(row: Mapping[str, Any], errors: str = "strict") -> bytes:
    return (_ENCODER.encode(row) + "\n").encode("utf-8", errors)
