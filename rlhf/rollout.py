"""One sampling phase of PPO: responses, their scores, and everything the update needs to know of them (paper 3.2.3).

From scores to advantages, in this order:

    scores      R_c, the combined reward as a raw logit, one a response
    whitened    to mean 0 and variance 1 over the whole iteration batch
    penalised   missing_eos_penalty taken from responses that ran out of room (they are scored as if EOS followed)
    rewards     the score on the last response token, -kl_coef * kl on every token
    advantages  generalised advantage estimation against the critic, whitened over the iteration's tokens

The log-probabilities are those the sampler recorded, and the ids are those it sampled: text is never encoded again, and
nothing is computed twice. Only where a policy is given are they held against a full forward pass of it, as the update will
make; where the two differ by more than rounding (``rlhf/step_zero.py``), those of the forward pass are used.
All models run in eval mode, so that dropout cannot part sampling from update.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from policy.batch import lengths_mask
from policy.generation import Response, Sampler
from policy.logprobs import response_logits, token_logprobs
from preference_data.messages import assistant
from preference_data.prompt import Prompt
from reward_model.combined_reward import CombinedReward, Scores
from rlhf.advantage import gae, token_rewards, whiten
from rlhf.config import PPOConfig
from rlhf.step_zero import ratio_errors, tolerance
from rlhf.value_model import ValueModel


class PPOError(ValueError):
    """PPO was set up wrongly, or its numbers ran away."""


@dataclass(frozen=True, eq=False, slots=True)
class Rollout:
    """B responses of at most T tokens. Tensors (B, T) are on the policy's device and 0 where ``response_mask`` is False."""

    prompts: list[Prompt]
    responses: list[Response]
    scores: Scores  # (B,) raw logits each
    response_mask: Tensor  # (B, T) bool
    logprobs: Tensor  # (B, T) under the policy that sampled: as recorded, or ``recomputed``
    ref_logprobs: Tensor  # (B, T)
    values: Tensor  # (B, T) of the state before each token
    rewards: Tensor  # (B, T)
    advantages: Tensor  # (B, T) whitened
    returns: Tensor  # (B, T)
    ratio_error: float | None  # largest |ratio - 1| of a full forward pass to what was recorded; None: not looked at
    recomputed: bool
    sampling_seconds: float
    scoring_seconds: float

    @property
    def kl(self) -> Tensor:
        """(B,) nats of each response: log pi(response) - log pi_0(response), the estimator k1."""
        return (self.logprobs - self.ref_logprobs).sum(dim=1)


def prompt_batches(prompts: Sequence[Prompt], batch_size: int, seed: int) -> Iterator[list[Prompt]]:
    """Batches without end: every prompt once an epoch, each epoch in another order, no prompt twice in a batch.

    A batch may begin with the last prompts of one epoch and go on with the next. Raises PPOError for too few prompts.
    """
    if len(prompts) < batch_size:
        raise PPOError(
            f"a batch of {batch_size} prompts was asked for, and there are {len(prompts)}; "
            f"give more prompts or set batch_size to {len(prompts)} or fewer"
        )
    rng = random.Random(seed)
    queue: list[int] = []
    while True:
        if len(queue) < batch_size:
            # Prompts still waiting come last in the next epoch, so that they cannot meet themselves in one batch.
            waiting = set(queue)
            queue += sorted(rng.sample(range(len(prompts)), len(prompts)), key=waiting.__contains__)
        yield [prompts[index] for index in queue[:batch_size]]
        queue = queue[batch_size:]


