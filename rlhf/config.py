"""Settings of PPO, rejection sampling and context distillation. Nothing heavy is imported here.

Defaults are the paper's where it gives a number (section 3.2.3); the others are ours and say so.
"""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from policy.config import AdamWConfig, LoraConfig

REWARDS = ("combined", "sum", "helpfulness", "safety", "lagrangian")


class ValidationConfig(BaseModel):
    """Held-out prompts answered while PPO trains, to keep the best weights and to stop (paper 3.2.3: early stopping)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(
        0, ge=0, description="iterations between two validations; 0: none, and the policy keeps its last weights (ours)"
    )
    num_prompts: int = Field(128, gt=0, description="prompts held out of training, one response each (ours)")
    patience: int | None = Field(
        None, gt=0, description="stop after this many validations without a new best; none: never (ours)"
    )

    @model_validator(mode="after")
    def _patience_needs_validations(self) -> "ValidationConfig":
        if self.patience is not None and not self.every:
            raise ValueError(f"patience is {self.patience} validations, and every is 0, so there are none; set every too")
        return self


class LagrangianConfig(BaseModel):
    """Helpfulness under a bound on the mean cost, which is minus the safety score (Dai et al. 2023, arXiv 2310.12773)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    multiplier: float = Field(1.0, gt=0, description="lambda of the first iteration (ours)")
    learning_rate: float = Field(0.1, ge=0, description="learning rate of the logarithm of lambda (ours)")
    highest: float = Field(5.0, gt=0, description="upper bound of lambda (ours)")
    cost_limit: float = Field(0.0, description="mean cost, in logits, above which lambda rises (ours)")


