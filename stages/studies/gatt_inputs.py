"""What the study of Ghost Attention is told and reads. Nothing heavy is imported here."""

from pydantic import Field

from stages.recipe import Recipe
from stages.sections import Section
from stages.studies.inputs import Given
from stages.studies.intermediate_inputs import gatt_version


class GattStudyConfig(Section):
    """Policies before and after Ghost Attention on the same dialogues and prompts."""

    attention_dialogues: int = Field(
        40, ge=0, description="dialogues whose attention is looked at, the first that were held to the last turn; 0: none"
    )


def gatt_inputs(recipe: Recipe) -> Given:
    """The evaluations of the policies before Ghost Attention, right after it and at the end, and the policies themselves.

    Raises ValueError for a recipe without Ghost Attention.
    """
    version = gatt_version(recipe)
    if version is None:
        raise ValueError(
            f"the recipe {recipe.name} has no round with gatt: true, so there is no Ghost Attention to study; take --recipe "
            "nano"
        )
    arms = (version, f"{version}-gatt", f"{recipe.rounds[-1].version}-ppo")
    return {
        "consistency": tuple(f"evaluation/consistency-{name}" for name in arms),
        "policies": tuple(f"policy/{name}" for name in arms),
        "before": (f"evaluation/{version}",),
        "after": (f"evaluation/{version}-gatt",),
    }
