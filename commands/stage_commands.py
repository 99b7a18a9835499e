"""The commands that run one stage, ``rlhf sft``, ``rlhf ppo`` and the others, derived from ``stages/catalog.py``."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from commands.config_options import changes, config_option
from commands.making import exists_in, make
from commands.options import TRACKING, RunOptions, keyword, plain_errors, run_options, with_parameters
from registry.store import Registry
from stages.catalog import STAGES
from stages.stage import Role, Stage, Step, wired

AxisOption = Annotated[Literal["helpfulness", "safety"], typer.Option("--axis", metavar="AXIS", help="helpfulness or safety.")]


def add_stage_commands(app: typer.Typer, group: str = "", panel: str | None = None) -> None:
    """Give ``app`` a command for each row whose command is of ``group``: ``rlhf evaluate policy`` is of the group evaluate.

    ``panel`` is their heading in the help.
    """
    for stage in STAGES.values():
        parent, _, name = stage.command.rpartition(" ")
        if stage.command and parent == group:
            help_ = f"{stage.help}\n\nExample: {stage.example}"
            app.command(name, help=help_, rich_help_panel=panel)(_command(stage))


def _command(stage: Stage) -> Callable[..., None]:
    def command(*, run: RunOptions, **given: Any) -> None:
        with plain_errors():
            registry, axis = run.open_registry(), given.get("axis", "")
            config = stage.configured(run.load_recipe(), axis)
            changed, next_ = changes(stage, given)
            config = type(config).model_validate(config.model_dump() | changed) if changed else config
            references = {role: _references(given[role]) for role in stage.inputs if given[role] is not None}
            inputs = wired(stage, run.load_recipe(), references, exists_in(registry))
            name = run.name or stage.artifact or axis or _name_of(stage, inputs, registry)
            make(run, [Step(stage, name, config, inputs)], next_=next_)

    own = [keyword("axis", AxisOption)] if stage.by_axis else []
    own += [_option(name, role) for name, role in stage.inputs.items()]
    own += [config_option(stage, option) for option in stage.options]
    default_name = stage.artifact or (f"that of the {stage.named_after}" if stage.named_after else "the axis")
    without = () if stage.trains else TRACKING
    return run_options(*without, default_name=default_name)(with_parameters(command, own))


def _option(name: str, role: Role) -> inspect.Parameter:
    """The option of one input. A missing one takes the default of the role; typer asks for one that has none."""
    help_ = f"{role.help[0].upper()}{role.help[1:]}{'; may be repeated' if role.many else ''}."
    if role.default:
        shown = "the recipe's" if callable(role.default) else ", ".join(role.default)
        help_ += f" Default: {shown}{', if it exists' if role.if_there else ''}."
    kind = list[str] if role.many else str
    option = typer.Option("--" + name.replace("_", "-"), metavar="REF", help=help_)
    if role.default is None:
        return keyword(name, Annotated[kind, option])
    return keyword(name, Annotated[kind | None, option], None)


def _references(given: str | list[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _name_of(stage: Stage, inputs: dict[str, tuple[str, ...]], registry: Registry) -> str:
    """The name of the artifact that the new one is named after."""
    return registry.follow(inputs[stage.named_after][0]).name
