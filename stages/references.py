"""What a recipe's run calls its artifacts: the default inputs of stages and studies refer to them by these names."""

from collections.abc import Callable

from preference_data.comparison import AXES
from stages.recipe import Recipe, SandboxRecipe

TUNING_PROMPTS, EVALUATION_PROMPTS = ("prompts/tuning",), ("prompts/evaluation",)
REWARD_MODELS: dict[str, tuple[str, ...]] = {axis: (f"reward_model/{axis}",) for axis in AXES}
SANDBOX_SIZES = ("pico", "micro", "nano")
"""The presets that the sandbox pretrains to compare sizes of model."""
READINGS = ("original", "resampled")
"""Ghost Attention's intermediate answers: as they were, or sampled under the instruction (paper 3.3 leaves it open)."""
Names = Callable[[Recipe], tuple[str, ...]]


def batch_name(number: int) -> str:
    """What the comparisons and the prompts of a round are called."""
    return f"round-{number}"


def versions(recipe: Recipe, kind: str) -> tuple[str, ...]:
    """One artifact of ``kind`` for each version of the rounds."""
    return tuple(f"{kind}/{round_.version}" for round_ in recipe.rounds)


def last_version(recipe: Recipe) -> str:
    return recipe.rounds[-1].version


def final_policy(recipe: Recipe) -> str:
    """The policy after PPO, to which the alias ``policy/chat`` points."""
    return f"policy/{last_version(recipe)}-ppo"


def gatt_version(recipe: Recipe) -> str | None:
    """The version that the recipe's Ghost Attention starts from; None without such a round."""
    return next((round_.version for round_ in recipe.rounds if round_.gatt), None)


def gatt_policies(recipe: Recipe) -> tuple[str, ...]:
    """The names of the policies before Ghost Attention, right after it, and at the end; none without such a round."""
    version = gatt_version(recipe)
    return (version, f"{version}-gatt", f"{last_version(recipe)}-ppo") if version else ()


def consistency_arms(recipe: Recipe) -> dict[str, str]:
    """{arm: policy}, see ``gatt_policies``; {} without Ghost Attention."""
    return dict(zip(("without", "v3_gatt", "with"), gatt_policies(recipe), strict=False))


def measured_policies(recipe: Recipe) -> list[str]:
    """The policies that are evaluated, in the order of training; the first is what the others are compared with."""
    return ["sft", *(round_.version for round_ in recipe.rounds), f"{last_version(recipe)}-ppo"]


def every_round(axis: str) -> Names:
    """The comparisons of an axis, of all rounds."""
    return lambda recipe: tuple(f"preferences/{axis}-{batch_name(number + 1)}" for number in range(len(recipe.rounds)))


def every_round_for_the_mix(axis: str, other: str) -> Names:
    """The comparisons of the ``other`` axis, where the reward model of ``axis`` is trained on the paper's mix of both."""
    return lambda recipe: every_round(other)(recipe) if getattr(recipe, axis).mixture == "paper" else ()


def pooled_rounds(recipe: Recipe) -> int:
    """How many rounds the first version learns from that is tuned on the samples of all of them; else all rounds."""
    return next((number for number, round_ in enumerate(recipe.rounds, start=1) if round_.pool == "all"), len(recipe.rounds))


def pooled_samples(recipe: Recipe) -> tuple[str, ...]:
    return versions(recipe, "samples")[: pooled_rounds(recipe)]


def gatt_before_pooling(recipe: Recipe) -> tuple[str, ...]:
    """Ghost Attention's dialogues, where they are older than the version that pools all rounds."""
    return ("dialogues/gatt",) if any(round_.gatt for round_ in recipe.rounds[: pooled_rounds(recipe) - 1]) else ()


def policies_of_sizes(recipe: Recipe, presets: tuple[str, ...]) -> tuple[str, ...]:
    """The supervised policy of each preset; that of the recipe's own preset is its ``policy/sft``."""
    assert isinstance(recipe, SandboxRecipe)
    return tuple("policy/sft" if preset == recipe.pretrain.preset else f"policy/sft-{preset}" for preset in presets)
