"""What the studies of a recipe read, by the names that its run gives to it. Nothing heavy is imported here."""

from collections.abc import Sequence

from stages.recipe import Recipe, SandboxRecipe
from stages.sections import RewardTrainingConfig

Given = dict[str, tuple[str, ...]]
SANDBOX_SIZES = ("pico", "micro", "nano")


def reward_inputs(recipe: Recipe, training: RewardTrainingConfig) -> Given:
    """The comparisons of all rounds that ``training`` reads, and the prompts that gold knows, which are the sandbox's."""
    found = {"preferences": _every_round(recipe, training.axis)}
    if training.mixture == "paper":
        found["other_preferences"] = _every_round(recipe, "safety" if training.axis == "helpfulness" else "helpfulness")
    return found | ({"prompts": ("prompts/evaluation",)} if isinstance(recipe, SandboxRecipe) else {})


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
