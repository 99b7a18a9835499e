import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reward_model.selection import best_of_k


def test_highest_first_on_ties_and_none_without_an_eligible_response():
    scores = torch.tensor([[0.1, 0.9, 0.3], [2.0, 2.0, 1.0], [9.0, 1.0, 5.0], [1.0, 2.0, 3.0]])
    eligible = torch.tensor([[True, True, True], [True, True, True], [False, True, True], [False, False, False]])
    assert best_of_k(scores, eligible) == [1, 0, 2, None]


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=8))
def test_agrees_with_a_plain_search(responses):
    best = None
    for position, (score, eligible) in enumerate(responses):
        if eligible and (best is None or score > responses[best][0]):
            best = position
    scores = torch.tensor([[float(score) for score, _ in responses]])
    assert best_of_k(scores, torch.tensor([[eligible for _, eligible in responses]])) == [best]


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 1e30])
def test_ineligible_scores_may_be_anything(garbage):
    assert best_of_k(torch.tensor([[garbage, -5.0]]), torch.tensor([[False, True]])) == [1]


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_an_eligible_score_must_be_finite(score):
    with pytest.raises(ValueError, match="no finite number"):
        best_of_k(torch.tensor([[score, 1.0]]), torch.tensor([[True, True]]))


def test_shapes_are_checked_and_empty_input_is_fine():
    with pytest.raises(ValueError, match=r"scores \[2, 3\] and eligible \[3\]"):
        best_of_k(torch.zeros(2, 3), torch.ones(3, dtype=torch.bool))
    assert best_of_k(torch.zeros(0, 4), torch.zeros(0, 4, dtype=torch.bool)) == []
    assert best_of_k(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)) == [None, None]
