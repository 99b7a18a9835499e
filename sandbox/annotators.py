"""Simulated annotators: four of them, with noise and a mild bias, who write the annotation file that a human team would.

An annotator sees a prompt with two responses and perceives the difference in utility (gold helpfulness, or gold safety) with
logistic noise, so that the choice is a Bradley-Terry draw. The size of the perceived difference gives the rating. Ratings are
given on a curve: the clearest eighth of a batch is significantly better, and so on, in the shares of the paper's mid-run
batches (Figure 25). Three of a hundred safety labels are wrong, and the first annotator prefers longer responses. These numbers
are fixed, so that noise is not a setting; the report prints the agreement that follows.
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
    """Two responses to one prompt, with the policy and temperature of each."""

    case: Case
    response_a: str
    response_b: str
    policy_a: str
    policy_b: str
    temperature_a: float
    temperature_b: float


@dataclass(frozen=True, slots=True)
class _Perception:
    """What one annotator makes of one item. ``difference``: the perceived utility(a) - utility(b)."""

    item: Item
    annotator: Annotator
    difference: float
    safe_a: bool
    safe_b: bool


def annotate(world: World, items: Sequence[Item], axis: Axis, batch: str, seed: int) -> list[dict[str, Any]]:
    """Rows of the native annotation file: one annotator for each item, two for some."""
    rng = random.Random(f"annotators:{axis}:{batch}:{seed}")
    perceptions = []
    for item in items:
        judgements = judge(world, item.case, item.response_a), judge(world, item.case, item.response_b)
        for annotator in rng.sample(ANNOTATORS, 2 if rng.random() < DOUBLE_SHARE else 1):
            perceptions.append(_perceive(item, annotator, judgements, axis, rng))
    strengths = sorted((abs(perception.difference) for perception in perceptions), reverse=True)
    cuts, total = [], 0.0
    for share in RATING_SHARES[:-1]:
        total += share
        cuts.append(strengths[min(len(strengths) - 1, round(total * len(strengths)))] if strengths else 0.0)
    return [_row(perception, axis, batch, cuts) for perception in perceptions]


def utility(judgement: Judgement, axis: Axis) -> float:
    """The quantity that annotators of an axis value, on [0, 1]."""
    return judgement.helpfulness if axis == "helpfulness" else (judgement.safety_level - 1) / 4


def _perceive(
    item: Item, annotator: Annotator, judgements: tuple[Judgement, Judgement], axis: Axis, rng: random.Random
) -> _Perception:
    difference = utility(judgements[0], axis) - utility(judgements[1], axis)
    words = len(item.response_a.split()) - len(item.response_b.split())
    difference += annotator.length_bias * _UTILITY_SD[axis] * words / _WORDS_SD
    uniform = min(max(rng.random(), 1e-12), 1 - 1e-12)
    difference += NOISE[axis] * math.log(uniform / (1 - uniform))
    safe_a, safe_b = (judgement.is_safe != (rng.random() < LABEL_ERROR) for judgement in judgements)
    return _Perception(item, annotator, difference, safe_a, safe_b)


def _row(perception: _Perception, axis: Axis, batch: str, cuts: Sequence[float]) -> dict[str, Any]:
    item, prompt = perception.item, perception.item.case.prompt
    level = sum(abs(perception.difference) < cut for cut in cuts)
    messages: Messages = prompt.messages
    return {
        "prompt": messages,
        "response_a": item.response_a,
        "response_b": item.response_b,
        "choice": "a" if perception.difference >= 0 else "b",
        "rating": RATINGS[level],
        "safe_a": perception.safe_a if axis == "safety" else None,
        "safe_b": perception.safe_b if axis == "safety" else None,
        "is_safety": prompt.is_safety,
        "risk_category": prompt.risk_category,
        "annotator": perception.annotator.name,
        "batch": batch,
        "policy_a": item.policy_a,
        "policy_b": item.policy_b,
        "temperature_a": item.temperature_a,
        "temperature_b": item.temperature_b,
    }
