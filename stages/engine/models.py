"""The models that several stages open: a sampler for a policy, a judge, and the combined reward of two reward models."""

from collections.abc import Sequence

import transformers

from gatt.constraints import Constraint
from policy.checkpoint import load_policy
from policy.generation import Sampler, TransformersSampler
from policy.judging import Judge, PolicyJudge
from policy.vllm_sampler import VllmSampler, check_vllm_temperatures
from reward_model.combined_reward import CombinedReward
from reward_model.opening import open_scorer
from reward_model.scoring import BatchScorer
from rlhf.config import RejectionSamplingConfig
from stages.stage import Inputs, one
from stages.terminal.progress import Progress


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


def judge_of(inputs: Inputs, constraints: Sequence[Constraint], messages: Sequence[str], max_new_tokens: int) -> Judge | None:
    """The policy that judges ``constraints`` without a checker, where one was given; ``messages`` are what is answered.

    Raises ContextOverflow where its context has no room for what it would have to read.
    """
    judged = [constraint.instruction for constraint in constraints if constraint.check is None]
    if not inputs.get("judge") or not judged:
        return None
    judge = PolicyJudge(*load_policy(one(inputs, "judge").path))
    judge.check_room(judged, messages, max_new_tokens)
    return judge


def scorer_of(inputs: Inputs, axis: str) -> BatchScorer:
    return open_scorer(one(inputs, axis).path)


def reward_of(inputs: Inputs, threshold: float) -> CombinedReward:
    return CombinedReward(scorer_of(inputs, "helpfulness"), scorer_of(inputs, "safety"), threshold)
