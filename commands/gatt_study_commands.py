"""``rlhf study gatt-intermediate``: the two readings of how Ghost Attention's data are made (paper 3.3)."""

import typer

from commands.options import plain_errors
from commands.studies import run_study
from commands.study_options import StudyRun, run_options
from stages.recipe import SandboxRecipe
from stages.studies.intermediate_inputs import GattIntermediateStudyConfig, intermediate_inputs


def add_gatt_studies(app: typer.Typer) -> None:
    """Give ``app`` the studies of Ghost Attention."""
    app.command("gatt-intermediate")(gatt_intermediate)


@run_options()
def gatt_intermediate(*, run: StudyRun) -> None:
    """Ghost Attention with intermediate answers as they were, and sampled under the instruction: an ablation (paper 3.3).

    Both are made first, each with its policy, and measured.

    Example: rlhf study gatt-intermediate --registry runs/nano-0/registry
    """
    with plain_errors():
        recipe = run.load_recipe()
        inputs = intermediate_inputs(recipe)
        assert isinstance(recipe, SandboxRecipe)
        from stages.gatt_steps import both_readings

        place = "stages.studies.gatt_intermediate:STAGE"
        name = run.name or "gatt-intermediate"
        run_study(place, name, GattIntermediateStudyConfig(), inputs, run.options, both_readings(recipe))
