"""What was measured, on the terminal: tables, each line of ours followed by the paper's; of a study also its verdicts."""

from collections.abc import Mapping
from typing import Any

import typer

from commands.printing.lines import print_table


def print_study(study: Mapping[str, Any]) -> None:
    """What a ``study.json`` holds."""
    typer.echo(study["title"])
    for note in study["notes"]:
        typer.echo(note)
    typer.echo("")
    for table in study["tables"]:
        print_measured(table)
    for finding in study["findings"]:
        typer.echo(f"{finding['id']} {finding['verdict']}: {finding['claim']} ({finding['source']})")
        for effect in finding["effects"]:
            within = "within -+" if effect["side"] == "within" else effect["side"]
            paper = "" if effect["paper"] is None else f", paper {effect['paper']:.3f}"
            typer.echo(
                f"   {effect['verdict']}: {effect['name']} {_estimate(effect['estimate'], 1.0, 3)}, claimed {within} "
                f"{effect['threshold']:g}{paper}"
            )
    typer.echo("The intervals are over prompts, for the models trained here.")


def print_measured(table: Mapping[str, Any]) -> None:
    """A ``Table`` as JSON values, and an empty line."""
    typer.echo(table["title"])
    unit = " (%)" if table["percent"] else ""
    print_table(["", *(f"{column.replace('_', ' ')}{unit}" for column in table["columns"])], _lines(table))
    typer.echo("")


def _lines(table: Mapping[str, Any]) -> list[list[str]]:
    scale, digits = (100.0, 1) if table["percent"] else (1.0, 2)
    lines = []
    for row in table["rows"]:
        measured, paper = row["measured"], row["paper"]
        lines.append([row["name"], *(_estimate(measured.get(column), scale, digits) for column in table["columns"])])
        if paper:
            numbers = (paper.get(column) for column in table["columns"])
            lines.append(["  paper", *("" if number is None else f"{scale * number:.{digits}f}" for number in numbers)])
    return lines


def _estimate(estimate: Mapping[str, Any] | None, scale: float, digits: int) -> str:
    """Value, interval and count; a dash where nothing was observed."""
    if estimate is None or not estimate["n"]:
        return "-"
    value, low, high = (f"{scale * estimate[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}] n={estimate['n']}"
