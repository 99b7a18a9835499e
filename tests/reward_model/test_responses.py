"""Scores of sampled responses: one without text is not shown to the reward, and takes the lowest scores of its batch."""

import math

import pytest
import torch

from policy.generation import Response
from preference_data.messages import Messages, user
from preference_data.prompt import make_prompt
from reward_model.combined_reward import Scores
from reward_model.responses import filled, score_responses
from reward_model.reward_rules import RewardError

PROMPTS = [
    make_prompt([user(text)], family="fact", split="train", source="test", is_safety=is_safety)
    for text, is_safety in (("The sea?", False), ("A pot?", True), ("The fox?", False))
]


class LengthReward:
    """The length of the response on one axis and minus it on the other; safety prompts are combined as the other."""

    def score(self, dialogues: list[Messages], is_safety: list[bool]) -> Scores:
        lengths = torch.tensor([float(len(dialogue[-1]["content"])) for dialogue in dialogues])
        assert lengths.all() and [len(dialogue) for dialogue in dialogues] == [2] * len(dialogues)
        return Scores(lengths, -lengths, torch.where(torch.tensor(is_safety), -lengths, lengths))


def responses(*texts: str) -> list[Response]:
    return [Response(text, [5, 2], [-1.0, -1.0], True, [1]) for text in texts]


def test_each_response_has_its_own_scores_and_one_without_text_has_none() -> None:
    scores = score_responses(PROMPTS, responses("aaa", "bb", " "), LengthReward())
    assert scores == [(3.0, -3.0, 3.0), (2.0, -2.0, -2.0), None]


def test_where_nothing_has_text_the_reward_is_not_asked() -> None:
    assert score_responses(PROMPTS, responses("", " ", "\n"), None) == [None, None, None]  # type: ignore[arg-type]


def test_what_has_no_scores_takes_the_lowest_of_each_axis() -> None:
    scores = filled([(3.0, -3.0, 3.0), None, (2.0, -2.0, -2.0)])
    assert scores.helpfulness.tolist() == [3, 2, 2]
    assert scores.safety.tolist() == [-3, -3, -2]
    assert scores.combined.tolist() == [3, -2, -2]
    assert scores.combined.dtype == torch.float32


def test_without_any_scores_all_are_zero() -> None:
    scores = filled([None, None])
    assert [part.tolist() for part in (scores.helpfulness, scores.safety, scores.combined)] == [[0, 0]] * 3


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (torch.zeros(2), r"3 dialogues were scored, and the helpfulness scores have shape \[2\]; give one each"),
        (torch.tensor([0, 0, math.nan]), "1 of 3 helpfulness scores are not finite numbers; check the reward model"),
    ],
)
def test_a_reward_that_does_not_give_one_finite_number_a_dialogue_is_refused(part: torch.Tensor, message: str) -> None:
    class Broken:
        def score(self, dialogues: object, is_safety: object) -> Scores:
            return Scores(part, torch.zeros(3), torch.zeros(3))

    with pytest.raises(RewardError, match=message):
        score_responses(PROMPTS, responses("a", "b", "c"), Broken())
