"""The stats of one iteration of PPO: every metric, defined once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlhf.advantage import explained_variance
from rlhf.rollout import Rollout
from rlhf.validation import Validation


@dataclass(frozen=True, slots=True)
class PPOStats:
    """One iteration. Scores and rewards are of the rollout, before its update; losses are means over the update."""

    iteration: int = field(metadata={"help": "1..iterations"})
    score: float = field(metadata={"help": "mean combined score R_c, a raw logit before whitening; rises as training works"})
    score_std: float = field(metadata={"help": "standard deviation of the combined scores, in logits, >= 0"})
    length_correlation: float | None = field(
        metadata={"help": "of combined scores with response lengths, Pearson's, in [-1, 1]; none where one is constant"}
    )
    helpfulness: float = field(metadata={"help": "mean helpfulness score, raw logit"})
    safety: float = field(metadata={"help": "mean safety score, raw logit"})
    reward: float = field(metadata={"help": "mean sum of a response's token rewards: whitened score less EOS and KL penalties"})
    kl_coef: float = field(metadata={"help": "weight of the KL penalty in this iteration, >= 0"})
    lagrange_multiplier: float | None = field(
        metadata={"help": "weight of safety against helpfulness in this iteration, > 0; none unless the reward is lagrangian"}
    )
    kl: float = field(metadata={"help": "policy from ref_policy, nats per response, estimator k1; >= 0 in expectation"})
    entropy: float = field(metadata={"help": "mean entropy of the policy's next-token distribution, nats per token, >= 0"})
    policy_loss: float = field(metadata={"help": "clipped surrogate loss; near 0, as advantages are whitened"})
    value_loss: float = field(metadata={"help": "clipped squared error of the critic, halved, >= 0"})
    approx_kl: float = field(metadata={"help": "how far the update moves the policy, nats per token, estimator k3, >= 0"})
    clip_fraction: float = field(metadata={"help": "share of tokens whose ratio left the clip range, in [0, 1]"})
    explained_variance: float = field(metadata={"help": "share of the returns' variance that the critic explains, <= 1"})
    response_length: float = field(metadata={"help": "mean tokens per response, EOS included, >= 1"})
    eos_fraction: float = field(metadata={"help": "share of responses that end with EOS, in [0, 1]"})
    empty_fraction: float = field(
        metadata={"help": "share of responses without text, which take the batch's lowest score; [0, 1]"}
    )
    num_steps: int = field(metadata={"help": "optimizer steps done; fewer than planned where max_approx_kl ended the update"})
    num_tokens: int = field(metadata={"help": "response tokens sampled in this iteration"})
    ratio_error: float | None = field(
        metadata={"help": "largest |ratio - 1| of a forward pass to the sampler's log-probabilities, >= 0; none: not measured"}
    )
    recomputed: bool = field(
        metadata={"help": "that error was beyond rounding, and the forward pass's log-probabilities were used instead"}
    )
    sampling_seconds: float = field(metadata={"help": "time of sampling"})
    scoring_seconds: float = field(metadata={"help": "time of the reward models, the ref_policy and the critic"})
    update_seconds: float = field(metadata={"help": "time of the update"})
    validations: tuple[Validation, ...] = field(
        metadata={"help": "after this iteration, where one was due; in the first also the one before training"}
    )


def ppo_stats(
    iteration: int,
    record: Rollout,
    update: Tensor,
    num_steps: int,
    kl_coef: float,
    lagrange_multiplier: float | None,
    update_seconds: float,
    validations: tuple[Validation, ...],
) -> PPOStats:
    """The stats of an iteration.

    ``update`` (5,) are the means over its update: policy_loss, value_loss, approx_kl, clip_fraction, entropy.
    """
    loss, critic_loss, moved, clipped, spread = update.tolist()
    num_tokens = int(record.response_mask.sum())
    size = len(record.responses)
    combined = record.scores.combined.double()
    return PPOStats(
        iteration=iteration,
        score=combined.mean().item(),
        score_std=combined.std(correction=0).item(),
        length_correlation=_length_correlation(combined, record),
        helpfulness=record.scores.helpfulness.mean().item(),
        safety=record.scores.safety.mean().item(),
        reward=record.rewards.sum(dim=1).mean().item(),
        kl_coef=kl_coef,
        lagrange_multiplier=lagrange_multiplier,
        kl=record.kl.mean().item(),
        entropy=spread,
        policy_loss=loss,
        value_loss=critic_loss,
        approx_kl=moved,
        clip_fraction=clipped,
        explained_variance=explained_variance(record.values, record.returns, record.response_mask).item(),
        response_length=num_tokens / size,
        eos_fraction=sum(response.finished for response in record.responses) / size,
        empty_fraction=sum(not response.text.strip() for response in record.responses) / size,
        num_steps=num_steps,
        num_tokens=num_tokens,
        ratio_error=record.ratio_error,
        recomputed=record.recomputed,
        sampling_seconds=record.sampling_seconds,
        scoring_seconds=record.scoring_seconds,
        update_seconds=update_seconds,
        validations=validations,
    )


def validated(history: Sequence[PPOStats]) -> list[Validation]:
    """The validations of all iterations, the first before training."""
    return [validation for stats in history for validation in stats.validations]


def _length_correlation(scores: Tensor, record: Rollout) -> float | None:
    lengths = record.response_mask.sum(dim=1).double().to(scores.device)
    if len(scores) < 2 or min(scores.std(), lengths.std()) == 0:
        return None
    return torch.corrcoef(torch.stack([scores, lengths]))[0, 1].clamp(-1, 1).item()
