"""Options made of the fields of a stage's config (``Stage.options``): type and help are those of the field."""

import inspect
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from commands.options import keyword
from stages.stage import Option, Stage


def config_option(stage: Stage, option: Option) -> inspect.Parameter:
    """The option for one key of the config; it is not given by default."""
    field = stage.config.model_fields[option.key]
    kind = _kind(field.annotation)
    help_ = f"{str(field.description)[0].upper()}{str(field.description)[1:]}."
    flag = f"--{option.name}"
    if kind is bool:
        return keyword(_parameter(option), Annotated[bool | None, typer.Option(flag, help=help_, show_default=False)], None)
    metavar = option.name.upper() if get_origin(kind) is Literal else "N"
    if get_origin(kind) is tuple:
        kind, metavar = str, "X,..."
        help_ = help_.removesuffix(".") + "; numbers separated by commas."
    return keyword(_parameter(option), Annotated[kind | None, typer.Option(flag, metavar=metavar, help=help_)], None)


def changes(stage: Stage, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The keys that were given, by name, and the next command that one of them asks for. Raises ValueError."""
    changed: dict[str, Any] = {}
    next_ = ""
    for option in stage.options:
        value = given[_parameter(option)]
        if value is None:
            continue
        if get_origin(_kind(stage.config.model_fields[option.key].annotation)) is tuple:
            value = _numbers(f"--{option.name}", value)
        changed[option.key], next_ = value, option.next or next_
    return changed, next_


def _kind(annotation: Any) -> Any:
    """The type of a field without its None."""
    kinds = (
        [part for part in get_args(annotation) if part is not NoneType] if NoneType in get_args(annotation) else [annotation]
    )
    return kinds[0]


def _parameter(option: Option) -> str:
    """The name under which typer passes the option; ``for`` is a word of Python."""
    return f"{option.name.replace('-', '_')}_"


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{flag} is {text!r}; give numbers separated by commas, such as 0.6,1.0,1.4") from error
