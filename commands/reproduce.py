"""``rlhf reproduce``, every stage of a recipe and the report; and ``rlhf report``, which draws the report again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.options import (
    DeviceOption,
    DryRunOption,
    JsonOption,
    QuietOption,
    RecipeOption,
    RegistryOption,
    SaveEveryOption,
    SeedOption,
    SetOption,
    open_registry,
    plain_errors,
    registry_option,
)
from commands.printing.lines import print_json
from policy.placement import check_device
from registry.saved_states import SaveEvery
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.terminal.progress import Progress, clock_text


def reproduce(
    recipe: RecipeOption = "nano",
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Default: runs/<recipe>-<seed>.")] = None,
    seed: SeedOption = 0,
    first: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run this stage or artifact, and all later ones, again.")
    ] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STEP", help="Stop after this stage or artifact.")] = None,
    findings: Annotated[
        Literal["core", "all"],
        typer.Option("--findings", help="Run the recipe's studies of the core findings, or all studies."),
    ] = "core",
    set_: SetOption = None,
    save_every: SaveEveryOption = "1m",
    device: DeviceOption = "cpu",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run every stage of a recipe in order and write the report. Stages that are up to date are skipped.

    Example: rlhf reproduce --recipe nano --seed 0
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        interval = SaveEvery.parse(save_every)
        check_device(device)
        place = folder or Path("runs") / f"{chosen.name}-{seed}"
        if dry_run:
            shown = [{"stage": step.stage.name, "makes": step.makes, "inputs": step.inputs} for step in steps(chosen, findings)]
            print_json({"recipe": chosen.name, "dir": str(place), "steps": shown})
            return
        from stages.environment import quiet_libraries
        from stages.reproduce import reproduce as run

        quiet_libraries()
        done = run(chosen, place, seed, Progress(quiet=quiet), first, last, interval, findings, device)
        page = place / "report" / "report.html"
        if json_:
            print_json({"artifact": done.last, "made": done.made, "up_to_date": done.up_to_date, "seconds": done.seconds,
                        "report": str(page) if done.headline else None, "headline": done.headline})  # fmt: skip
            return
        typer.echo(f"{done.made} made, {done.up_to_date} up to date, in {clock_text(done.seconds)}")
        if done.headline:
            typer.echo(f"report: {page}")
            typer.echo(f"next: rlhf chat policy/chat{registry_option(place / 'registry')}")
        else:
            typer.echo(f"next: rlhf reproduce --recipe {recipe} --dir {place} --seed {seed}")


def report(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Report artifact.")] = "report/nano",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")] = Path("report"),
    recipe: RecipeOption = "nano",
    registry: RegistryOption = None,
) -> None:
    """Write report.html and report.json of a run.

    Example: rlhf report report/nano --registry runs/nano-0/registry --out report
    """
    with plain_errors():
        opened = open_registry(registry)
        artifact = opened.open(reference, kind="report")
        from stages.measure.report import write_report

        write_report(opened, artifact, out, load_recipe(recipe).budget_seconds)
        typer.echo(f"{out / 'report.html'}")
