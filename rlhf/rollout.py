"""One sampling phase of PPO: responses, their scores, and all that the update needs (paper 3.2.3).

From scores to advantages, in this order:

    scores      R_c, the combined reward as a raw logit, one a response
    whitened    to mean 0 and variance 1 over the whole iteration batch
    penalised   missing_eos_penalty taken from responses that ran out of room (they are scored as if EOS followed)
    rewards     the score on the last response token, -kl_coef * kl on every token
    advantages  generalised advantage estimation against the critic, whitened over the iteration's tokens

``config.whitening`` "rewards" takes the KL penalty of the whole response from the score first and whitens their difference;
"none" leaves the scores as logits. In both kl_coef weighs nats against logits, not against standard deviations.

The log-probabilities are those the sampler recorded, and the ids are those it sampled: text is never encoded again, and
nothing is computed twice. Only where a policy is given are they compared with a full forward pass of it, as the update will
make; where the two differ by more than rounding (``rlhf/step_zero.py``), those of the forward pass are used. All models run in
eval mode, so that dropout cannot make sampling and update differ.
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
from preference_data.prompt import Prompt
from reward_model.combined_reward import Scores
from reward_model.responses import ResponseScores, filled, score_responses
from reward_model.reward_rules import Reward
from rlhf.advantage import gae, token_rewards, whiten
from rlhf.config import PPOConfig
from rlhf.processes import Processes
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
    ratio_error: float | None  # largest |ratio - 1| of a full forward pass to what was recorded; None: not measured
    recomputed: bool
    sampling_seconds: float
    scoring_seconds: float

    @property
    def kl(self) -> Tensor:
        """(B,) nats of each response: log pi(response) - log pi_0(response), the estimator k1."""
        return (self.logprobs - self.ref_logprobs).sum(dim=1)


def prompt_batches(prompts: Sequence[Prompt], batch_size: int, seed: int) -> Iterator[list[Prompt]]:
    """Batches without end: every prompt once an epoch, each epoch in another order, no prompt twice in a batch.

    A batch may begin with the last prompts of one epoch and continue with the next. Raises PPOError for too few prompts.
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
    reward: Reward,
    config: PPOConfig,
    kl_coef: float,
    seed: int,
    policy: PreTrainedModel | None = None,
    processes: Processes = Processes(),
) -> Rollout:
    """Sample one response a prompt and compute its advantages. ``sampler`` samples from the policy that is to be updated.

    ``policy``: that policy, to compare what the sampler records with its forward pass.
    """
    started = time.perf_counter()
    own = processes.share(prompts)
    responses = respond(sampler, own, config, seed)
    sampled = time.perf_counter()

    rows = processes.gathered(_read_responses(own, responses, ref_policy, value_model, policy, reward, config))
    responses, scores = [row.response for row in rows], filled([row.scores for row in rows])
    device = next(value_model.parameters()).device
    ref_logprobs, values = (padded([getattr(row, name) for row in rows]).to(device) for name in ("ref_logprobs", "values"))
    lengths = [len(response.ids) for response in responses]
    response_mask = lengths_mask(lengths, max(lengths)).to(device)
    logprobs = padded([torch.tensor(response.logprobs) for response in responses]).to(ref_logprobs)
    ratio_error, recomputed = None, False
    if policy is not None:
        new_logprobs = padded([row.new_logprobs for row in rows if row.new_logprobs is not None]).to(device)
        ratio_error = ratio_errors(new_logprobs, logprobs)[response_mask].max().item()
        if recomputed := not ratio_error <= tolerance(policy.dtype):
            logprobs = new_logprobs

    finished = torch.tensor([response.finished for response in responses], device=device)
    kl = logprobs - ref_logprobs
    rewards = response_rewards(scores.combined.to(logprobs), finished, kl, response_mask, kl_coef, config)
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


@dataclass(frozen=True, eq=False, slots=True)
class Read:
    """A response, its scores (None without text), and what the models compute of its tokens: tensors (T,) on the CPU."""

    response: Response
    scores: ResponseScores | None
    ref_logprobs: Tensor
    values: Tensor | None = None
    new_logprobs: Tensor | None = None