@torch.no_grad()
def rollout(
    sampler: Sampler,
    ref_policy: PreTrainedModel,
    value_model: ValueModel,
    prompts: Sequence[Prompt],
    reward: CombinedReward,
    config: PPOConfig,
    seed: int,
    policy: PreTrainedModel | None = None,
) -> Rollout:
    """Sample one response a prompt and work out its advantages. ``sampler`` samples from the policy that is to be updated.

    ``policy``: that policy, to hold what the sampler records against its forward pass.
    """
    started = time.perf_counter()
    groups = sampler.sample([prompt.messages for prompt in prompts], 1, config.temperature, 1.0, config.max_new_tokens, seed)
    responses = [group[0] for group in groups]
    sampled = time.perf_counter()

    scores = score_responses(prompts, responses, reward)
    ref_logprobs = _forward_logprobs(ref_policy, responses, config)
    values = _read(value_model, responses, config)
    lengths = [len(response.ids) for response in responses]
    response_mask = lengths_mask(lengths, max(lengths)).to(values.device)
    logprobs = torch.zeros_like(ref_logprobs)
    logprobs[response_mask] = torch.cat([logprobs.new_tensor(response.logprobs) for response in responses])
    ratio_error, recomputed = None, False
    if policy is not None:
        new_logprobs = _forward_logprobs(policy, responses, config)
        ratio_error = ratio_errors(new_logprobs, logprobs)[response_mask].max().item()
        if recomputed := not ratio_error <= tolerance(policy.dtype):
            logprobs = new_logprobs

    final_scores = penalised_scores(scores.combined, [response.finished for response in responses], config.missing_eos_penalty)
    rewards = token_rewards(final_scores.to(logprobs), logprobs - ref_logprobs, response_mask, config.kl_coef)
    advantages, returns = gae(rewards, values, response_mask, config.gamma, config.gae_lambda)
    return Rollout(
        prompts=list(prompts),
        responses=responses,
        scores=scores,
        response_mask=response_mask,
        logprobs=logprobs,
        ref_logprobs=ref_logprobs,
        values=values,
        rewards=rewards,
        advantages=whiten(advantages, response_mask),
        returns=returns,
        ratio_error=ratio_error,
        recomputed=recomputed,
        sampling_seconds=sampled - started,
        scoring_seconds=time.perf_counter() - sampled,
    )


def penalised_scores(combined: Tensor, finished: Sequence[bool], missing_eos_penalty: float) -> Tensor:
    """(B,) combined scores, whitened over the batch, less the penalty where EOS is missing; float64."""
    whitened = whiten(combined.double(), torch.ones_like(combined, dtype=torch.bool))
    return whitened - missing_eos_penalty * ~torch.tensor(finished, device=combined.device)


def score_responses(prompts: Sequence[Prompt], responses: Sequence[Response], reward: CombinedReward) -> Scores:
    """Scores of one response to each prompt.

    A response without text (EOS at once) makes no dialogue and cannot be scored: it takes the lowest score of the others on
    each axis, so that silence never pays. Where no response has text all scores are 0.
    """
    spoken = [index for index, response in enumerate(responses) if response.text.strip()]
    if not spoken:
        nothing = torch.zeros(len(responses))
        return Scores(nothing, nothing, nothing)
    dialogues = [[*prompts[index].messages, assistant(responses[index].text)] for index in spoken]
    found = reward.score(dialogues, [prompts[index].is_safety for index in spoken])

    def spread(scores: Tensor) -> Tensor:
        spread_scores = scores.min().repeat(len(responses))
        spread_scores[spoken] = scores
        return spread_scores

    return Scores(spread(found.helpfulness), spread(found.safety), spread(found.combined))


def microbatches(responses: Sequence[Response], rows: Sequence[int], size: int) -> list[list[int]]:
    """``rows`` in groups of ``size``, sorted by the length of prompt and response, so that there is little padding."""
    ordered = sorted(rows, key=lambda row: len(responses[row].prompt_ids) + len(responses[row].ids))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _forward_logprobs(model: PreTrainedModel, responses: Sequence[Response], config: PPOConfig) -> Tensor:
    """(B, T) log-probabilities of the responses under ``model``, as in the update."""

    def logprobs(prompt_ids: list[list[int]], response_ids: list[list[int]]) -> Tensor:
        logits, ids, _ = response_logits(model, prompt_ids, response_ids, config.temperature)
        return token_logprobs(logits, ids)

    return _read(logprobs, responses, config)


def _read(
    read: Callable[[list[list[int]], list[list[int]]], Tensor], responses: Sequence[Response], config: PPOConfig
) -> Tensor:
    """(B, T), float32 or wider: what ``read`` makes of prompt ids and response ids; 0 beyond a response's end."""
    lengths = [len(response.ids) for response in responses]
    whole: Tensor | None = None
    for rows in microbatches(responses, range(len(responses)), config.microbatch_size):
        found = read([responses[row].prompt_ids for row in rows], [responses[row].ids for row in rows])
        mask = lengths_mask([lengths[row] for row in rows], found.shape[1]).to(found.device)
        if whole is None:
            dtype = torch.promote_types(found.dtype, torch.float32)
            whole = torch.zeros((len(responses), max(lengths)), dtype=dtype, device=found.device)
        whole[rows, : found.shape[1]] = found.to(whole.dtype).masked_fill(~mask, 0.0)
    assert whole is not None
    return whole
