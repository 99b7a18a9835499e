"""AdamW and the learning-rate schedule, held to their formulas written another way."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy.config import AdamWConfig, FinetuneConfig
from policy.optimization import adamw, share_of_peak, warmup_cosine


def shares(num_steps: int, warmup_steps: int, final_lr_fraction: float) -> list[float]:
    config = FinetuneConfig(warmup_steps=warmup_steps, final_lr_fraction=final_lr_fraction)
    return [share_of_peak(step, num_steps, config) for step in range(1, num_steps + 1)]


@given(st.integers(1, 60), st.integers(0, 20), st.floats(0, 1))
def test_fine_tuning_has_the_usual_cosine_of_steps_done(num_steps: int, warmup_steps: int, final: float) -> None:
    """The definition over steps done (from 0), bit for bit: what a run made must not change with the code."""

    def usual(done: int) -> float:
        if done < warmup_steps:
            return (done + 1) / warmup_steps
        progress = (done - warmup_steps) / max(1, num_steps - warmup_steps)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    assert shares(num_steps, warmup_steps, final) == [usual(done) for done in range(num_steps)]


_FINAL = st.just(0.0) | st.floats(1e-6, 1.0)


@given(st.integers(1, 200), st.floats(1e-7, 1.0), st.integers(0, 40), st.integers(1, 60), _FINAL)
def test_the_rate_stays_between_its_end_and_its_peak(step: int, peak: float, warmup: int, length: int, final: float) -> None:
    rate = warmup_cosine(step, peak, warmup, warmup, warmup + length, final)
    assert 0 < rate <= peak * (1 + 1e-12) or final == 0
    if step > warmup:
        assert rate >= peak * final * (1 - 1e-12)
    if step >= warmup + length:
        assert rate == pytest.approx(peak * final)
    if step == warmup:
        assert rate == pytest.approx(peak)


def test_adamw_steps_the_trained_parameters_alone_by_its_formula() -> None:
    model = torch.nn.Linear(3, 1).double()
    model.bias.requires_grad_(False)
    before, bias = model.weight.detach().clone(), model.bias.clone()
    config = AdamWConfig(weight_decay=0.2, adam_beta1=0.7, adam_beta2=0.9, adam_epsilon=1e-3)
    gradient = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    model.weight.grad = gradient.clone()
    adamw(model, 0.01, config).step()
    # the first step: both moments are unbiased to the gradient and its square, whatever the betas
    expected = before * (1 - 0.01 * 0.2) - 0.01 * gradient / (gradient.abs() + 1e-3)
    torch.testing.assert_close(model.weight.detach(), expected)
    assert torch.equal(model.bias, bias)


def test_adamw_has_the_betas_asked_for() -> None:
    (group,) = adamw(torch.nn.Linear(2, 2), 3e-4, AdamWConfig(adam_beta1=0.8, adam_beta2=0.99)).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"], group["eps"]) == (3e-4, (0.8, 0.99), 0.1, 1e-5)
    assert group["fused"]
