"""``rlhf recipe``: the shipped recipes, and one after defaults."""

from typing import Annotated

import typer

from commands.options import JsonOption, SetOption, plain_errors
from commands.printing.lines import print_json, print_table
from stages.recipe import load_recipe, shipped_recipes

recipe_app = typer.Typer(no_args_is_help=True, help="List and print recipes, which hold every setting of a run.")


@recipe_app.command("list")
def recipe_list(json_: JsonOption = False) -> None:
    """List the shipped recipes.

    Example: rlhf recipe list
    """
    descriptions = {name: load_recipe(name).description for name in shipped_recipes()}
    if json_:
        print_json(descriptions)
    else:
        print_table(("recipe", "description"), list(descriptions.items()))


@recipe_app.command("show")
def recipe_show(
    name: Annotated[str, typer.Argument(metavar="R", help="Name of a shipped recipe, or a YAML file.")],
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Print a recipe with all defaults filled in.

    Example: rlhf recipe show nano
    """
    with plain_errors():
        values = load_recipe(name, set_ or []).model_dump(mode="json")
        if json_:
            print_json(values)
            return
        import yaml

        typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)
