"""A plan on the terminal: the steps, the rounds in words, what all need together, and why they cannot run where they cannot."""

import typer

from commands.output import print_table
from stages.plan.plan import Plan, PlannedStep, gigabytes
from stages.terminal.progress import clock_text
from stages.terminal.screen_text import size_text

_COLUMNS = ("artifact", "state", "tokens", "weights", "gradients", "optimizer", "activations", "cache", "disk", "time")


def print_plan(plan: Plan, command: str) -> None:
    """``command`` runs what was planned."""
    print_table(_COLUMNS, [_row(each) for each in plan.steps])
    machine = plan.machine
    to_make = sum(each.state != "up to date" for each in plan.steps)
    lines = [
        "",
        *plan.rounds,
        "",
        f"{plan.recipe}: {_count(plan.parameters)} parameters; {to_make} of {len(plan.steps)} steps to make",
        f"time    {_time(plan.seconds)} on this machine ({machine.cores} cores), {plan.timing}",
        f"memory  {gigabytes(plan.peak_memory)} at the worst moment, of {gigabytes(machine.memory)}",
        f"disk    {gigabytes(plan.disk)} while it runs, of {gigabytes(machine.free_disk)} free",
    ]
    lines += [f"missing: {file}" for file in plan.missing_files]
    for problem in plan.problems:
        lines += ["", f"does not fit: {problem.text}", f"needs: {problem.needs}"]
    lines += [] if plan.problems else [f"next: {command}"]
    for line in lines:
        typer.echo(line)


def _row(step: PlannedStep) -> list[str]:
    if step.state == "up to date":
        return [step.artifact, step.state, *["-"] * (len(_COLUMNS) - 2)]
    held = step.work.footprint
    sizes = (held.weights, held.gradients, held.optimizer, held.activations, held.cache, step.work.artifact_bytes)
    return [
        step.artifact,
        step.state,
        _count(step.work.tokens) if step.work.tokens else "-",
        *(size_text(size) if size else "-" for size in sizes),
        _time(step.seconds) if step.seconds >= 0.5 else "-",
    ]


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    """As a clock shows it up to two days, then in days, then in years."""
    days = seconds / 86400
    return clock_text(seconds) if days < 2 else f"{days:.0f} days" if days < 1000 else f"{days / 365:,.0f} years"
