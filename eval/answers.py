"""The answers of a policy to evaluation prompts, with their scores by the reward models and by gold.

The report and the studies of policies are computed from these records.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class Answer:
    """A policy's answer to an evaluation prompt. Scores are raw logits; ``gold_*`` are on [0, 1].

    ``group``: helpful, adversarial or borderline.
    """

    prompt_id: str
    prompt: Messages = field(hash=False)  # lists have no hash, and ``prompt_id`` stands for it
    response: str
    group: str
    family: str
    num_tokens: int
    finished: bool
    helpfulness_score: float
    safety_score: float
    gold_helpfulness: float
    gold_safety: float
    is_safe: bool
    refused: bool


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


def of_group(answers: Sequence[AnyAnswer], group: str, family: str | None = None) -> list[AnyAnswer]:
    """The answers to prompts of a group, or to those of one family in it."""
    return [answer for answer in answers if answer.group == group and family in (None, answer.family)]
