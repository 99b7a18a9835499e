"""The configs of the studies, and how a recipe sets them. Nothing heavy is imported here."""

from typing import Any, Literal

from pydantic import Field, field_validator

from rlhf.config import check_temperatures
from stages.recipe import Recipe, section_of
from stages.sections import EvaluationConfig, PPOStageConfig, RewardTrainingConfig, SamplingStudySizes, Section, TuningConfig

Whitening = Literal["scores", "rewards", "none"]


class RewardStudyConfig(Section):
    """A reward model trained in several ways."""

    training: RewardTrainingConfig = Field(description="settings shared by all arms")
    training_seeds: int | None = Field(
        None, ge=1, description="trainings of each arm, with other heads and data orders; default: by its cost"
    )


class ScalingStudyConfig(RewardStudyConfig):
    """A reward model trained on growing shares of its comparisons, each within the next."""

    shares: tuple[float, ...] = Field((0.125, 0.25, 0.5, 1.0), min_length=2, description="shares of the data, ending with all")

    @field_validator("shares")
    @classmethod
    def _growing_to_all(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if shares[0] <= 0 or shares[-1] != 1 or list(shares) != sorted(set(shares)):
            raise ValueError(f"shares are above 0, grow, and end with 1; these are {', '.join(map(str, shares))}")
        return shares


class AccuracyStudyConfig(Section):
    """What the scores of a recipe's own two reward models are worth."""

    safety_threshold: float = Field(
        0.15, gt=0, lt=1, description="threshold of the combined reward, whose precision is measured"
    )


class SamplingStudyConfig(SamplingStudySizes):
    """Many responses to each prompt at each temperature: how reward grows with their number (paper Figures 7 and 8)."""

    temperatures: tuple[float, ...] = Field(
        (0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5),
        description="sampling temperatures, each above 0 and given once (paper: these, Figure 8)",
    )
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution")
    top_k: int = Field(0, ge=0, description="number of most likely tokens that can be sampled at each step; 0: all")
    max_new_tokens: int = Field(gt=0, description="longest response in tokens")
    safety_threshold: float = Field(0.15, ge=0, le=1, description="threshold of the combined reward")

    @field_validator("temperatures")
    @classmethod
    def _temperatures_to_tell_apart(cls, temperatures: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(check_temperatures(temperatures))) < len(temperatures):
            raise ValueError(
                f"the temperatures are {', '.join(f'{temperature:g}' for temperature in temperatures)}; give each once"
            )
        return temperatures


class TunedStudyConfig(Section):
    """A base model fine-tuned in several ways, each of which then answers the evaluation prompts."""

    tuning: TuningConfig = Field(description="settings shared by all arms")
    evaluation: EvaluationConfig = Field(description="how the evaluation prompts are answered")
    answers: int = Field(4, gt=0, description="answers to each evaluation prompt")
    training_seeds: int | None = Field(
        None, ge=1, description="trainings of each arm, in other data orders; default: by its cost"
    )


class VersionsStudyConfig(Section):
    """Versions measured on the same prompts; there is nothing to set."""


class GoodhartStudyConfig(Section):
    """Checkpoints of a PPO run, judged by what took no part in it; there is nothing to set."""


class WhiteningStudyConfig(Section):
    """PPO from one policy with each way of whitening, and its outcome on the evaluation prompts."""

    ppo: PPOStageConfig = Field(description="settings shared by all arms; its own whitening is ignored")
    evaluation: EvaluationConfig = Field(description="how the evaluation prompts are answered")
    answers: int = Field(4, gt=0, description="answers to each evaluation prompt")
    training_seeds: int = Field(1, ge=1, description="trainings of each arm, with other random numbers")


class GattIntermediateStudyConfig(Section):
    """Ghost Attention with the intermediate answers as they were, and resampled; there is nothing to set."""


class GattStudyConfig(Section):
    """Policies before and after Ghost Attention on the same dialogues and prompts."""

    attention_dialogues: int = Field(
        40, ge=0, description="dialogues whose attention is measured, the first that reach the last turn; 0: none"
    )


def reward_study(axis: str) -> Any:
    """The function that gives the config of a study which trains the reward model of ``axis``."""
    return lambda recipe: RewardStudyConfig(training=getattr(recipe, axis))


def scaling_study(recipe: Recipe) -> ScalingStudyConfig:
    return ScalingStudyConfig(training=recipe.helpfulness)


def accuracy_study(recipe: Recipe) -> AccuracyStudyConfig:
    return AccuracyStudyConfig(safety_threshold=recipe.ppo.safety_threshold)


def temperature_study(recipe: Recipe) -> SamplingStudyConfig:
    """As the recipe's rejection sampling samples, at the paper's temperatures."""
    shared = recipe.rejection_sampling.model_dump(include={"top_p", "top_k", "max_new_tokens", "safety_threshold"})
    return SamplingStudyConfig.model_validate(recipe.sampling_study.model_dump() | shared)


def best_of_n_study(recipe: Recipe) -> SamplingStudyConfig:
    return temperature_study(recipe).model_copy(update={"temperatures": (1.0,)})


def tuned_study(recipe: Recipe) -> TunedStudyConfig:
    """As the recipe tunes its versions and evaluates them. Raises RecipeError for a team's recipe, which has no gold."""
    evaluation = section_of(recipe, "evaluation")
    assert isinstance(evaluation, EvaluationConfig)
    return TunedStudyConfig(tuning=recipe.tuning, evaluation=evaluation)


def whitening_study(recipe: Recipe) -> WhiteningStudyConfig:
    """As the recipe runs PPO and evaluates policies. Raises RecipeError for a team's recipe, which has no gold."""
    evaluation = section_of(recipe, "evaluation")
    assert isinstance(evaluation, EvaluationConfig)
    return WhiteningStudyConfig(ppo=recipe.ppo, evaluation=evaluation)
