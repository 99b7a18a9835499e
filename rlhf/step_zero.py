"""PPO's step 0: before the first update the policy that samples, the policy that learns and the reference are one.

    ratio = exp(new_logprobs - logprobs) = 1            KL(policy || ref_policy) = 0

``logprobs`` are recorded while sampling, token by token with a cache; ``new_logprobs`` and ``ref_logprobs`` come from one
forward pass over prompt and response, as in the update. All three are the same function of the same weights. Where they differ
by more than rounding, something is wrong before training begins: PPO would weigh and clip tokens by a ratio that no update
caused, and pay a KL penalty although the policy has not moved. ``rlhf/ratio_causes.py`` looks for the cause.

PPO measures the ratio in its first iteration (``rlhf/rollout.py``), ``rlhf doctor`` at every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from policy.generation import Response, Sampler
from policy.logprobs import response_logprobs, token_logprobs
from preference_data.messages import Messages
from rlhf.config import PPOConfig

_HALF = (torch.bfloat16, torch.float16)


def is_half(dtype: torch.dtype) -> bool:
    return dtype in _HALF


def tolerance(dtype: torch.dtype) -> float:
    """The largest |ratio - 1| that counts as rounding: 1e-4 in float32 and wider, 0.05 in bfloat16 and float16."""
    return 0.05 if is_half(dtype) else 1e-4


def ratio_errors(new_logprobs: Tensor, logprobs: Tensor) -> Tensor:
    """|ratio - 1| of each token; NaN where either is NaN, so compare with ``<=`` the tolerance, never with ``>``."""
    return torch.expm1(new_logprobs - logprobs).abs()


@dataclass(frozen=True, eq=False, slots=True)
class Sampling:
    """One response to each prompt, and how to sample them again. ``temperature`` is the one requested of the sampler."""

    sampler: Sampler
    prompts: list[Messages]
    responses: list[Response]
    temperature: float
    max_new_tokens: int
    seed: int

    @property
    def logprobs(self) -> Tensor:
        """(N,) what the sampler recorded."""
        return recorded_logprobs(self.responses)

    def sample(self, prompts: Sequence[Messages]) -> list[Response]:
        """One response to each of ``prompts``, from the same sampler with the same settings and seed."""
        groups = self.sampler.sample(prompts, 1, self.temperature, 1.0, self.max_new_tokens, self.seed)
        return [group[0] for group in groups]


def sample_as_ppo(sampler: Sampler, prompts: Sequence[Messages], config: PPOConfig, seed: int) -> Sampling:
    """One response to each prompt under PPO's settings. Raises ContextOverflow, MessagesError."""
    sampling = Sampling(sampler, list(prompts), [], config.temperature, config.max_new_tokens, seed)
    return replace(sampling, responses=sampling.sample(prompts))


def recorded_logprobs(responses: Sequence[Response]) -> Tensor:
    """(N,) log-probabilities that the sampler recorded, the tokens of all responses in a row."""
    return torch.cat([torch.tensor(response.logprobs) for response in responses])


def forward_logprobs(model: PreTrainedModel, responses: Sequence[Response], temperature: float) -> Tensor:
    """(N,) log-probabilities of the tokens of all responses in a row, by the forward pass that PPO's update uses."""
    prompt_ids, ids = [response.prompt_ids for response in responses], [response.ids for response in responses]
    return torch.cat(response_logprobs(model, prompt_ids, ids, temperature, microbatch_size=8)).cpu()


@torch.inference_mode()
def unpadded_logprobs(model: PreTrainedModel, responses: Sequence[Response], temperature: float) -> Tensor:
    """As ``forward_logprobs``, but one response at a time through the whole model, without any padding."""
    logprobs = []
    for response in responses:
        start = len(response.prompt_ids)
        ids = torch.tensor([[*response.prompt_ids, *response.ids]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        logprobs.append(token_logprobs(logits, ids[0, start:]))
    return torch.cat(logprobs).cpu()


@dataclass(frozen=True, slots=True)
class StepZero:
    """What was measured. Errors are |ratio - 1|; ``ref_ratio_error`` is the largest between policy and reference.

    ``kl`` is nats per response, policy from reference, estimator k1, both by a forward pass.
    """

    num_responses: int
    num_tokens: int
    tolerance: float
    ratio_error: float
    mean_ratio_error: float
    ref_ratio_error: float
    kl: float

    @property
    def ratio_holds(self) -> bool:
        return self.ratio_error <= self.tolerance

    @property
    def kl_holds(self) -> bool:
        return self.ref_ratio_error <= self.tolerance


def step_zero(sampling: Sampling, policy: PreTrainedModel, ref_policy: PreTrainedModel) -> StepZero:
    """Compare sampler, policy and reference on the same tokens; the models run in the mode they are in."""
    new_logprobs = forward_logprobs(policy, sampling.responses, sampling.temperature)
    ref_logprobs = forward_logprobs(ref_policy, sampling.responses, sampling.temperature)
    errors = ratio_errors(new_logprobs, sampling.logprobs)
    return StepZero(
        num_responses=len(sampling.responses),
        num_tokens=len(errors),
        tolerance=tolerance(policy.dtype),
        ratio_error=errors.max().item(),
        mean_ratio_error=errors.mean().item(),
        ref_ratio_error=ratio_errors(new_logprobs, ref_logprobs).max().item(),
        kl=((new_logprobs - ref_logprobs).sum() / len(sampling.responses)).item(),
    )
