"""``rlhf plan``: what a recipe needs, before hours are spent."""

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer

from commands.options import JsonOption, RecipeOption, SeedOption, SetOption, plain_errors
from commands.printing.lines import print_json
from stages.recipe import load_recipe

DeviceOption = Annotated[
    str, typer.Option("--device", metavar="D", help="Device to plan for: cpu, cuda or cuda:1. The GPU need not be present.")
]


def plan(
    recipe: RecipeOption = "nano",
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Default: runs/<recipe>-<seed>.")] = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
    device: DeviceOption = "cpu",
    json_: JsonOption = False,
) -> None:
    """Plan a recipe: steps, tokens, memory, disk and time. Exit code 1 if it does not fit.

    Example: rlhf plan --recipe nano
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        place = folder or Path("runs") / f"{chosen.name}-{seed}"
        from commands.printing.plan import print_plan
        from stages.environment import quiet_libraries
        from stages.plan.table import make_plan, this_machine

        quiet_libraries()
        planned = make_plan(chosen, place, seed, this_machine(place, device))
        if json_:
            print_json(dataclasses.asdict(planned))
        else:
            options = "".join(f" --set {shlex.quote(override)}" for override in set_ or [])
            options += "" if device == "cpu" else f" --device {device}"
            print_plan(planned, f"rlhf reproduce --recipe {recipe} --dir {shlex.quote(str(place))} --seed {seed}{options}")
    if planned.problems:
        raise typer.Exit(1)
