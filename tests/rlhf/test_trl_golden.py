"""Our arithmetic against the numbers of TRL 1.10.0's PPO trainer, recorded by ``trl_golden/record.py``.

Where the two agree they agree to 1e-12. Where they do not, a test says how and accounts for the difference to the last digit,
so that whoever comes from there knows what to expect.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.logprobs import entropy, token_logprobs
from rlhf.advantage import approx_kl, clip_fraction, gae, masked_mean, policy_loss, token_rewards, value_loss, whiten
from rlhf.config import PPOConfig
from rlhf.rollout import response_rewards

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "trl_golden" / "golden.json").read_text())
LENGTHS = torch.tensor([4, 6, 1, 6, 3])
FINISHED = torch.tensor([True, True, True, False, True])
MASK = torch.arange(6) < LENGTHS[:, None]  # ours: response tokens, EOS included
ONE_MORE = torch.arange(6) < LENGTHS[:, None] + 1  # theirs for values and returns: and one place after them where there is room
ROOM = LENGTHS < 6
TEMPERATURE = 0.8 + 1e-7


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@cache
def rollout(name: str = "rollout") -> dict[str, Tensor]:
    """Inputs and outputs of a recorded rollout. Scores are those given, before a penalty; behind their masks is garbage."""
    record = GOLDEN[name]
    every = {**record["outputs"], **record["inputs"]}
    found = {key: torch.tensor(value) for key, value in every.items() if "mask" in key}
    return found | {key: torch.tensor(value, dtype=torch.float64) for key, value in every.items() if "mask" not in key}


def output(name: str) -> Tensor:
    return torch.tensor(GOLDEN["rollout"]["outputs"][name], dtype=torch.float64)


def update(index: int = 0) -> tuple[list[int], dict[str, Tensor]]:
    """The rows of a recorded microbatch, and what TRL makes of it; gradients are named grad_logits and grad_values."""
    record = GOLDEN["updates"][index]
    gradients = {f"grad_{name}": value for name, value in record["gradients"].items()}
    every = {**record["inputs"], **record["outputs"], **record["logged"], **gradients}
    return record["rows"], {key: torch.tensor(value, dtype=torch.float64) for key, value in every.items()}


def whitening() -> dict[str, Tensor]:
    record = {key: torch.tensor(value, dtype=torch.float64) for key, value in GOLDEN["whitening"].items()}
    assert torch.equal(record["mask"] == 1, MASK)
    return record


def config(**changes: Any) -> PPOConfig:
    return PPOConfig.model_validate(changes)


def our_losses(index: int = 0, value_mask: Tensor = ONE_MORE) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(policy loss, value loss, logits, values) of a recorded microbatch; the last two take gradients."""
    rows, theirs = update(index)
    logits, values, old = theirs["logits"].requires_grad_(), theirs["values"].requires_grad_(), rollout()
    new_logprobs = token_logprobs(logits[rows] / TEMPERATURE, torch.tensor(GOLDEN["responses"])[rows])
    advantages, old_values, returns = (output(name)[rows] for name in ("advantages", "values", "returns"))
    loss = policy_loss(new_logprobs, old["logprobs"][rows], advantages, MASK[rows], 0.2)
    return loss, value_loss(values[rows], old_values, returns, value_mask[rows], 0.2), logits, values


# Where both agree


def test_generalised_advantages_and_returns() -> None:
    """On the same rewards, and told that responses are as long as TRL takes them to be."""
    theirs = rollout()
    advantages, returns = gae(theirs["rewards"], theirs["values"], ONE_MORE, 0.97, 0.9)
    close(returns, theirs["returns"].masked_fill(~ONE_MORE, 0.0))
    close(advantages + theirs["values"].masked_fill(~ONE_MORE, 0.0), returns)


def test_the_clipped_policy_loss_and_its_gradient() -> None:
    _, theirs = update()
    loss, _, logits, _ = our_losses()
    close(loss.detach(), theirs["pg_loss"])
    close(torch.autograd.grad(loss, logits)[0], theirs["grad_logits"])
    assert 0 < theirs["pg_clipfrac"] < 1


