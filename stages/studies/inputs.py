"""What the studies of a recipe read, by the names that its run gives to it, and how it would have them sample. Nothing heavy
is imported here."""

from collections.abc import Mapping, Sequence
from typing import Any

from preference_data.comparison import AXES
from stages.recipe import Recipe, SandboxRecipe
from stages.sections import RewardTrainingConfig, SamplingStudyConfig

Given = dict[str, tuple[str, ...]]
SANDBOX_SIZES = ("pico", "micro", "nano")


def reward_inputs(recipe: Recipe, training: RewardTrainingConfig) -> Given:
    """The comparisons of all rounds that ``training`` reads, and the prompts that gold knows, which are the sandbox's."""
    found = {"preferences": _every_round(recipe, training.axis)}
    if training.mixture == "paper":
        found["other_preferences"] = _every_round(recipe, "safety" if training.axis == "helpfulness" else "helpfulness")
    return found | ({"prompts": ("prompts/evaluation",)} if isinstance(recipe, SandboxRecipe) else {})


def sampling_study_config(recipe: Recipe, asked: Mapping[str, Any]) -> SamplingStudyConfig:
    """What was ``asked`` for, the recipe's own for what was not."""
    sampling = recipe.rejection_sampling
    given = {key: value for key, value in asked.items() if value is not None}
    shared = sampling.model_dump(include={"top_p", "top_k", "max_new_tokens", "safety_threshold"})
    return SamplingStudyConfig.model_validate(recipe.sampling_study.model_dump() | shared | given)


def sampling_study_inputs(*policies: str) -> Given:
    """The newest reward models and the evaluation prompts, for ``policies``."""
    models: Given = {axis: (f"reward_model/{axis}",) for axis in AXES}
    return {"policy": policies, **models, "prompts": ("prompts/evaluation",)}


def policies_of_sizes(recipe: Recipe, presets: Sequence[str]) -> tuple[str, ...]:
    """The supervised policy of each preset; that of the recipe's own preset is its ``policy/sft``.

    Raises ValueError for a team's recipe, which has no corpus to pretrain on.
    """
    if not isinstance(recipe, SandboxRecipe):
        raise ValueError(
            f"--sizes pretrains policies on the sandbox's corpus, and the recipe {recipe.name} has none; give policies "
            "of several sizes with --policy"
        )
    return tuple("policy/sft" if preset == recipe.pretrain.preset else f"policy/sft-{preset}" for preset in presets)


def _every_round(recipe: Recipe, axis: str) -> tuple[str, ...]:
    return tuple(f"preferences/{axis}-round-{number}" for number in range(1, len(recipe.rounds) + 1))