def _read_responses(
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    ref_policy: PreTrainedModel,
    value_model: ValueModel,
    policy: PreTrainedModel | None,
    reward: Reward,
    config: PPOConfig,
) -> list[Read]:
    """One record a response, by a pass of each model."""
    scores = score_responses(prompts, responses, reward)
    ref_logprobs = logprobs_under(ref_policy, responses, config)
    values = _read(value_model, responses, config)
    new_logprobs = logprobs_under(policy, responses, config) if policy is not None else [None] * len(responses)
    return [Read(*row) for row in zip(responses, scores, ref_logprobs, values, new_logprobs, strict=True)]


def response_rewards(
    scores: Tensor, finished: Tensor, kl: Tensor, response_mask: Tensor, kl_coef: float, config: PPOConfig
) -> Tensor:
    """(B, T) rewards: scores (B,) whitened as ``config.whitening`` says, less both penalties, of a missing EOS and of KL.

    ``finished`` (B,) bool: EOS was sampled. ``kl`` (B, T) nats: log pi(token) - log pi_0(token). The penalty for a missing EOS
    is taken after whitening and so in standard deviations of the batch, of "none" in logits.
    """
    match config.whitening:
        case "scores":
            final, token_kl = _whitened(scores), kl
        case "rewards":
            final, token_kl = _whitened(scores - kl_coef * kl.masked_fill(~response_mask, 0.0).sum(dim=1)), torch.zeros_like(kl)
        case "none":
            final, token_kl = scores, kl
    return token_rewards(final - config.missing_eos_penalty * (~finished).to(final), token_kl, response_mask, kl_coef)


def _whitened(scores: Tensor) -> Tensor:
    return whiten(scores.double(), torch.ones_like(scores, dtype=torch.bool)).to(scores.dtype)


def respond(sampler: Sampler, prompts: Sequence[Prompt], config: PPOConfig, seed: int) -> list[Response]:
    """One response a prompt, under PPO's settings: no top-p, no top-k. Raises ContextOverflow."""
    groups = sampler.sample([prompt.messages for prompt in prompts], 1, config.temperature, 1.0, config.max_new_tokens, seed)
    return [group[0] for group in groups]


def padded(rows: Sequence[Tensor]) -> Tensor:
    """(B, T): rows (T_i,) one below the other, 0 after each one's end."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def microbatches(responses: Sequence[Response], rows: Sequence[int], size: int) -> list[list[int]]:
    """``rows`` in groups of ``size``, sorted by the length of prompt and response, so that there is little padding."""
    ordered = sorted(rows, key=lambda row: len(responses[row].prompt_ids) + len(responses[row].ids))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def logprobs_under(model: PreTrainedModel, responses: Sequence[Response], config: PPOConfig) -> list[Tensor]:
    """(T,) log-probabilities of each response under ``model``, as in the update; on the CPU."""

    def logprobs(prompt_ids: list[list[int]], response_ids: list[list[int]]) -> Tensor:
        logits, ids, _ = response_logits(model, prompt_ids, response_ids, config.temperature)
        return token_logprobs(logits, ids)

    return _read(logprobs, responses, config)


def _read(
    read: Callable[[list[list[int]], list[list[int]]], Tensor], responses: Sequence[Response], config: PPOConfig
) -> list[Tensor]:
    """(T,) of each response, float32 or wider, on the CPU: what ``read`` makes of prompt ids and response ids."""
    values_of: dict[int, Tensor] = {}
    for rows in microbatches(responses, range(len(responses)), config.microbatch_size):
        batch = read([responses[row].prompt_ids for row in rows], [responses[row].ids for row in rows])
        batch = batch.to(torch.promote_types(batch.dtype, torch.float32)).cpu()
        values_of |= {row: values[: len(responses[row].ids)] for row, values in zip(rows, batch, strict=True)}
    return [values_of[row] for row in range(len(responses))]
