"""Options that many commands share, and how errors become messages and exit codes.

0 done, 1 failed, 2 wrong usage or bad input; 130 when interrupted.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from preference_data.files.opening import AnnotationFileError
from preference_data.messages import MessagesError
from registry.errors import RegistryError
from stages.recipe import RecipeError

RecipeOption = Annotated[str, typer.Option("--recipe", metavar="R", help="A shipped recipe by name, or a YAML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one value of the recipe; may be repeated."),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", help="Seed of everything random.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Run even where the result is up to date, and go on only from what a forced run saved.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and stop.")]
SaveEveryOption = Annotated[
    str,
    typer.Option(
        "--save-every",
        metavar="INTERVAL",
        help="How often training saves what it needs to go on after it was stopped: a time such as 90s, 10m or 2h, or a number "
        "of steps such as 200. The result is the same, so it is no part of the recipe. Sampling saves each batch.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="D", help="Where models are put: cpu, cuda, or one of several such as cuda:1.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]

BAD_INPUT = (RegistryError, RecipeError, AnnotationFileError, MessagesError, FileNotFoundError, ValueError)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input becomes its message and exit code 2; an interruption says how to go on."""
    try:
        yield
    except BAD_INPUT as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except (RuntimeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; what was made is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from error


def existing(path: Path) -> Path:
    """``path``, which must be a file. Raises FileNotFoundError with what lies beside it."""
    if path.is_file():
        return path
    folder = path.parent
    beside = sorted(entry.name for entry in folder.iterdir() if entry.is_file())[:8] if folder.is_dir() else []
    around = f"; in {folder} there are {', '.join(beside)}" if beside else ""
    raise FileNotFoundError(f"there is no file {path}{around}")


def check_folder(file: Path) -> None:
    """Raise FileNotFoundError unless the folder is there in which ``file`` is to be written, before there is work to lose."""
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.absolute().parent} to write {file.name} in; make it first")


def share(option: str, text: str, least: float = 0.0, below: float = math.inf) -> float:
    """A share in [0, 1] written as 0.05 or 5%, not under ``least`` and under ``below``. Raises ValueError."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not (0 <= found <= 1 and least <= found < below):
        limits = f", {'above 0' if least else 'from 0'} {'and below 1' if below == 1 else 'to 1'}"
        raise ValueError(f"{option} is {text!r}; it is a share{limits}, or a percentage such as 5%")
    return found
