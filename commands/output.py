"""What the commands of the registry share: their options, their errors, and how they print.

Into a pipe, tables become lines with tab-separated columns; with ``--json`` stdout holds one JSON object and nothing else.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from registry.errors import RegistryError

FOLDED_ROWS = 1000  # folding long values costs 0.3 ms a row

RegistryOption = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        help="Registry folder. Default: $RLHF_REGISTRY, the project folder's registry, ./rlhf-registry.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="kind/name@revision, kind/name (newest) or an alias.")]


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn a RegistryError into its message on stderr and exit code 2; a disk or a connection that fails into exit code 1."""
    try:
        yield
    except (RegistryError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, RegistryError) else 1) from error


def registry_told(registry: Path | None) -> str:
    """`` --registry DIR``, as a shell takes it, for a command that goes on in ``registry``; nothing for the default."""
    return f" --registry {quote(str(registry))}" if registry else ""


def say(text: str) -> None:
    """A line beside the result, on stderr."""
    typer.echo(text, err=True)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; tab-separated lines with a header anywhere else."""
    console = Console()
    if not console.is_terminal:
        typer.echo("\n".join("\t".join(row) for row in (columns, *rows)))
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= console.width or len(rows) > FOLDED_ROWS:
        padded = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (columns, *rows))
        typer.echo("\n".join(padded))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
