"""A plan on the terminal: the steps, the rounds in words, what all need together, and why they cannot run where they cannot."""

from collections import Counter

import typer

from commands.printing.lines import print_table
from stages.plan.table import Plan, PlannedStep, gigabytes
from stages.plan.time import BY_ARITHMETIC
from stages.terminal.progress import clock_text
from stages.terminal.screen_text import size_text

_TOKENS, _HELD = ("trained", "read", "sampled"), ("weights", "gradients", "optimizer", "activations", "cache")
_COLUMNS = ("artifact", "state", *_TOKENS, *_HELD, "time", "time from")
_UNKNOWN = "not counted"


def print_plan(plan: Plan, command: str) -> None:
    """``command`` runs what was planned."""
    print_table(_COLUMNS, [_row(step) for step in plan.steps])
    machine = plan.machine
    to_make = [step for step in plan.steps if step.state != "up to date"]
    known = ", ".join(f"{count} {timing}" for timing, count in Counter(step.timing for step in to_make).items())
    lines = [
        "",
        *plan.rounds,
        "",
        f"{plan.recipe}: {_count(plan.parameters)} parameters; {len(to_make)} of {len(plan.steps)} steps to make",
        f"time    {_time(plan.seconds)} on {machine.device} ({machine.name}); steps: {known or 'none'}",
        f"memory  {gigabytes(plan.peak_memory_bytes)} at the worst moment, of {gigabytes(machine.memory_bytes)}"
        f"{_left_out(plan.without_memory)}",
        f"disk    {gigabytes(plan.disk_bytes)} of weights and saved states, of {gigabytes(machine.free_disk_bytes)} free"
        f"{_left_out(plan.without_memory)}",
    ]
    if any(step.timing == BY_ARITHMETIC for step in to_make):
        lines.append("note: a time by arithmetic is a lower bound, above all where a step samples")
    lines += [f"note: {machine.note}"] if machine.note else []
    lines += [f"missing: {file}" for file in plan.missing_files]
    for problem in plan.problems:
        lines += ["", f"does not fit: {problem.text}", f"needs: {problem.needs}"]
    lines += [] if plan.problems else [f"next: {command}"]
    for line in lines:
        typer.echo(line)


def _row(step: PlannedStep) -> list[str]:
    if step.state == "up to date":
        return [step.artifact, step.state, *["-"] * (len(_COLUMNS) - 2)]
    counts = [_UNKNOWN] * (len(_TOKENS) + len(_HELD))
    if step.work:
        tokens = [getattr(step.work.tokens, name) for name in _TOKENS]
        held = [getattr(step.work.footprint, name) for name in _HELD]
        counts = [_count(number) if number else "-" for number in tokens] + [size_text(size) if size else "-" for size in held]
    time = [_UNKNOWN, "-"] if step.seconds is None else [_time(step.seconds), step.timing]
    return [step.artifact, step.state, *counts, *time]


def _left_out(artifacts: tuple[str, ...]) -> str:
    return f"; {len(artifacts)} step{'s' * (len(artifacts) > 1)} not counted" if artifacts else ""


def _count(number: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    """As a clock shows it up to two days, then in days, then in years."""
    days = seconds / 86400
    if days >= 2:
        return f"{days:.0f} days" if days < 1000 else f"{days / 365:,.0f} years"
    return clock_text(seconds) if seconds >= 0.5 else f"{seconds:.2g} s"