def test_the_clipped_value_loss_and_its_gradient() -> None:
    """Of the same places; in TRL the gradient is that of vf_coef times the loss."""
    _, theirs = update()
    _, loss, _, values = our_losses()
    close(loss.detach(), theirs["vf_loss"])
    close(torch.autograd.grad(0.1 * loss, values)[0], theirs["grad_values"])
    assert 0 < theirs["vf_clipfrac"] < 1


def test_the_kl_of_a_token_is_k1_and_the_rewards_of_a_response_sum_to_the_same() -> None:
    theirs = rollout()
    kl = theirs["logprobs"] - theirs["ref_logprobs"]
    close(kl.masked_fill(~MASK, 0.0), theirs["kl"])
    close(token_rewards(theirs["scores"], kl, MASK, 0.3).sum(dim=1), theirs["rewards"].sum(dim=1))


# Where they do not


def test_the_score_is_one_place_later_where_there_is_padding() -> None:
    """Ours is on the last token, EOS. Theirs is on the padding after it, but for a response that fills the width."""
    theirs = rollout()
    ours = token_rewards(theirs["scores"], theirs["logprobs"] - theirs["ref_logprobs"], MASK, 0.3)
    moved = theirs["rewards"] - ours
    for row, (length, score) in enumerate(zip(LENGTHS.tolist(), theirs["scores"], strict=True)):
        expected = torch.zeros(6, dtype=torch.float64)
        if length < 6:
            expected[length - 1], expected[length] = -score, score
        close(moved[row], expected)


def test_advantages_go_through_the_value_of_the_state_after_the_end() -> None:
    """With V that value, n the length and s the score, theirs exceed ours by
    (gamma lambda)^(n-1-t) (gamma V + gamma lambda (s - V) - s)."""
    theirs = rollout()
    rewards = token_rewards(theirs["scores"], theirs["logprobs"] - theirs["ref_logprobs"], MASK, 0.3)
    ours, _ = gae(rewards, theirs["values"], MASK, 0.97, 0.9)
    unwhitened = (theirs["returns"] - theirs["values"]).masked_fill(~MASK, 0.0)
    for row in range(5):
        n, s = int(LENGTHS[row]), theirs["scores"][row]
        difference = torch.zeros(6, dtype=torch.float64)
        if n < 6:
            value = theirs["values"][row, n]
            difference[:n] = 0.97 * value + 0.97 * 0.9 * (s - value) - s
            difference[:n] *= torch.tensor([(0.97 * 0.9) ** (n - 1 - t) for t in range(n)], dtype=torch.float64)
        close(unwhitened[row] - ours[row], difference)
    assert (unwhitened - ours)[ROOM].abs().max() > 0.1


def test_the_value_loss_counts_one_place_more() -> None:
    """Theirs over n + 1 places is ours over n and what the place after the end adds."""
    rows, theirs = update()
    ours = our_losses(value_mask=MASK)[1].detach()
    num_ours, num_theirs = MASK[rows].sum(), ONE_MORE[rows].sum()
    added = our_losses(value_mask=ONE_MORE & ~MASK)[1].detach() * (num_theirs - num_ours)
    close(theirs["vf_loss"], (ours * num_ours + added) / num_theirs)
    assert abs(theirs["vf_loss"] - ours) > 0.01


def theirs_of_whitened(values: Tensor, mask: Tensor) -> Tensor:
    """What TRL whitens to: variance n / (n - 1) times ours. The share of two counts is a float32 there."""
    variance, n = values[mask].var(correction=0), mask.sum()
    return whiten(values, mask) * ((variance + 1e-8) / (variance * (n / (n - 1)) + 1e-8)).sqrt()


def test_the_variance_is_of_a_sample_and_not_of_the_population() -> None:
    theirs = whitening()
    close(theirs["whitened"][MASK], theirs_of_whitened(theirs["values"], MASK)[MASK])
    assert theirs["whitened"][MASK].var(correction=1).item() == pytest.approx(1, abs=1e-7)
    assert whiten(theirs["values"], MASK)[MASK].var(correction=0).item() == pytest.approx(1, abs=1e-7)


def test_so_whitened_advantages_are_a_little_smaller() -> None:
    theirs = rollout()
    advantages = theirs["returns"] - theirs["values"]
    close(theirs["advantages"], theirs_of_whitened(advantages, MASK))
    assert (theirs["advantages"] - whiten(advantages, MASK)).abs().max() > 0.01