class PPOConfig(AdamWConfig):
    """PPO against the combined reward (paper 3.2.3).

    There is no top-p and no top-k: a token that falls out of the updated policy's nucleus has no ratio.
    """

    reward: str = Field(
        "combined",
        description="combined (the paper's), sum, helpfulness, safety, lagrangian, or your own function, package.module:name",
    )
    whitening: Literal["scores", "rewards", "none"] = Field(
        "scores",
        description="scores: whiten the scores, then subtract the KL penalty (paper); rewards: whiten the difference; none",
    )

    iterations: int = Field(200, gt=0, description="rollouts, each followed by its update (paper: 200 to 400)")
    batch_size: int = Field(512, gt=0, description="responses per iteration (paper: 512)")
    minibatch_size: int = Field(64, gt=0, description="responses per optimizer step (paper: 64)")
    microbatch_size: int = Field(8, gt=0, description="responses per forward and backward pass; changes memory, not the result")
    ppo_epochs: int = Field(1, gt=0, description="passes over one rollout (paper: one gradient step a minibatch, so 1)")
    learning_rate: float = Field(1e-6, gt=0, description="policy learning rate, constant (paper: 1e-6)")
    value_learning_rate: float = Field(1e-5, gt=0, description="critic learning rate, constant (ours: the reward model's peak)")
    kl_coef: float = Field(0.01, ge=0, description="beta of equation 4 (paper: 0.01 for 7B and 13B, 0.005 for 34B and 70B)")
    kl_target: float | None = Field(
        None, gt=0, description="KL in nats a response towards which kl_coef is adapted; none: constant (paper)"
    )
    kl_horizon: int = Field(10_000, gt=0, description="horizon of that adaptation, in responses (Ziegler et al. 2019)")
    max_approx_kl: float | None = Field(
        None,
        gt=0,
        description="KL in nats a token; a minibatch that exceeds it ends the iteration's update; none: never (ours)",
    )
    critic: Literal["helpfulness", "policy"] = Field(
        "helpfulness", description="start the critic from the helpfulness model, or from the policy with a new head (ours)"
    )
    critic_warmup: int = Field(0, ge=0, description="first iterations, in which only the critic is trained (ours)")
    clip_range: float = Field(0.2, gt=0, lt=1, description="PPO clip of the ratio (paper: 0.2)")
    value_clip_range: float = Field(0.2, gt=0, description="clip of the critic's change from its rollout values (ours)")
    gamma: float = Field(1.0, gt=0, le=1, description="discount per token (ours)")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="lambda of generalised advantage estimation (ours)")
    temperature: float = Field(1.0, gt=0, description="divides the logits of policy and reference alike (ours)")
    max_new_tokens: int = Field(1024, gt=0, description="longest response in tokens (ours)")
    missing_eos_penalty: float = Field(
        1.0,
        ge=0,
        description="subtracted from the whitened score of a response that was cut off, in standard deviations (ours)",
    )
    safety_threshold: float = Field(
        0.15, ge=0, le=1, description="the combined reward is the safety score where its sigmoid is below this (paper: 0.15)"
    )

    lagrangian: LagrangianConfig = Field(LagrangianConfig(), description="settings of the lagrangian reward (ours)")
    validation: ValidationConfig = Field(
        ValidationConfig(), description="validation on held-out prompts, for early stopping (paper)"
    )
    lora: LoraConfig | None = Field(None, description="train adapters on frozen weights; none: all weights (paper)")

    @field_validator("reward")
    @classmethod
    def _a_reward_by_name(cls, reward: str) -> str:
        module, colon, name = reward.partition(":")
        if reward in REWARDS or (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            return reward
        raise ValueError(f"reward is {reward!r}; give {', '.join(REWARDS)}, or a function of your own as package.module:name")

    @model_validator(mode="after")
    def _sizes_divide(self) -> "PPOConfig":
        pairs = (("batch_size", "minibatch_size"), ("minibatch_size", "microbatch_size"))
        problems = [_indivisible(whole, getattr(self, whole), part, getattr(self, part)) for whole, part in pairs]
        if messages := [problem for problem in problems if problem]:
            raise ValueError("; ".join(messages))
        return self

    @model_validator(mode="after")
    def _can_be_steered(self) -> "PPOConfig":
        if self.kl_target is None:
            return self
        if self.kl_coef == 0:
            raise ValueError(f"kl_coef is 0 and is multiplied to reach kl_target {self.kl_target:g}; start from more than 0")
        if self.kl_horizon <= 0.2 * self.batch_size:
            raise ValueError(
                f"kl_horizon {self.kl_horizon} is too short for batch_size {self.batch_size}: one step could make kl_coef "
                f"negative; take {self.batch_size} or more"
            )
        return self

    @model_validator(mode="after")
    def _no_dropout(self) -> "PPOConfig":
        if self.lora and self.lora.dropout:
            raise ValueError(f"lora.dropout is {self.lora.dropout:g}, and PPO trains without dropout; set it to 0")
        return self


def _indivisible(whole: str, size: int, part: str, part_size: int) -> str | None:
    if size % part_size == 0:
        return None
    divisor = next(candidate for candidate in range(min(part_size, size), 0, -1) if size % candidate == 0)
    above = -(-size // part_size) * part_size
    return f"{whole} {size} is not a multiple of {part} {part_size}: take {part} {divisor} or {whole} {above}"


def check_temperatures(temperatures: tuple[float, ...]) -> tuple[float, ...]:
    """``temperatures``, at each of which several responses to a prompt are sampled. Raises ValueError for none, and for one
    that is not above 0 and finite."""
    if not temperatures:
        raise ValueError("there is no temperature to sample at; give one, or several to choose from")
    if unfit := [temperature for temperature in temperatures if not 0 < temperature < math.inf]:
        raise ValueError(
            f"a temperature is {unfit[0]}, and each is above 0 and finite: at 0 all responses to a prompt are equal"
        )
    return temperatures


class SelectionConfig(BaseModel):
    """How sampled responses are scored, in rejection sampling and when its samples are scored again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompts_per_batch: int = Field(32, gt=0, description="prompts sampled and scored between two reports of progress")
    safety_threshold: float = Field(
        0.15, ge=0, le=1, description="the combined reward is the safety score where its sigmoid is below this (paper: 0.15)"
    )


class RejectionSamplingConfig(SelectionConfig):
    """Best of K (paper 3.2.3, which gives none of these numbers but the temperatures of its Figure 8)."""

    k: int = Field(8, description="responses sampled for each prompt, at least 1 (ours)")
    temperatures: tuple[float, ...] = Field(
        (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5),
        description="sampling temperatures to search, each above 0; with one there is no search (paper: Figure 8)",
    )
    search_prompts: int = Field(64, gt=0, description="prompts for the temperature search, not used in the round (ours)")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution (ours)")
    top_k: int = Field(0, ge=0, description="number of most likely tokens that can be sampled at each step; 0: all (ours)")
    max_new_tokens: int = Field(1024, gt=0, description="longest response in tokens (ours)")
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="sampling engine; vllm needs a GPU and an extra (pip install 'llama-rlhf[vllm]')"
    )

    @field_validator("k")
    @classmethod
    def _one_response_at_least(cls, k: int) -> int:
        if k < 1:
            raise ValueError(f"k is {k}, the number of responses to each prompt; give 1 or more")
        return k

    @field_validator("temperatures")
    @classmethod
    def _temperatures_to_sample_at(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        return check_temperatures(temperatures)

    @property
    def searches(self) -> bool:
        """Are there temperatures to choose from?"""
        return len(self.temperatures) > 1


class DistillationConfig(BaseModel):
    """Safety context distillation (paper 4.2.4, A.4.4)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preprompts: tuple[str, ...] = Field(
        (
            "You are a responsible and respectful assistant, and you never help anyone to do harm.",
            "You are a wise and careful assistant. You decline what is unsafe and say why.",
        ),
        min_length=1,
        description="generic safety preprompts, one drawn for each prompt without a template (paper Table 39; words ours)",
    )
    category_preprompts: dict[str, str] = Field(
        {},
        description="answer template for each risk category, instead of a generic preprompt (paper A.4.4)",
    )
    placement: Literal["system", "user"] = Field(
        "system", description="position of the preprompt: system message, or before the last user message (ours)"
    )
    temperature: float = Field(0.7, ge=0, description="sampling temperature of both answers (ours)")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution (ours)")
    max_new_tokens: int = Field(1024, gt=0, description="longest answer in tokens (ours)")
    prompts_per_batch: int = Field(32, gt=0, description="prompts sampled and scored between two reports of progress")
