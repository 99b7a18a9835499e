"""How a study is run: the options that all of them have, each written once.

A command takes them as one argument, ``run: StudyRun``, in whose place `run_options` puts the options that it stands for.
"""

import functools
import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from commands.options import (
    DeviceOption,
    DryRunOption,
    ForceOption,
    QuietOption,
    RecipeOption,
    SaveEveryOption,
    SeedOption,
    SetOption,
)
from commands.output import JsonOption, RegistryOption, registry_told
from stages.recipe import Recipe, load_recipe

NameOption = Annotated[str | None, typer.Option("--name", help="Name of the artifact. Default: the study's.")]


@dataclass(frozen=True)
class StudyRun:
    """Each field is an option of the command line, in this order and with these defaults."""

    name: NameOption = None
    recipe: RecipeOption = "nano"
    set_: SetOption = None
    registry: RegistryOption = None
    seed: SeedOption = 0
    force: ForceOption = False
    save_every: SaveEveryOption = "1m"
    device: DeviceOption = "cpu"
    dry_run: DryRunOption = False
    json_: JsonOption = False
    quiet: QuietOption = False

    def load_recipe(self) -> Recipe:
        """The recipe, with what ``--set`` overrides. Raises RecipeError."""
        return load_recipe(self.recipe, self.set_ or [])

    @property
    def told(self) -> str:
        """What a command that goes on from this one is told, for people: recipe, overrides and registry, if not defaults."""
        chosen = ["", *(["--recipe", self.recipe] if self.recipe != StudyRun.recipe else [])]
        chosen += [word for each in self.set_ or [] for word in ("--set", shlex.quote(each))]
        return " ".join(chosen) + self.where

    @property
    def where(self) -> str:
        """The registry as a command is told it, for people; nothing if it is the default."""
        return registry_told(self.registry)

    @property
    def options(self) -> dict[str, Any]:
        """What `commands.studies.run_study` is told."""
        told = {"registry": self.registry, "seed": self.seed, "force": self.force, "save_every": self.save_every}
        told |= {"device": self.device}
        return told | {"dry_run": self.dry_run, "json": self.json_, "quiet": self.quiet}


def run_options(without: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command, after its own options, those of `StudyRun` in place of its argument ``run``.

    ``without``: the one among them that it leaves out.
    """
    taken = [field for field in fields(StudyRun) if field.name != without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            run = StudyRun(**{field.name: given.pop(field.name) for field in taken})
            command(**given, run=run)

        own = [each for each in inspect.signature(command).parameters.values() if each.name != "run"]
        shared = [
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.type, default=field.default)
            for field in taken
        ]
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate
