"""The models that several stages open: a sampler for a policy, and the combined reward of two reward models."""

from typing import Literal

from policy.checkpoint import load_policy
from policy.generation import Sampler, TransformersSampler
from policy.vllm_sampler import VllmSampler
from reward_model.combined_reward import CombinedReward
from reward_model.opening import open_scorer
from reward_model.scoring import Scorer
from stages.progress import Progress
from stages.stage import Inputs, one


def sampler_of(inputs: Inputs, progress: Progress, kept_tokens: int = 0) -> TransformersSampler:
    return TransformersSampler(*load_policy(one(inputs, "policy").path), kept_tokens=kept_tokens, say=progress.say)


def engine_of(inputs: Inputs, progress: Progress, engine: Literal["transformers", "vllm"]) -> Sampler:
    """The sampler of the name ``engine``. Raises VllmMissing."""
    return VllmSampler(one(inputs, "policy").path) if engine == "vllm" else sampler_of(inputs, progress)


def scorer_of(inputs: Inputs, axis: str) -> Scorer:
    return open_scorer(one(inputs, axis).path)


def reward_of(inputs: Inputs, threshold: float) -> CombinedReward:
    return CombinedReward(scorer_of(inputs, "helpfulness"), scorer_of(inputs, "safety"), threshold)