def test_whitened_rewards_are_of_tokens_after_the_kl_and_keep_their_mean() -> None:
    """``whiten_rewards`` whitens every token's reward, penalty included, and adds the mean back; ours are scores, at mean 0."""
    theirs, before = rollout("rollout_whitened_rewards"), rollout()["rewards"]
    mean = masked_mean(before, ONE_MORE)
    close(theirs["rewards"], (theirs_of_whitened(before, ONE_MORE) + mean).masked_fill(~ONE_MORE, 0.0))
    assert masked_mean(theirs["rewards"], ONE_MORE).item() == pytest.approx(mean.item(), abs=1e-9) != 0
    close(whitening()["mean_kept"], whitening()["whitened"] + whitening()["mean"])


def test_scores_are_not_whitened_by_default_which_is_our_none() -> None:
    theirs = rollout()
    kl = theirs["logprobs"] - theirs["ref_logprobs"]
    sums = {
        name: response_rewards(theirs["scores"], FINISHED, kl, MASK, 0.3, config(whitening=name, missing_eos_penalty=0)).sum(1)
        for name in ("none", "scores")
    }
    close(sums["none"], theirs["rewards"].sum(dim=1))
    kl_sums = kl.masked_fill(~MASK, 0.0).sum(dim=1)
    close(sums["scores"], whiten(theirs["scores"], torch.ones(5, dtype=torch.bool)) - 0.3 * kl_sums)


def test_a_missing_eos_is_charged_in_logits_and_not_in_standard_deviations() -> None:
    theirs, without = rollout("rollout_missing_eos"), rollout()
    charged = torch.zeros_like(without["rewards"])
    charged[3, 5] = -1.5
    close(theirs["rewards"] - without["rewards"], charged)

    kl = torch.zeros(MASK.shape, dtype=torch.float64)
    for whitening_, unit in (("none", 1.0), ("scores", theirs["scores"].std(correction=0).item())):
        settings = config(whitening=whitening_, missing_eos_penalty=1.5)
        final, free = (
            response_rewards(theirs["scores"], finished, kl, MASK, 0.3, settings).sum(dim=1)
            for finished in (FINISHED, torch.ones_like(FINISHED))
        )
        assert (unit * (free - final)).tolist() == pytest.approx([0, 0, 0, 1.5 * unit, 0], abs=1e-7)


def test_k3_can_be_had_for_the_penalty_and_is_another_number_in_every_token() -> None:
    theirs = rollout("rollout_k3")
    log_ratio = (theirs["ref_logprobs"] - theirs["logprobs"]).masked_fill(~MASK, 0.0)
    close(theirs["kl"], log_ratio.exp() - 1 - log_ratio)
    assert (theirs["kl"] >= 0).all() and (-log_ratio[MASK] < 0).any()
    assert (theirs["kl"] - -log_ratio)[MASK].abs().min() > 1e-4


def test_where_padding_is_eos_the_policy_does_not_learn_to_stop() -> None:
    """A response is then taken to end before its EOS, which is left out of the policy's loss, of whitening and of the KL."""
    theirs = rollout("rollout_pad_is_eos")
    eos = (torch.arange(6) == LENGTHS[:, None] - 1) & FINISHED[:, None]
    assert torch.equal(~theirs["padding_mask"], MASK & ~eos)
    assert (theirs["kl"][eos] == 0).all() and (theirs["advantages"][eos] == 0).all()


def test_what_is_no_number_behind_the_mask_spreads() -> None:
    values = whitening()["values"].masked_fill(~MASK, math.nan)
    assert whitening()["mean_with_nan_behind_the_mask"].isnan()
    close(masked_mean(values, MASK), whitening()["mean"])


def test_the_temperature_has_1e_7_added() -> None:
    rows, theirs = update()
    ids = torch.tensor(GOLDEN["responses"])[rows]
    exact, theirs_again = (token_logprobs(theirs["logits"][rows] / t, ids) for t in (0.8, TEMPERATURE))
    close(theirs_again[MASK[rows]], theirs["new_logprobs"][MASK[rows]])
    assert 1e-8 < (exact - theirs["new_logprobs"])[MASK[rows]].abs().max() < 1e-5


