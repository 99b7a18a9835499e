"""The commands that run one stage: ``rlhf sft``, ``rlhf train-reward``, ``rlhf ppo`` and the others.

They are alike, so they are rows of a table (``commands/command_rows.py``), and a command's options are made from its row.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.command_rows import Role, Setting, StageCommand
from commands.options import (
    DeviceOption,
    DryRunOption,
    ForceOption,
    QuietOption,
    RecipeOption,
    SaveEveryOption,
    SeedOption,
    SetOption,
    plain_errors,
)
from commands.registry import JsonOption, RegistryOption, print_json
from commands.roots import open_registry
from policy.placement import check_device
from registry.errors import ReferenceNotFound
from registry.saved_states import SaveEvery
from registry.store import Registry
from stages.engine.run import Stage, run_stage
from stages.recipe import load_recipe, section_of
from stages.terminal.progress import Progress, clock_text
from stages.terminal.trackers import TrackDirOption, TrackOption, tracking


def add_commands(app: typer.Typer, rows: tuple[StageCommand, ...]) -> None:
    """Give ``app`` one command a row."""
    for row in rows:
        app.command(row.command, help=f"{row.help}\n\nExample: {row.example}")(_function(row))


def _function(row: StageCommand) -> Callable[..., None]:
    def command(**given: Any) -> None:
        with plain_errors():
            _run(row, given)

    parameters = [_option(name, role) for name, role in row.roles.items()]
    parameters += [_setting(name, setting) for name, setting in row.settings.items()]
    if row.axis:
        axis = Annotated[str, typer.Option("--axis", metavar="AXIS", help="helpfulness or safety.")]
        parameters.insert(0, inspect.Parameter("axis", inspect.Parameter.KEYWORD_ONLY, annotation=axis))
    named = row.name or (f"that of the {row.named_after}" if row.named_after else "the axis")
    shared: dict[str, tuple[Any, Any]] = {
        "name": (Annotated[str | None, typer.Option("--name", help=f"Name of the artifact. Default: {named}.")], None),
        "recipe": (RecipeOption, "nano"),
        "set_": (SetOption, None),
        "registry": (RegistryOption, None),
        "seed": (SeedOption, 0),
        "force": (ForceOption, False),
        "save_every": (SaveEveryOption, "1m"),
        "device": (DeviceOption, "cpu"),
        "dry_run": (DryRunOption, False),
        "json_": (JsonOption, False),
        "quiet": (QuietOption, False),
    }
    if row.trains:
        shared |= {"track": (TrackOption, None), "track_dir": (TrackDirOption, Path("tracking"))}
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in shared.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _option(name: str, role: Role) -> inspect.Parameter:
    shown = f"{role.help[0].upper()}{role.help[1:]}{'; may be repeated' * role.many}."
    shown += f" Default: {role.looked_for}, where there is one." if role.looked_for else ""
    flag = "--" + name.replace("_", "-")
    if role.many:
        annotation: Any = Annotated[list[str], typer.Option(flag, metavar="REF", help=shown)]
        default: Any = inspect.Parameter.empty if role.default is None else ([role.default] if role.default else [])
    else:
        annotation = Annotated[str, typer.Option(flag, metavar="REF", help=shown)]
        default = inspect.Parameter.empty if role.default is None else role.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _setting(name: str, setting: Setting) -> inspect.Parameter:
    shown = f"{setting.help[0].upper()}{setting.help[1:]}"
    if setting.values:
        option = typer.Option(f"--{name}", metavar=name.upper(), help=f"{shown}: {', '.join(setting.values)}.")
        annotation: Any = Annotated[str | None, option]
    else:
        annotation = Annotated[bool | None, typer.Option(f"--{name}", help=f"{shown}.")]
    return inspect.Parameter(_parameter(name), inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)


def _parameter(setting: str) -> str:
    """Under which name a setting is given."""
    return f"{setting.replace('-', '_')}_"


def _with_settings(config: Any, row: StageCommand, given: Mapping[str, Any]) -> tuple[Any, str]:
    """``config`` with what the options of its settings say, or the part of it that is taken, and what to do next."""
    next_ = row.next
    if row.part:
        config = row.part.model_validate(config.model_dump(include=set(row.part.model_fields)))
    for name, setting in row.settings.items():
        value = given[_parameter(name)]
        if value is None:
            continue
        if setting.values and value not in setting.values:
            raise ValueError(f"--{name} is {value!r}; it is one of {', '.join(setting.values)}")
        config, next_ = config.model_copy(update={setting.key: value}), setting.next or next_
    return config, next_


def _run(row: StageCommand, given: dict[str, Any]) -> None:
    recipe = load_recipe(given["recipe"], given["set_"] or [])
    if row.axis and given["axis"] not in ("helpfulness", "safety"):
        raise ValueError(f"--axis is {given['axis']!r}; it is helpfulness or safety")
    config, next_ = _with_settings(section_of(recipe, given["axis"] if row.axis else row.section), row, given)
    registry = open_registry(given["registry"])
    name = given["name"] or row.name or _name_of(row, given, registry)
    inputs = {role: _texts(given[role]) for role in row.roles if given[role]}
    inputs |= {role: each for role in row.roles if role not in inputs and (each := _looked_for(row.roles[role], registry))}
    save_every = SaveEvery.parse(given["save_every"])
    check_device(given["device"])
    if given["dry_run"]:
        resolved = {role: [str(registry.resolve(text).reference) for text in texts] for role, texts in inputs.items()}
        print_json({"stage": row.command, "name": name, "inputs": resolved, "config": config.model_dump(mode="json")})
        return
    tracked = tracking(given["track"], given["track_dir"], name) if row.trains else None
    stage = load_stage(row.stage)
    result = run_stage(
        registry, stage, name=name, config=config, inputs=inputs, seed=given["seed"],
        progress=Progress(quiet=given["quiet"], tracking=tracked), force=given["force"], save_every=save_every,
        device=given["device"],
    )  # fmt: skip
    reference = str(result.artifact.reference)
    if given["json_"]:
        manifest = result.artifact.manifest
        print_json({"artifact": reference, "digest": manifest.digest, "metrics": manifest.metrics, "seconds": result.seconds})
        return
    typer.echo(f"{reference}{' (up to date)' if result.up_to_date else f' in {clock_text(result.seconds)}'}")
    typer.echo(f"next: {next_.format(ref=reference, path=result.artifact.path)}")


def _name_of(row: StageCommand, given: Mapping[str, Any], registry: Registry) -> str:
    """What the artifact is called where neither ``--name`` nor the row says: the axis, or the name of what it is of."""
    return registry.follow(given[row.named_after]).name if row.named_after else given["axis"]


def _looked_for(role: Role, registry: Registry) -> tuple[str, ...]:
    """What a role takes when nothing is given."""
    try:
        return (role.looked_for,) if role.looked_for and registry.follow(role.looked_for) else ()
    except ReferenceNotFound:
        return ()


def _texts(given: str | list[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def load_stage(place: str) -> Stage:
    """The stage at ``module:NAME``; imports torch and the rest, and silences their bars."""
    from stages.environment import quiet_libraries

    module, name = place.split(":")
    found = getattr(importlib.import_module(module), name)
    quiet_libraries()
    assert isinstance(found, Stage)
    return found
