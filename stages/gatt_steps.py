"""Ghost Attention as steps of a recipe: its dialogues, and the policy that is tuned on them."""

from collections.abc import Sequence

from gatt.constraint_file import read_constraints
from stages.catalog import STAGES
from stages.external_files import sha256_of
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe, constraints_file
from stages.sections import FileConfig
from stages.stage import References, Step, wired


def ghost_attention(recipe: Recipe, version: str, samples: Sequence[str], name: str = "gatt", **changes: str) -> list[Step]:
    """Its dialogues, made with ``version`` on the ``samples`` of the rounds so far, and the policy tuned on them.

    ``changes`` are of the recipe's section ``gatt``. The sandbox's prompts bring its constraints, its demonstrations keep the
    skills that nobody samples; a team has a file of constraints, and its demonstrations are instructed like the samples.
    """
    assert isinstance(recipe, SandboxRecipe | TeamRecipe)
    policy = (f"policy/{version}",)
    config = recipe.gatt.model_copy(update=changes)
    if file := constraints_file(recipe):
        if file.is_file():  # a fault in it is reported now, not after three rounds
            read_constraints(file)
        config = config.model_copy(update={"constraints": FileConfig(file=str(file), sha256=sha256_of(file))})
    given: References = {"policy": policy, "samples": tuple(samples)}
    if isinstance(recipe, TeamRecipe):
        given = {**given, "dialogues": ("dialogues/demonstrations",), "demonstrations": (), "prompts": ()}
    inputs = wired(STAGES["gatt"], recipe, given, lambda reference: True)
    tuned = {"policy": policy, "dialogues": (f"dialogues/{name}",)}
    return [
        Step(STAGES["gatt"], name, config, inputs),
        Step(STAGES["sft"], f"{version}-{name}", recipe.gatt_tuning, tuned),
    ]
