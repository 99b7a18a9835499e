"""``rlhf``: all commands. Nothing heavy is imported until a command needs it."""

import stages.environment  # noqa: F401, I001  (first: it tells libraries to be quiet before they load)

import typer

from commands.attention import attention
from commands.chat import chat
from commands.checks import doctor
from commands.consistency import consistency
from commands.data import data_app
from commands.data_changes import add_changes
from commands.gatt import gatt, gatt_constraints
from commands.importing import import_files
from commands.plan import plan
from commands.recipes import recipe_app
from commands.registry import registry_app
from commands.reproduce import report, reproduce
from commands.reward_models import add_reward_model
from commands.score import score
from commands.stage_commands import add_stage_commands
from commands.studies import study_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="The Llama 2-Chat recipe: reward models, rejection sampling, PPO and Ghost Attention, stage by stage.\n\n"
    "Start with: rlhf reproduce --recipe nano",
)
evaluate_app = typer.Typer(
    no_args_is_help=True, help="Evaluate a policy, the reward models, or consistency with an instruction."
)
add_stage_commands(evaluate_app, "evaluate")
evaluate_app.command()(consistency)
add_changes(data_app)

_RECIPE, _DATA, _TRAINING, _MEASURING = "A whole recipe", "Data and registry", "Training, stage by stage", "Use and measure"

app.command(rich_help_panel=_RECIPE)(reproduce)
app.command(rich_help_panel=_RECIPE)(plan)
app.command(rich_help_panel=_RECIPE)(report)
app.add_typer(recipe_app, name="recipe", rich_help_panel=_RECIPE)

app.command("import", rich_help_panel=_DATA)(import_files)
app.add_typer(data_app, name="data", rich_help_panel=_DATA)
app.add_typer(registry_app, name="registry", rich_help_panel=_DATA)
app.command(rich_help_panel=_DATA)(add_reward_model)

add_stage_commands(app, panel=_TRAINING)
app.command(rich_help_panel=_TRAINING)(gatt)
app.command(rich_help_panel=_TRAINING)(gatt_constraints)

app.command(rich_help_panel=_MEASURING)(chat)
app.command(rich_help_panel=_MEASURING)(score)
app.command(rich_help_panel=_MEASURING)(doctor)
app.command(rich_help_panel=_MEASURING)(attention)
app.add_typer(evaluate_app, name="evaluate", rich_help_panel=_MEASURING)
app.add_typer(study_app, name="study", rich_help_panel=_MEASURING)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
