"""Some rows of a file, scored: each as a line of output, or as a line of rejects.

A dialogue's line is its row with ``scores``: of each model ``{"logit": raw, "sigmoid": of it}``, and as ``combined`` the
combined reward where there is a model of each axis, reading ``is_safety`` from the row (false where it is missing). A pair's
line has them by side, ``scores[model][side]``, and the responses under the names of the sides, where the row does not hold
them so. A line of rejects is ``{"line", "reason", "row"}``, the row as its text.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from preference_data.comparison import Axis
from preference_data.files.rows import RawRow
from preference_data.messages import Messages
from reward_model.combined_reward import combined_score
from reward_model.own_template import TemplateRefusal
from reward_model.scoring import Scorer, TooLong
from stages.scoring.rows_to_score import ALONE, Scorable
from stages.scoring.score_accuracy import Verdict

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


def score_chunk(rows: Sequence[RawRow], read: Read, scorers: Mapping[str, Scorer], axes: Mapping[str, str]) -> ScoredChunk:
    """Score what ``read`` finds in each row; what cannot be scored is rejected. A dialogue that occurs twice is scored once."""
    found = [(row, each) for row in rows for each in read(row)]
    dialogues = {_key(each): each for _, one in found if isinstance(one, Scorable) for each in one.dialogues.values()}
    logits, refused = _logits(dialogues, scorers)
    whole = [(row, _refused(one, refused) or one) for row, one in found]
    scored = iter(_scores([one for _, one in whole if isinstance(one, Scorable)], logits, axes))
    chunk, on = ScoredChunk([], [], []), judged_on(axes)
    for row, one in whole:
        if isinstance(one, Scorable):
            logits_by_side = next(scored)
            try:
                chunk.scored.append(_line({**one.fields, "scores": _shown(logits_by_side)}))
            except (ValueError, RecursionError) as error:
                one = f"the row cannot be written as JSON ({error})"
            else:
                chunk.verdicts.extend(_verdicts(one, logits_by_side, on))
        if isinstance(one, str):
            chunk.rejected.append(_line({"line": row.line, "reason": one, "row": row.verbatim}, "backslashreplace"))
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
    reasons: dict[_Key, str] = {}
    while kept := [key for key in dialogues if key not in reasons]:
        texts = [dialogues[key] for key in kept]
        try:
            return {name: dict(zip(kept, each.score(texts).tolist(), strict=True)) for name, each in scorers.items()}, reasons
        except TooLong as error:
            for position, length in error.lengths.items():
                reasons[kept[position]] = f"the dialogue has {length} tokens, and a model takes {error.max_length} at most"
        except TemplateRefusal as error:
            reasons.update((kept[position], reason) for position, reason in error.reasons.items())
    return {}, reasons


def _refused(one: Scorable | str, reasons: Mapping[_Key, str]) -> str | None:
    if isinstance(one, str) or not reasons:
        return None
    return next((reasons[key] for key in map(_key, one.dialogues.values()) if key in reasons), None)


def _scores(
    scorables: Sequence[Scorable], logits: Mapping[str, Mapping[_Key, float]], axes: Mapping[str, str]
) -> list[dict[str, dict[str, float]]]:
    """The raw logits of each scorable, by model and side."""
    keys = [_key(dialogue) for each in scorables for dialogue in each.dialogues.values()]
    flat = {name: [found[key] for key in keys] for name, found in logits.items()}
    by_axis = {axis: name for name, axis in axes.items()}
    if keys and sorted(axes.values()) == ["helpfulness", "safety"]:  # of two models of one axis, neither is the one to combine
        helpfulness, safety = (torch.tensor(flat[by_axis[axis]]) for axis in ("helpfulness", "safety"))
        is_safety = torch.tensor([each.is_safety for each in scorables for _ in each.dialogues])
        flat[COMBINED] = combined_score(helpfulness, safety, is_safety).tolist()
    values = {name: iter(each) for name, each in flat.items()}
    return [
        {
            name: dict(zip(each.dialogues, itertools.islice(found, len(each.dialogues)), strict=True))
            for name, found in values.items()
        }
        for each in scorables
    ]


def _shown(logits: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    by_side = {name: {side: _with_sigmoid(logit) for side, logit in sides.items()} for name, sides in logits.items()}
    return {name: sides.get(ALONE, sides) for name, sides in by_side.items()}


def _with_sigmoid(logit: float) -> dict[str, float]:
    small = math.exp(-abs(logit))  # which cannot overflow
    return {"logit": logit, "sigmoid": (1 if logit >= 0 else small) / (1 + small)}


def _verdicts(one: Scorable, logits: Mapping[str, Mapping[str, float]], on: Mapping[str, Axis]) -> Iterator[Verdict]:
    for name, by_side in logits.items():
        if (chosen := one.chosen.get(on[name])) is not None:
            (rejected,) = by_side.keys() - {chosen}
            difference = by_side[chosen] - by_side[rejected]
            yield name, one.rating, (difference > 0) + (difference >= 0)


def _line(row: Mapping[str, Any], errors: str = "strict") -> bytes:
    return (_ENCODER.encode(row) + "\n").encode("utf-8", errors)
