"""The arithmetic of PPO against other forms of its definitions, and against garbage behind the mask."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.batch import lengths_mask
from rlhf.advantage import (
    approx_kl,
    clip_fraction,
    explained_variance,
    gae,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)

LENGTHS = [5, 1, 3]
MASK = lengths_mask(LENGTHS, 5)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(MASK.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.integers(0, 5))
def test_whitened_numbers_have_mean_0_and_variance_1(numbers: list[float], num_masked: int) -> None:
    x = torch.tensor(numbers + [1e6] * num_masked, dtype=torch.float64)
    mask = torch.arange(len(x)) < len(numbers)
    whitened = whiten(x, mask)[mask]
    assert whitened.mean().abs() < 1e-6
    variance = torch.tensor(numbers, dtype=torch.float64).var(correction=0)
    # eps 1e-8 holds the variance a little under 1, by a share that the definition gives.
    assert whitened.square().mean().item() == pytest.approx((variance / (variance + 1e-8)).item(), abs=1e-6)
    assert (whiten(x, mask)[~mask] == 0).all()


def test_whitening_equal_numbers_gives_zeros() -> None:
    assert (whiten(torch.full((4,), 3.7), torch.ones(4, dtype=torch.bool)) == 0).all()


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.7), (1.0, 1.0), (0.99, 0.0)])
def test_gae_is_the_double_sum(gamma: float, gae_lambda: float) -> None:
    rewards, values = draw(0), draw(1)
    advantages, returns = gae(rewards, values, MASK, gamma, gae_lambda)
    for b, length in enumerate(LENGTHS):
        r, v = rewards[b, :length].tolist(), [*values[b, :length].tolist(), 0.0]
        for t in range(length):
            expected = sum((gamma * gae_lambda) ** (s - t) * (r[s] + gamma * v[s + 1] - v[s]) for s in range(t, length))
            assert advantages[b, t].item() == pytest.approx(expected, abs=1e-12)
            assert returns[b, t].item() == pytest.approx(expected + v[t], abs=1e-12)


def test_at_ratio_1_the_gradient_is_minus_the_advantage_over_the_token_count() -> None:
    logprobs, advantages = draw(0), draw(1)
    new_logprobs = logprobs.clone().requires_grad_()
    policy_loss(new_logprobs, logprobs, advantages, MASK, clip_range=0.2).backward()
    torch.testing.assert_close(new_logprobs.grad, (-advantages / MASK.sum()).masked_fill(~MASK, 0.0))


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_outside_the_clip_only_the_improving_side_is_cut(direction: float) -> None:
    """Ratio e^0.5 or e^-0.5: where the advantage wanted that move the gradient is 0, else it is that of the plain ratio."""
    logprobs, advantages = draw(0), draw(1)
    new_logprobs = (logprobs + 0.5 * direction).requires_grad_()
    policy_loss(new_logprobs, logprobs, advantages, MASK, clip_range=0.2).backward()
    improved = advantages * direction > 0
    plain = -advantages * math.exp(0.5 * direction) / MASK.sum()
    torch.testing.assert_close(new_logprobs.grad, plain.masked_fill(improved | ~MASK, 0.0))
    assert (improved & MASK).any() and (~improved & MASK).any()


def test_no_gradient_flows_into_advantages_returns_or_rollout_numbers() -> None:
    inputs = [draw(seed).requires_grad_() for seed in range(7)]
    new_logprobs, logprobs, advantages, new_values, values, returns, _ = inputs
    loss = policy_loss(new_logprobs, logprobs, advantages, MASK, 0.2) + value_loss(new_values, values, returns, MASK, 0.2)
    loss.backward()
    assert [tensor.grad is not None for tensor in inputs] == [True, False, False, True, False, False, False]


def test_value_loss_by_hand() -> None:
    mask = torch.tensor([[True, True, True, False]])
    new_values, values = torch.tensor([[1.0, 0.1, 3.0, 9.0]]), torch.tensor([[0.0, 0.0, 3.0, 9.0]])
    returns = torch.tensor([[2.0, 1.0, 1.0, 0.0]])
    # Squared errors plain: 1, .81, 4; with the change clipped to .2: (2 - .2)^2 = 3.24, .81, 4.
    assert value_loss(new_values, values, returns, mask, 0.2).item() == pytest.approx(0.5 * (3.24 + 0.81 + 4) / 3)


def test_diagnostics_by_hand() -> None:
    logprobs = torch.zeros(1, 3)
    new_logprobs = torch.tensor([[math.log(2.0), 0.0, math.log(0.9)]])
    mask = torch.tensor([[True, True, True]])
    expected = ((2 - 1 - math.log(2)) + 0 + (0.9 - 1 - math.log(0.9))) / 3
    assert approx_kl(new_logprobs, logprobs, mask).item() == pytest.approx(expected, abs=1e-6)
    assert clip_fraction(new_logprobs, logprobs, mask, 0.2).item() == pytest.approx(1 / 3)


def test_explained_variance() -> None:
    returns = draw(0)
    assert explained_variance(returns, returns, MASK) == 1
    assert explained_variance(torch.zeros_like(returns), returns, MASK).item() == pytest.approx(0)
    assert explained_variance(3 * returns, returns, MASK).item() == pytest.approx(-3)
    assert explained_variance(returns, torch.ones_like(returns), MASK) == 0


@pytest.mark.parametrize("garbage", [math.nan, 1e6, -math.inf])
def test_garbage_at_masked_places_changes_nothing(garbage: float) -> None:
    def results(fill: float) -> list[torch.Tensor]:
        a, b, c, d = (draw(seed).masked_fill(~MASK, fill) for seed in range(4))
        a.requires_grad_()
        losses = policy_loss(a, b, c, MASK, 0.2) + value_loss(a, b, d, MASK, 0.2)
        losses.backward()
        with torch.no_grad():
            return [
                losses,
                a.grad,
                whiten(a, MASK),
                token_rewards(a[:, 0], a, MASK, 0.1),
                *gae(a, b, MASK, 0.9, 0.8),
                approx_kl(a, b, MASK),
                clip_fraction(a, b, MASK, 0.2),
                explained_variance(a, b, MASK),
            ]

    for clean, dirty in zip(results(0.0), results(garbage), strict=True):
        assert torch.equal(clean, dirty)
