"""``rlhf doctor``: what one asks before hours are spent."""

from typing import Annotated

import typer

from commands.options import JsonOption, RecipeOption, RegistryOption, SeedOption, SetOption, open_registry, plain_errors
from commands.printing.lines import print_json
from stages.recipe import load_recipe


def doctor(
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", metavar="REF", help="Policy, or a Hugging Face folder. Default: policy/chat, else the newest."
        ),
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
    """Check the machine, a tokenizer's chat format, masks, reward scale and PPO's step 0. Exit code 1 if something is wrong.

    Artifacts that are not given are taken from the registry, and skipped if missing. At step 0 the ratio must be 1 and the KL
    0. If not, the doctor looks for the cause: template, dropout, padding, dtype or weights.

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
            typer.echo(f"next: {'fix that, then run rlhf doctor again' if wrong else f'rlhf plan --recipe {recipe}'}")
    if wrong:
        raise typer.Exit(1)
