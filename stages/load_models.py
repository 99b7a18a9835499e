"""The models that several stages open: a sampler for a policy, and the combined reward of two reward models."""

import transformers

from policy.checkpoint import load_policy
from policy.generation import Sampler, TransformersSampler
from policy.vllm_sampler import VllmSampler, check_vllm_temperatures
from reward_model.combined_reward import CombinedReward
from reward_model.opening import open_scorer
from reward_model.scoring import Scorer
from rlhf.config import RejectionSamplingConfig
from stages.progress import Progress
from stages.stage import Inputs, one


def sampler_of(inputs: Inputs, progress: Progress, kept_tokens: int = 0) -> TransformersSampler:
    return TransformersSampler(*load_policy(one(inputs, "policy").path), kept_tokens=kept_tokens, say=progress.say)


def engine_of(inputs: Inputs, progress: Progress, config: RejectionSamplingConfig) -> tuple[Sampler, str]:
    """The sampler that ``config.engine`` names, and what it runs on: version, device, number format.

    A manifest's device and number format are the stage's own, which vLLM does not share. Raises VllmMissing, and ValueError
    for temperatures that the engine does not sample at.
    """
    if config.engine == "vllm":
        check_vllm_temperatures(config.temperatures)
        engine = VllmSampler(one(inputs, "policy").path)
        return engine, engine.runs_on
    sampler = sampler_of(inputs, progress)
    dtype = str(sampler.model.dtype).removeprefix("torch.")
    return sampler, f"transformers {transformers.__version__}, {sampler.model.device.type}, {dtype}"


def scorer_of(inputs: Inputs, axis: str) -> Scorer:
    return open_scorer(one(inputs, axis).path)


def reward_of(inputs: Inputs, threshold: float) -> CombinedReward:
    return CombinedReward(scorer_of(inputs, "helpfulness"), scorer_of(inputs, "safety"), threshold)