def test_the_losses_of_microbatches_weigh_the_same_however_many_tokens_they_hold() -> None:
    """Ours weigh by tokens and make the loss of the minibatch; the plain mean of theirs, which accumulation takes, does not."""
    (_rows, whole), (_, first), (_, second) = (update(index) for index in range(3))
    sizes = [int(MASK[part].sum()) for part in ([0, 1], [2, 3])]
    halves = [our_losses(index)[0].detach() for index in (1, 2)]
    close((sizes[0] * halves[0] + sizes[1] * halves[1]) / sum(sizes), our_losses()[0].detach())
    close(torch.stack(halves), torch.stack([first["pg_loss"], second["pg_loss"]]))
    assert abs((first["pg_loss"] + second["pg_loss"]) / 2 - whole["pg_loss"]) > 0.01


def test_one_loss_holds_both_models() -> None:
    """So one optimizer and one gradient norm, too; ours have one each, and no coefficient."""
    _, theirs = update()
    close(theirs["loss"], theirs["pg_loss"] + 0.1 * theirs["vf_loss"])


def test_approx_kl_is_half_the_square_and_its_mean_and_that_of_the_entropy_count_padding() -> None:
    rows, theirs = update()
    logprobs, mask = rollout()["logprobs"][rows], MASK[rows]
    difference = (theirs["new_logprobs"] - logprobs).masked_fill(~mask, 0.0)
    close(theirs["approxkl"], 0.5 * difference.square().sum() / mask.numel())
    close(approx_kl(theirs["new_logprobs"], logprobs, mask), (difference.exp() - 1 - difference).sum() / mask.sum())

    spread = entropy(theirs["logits"][rows] / TEMPERATURE)
    close(theirs["entropy"], spread.mean())
    assert abs(masked_mean(spread, mask) - theirs["entropy"]) > 1e-3


def test_the_clip_fraction_counts_where_the_clip_changes_the_loss() -> None:
    """Ours counts every ratio out of range, also those on the side that the clip leaves alone."""
    rows, theirs = update()
    logprobs, mask = rollout()["logprobs"][rows], MASK[rows]
    advantages = output("advantages")[rows]
    ratio = (theirs["new_logprobs"] - logprobs).masked_fill(~mask, 0.0).exp()
    improved = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    assert theirs["pg_clipfrac"].item() == pytest.approx(improved[mask].double().mean().item(), abs=1e-6)
    out_of_range = ((ratio > 1.2) | (ratio < 0.8))[mask].double().mean()
    close(clip_fraction(theirs["new_logprobs"], logprobs, mask, 0.2), out_of_range)
    assert out_of_range > theirs["pg_clipfrac"] + 0.1


OTHERWISE = {  # TRL's name: its default, our name, our default
    "learning_rate": (3e-6, "learning_rate", 1e-6),
    "num_ppo_epochs": (4, "ppo_epochs", 1),
    "kl_coef": (0.05, "kl_coef", 0.01),
    "temperature": (0.7, "temperature", 1.0),
    "missing_eos_penalty": (None, "missing_eos_penalty", 1.0),
    "adam_beta2": (0.999, "adam_beta2", 0.95),
    "adam_epsilon": (1e-8, "adam_epsilon", 1e-5),
    "weight_decay": (0.0, "weight_decay", 0.1),
}
ALIKE = {
    "cliprange": "clip_range",
    "cliprange_value": "value_clip_range",
    "gamma": "gamma",
    "lam": "gae_lambda",
    "max_grad_norm": "max_grad_norm",
    "adam_beta1": "adam_beta1",
}


def test_defaults() -> None:
    theirs, ours = GOLDEN["defaults"], PPOConfig()
    assert {
        name: (theirs[name], our_name, getattr(ours, our_name)) for name, (_, our_name, _) in OTHERWISE.items()
    } == OTHERWISE
    assert {name: theirs[name] for name in ALIKE} == {name: getattr(ours, our_name) for name, our_name in ALIKE.items()}
    only_theirs = {"kl_estimator": "k1", "vf_coef": 0.1, "whiten_rewards": False}
    assert theirs == {name: theirs[name] for name in (*OTHERWISE, *ALIKE)} | only_theirs
