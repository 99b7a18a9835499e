"""``rlhf``: the stage commands. Nothing heavy is imported until a command needs it."""

import stages.environment  # noqa: F401, I001  (first: it tells libraries to be quiet before they load)

from pathlib import Path
from typing import Annotated, Literal

import typer

from policy.placement import check_device, on_device
from registry.errors import WrongKind
from registry.saved_states import SaveEvery
from commands.attention import attention
from commands.bring import bring_reward_model
from commands.checks import doctor, plan
from commands.consistency import consistency
from commands.data_changes import add_changes
from commands.data import data_app
from commands.gatt import gatt, gatt_constraints
from commands.gatt_study_commands import add_gatt_studies
from commands.importing import import_files
from commands.instruction_study_command import add_instruction_study
from commands.options import (
    DeviceOption,
    DryRunOption,
    QuietOption,
    RecipeOption,
    SaveEveryOption,
    SeedOption,
    SetOption,
    plain_errors,
)
from commands.ppo_study_commands import add_ppo_studies
from stages.terminal.progress import Progress, clock_text
from stages.recipe import load_recipe, shipped_recipes
from commands.registry import JsonOption, ReferenceArgument, RegistryOption, print_json, print_table, registry_app
from commands.output import registry_told
from commands.roots import open_registry
from commands.sampling_study_commands import add_sampling_studies
from commands.score import score
from commands.command_rows import COMMANDS, EVALUATIONS
from commands.making import add_commands
from commands.studies import study_app
from commands.tuning_study_commands import add_tuning_studies

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="The Llama 2-Chat recipe: reward models, rejection sampling, PPO and Ghost Attention, stage by stage.\n\n"
    "Start with: rlhf reproduce --recipe nano",
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure a policy, the reward models, or whether instructions hold.")
recipe_app = typer.Typer(no_args_is_help=True, help="Recipes: every choice of a run.")
add_changes(data_app)
add_sampling_studies(study_app)
add_tuning_studies(study_app)
add_ppo_studies(study_app)
add_gatt_studies(study_app)
add_instruction_study(study_app)
app.add_typer(registry_app, name="registry")
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(study_app, name="study")
app.add_typer(recipe_app, name="recipe")


@app.command()
def reproduce(
    recipe: RecipeOption = "nano",
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Default: runs/<recipe>-<seed>.")] = None,
    seed: SeedOption = 0,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run again from this stage or artifact on.")
    ] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this stage or artifact.")] = None,
    findings: Annotated[
        Literal["core", "all"],
        typer.Option("--findings", help="The recipe's studies of the paper's core findings, or all studies there are."),
    ] = "core",
    set_: SetOption = None,
    save_every: SaveEveryOption = "1m",
    device: DeviceOption = "cpu",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Every stage of a recipe in order, then the report. What is up to date is skipped.

    Example: rlhf reproduce --recipe nano --seed 0
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        interval = SaveEvery.parse(save_every)
        check_device(device)
        place = folder or Path("runs") / f"{chosen.name}-{seed}"
        from stages.environment import quiet_libraries
        from stages.pipeline import steps
        from stages.reproduce import reproduce as run

        if dry_run:
            plan = [{"stage": step.stage.name, "makes": step.makes, "inputs": step.inputs} for step in steps(chosen, findings)]
            print_json({"recipe": chosen.name, "dir": str(place), "steps": plan})
            return
        quiet_libraries()
        done = run(chosen, place, seed, Progress(quiet=quiet), first, last, interval, findings, device)
        report = place / "report" / "report.html"
        if json_:
            print_json({"artifact": done.last, "made": done.made, "up_to_date": done.up_to_date, "seconds": done.seconds,
                        "report": str(report) if done.headline else None, "headline": done.headline})  # fmt: skip
            return
        typer.echo(f"{done.made} made, {done.up_to_date} up to date, in {clock_text(done.seconds)}")
        if done.headline:
            typer.echo(f"report: {report}")
            typer.echo(f"next: rlhf chat policy/chat{registry_told(place / 'registry')}")
        else:
            typer.echo(f"next: rlhf reproduce --recipe {recipe} --dir {place} --seed {seed}")


app.command()(plan)
app.command()(doctor)
app.command("import")(import_files)
add_commands(app, COMMANDS)
app.command()(gatt)
app.command()(gatt_constraints)
app.command()(bring_reward_model)
app.command()(score)
app.command()(attention)


@app.command()
def report(
    reference: Annotated[str, typer.Argument(metavar="REF", help="A report artifact.")] = "report/nano",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the page goes.")] = Path("report"),
    recipe: RecipeOption = "nano",
    registry: RegistryOption = None,
) -> None:
    """Draw report.html and report.json of a run.

    Example: rlhf report report/nano --registry runs/nano-0/registry --out report
    """
    with plain_errors():
        opened = open_registry(registry)
        artifact = opened.open(reference, kind="report")
        from stages.measure.report import write_report

        write_report(opened, artifact, out, load_recipe(recipe).budget_seconds)
        typer.echo(f"{out / 'report.html'}")


@app.command()
def chat(
    reference: ReferenceArgument = "policy/chat",
    system: Annotated[str | None, typer.Option("--system", help="A system message.")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 0.6,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0)] = 0.9,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1)] = 256,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    registry: RegistryOption = None,
) -> None:
    """Talk to a policy; an empty line or Ctrl-D ends it.

    Example: rlhf chat policy/chat --registry runs/nano-0/registry
    """
    with plain_errors():
        check_device(device)
        artifact = open_registry(registry).open(reference)
        if artifact.reference.kind != "policy":
            raise WrongKind(f"rlhf chat talks to a policy, and {artifact.reference} is of kind {artifact.reference.kind}")
        from commands.chat import converse
        from policy.checkpoint import load_policy
        from policy.generation import TransformersSampler
        from stages.environment import quiet_libraries

        quiet_libraries()
        typer.echo(f"talking to {artifact.reference}; Ctrl-D ends", err=True)

        def read() -> str | None:
            try:
                return input("> ")
            except EOFError:
                return None

        with on_device(device):
            sampler = TransformersSampler(*load_policy(artifact.path))
        converse(sampler, read, typer.echo, system, temperature, top_p, max_new_tokens, seed)


@recipe_app.command("list")
def recipe_list(json_: JsonOption = False) -> None:
    """The shipped recipes.

    Example: rlhf recipe list
    """
    found = {name: load_recipe(name).description for name in shipped_recipes()}
    if json_:
        print_json(found)
    else:
        print_table(("recipe", "description"), list(found.items()))


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str, typer.Argument(metavar="R", help="A shipped recipe or a YAML file.")],
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """A recipe after defaults.

    Example: rlhf recipe show nano
    """
    with plain_errors():
        values = load_recipe(name, set_ or []).model_dump(mode="json")
        if json_:
            print_json(values)
            return
        import yaml

        typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


add_commands(evaluate_app, EVALUATIONS)
evaluate_app.command()(consistency)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
