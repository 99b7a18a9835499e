"""What the studies of tuned versions read, by the names that a recipe's run gives to it. Nothing heavy is imported here."""

from typing import get_args

from policy.config import Preset
from stages.recipe import Recipe, SandboxRecipe, section_of
from stages.sections import EvaluationConfig, TunedStudyConfig
from stages.studies.inputs import Given

REWARD_MODELS: Given = {"helpfulness": ("reward_model/helpfulness",), "safety": ("reward_model/safety",)}
_MEASURED: Given = {**REWARD_MODELS, "prompts": ("prompts/evaluation",)}


def tuned_study_config(recipe: Recipe, answers: int | None = None, training_seeds: int | None = None) -> TunedStudyConfig:
    """As the recipe tunes its versions and lets them answer. Raises RecipeError for a team's, whose answers nobody judges."""
    evaluation = section_of(recipe, "evaluation")
    assert isinstance(evaluation, EvaluationConfig)
    asked = {"answers": answers} if answers else {}
    return TunedStudyConfig(tuning=recipe.tuning, evaluation=evaluation, training_seeds=training_seeds, **asked)


def pooling_inputs(recipe: Recipe) -> Given:
    """Those of the first version that is tuned on the samples of all rounds, else of the last version."""
    number = next((place for place, each in enumerate(recipe.rounds) if each.pool == "all"), len(recipe.rounds) - 1)
    gatt: Given = {"gatt": ("dialogues/gatt",)} if any(each.gatt for each in recipe.rounds[:number]) else {}
    return {
        "policy": ("policy/base",),
        "demonstrations": ("dialogues/demonstrations",),
        "samples": tuple(f"samples/{each.version}" for each in recipe.rounds[: number + 1]),
        "distilled": ("dialogues/distilled",),
        **gatt,
        **_MEASURED,
    }


def size_distillation_inputs(recipe: Recipe, preset: str) -> Given:
    """The base of a smaller ``preset``, with its own samples of the first round's prompts and those of the recipe's run."""
    version = recipe.rounds[0].version
    return {
        "policy": (f"policy/base-{preset}",),
        "demonstrations": ("dialogues/demonstrations",),
        "own": (f"samples/{version}-{preset}",),
        "larger": (f"samples/{version}-rescored",),
        **_MEASURED,
    }


def smaller_preset(recipe: Recipe, asked: str | None = None) -> str:
    """The preset ``asked`` for, else the one below the recipe's own. Raises ValueError for one that is not smaller."""
    if not isinstance(recipe, SandboxRecipe):
        raise ValueError(
            f"--size pretrains a policy on the sandbox's corpus, and the recipe {recipe.name} has none; take a recipe of the "
            "sandbox"
        )
    presets, own = get_args(Preset), recipe.pretrain.preset
    smaller = presets[: presets.index(own)]
    if not smaller:
        raise ValueError(
            f"{own}, the size of the recipe {recipe.name}, is the smallest there is; take a recipe of a larger one"
        )
    if asked and asked not in smaller:
        raise ValueError(
            f"--size is {asked!r}, and the small model is smaller than {own}, that of the recipe {recipe.name}; it is one of "
            f"{', '.join(smaller)}"
        )
    return asked or smaller[-1]
