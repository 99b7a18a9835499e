"""Ghost Attention as steps of a recipe: its dialogues, and the policy that is tuned on them."""

from collections.abc import Sequence

from gatt.constraint_file import read_constraints
from stages.engine.outside_files import sha256_of
from stages.measure import consistency as evaluate_consistency
from stages.measure import evaluate
from stages.recipe import Recipe, SandboxRecipe, TeamRecipe, consistency_of, constraints_file
from stages.sections import FileConfig
from stages.step import Step
from stages.studies.intermediate_inputs import READINGS, gatt_version
from stages.train import gatt, tune

MODELS = {"helpfulness": ("reward_model/helpfulness",), "safety": ("reward_model/safety",)}


def ghost_attention(recipe: Recipe, version: str, samples: Sequence[str], name: str = "gatt", **changes: str) -> list[Step]:
    """Made with ``version`` on the ``samples`` of the rounds so far; ``changes`` are of the recipe's section ``gatt``.

    The sandbox's prompts bring its constraints, and its demonstrations keep the skills that nobody samples; a team has a file
    of constraints, and its demonstrations are instructed like the samples.
    """
    assert isinstance(recipe, SandboxRecipe | TeamRecipe)
    policy = {"policy": (f"policy/{version}",)}
    inputs = policy | {"helpfulness": MODELS["helpfulness"], "samples": tuple(samples)}
    config = recipe.gatt.model_copy(update=changes)
    if file := constraints_file(recipe):
        if file.is_file():  # a fault in it is better known now than when three rounds are done
            read_constraints(file)
        config = config.model_copy(update={"constraints": FileConfig(file=str(file), sha256=sha256_of(file))})
    if isinstance(recipe, TeamRecipe):
        inputs["dialogues"] = ("dialogues/demonstrations",)
    else:
        inputs |= {"demonstrations": ("dialogues/demonstrations",), "prompts": ("prompts/tuning",)}
    tuned = policy | {"dialogues": (f"dialogues/{name}",)}
    return [Step(gatt.STAGE, name, config, inputs), Step(tune.SFT, f"{version}-{name}", recipe.gatt_tuning, tuned)]


def both_readings(recipe: SandboxRecipe) -> list[Step]:
    """Ghost Attention with its intermediate answers as they were and sampled anew, and what is measured of both policies.

    Both are made here, so that they have everything else in common: the recipe's own has an earlier round's reward model.
    """
    version = gatt_version(recipe)
    assert version
    samples = [f"samples/{each.version}" for each in recipe.rounds]
    samples = samples[: samples.index(f"samples/{version}") + 1]
    prompts = {"prompts": ("prompts/evaluation",)}
    found = []
    for reading in READINGS:
        found += ghost_attention(recipe, version, samples, f"gatt-{reading}", intermediate=reading)
        policy = {"policy": (found[-1].makes,)}
        name = found[-1].name
        found.append(Step(evaluate_consistency.STAGE, f"consistency-{name}", consistency_of(recipe), policy | prompts))
        found.append(Step(evaluate.POLICY, name, recipe.evaluation, policy | MODELS | prompts))
    return found
