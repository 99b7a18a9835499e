"""What the study of Ghost Attention's two readings is told and reads. Nothing heavy is imported here."""

from typing import Literal

from stages.recipe import Recipe, SandboxRecipe
from stages.sections import Section
from stages.studies.inputs import Given

Reading = Literal["original", "resampled"]
READINGS: tuple[Reading, ...] = ("original", "resampled")


class GattIntermediateStudyConfig(Section):
    """Ghost Attention with the intermediate answers as they were, and sampled anew; there is nothing to choose."""


def gatt_version(recipe: Recipe) -> str | None:
    """The version that the recipe's Ghost Attention starts from; None without such a round."""
    return next((each.version for each in recipe.rounds if each.gatt), None)


def intermediate_inputs(recipe: Recipe) -> Given:
    """The dialogues of both readings, and what was measured of the policies tuned on them, in the order of ``READINGS``.

    Raises ValueError for a recipe without a sandbox or without Ghost Attention.
    """
    version = gatt_version(recipe)
    if not isinstance(recipe, SandboxRecipe) or version is None:
        raise ValueError(
            "rlhf study gatt-intermediate makes both readings as a recipe of the sandbox does in its round with gatt: true, "
            f"and {recipe.name} has none; take --recipe nano"
        )
    return {
        "dialogues": tuple(f"dialogues/gatt-{reading}" for reading in READINGS),
        "consistency": tuple(f"evaluation/consistency-{version}-gatt-{reading}" for reading in READINGS),
        "evaluations": tuple(f"evaluation/{version}-gatt-{reading}" for reading in READINGS),
    }
