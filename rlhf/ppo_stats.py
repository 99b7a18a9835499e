"""What one iteration of PPO tells: every metric, defined once."""

from dataclasses import dataclass, field

from torch import Tensor

from rlhf.advantage import explained_variance
from rlhf.rollout import Rollout


@dataclass(frozen=True, slots=True)
class PPOStats:
    """One iteration. Scores and rewards are of the rollout, before its update; losses are means over the update."""

    iteration: int = field(metadata={"help": "1..iterations"})
    score: float = field(metadata={"help": "mean combined score R_c, a raw logit before whitening; rises as training works"})
    helpfulness: float = field(metadata={"help": "mean helpfulness score, raw logit"})
    safety: float = field(metadata={"help": "mean safety score, raw logit"})
    reward: float = field(metadata={"help": "mean sum of a response's token rewards: whitened score less EOS and KL penalties"})
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


def ppo_stats(iteration: int, record: Rollout, means: Tensor, update_seconds: float) -> PPOStats:
    """The stats of an iteration; ``means`` (5,) over its update: policy_loss, value_loss, approx_kl, clip_fraction, entropy."""
    loss, critic_loss, moved, clipped, spread = means.tolist()
    num_tokens = int(record.response_mask.sum())
    size = len(record.responses)
    return PPOStats(
        iteration=iteration,
        score=record.scores.combined.mean().item(),
        helpfulness=record.scores.helpfulness.mean().item(),
        safety=record.scores.safety.mean().item(),
        reward=record.rewards.sum(dim=1).mean().item(),
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
        num_tokens=num_tokens,
        ratio_error=record.ratio_error,
        recomputed=record.recomputed,
        sampling_seconds=record.sampling_seconds,
        scoring_seconds=record.scoring_seconds,
        update_seconds=update_seconds,
    )
