"""A small PPO that the tests share: six prompts, a reward that counts letters, tiny models, and stats made up by hand."""

import dataclasses
from typing import Any

import torch
from fakes import ConstantScorer, make_prompts, tiny_policy

from preference_data.messages import Messages
from reward_model.combined_reward import CombinedReward
from rlhf.config import PPOConfig
from rlhf.ppo_stats import PPOStats
from rlhf.value_model import ValueModel

QUESTIONS = [
    "What is the sea?",
    "The fox?",
    "Which one is older, the fox or the owl?",
    "Take the pot.",
    "Napoleon?",
    "Sure, the plum.",
]
PROMPTS = make_prompts(QUESTIONS)
HELD_OUT = make_prompts(["The owl?", "Take tea.", "Why?"])


class LetterScorer:
    """How many letters "e" the answer has."""

    def score(self, dialogues: list[Messages]) -> torch.Tensor:
        return torch.tensor([float(dialogue[-1]["content"].count("e")) for dialogue in dialogues])


REWARD = CombinedReward(LetterScorer(), ConstantScorer(5.0))


def value_model(dtype: torch.dtype = torch.float32) -> ValueModel:
    torch.manual_seed(7)
    return ValueModel(tiny_policy(seed=3, dtype=dtype).model, torch.nn.Linear(32, 1, bias=False, dtype=dtype))


def config(**changes: object) -> PPOConfig:
    base = {
        "iterations": 1,
        "batch_size": 6,
        "minibatch_size": 6,
        "microbatch_size": 2,
        "max_new_tokens": 7,
        "learning_rate": 1e-3,
    }
    return PPOConfig.model_validate({**base, "value_learning_rate": 1e-3, **changes})


def ppo_stats_of(**changes: Any) -> PPOStats:
    """A healthy iteration, but for ``changes``."""
    healthy: dict[str, Any] = {field.name: 0.0 for field in dataclasses.fields(PPOStats)}
    healthy |= {"iteration": 1, "score_std": 1.0, "length_correlation": None, "lagrange_multiplier": None, "kl_coef": 0.01}
    healthy |= {"entropy": 2.0, "response_length": 20.0, "eos_fraction": 1.0, "num_steps": 8, "num_tokens": 1000}
    return PPOStats(**healthy | {"ratio_error": None, "recomputed": False, "validations": ()} | changes)
