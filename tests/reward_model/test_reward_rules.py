"""Rewards by name, and those of the user's own."""

import sys
import types
from collections.abc import Callable

import pytest
from fakes import ConstantScorer, LengthScorer

from preference_data.messages import assistant, user
from reward_model.reward_rules import LagrangianReward, RewardError, reward_named

DIALOGUES = [[user("one"), assistant("a")], [user("two"), assistant("bbb")]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("combined", [1, -5]), ("sum", [-4, -2]), ("helpfulness", [1, 3]), ("safety", [-5, -5]), ("lagrangian", [-2, -1])],
)
def test_each_name_makes_its_own_of_the_two_scores(name: str, expected: list[float]) -> None:
    """Helpfulness is 1 and 3, safety -5 of both; the second prompt is tagged. lambda is 1: the mean of the two."""
    threshold = 0.0 if name == "combined" else 0.15
    scores = reward_named(name, LengthScorer(), ConstantScorer(-5.0), threshold, 1.0).score(DIALOGUES, [False, True])
    assert scores.combined.tolist() == expected
    assert scores.helpfulness.tolist() == [1, 3] and scores.safety.tolist() == [-5, -5]


def test_the_threshold_reaches_the_paper_s_rule() -> None:
    scores = reward_named("combined", LengthScorer(), ConstantScorer(-5.0), 0.15, 1.0).score(DIALOGUES, [False, False])
    assert scores.combined.tolist() == [-5, -5]


def test_the_multiplier_weighs_safety() -> None:
    reward = reward_named("lagrangian", LengthScorer(), ConstantScorer(-5.0), 0.15, 1.0)
    assert isinstance(reward, LagrangianReward)
    reward.multiplier = 3.0
    assert reward.score(DIALOGUES, [False, True]).combined.tolist() == [(1 - 15) / 4, (3 - 15) / 4]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], str]:
    def install(found: object) -> str:
        module = types.ModuleType("my_rewards")
        module.own = found  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_rewards", module)
        return "my_rewards:own"

    return install


def test_a_function_of_one_s_own_is_given_the_dialogues(own: Callable[[object], str]) -> None:
    name = own(lambda dialogues: [float(dialogue[0]["content"] == "two") for dialogue in dialogues])
    scores = reward_named(name, LengthScorer(), ConstantScorer(-5.0), 0.15, 1.0).score(DIALOGUES, [False, True])
    assert scores.combined.tolist() == [0, 1] and scores.helpfulness.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], r"given 2 dialogues and returned numbers of shape \[1\]; return one number a dialogue"),
        ([[1.0], [2.0]], r"shape \[2, 1\]"),
        (["good", "bad"], r"returned a list that is no list of numbers \(.*\); return one number a dialogue"),
        (None, "returned a NoneType that is no list of numbers"),
        ([1.0, float("nan")], r"returned nan for 1 of 2 dialogues, first for number 1: 'bbb'"),
        ([float("inf"), 1.0], r"returned inf for 1 of 2 dialogues, first for number 0: 'a'"),
    ],
)
def test_wrong_counts_and_numbers_that_are_none_are_refused(
    own: Callable[[object], str], returned: list[float], message: str
) -> None:
    reward = reward_named(own(lambda dialogues: returned), LengthScorer(), ConstantScorer(-5.0), 0.15, 1.0)
    with pytest.raises(RewardError, match=message):
        reward.score(DIALOGUES, [False, True])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:own", "cannot be imported: No module named 'no_such_module'"),
        ("math:no_such_function", "cannot be imported: module 'math' has no attribute"),
        ("math:pi", "is a float, and a function of dialogues was asked for"),
    ],
)
def test_what_cannot_be_called_is_refused(name: str, message: str) -> None:
    with pytest.raises(RewardError, match=message):
        reward_named(name, LengthScorer(), ConstantScorer(0.0), 0.15, 1.0)
