"""Sampled responses as records: how they are scored, and which of a prompt's is selected (paper 3.2.3).

A response is eligible when it ended with EOS, has text, and holds no tag of the chat format: a target of training must be
something that a policy may say. So truncated and empty responses are scored and recorded, and never selected. The best eligible
response of a prompt is selected, and the first by position of equal scores. Beside the selected responses stand their matched
random control, of the same prompts: the first eligible response, which is a random one, because positions are exchangeable.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from policy.generation import Response
from preference_data.comparison import AXES
from preference_data.messages import Messages, tags_in
from preference_data.prompt import Prompt
from reward_model.combined_reward import CombinedReward
from reward_model.responses import filled, score_responses
from reward_model.selection import best_of_k

Unfit = Literal["unfinished", "empty", "chat_tags"]
_ENOUGH_TEXTS = 8  # so many different texts with one score are no accident


class ScoresAllEqual(ValueError):
    """A reward model that gives all responses one score."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled response. ``position`` is its place among the prompt's k; scores are raw logits; ``num_tokens`` counts EOS.

    A response without text has the lowest scores of its batch.
    """

    prompt_id: str
    prompt: Messages
    response: str
    position: int
    finished: bool
    num_tokens: int
    is_safety: bool
    family: str
    policy: str
    temperature: float
    helpfulness_score: float
    safety_score: float
    combined_score: float
    selected: bool

    @property
    def unfit(self) -> "Unfit | None":
        """Why it must not become a training target; None when it may."""
        return unfit(_response(self))


def score_and_select(samples: Sequence[Sample], reward: CombinedReward) -> list[Sample]:
    """One batch of samples with the scores that ``reward`` gives, the best eligible one of each prompt selected.

    Samples of one prompt stand together, from position 0 on. Raises ScoresAllEqual.
    """
    responses = [_response(sample) for sample in samples]
    scores = filled(score_responses([_prompt(sample) for sample in samples], responses, reward))
    columns = zip(scores.helpfulness.tolist(), scores.safety.tolist(), scores.combined.tolist(), strict=True)
    scored = [
        replace(sample, helpfulness_score=helpfulness, safety_score=safety, combined_score=combined, selected=False)
        for sample, (helpfulness, safety, combined) in zip(samples, columns, strict=True)
    ]
    _check_scores_differ(scored)
    return [sample for group in by_prompt(scored) for sample in _with_best(group)]


def _with_best(group: Sequence[Sample]) -> list[Sample]:
    """The samples of one prompt, the best eligible one selected."""
    scores = torch.tensor([[sample.combined_score for sample in group]], dtype=torch.float64)
    (best,) = best_of_k(scores, torch.tensor([[sample.unfit is None for sample in group]]))
    return [replace(sample, selected=position == best) for position, sample in enumerate(group)]


def _check_scores_differ(samples: Sequence[Sample]) -> None:
    """Raise ScoresAllEqual where all responses whose combined score is a model's have one score: 8 or more texts."""
    for axis in AXES:
        name = f"{axis}_score"
        decided = [sample for sample in samples if sample.response.strip() and sample.combined_score == getattr(sample, name)]
        texts, scores = {sample.response for sample in decided}, {sample.combined_score for sample in decided}
        if len(texts) >= _ENOUGH_TEXTS and len(scores) == 1:
            raise ScoresAllEqual(
                f"the {axis} model gives {scores.pop():g} to all {len(decided)} responses of a batch that it decides, "
                f"{len(texts)} different texts, so it cannot tell which is best; train it again "
                f"(rlhf train-reward --axis {axis}), or check its checkpoint with rlhf doctor --{axis} REF"
            )


def by_prompt(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples of each prompt: position 0 begins the next one."""
    groups: list[list[Sample]] = []
    for sample in samples:
        if sample.position == 0:
            groups.append([])
        groups[-1].append(sample)
    return groups


def controls(samples: Sequence[Sample]) -> list[Sample]:
    """Of each prompt with a selected response, its first eligible one by position."""
    groups = [group for group in by_prompt(samples) if any(sample.selected for sample in group)]
    return [next(sample for sample in group if sample.unfit is None) for group in groups]


def unfit(response: Response) -> Unfit | None:
    """Why a response must not become a training target; None when it may."""
    if not response.finished:
        return "unfinished"
    if not response.text.strip():
        return "empty"
    return "chat_tags" if tags_in(response.text) else None


def _prompt(sample: Sample) -> Prompt:
    """The prompt of a sample, with what scoring needs."""
    return Prompt(sample.prompt_id, sample.prompt, sample.is_safety, None, None, sample.family, "train", "samples")


def _response(sample: Sample) -> Response:
    """The response of a sample, with what scoring needs: no token ids."""
    return Response(sample.response, [], [], sample.finished, [])
