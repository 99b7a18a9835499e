import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reward_model.losses import centring_loss, ranking_loss, safety_loss

SCORES = st.floats(-20, 20)
ROWS = st.lists(st.tuples(SCORES, SCORES, st.floats(0, 3)), min_size=1, max_size=6)


def columns(rows):
    return (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))


def test_a_tie_costs_log_2():
    zero = torch.zeros(1, dtype=torch.float64)
    assert ranking_loss(zero + 5, zero + 5, zero).item() == pytest.approx(math.log(2), abs=1e-12)


def test_two_rows_with_their_own_margins_by_hand():
    # Row 0: gap 1, margin 1, so a tie. Row 1: gap 2, margin 1/3: log(1 + exp(-5/3)).
    losses = ranking_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1 / 3]))
    assert losses.tolist() == pytest.approx([0.693147, 0.173011], abs=1e-5)


def test_extreme_scores_stay_finite_with_a_gradient():
    chosen = torch.tensor([-1e6], requires_grad=True)
    loss = ranking_loss(chosen, torch.tensor([1e6]), torch.tensor([3.0]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(2e6 + 3, rel=1e-6) and chosen.grad.item() == -1


@given(ROWS, st.floats(-50, 50))
def test_ranking_loss_ignores_a_common_shift(rows, shift):
    chosen, rejected, margin = columns(rows)
    torch.testing.assert_close(
        ranking_loss(chosen + shift, rejected + shift, margin), ranking_loss(chosen, rejected, margin), atol=1e-9, rtol=0
    )


@given(ROWS, st.floats(0.01, 3))
def test_ranking_loss_rises_with_the_margin_and_matches_the_sigmoid_form(rows, more):
    chosen, rejected, margin = columns(rows)
    loss = ranking_loss(chosen, rejected, margin)
    assert (ranking_loss(chosen, rejected, margin + more) > loss).all()
    by_sigmoid = [-math.log(1 / (1 + math.exp(-(c - r - m)))) for c, r, m in rows]
    assert loss.tolist() == pytest.approx(by_sigmoid, abs=1e-6)


def test_scores_of_shape_b_by_1_are_refused_with_both_shapes():
    row = torch.zeros(3)
    with pytest.raises(ValueError, match=r"chosen \[3, 1\], rejected \[3\], margin \[3\]"):
        ranking_loss(row[:, None], row, row)
    with pytest.raises(ValueError, match=r"margin \[3, 1\]"):
        ranking_loss(row, row, row[:, None])
    with pytest.raises(ValueError, match=r"chosen \[3, 1\], rejected \[3, 1\], margin \[3, 1\]"):
        ranking_loss(row[:, None], row[:, None], row[:, None])
    with pytest.raises(ValueError, match=r"scores \[3\], is_safe \[2\]"):
        safety_loss(row, row[:2].bool(), row.bool())


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_safety_loss_by_hand(dtype):
    # -log sigmoid(2) = 0.126928, -log sigmoid(-2) = 2.126928, and log 2 at score 0 whichever the label.
    scores, labels = torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1, 0, 0]).to(dtype)
    losses = safety_loss(scores, labels, torch.ones(3, dtype=torch.bool))
    assert losses.tolist() == pytest.approx([0.126928, 2.126928, 0.693147], abs=1e-5)


@pytest.mark.parametrize("garbage", [1e6, math.inf, math.nan])
def test_unlabelled_rows_have_neither_loss_nor_gradient(garbage):
    scores = torch.tensor([1.0, garbage], requires_grad=True)
    losses = safety_loss(scores, torch.tensor([False, True]), torch.tensor([True, False]))
    losses.sum().backward()
    assert losses[1] == 0 and scores.grad[1] == 0
    assert scores.grad[0].item() == pytest.approx(1 / (1 + math.exp(-1)))  # sigmoid(s) - label


def test_centring_loss_by_hand_and_its_shapes():
    assert centring_loss(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 2.0])).tolist() == [9.0, 0.0]
    with pytest.raises(ValueError, match=r"chosen \[2, 1\]"):
        centring_loss(torch.zeros(2, 1), torch.zeros(2))
