"""PPO with the combined reward, from the last version of the rounds (paper 3.2.3)."""

from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import PreTrainedTokenizerBase

from policy.checkpoint import load_policy, save_checkpoint
from registry.saved_states import SavedStates
from reward_model.model import is_foreign
from rlhf.ppo import ppo
from rlhf.ppo_stats import PPOStats
from rlhf.value_model import ValueModel, load_value_model, new_value_model
from stages.draw_prompts import draw_prompts, prompts_of
from stages.load_models import reward_of
from stages.progress import Progress
from stages.sections import PPOStageConfig
from stages.stage import Inputs, Stage, one


def run(
    config: PPOStageConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    start = one(inputs, "policy").path
    policy, tokenizer = load_policy(start)
    ref_policy, _ = load_policy(start)
    value_model = _critic(inputs, tokenizer, seed, progress)
    prompts = draw_prompts(prompts_of(one(inputs, "prompts")), config.num_helpful, config.num_adversarial, "ppo", seed)
    reward = reward_of(inputs, config.safety_threshold)
    history: list[PPOStats] = []
    training = ppo(policy, ref_policy, value_model, tokenizer, prompts, reward, config, seed, states)
    for stats in progress.track(training, config.iterations, "ppo", "iteration"):
        if stats.recomputed and not history:
            progress.say(
                f"step 0: |ratio - 1| is {stats.ratio_error:.2g}, more than rounding, between the sampler and a forward pass; "
                "the log-probabilities of the forward pass are used. rlhf doctor names the cause"
            )
        history.append(stats)
    save_checkpoint(policy, tokenizer, out)
    first, last = history[:5], history[-5:]
    return {
        "iterations": len(history),
        "score_first": fmean(stats.score for stats in first),
        "score_last": fmean(stats.score for stats in last),
        "kl": fmean(stats.kl for stats in last),
        "response_length": fmean(stats.response_length for stats in last),
        "eos_fraction": fmean(stats.eos_fraction for stats in last),
        "ratio_error": history[0].ratio_error,
        "recomputed": sum(stats.recomputed for stats in history),
    }


def _critic(inputs: Inputs, tokenizer: PreTrainedTokenizerBase, seed: int, progress: Progress) -> ValueModel:
    """The critic: it starts as the helpfulness model, or as the policy where that is from elsewhere and reads other ids."""
    helpfulness, start = one(inputs, "helpfulness"), one(inputs, "policy")
    if not is_foreign(helpfulness.path):
        return load_value_model(helpfulness.path, tokenizer)
    progress.say(f"{helpfulness.reference} is from elsewhere, so the critic starts as {start.reference} with a new head")
    return new_value_model(start.path, seed)


STAGE = Stage(
    "ppo",
    "policy",
    3,
    PPOStageConfig,
    run,
    {"policy": "policy", "helpfulness": "reward_model", "safety": "reward_model", "prompts": "prompts"},
)
