"""Simulated annotators: four people with noise and a mild bias, who fill in the annotation file that a human team would.

An annotator sees a prompt with two responses. The difference in utility between them (gold helpfulness, or gold safety) is
perceived with logistic noise, so that the choice is a Bradley-Terry draw; the strength of the perceived difference gives the
rating. Ratings are given on a curve: an annotator calls the clearest eighth of a batch significantly better, and so on, in
the shares of the paper's mid-run batches (Fig 25). Three of a hundred safety labels are wrong, and the first annotator likes
longer answers. These numbers are fixed, so that noise is no free knob; the agreement that follows is printed in the report.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from preference_data.comparison import RATINGS, Axis
from preference_data.messages import Messages
from sandbox.dialogues import Case
from sandbox.gold import Judgement, judge
from sandbox.world import World

RATING_SHARES = (0.125, 0.26, 0.31, 0.305)
NOISE = {"helpfulness": 0.11, "safety": 0.11}
LABEL_ERROR = 0.03
LENGTH_BIAS = 0.1
DOUBLE_SHARE = 0.15
_UTILITY_SD = {"helpfulness": 0.25, "safety": 0.35}
_WORDS_SD = 6.0


@dataclass(frozen=True, slots=True)
class Annotator:
    name: str
    length_bias: float = 0.0


ANNOTATORS = (Annotator("ada", LENGTH_BIAS), Annotator("ben"), Annotator("cleo"), Annotator("dev"))


@dataclass(frozen=True, slots=True)
class Item:
    """Two responses to one prompt, with where they come from."""

    case: Case
    response_a: str
    response_b: str
    policy_a: str
    policy_b: str
    temperature_a: float
    temperature_b: float


@dataclass(frozen=True, slots=True)
class _Look:
    """One annotator's look at one item: ``difference`` is what was perceived of utility(a) - utility(b)."""

    item: Item
    annotator: Annotator
    difference: float
    safe_a: bool
    safe_b: bool


def annotate(world: World, items: Sequence[Item], axis: Axis, batch: str, seed: int) -> list[dict[str, Any]]:
    """Rows of the native annotation file: each item judged by one annotator, some by two."""
    rng = random.Random(f"annotators:{axis}:{batch}:{seed}")
    looks = []
    for item in items:
        verdicts = judge(world, item.case, item.response_a), judge(world, item.case, item.response_b)
        for annotator in rng.sample(ANNOTATORS, 2 if rng.random() < DOUBLE_SHARE else 1):
            looks.append(_look(item, annotator, verdicts, axis, rng))
    strengths = sorted((abs(look.difference) for look in looks), reverse=True)
    cuts, total = [], 0.0
    for share in RATING_SHARES[:-1]:
        total += share
        cuts.append(strengths[min(len(strengths) - 1, round(total * len(strengths)))] if strengths else 0.0)
    return [_row(look, axis, batch, cuts) for look in looks]


def utility(judgement: Judgement, axis: Axis) -> float:
    """What annotators of an axis value, on [0, 1]."""
    return judgement.helpfulness if axis == "helpfulness" else (judgement.safety_level - 1) / 4


def _look(item: Item, annotator: Annotator, verdicts: tuple[Judgement, Judgement], axis: Axis, rng: random.Random) -> _Look:
    difference = utility(verdicts[0], axis) - utility(verdicts[1], axis)
    words = len(item.response_a.split()) - len(item.response_b.split())
    difference += annotator.length_bias * _UTILITY_SD[axis] * words / _WORDS_SD
    uniform = min(max(rng.random(), 1e-12), 1 - 1e-12)
    difference += NOISE[axis] * math.log(uniform / (1 - uniform))
    safe_a, safe_b = (verdict.is_safe != (rng.random() < LABEL_ERROR) for verdict in verdicts)
    return _Look(item, annotator, difference, safe_a, safe_b)


def _row(look: _Look, axis: Axis, batch: str, cuts: Sequence[float]) -> dict[str, Any]:
    item, prompt = look.item, look.item.case.prompt
    level = sum(abs(look.difference) < cut for cut in cuts)
    messages: Messages = prompt.messages
    return {
        "prompt": messages,
        "response_a": item.response_a,
        "response_b": item.response_b,
        "choice": "a" if look.difference >= 0 else "b",
        "rating": RATINGS[level],
        "safe_a": look.safe_a if axis == "safety" else None,
        "safe_b": look.safe_b if axis == "safety" else None,
        "is_safety": prompt.is_safety,
        "risk_category": prompt.risk_category,
        "annotator": look.annotator.name,
        "batch": batch,
        "policy_a": item.policy_a,
        "policy_b": item.policy_b,
        "temperature_a": item.temperature_a,
        "temperature_b": item.temperature_b,
    }
