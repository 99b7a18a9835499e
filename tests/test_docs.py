"""Every command that the documentation shows exists, with every option that it is given."""

import re
import shlex

import pytest
import typer
from commands import ROOT

from stages.cli import app

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown_commands():
    for page in PAGES:
        for block in re.findall(r"```(?:sh)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("rlhf "):
                    yield pytest.param(shlex.split(line, comments=True)[1:], id=f"{page.name}: {line[:60]}")


@pytest.mark.parametrize("words", list(shown_commands()))
def test_command_and_options_exist(words):
    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_pages_show_commands_at_all():
    assert len(list(shown_commands())) >= 6


def test_make_targets_of_the_readme_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text())) <= set(targets)
