"""What the studies of the versions and of PPO are told and read, by the names that a recipe's run gives to it. Nothing heavy is
imported here."""

from typing import Literal

from pydantic import Field

from stages.recipe import Recipe, section_of
from stages.sections import EvaluationConfig, PPOStageConfig, Section
from stages.studies.inputs import Given
from stages.studies.tuning_inputs import REWARD_MODELS

Whitening = Literal["scores", "rewards", "none"]
ARMS: tuple[Whitening, ...] = ("scores", "rewards", "none")


class VersionsStudyConfig(Section):
    """Versions measured on the same prompts; there is nothing to choose."""


class GoodhartStudyConfig(Section):
    """Checkpoints of a PPO run judged by what took no part in it; there is nothing to choose."""


class WhiteningStudyConfig(Section):
    """PPO from one policy with each way of whitening, and what comes of it on the evaluation prompts."""

    ppo: PPOStageConfig = Field(description="what all ways have in common; its own whitening is not looked at")
    evaluation: EvaluationConfig = Field(description="how the evaluation prompts are answered")
    answers: int = Field(4, gt=0, description="answers to each evaluation prompt")
    training_seeds: int = Field(1, ge=1, description="how often each way is trained, with other random numbers")


def versions_inputs(recipe: Recipe) -> Given:
    """The evaluations of the recipe's policies: the supervised one, the versions of the rounds, and the one after PPO."""
    versions = tuple(f"evaluation/{each.version}" for each in recipe.rounds)
    return {"first": ("evaluation/sft",), "versions": versions, "with_ppo": (f"{versions[-1]}-ppo",)}


def goodhart_inputs(recipe: Recipe) -> Given:
    """The policy that PPO made, and the prompts from which its held-out ones were drawn."""
    return {"policy": (f"policy/{recipe.rounds[-1].version}-ppo",), "prompts": ("prompts/tuning",)}


def whitening_inputs(recipe: Recipe) -> Given:
    """What the recipe's PPO starts from and is judged by, and the prompts on which its outcome is measured."""
    prompts: Given = {"prompts": ("prompts/tuning",), "evaluation_prompts": ("prompts/evaluation",)}
    return {"policy": (f"policy/{recipe.rounds[-1].version}",), **REWARD_MODELS, **prompts}


def whitening_config(recipe: Recipe, answers: int | None = None, training_seeds: int | None = None) -> WhiteningStudyConfig:
    """As the recipe runs PPO and lets policies answer. Raises RecipeError for a team's, whose answers nobody judges."""
    evaluation = section_of(recipe, "evaluation")
    assert isinstance(evaluation, EvaluationConfig)
    asked = {"answers": answers, "training_seeds": training_seeds}
    given = {name: value for name, value in asked.items() if value is not None}
    return WhiteningStudyConfig(ppo=recipe.ppo, evaluation=evaluation, **given)
