"""``rlhf plan`` and ``rlhf doctor``: what one asks before hours are spent."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from commands.options import RecipeOption, SeedOption, SetOption, plain_errors
from commands.registry import JsonOption, RegistryOption, print_json
from commands.roots import open_registry
from stages.recipe import load_recipe


def plan(
    recipe: RecipeOption = "nano",
    folder: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Default: runs/<recipe>-<seed>.")] = None,
    seed: SeedOption = 0,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """What a recipe would do here: steps, tokens, memory, disk and time. Exit code 1 when it cannot fit.

    Example: rlhf plan --recipe nano
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        place = folder or Path("runs") / f"{chosen.name}-{seed}"
        from commands.plan_table import print_plan
        from stages.environment import quiet_libraries
        from stages.plan.plan import make_plan, plan_json, this_machine
        from stages.plan.rehearsal import clock
        from stages.plan.workload import Workload

        quiet_libraries()
        machine = this_machine(place)
        made = make_plan(chosen, place, seed, clock(Workload(chosen).model), machine)
        if json_:
            print_json(plan_json(made))
        else:
            changes = "".join(f" --set {shlex.quote(each)}" for each in set_ or [])
            print_plan(made, f"rlhf reproduce --recipe {recipe} --dir {shlex.quote(str(place))} --seed {seed}{changes}")
    if made.problems:
        raise typer.Exit(1)


def doctor(
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="REF", help="Or a Hugging Face folder. Default: policy/chat, or the newest."),
    ] = None,
    helpfulness: Annotated[
        str | None, typer.Option("--helpfulness", metavar="REF", help="Default: reward_model/helpfulness.")
    ] = None,
    safety: Annotated[str | None, typer.Option("--safety", metavar="REF", help="Default: reward_model/safety.")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", metavar="REF", help="Default: prompts/tuning.")] = None,
    dialogues: Annotated[
        str | None, typer.Option("--dialogues", metavar="REF", help="Default: dialogues/demonstrations.")
    ] = None,
    recipe: RecipeOption = "nano",
    set_: SetOption = None,
    registry: RegistryOption = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Check the machine, a tokenizer's chat format, masks, reward scale and PPO's step 0. Exit code 1 when something is wrong.

    What is not given is looked for in the registry, and skipped where it is not there. At step 0 the ratio must be 1 and the KL
    0; when they are not, the cause is named: temperature, top-p, dropout, padding, dtype or template.

    Example: rlhf doctor --policy policy/chat --recipe nano
    """
    with plain_errors():
        chosen = load_recipe(recipe, set_ or [])
        store = open_registry(registry)
        from stages.doctor.check import as_json, shown
        from stages.doctor.examine import examine
        from stages.environment import quiet_libraries

        quiet_libraries()
        roles = {"policy": policy, "helpfulness": helpfulness, "safety": safety, "prompts": prompts, "dialogues": dialogues}
        checks = []
        for check in examine(store, chosen, {role: text for role, text in roles.items() if text}, seed):
            checks.append(check)
            if not json_:
                typer.echo(shown(check))
        wrong = sum(check.state == "wrong" for check in checks)
        if json_:
            print_json(as_json(checks))
        else:
            typer.echo(f"{wrong} of {len(checks)} checks found something wrong" if wrong else "nothing is wrong")
            typer.echo(f"next: {'mend that, and rlhf doctor again' if wrong else f'rlhf plan --recipe {recipe}'}")
    if wrong:
        raise typer.Exit(1)
