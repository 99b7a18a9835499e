"""How commands print: tables, JSON, and lines beside the result.

Into a pipe, tables become lines with tab-separated columns; with ``--json`` stdout holds one JSON object and nothing else.
"""

import json
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

FOLDED_ROWS = 1000  # folding long values costs 0.3 ms a row


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
