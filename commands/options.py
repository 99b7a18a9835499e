"""Options that many commands share, and how errors become messages and exit codes.

0 done, 1 failed, 2 wrong usage or bad input; 130 when interrupted.

A command that makes an artifact takes one argument ``run: RunOptions``. In its place ``run_options`` puts the options that all
such commands have.
"""

import functools
import inspect
import math
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from policy.placement import check_device
from preference_data.files.opening import AnnotationFileError
from preference_data.messages import MessagesError
from registry.errors import RegistryError
from registry.saved_states import SaveEvery
from registry.store import Registry
from stages.recipe import Recipe, RecipeError, load_recipe

RecipeOption = Annotated[str, typer.Option("--recipe", metavar="R", help="A shipped recipe by name, or a YAML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one value of the recipe; may be repeated."),
]
RegistryOption = Annotated[
    Path | None,
    typer.Option("--registry", metavar="DIR", help="Registry folder. Default: $RLHF_REGISTRY, else ./rlhf-registry."),
]
ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="kind/name@revision, kind/name (newest) or an alias.")]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the artifact.")]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Random seed.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Run even if the result is up to date. Resumes only states saved by a forced run.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would run as JSON, without running it.")]
SaveEveryOption = Annotated[
    str,
    typer.Option(
        "--save-every",
        metavar="INTERVAL",
        help="How often training saves its state, so that a stopped run can resume: a time such as 90s, 10m or 2h, or a number "
        "of steps such as 200. Sampling saves each batch. The interval does not change the result.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="D", help="Device: cpu, cuda, or one of several such as cuda:1.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Do not show progress.")]
TrackOption = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="TRACKER", help="Also log to tensorboard, trackio or wandb; may be repeated."),
]
TrackDirOption = Annotated[
    Path,
    typer.Option("--track-dir", metavar="DIR", help="Folder for the files of tensorboard and wandb, outside the registry."),
]

BAD_INPUT = (RegistryError, RecipeError, AnnotationFileError, MessagesError, FileNotFoundError, ValueError)


@dataclass(frozen=True)
class RunOptions:
    """Each field is an option of the command line, in this order and with these defaults."""

    name: NameOption = None
    recipe: RecipeOption = "nano"
    set_: SetOption = None
    registry: RegistryOption = None
    seed: SeedOption = 0
    force: ForceOption = False
    save_every: SaveEveryOption = "1m"
    device: DeviceOption = "cpu"
    track: TrackOption = None
    track_dir: TrackDirOption = Path("tracking")
    dry_run: DryRunOption = False
    json_: JsonOption = False
    quiet: QuietOption = False

    def load_recipe(self) -> Recipe:
        """The recipe, with what ``--set`` overrides. Raises RecipeError."""
        return load_recipe(self.recipe, self.set_ or [])

    def check(self) -> SaveEvery:
        """How often to save. Raises ValueError for an interval or a device that cannot be, before anything is opened."""
        check_device(self.device)
        return SaveEvery.parse(self.save_every)

    def open_registry(self) -> Registry:
        """The registry, which may not exist yet."""
        return open_registry(self.registry)

    @property
    def same_registry(self) -> str:
        """`` --registry DIR`` for a next command in the same registry; nothing for the default."""
        return registry_option(self.registry)

    @property
    def same_recipe(self) -> str:
        """The recipe, overrides and registry for a next command, where they are not the defaults."""
        words = ["", *(["--recipe", self.recipe] if self.recipe != RunOptions.recipe else [])]
        words += [word for override in self.set_ or [] for word in ("--set", shlex.quote(override))]
        return " ".join(words) + self.same_registry


TRACKING = ("track", "track_dir")


def run_options(*without: str, default_name: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that puts the options of ``RunOptions`` in place of a command's argument ``run``.

    ``without``: those that are left out. ``default_name``: the artifact's name where ``--name`` is not given, for the help.
    """
    taken = [option for option in fields(RunOptions) if option.name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "run"]

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            command(run=RunOptions(**{option.name: given.pop(option.name) for option in taken}), **given)

        shared = [keyword(option.name, option.type, option.default) for option in taken]
        if default_name and "name" not in without:
            help_ = f"Name of the artifact. Default: {default_name}."
            shared[0] = keyword("name", Annotated[str | None, typer.Option("--name", help=help_)], None)
        return with_parameters(
            with_options, [*(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *shared]
        )

    return decorate


def keyword(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """An option of a command whose options are derived."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def with_parameters(command: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """``command`` with the signature that typer is to read."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def open_registry(option: Path | None) -> Registry:
    """The registry of ``--registry``; else of ``$RLHF_REGISTRY``; else ``./rlhf-registry``. It may not exist yet."""
    return Registry(option or os.environ.get("RLHF_REGISTRY") or "rlhf-registry")


def registry_option(registry: Path | None) -> str:
    """`` --registry DIR``, quoted for a shell, for a next command in the same registry; nothing for the default."""
    return f" --registry {shlex.quote(str(registry))}" if registry else ""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input becomes its message and exit code 2; an interruption says how to resume."""
    try:
        yield
    except BAD_INPUT as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except (RuntimeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; what was made is kept, and the same command resumes from there", err=True)
        raise typer.Exit(130) from error


def existing(path: Path) -> Path:
    """``path``, which must be a file. Raises FileNotFoundError with the names of files beside it."""
    if path.is_file():
        return path
    folder = path.parent
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())[:8] if folder.is_dir() else []
    raise FileNotFoundError(f"there is no file {path}" + (f"; in {folder} there are {', '.join(names)}" if names else ""))


def check_folder(file: Path) -> None:
    """Raise FileNotFoundError unless the folder exists in which ``file`` is to be written, before there is work to lose."""
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.absolute().parent} to write {file.name} in; make it first")


def share(option: str, text: str, least: float = 0.0, below: float = math.inf) -> float:
    """A share in [0, 1] written as 0.05 or 5%, at least ``least`` and less than ``below``. Raises ValueError."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not (0 <= number <= 1 and least <= number < below):
        limits = f", {'above 0' if least else 'from 0'} {'and below 1' if below == 1 else 'to 1'}"
        raise ValueError(f"{option} is {text!r}; it is a share{limits}, or a percentage such as 5%")
    return number
