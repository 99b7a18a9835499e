"""The options that all studies have: put in the place of ``run``, and handed to the command as one."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from commands.cli import app
from commands.study_options import StudyRun, run_options

SHARED = ["--name", "--recipe", "--set", "--registry", "--seed", "--force", "--save-every", "--device", "--dry-run"]
SHARED += ["--json", "--quiet"]


def told(*words: str, without: str = "") -> tuple[int, StudyRun | None, str]:
    """Exit code and what a command with one option of its own was given: ``run`` and that option."""
    found: list[tuple[StudyRun, str]] = []
    single = typer.Typer()

    @single.command()
    @run_options(without=without)
    def command(size: Annotated[str, typer.Option("--size")] = "pico", *, run: StudyRun) -> None:
        found.append((run, size))

    done = CliRunner().invoke(single, list(words))
    return (done.exit_code, *(found[0] if found else (None, "")))


def test_what_is_not_given_is_the_default() -> None:
    assert told() == (0, StudyRun(None, "nano", None, None, 0, False, "1m", "cpu", False, False, False), "pico")


def test_every_option_arrives() -> None:
    words = ["--size", "nano", "--name", "mine", "--recipe", "micro", "--set", "ppo.kl_coef=0", "--set", "ppo.gamma=1"]
    words += ["--registry", "here", "--seed", "7", "--force", "--save-every", "10m", "--device", "cuda:1"]
    words += ["--dry-run", "--json", "--quiet"]
    code, run, size = told(*words)
    assert (code, size) == (0, "nano")
    assert run is not None and (run.name, run.recipe, run.set_) == ("mine", "micro", ["ppo.kl_coef=0", "ppo.gamma=1"])
    assert {name: str(value) for name, value in run.options.items()} == {
        "registry": "here", "seed": "7", "force": "True", "save_every": "10m", "device": "cuda:1", "dry_run": "True",
        "json": "True", "quiet": "True",
    }  # fmt: skip


def test_one_that_is_left_out_is_no_option_and_has_its_default() -> None:
    assert told("--save-every", "10m", without="save_every")[0] == 2
    code, run, _ = told("--seed", "7", without="save_every")
    assert run is not None and (code, run.seed, run.save_every) == (0, 7, "1m")


def test_the_recipe_is_read_with_what_is_set() -> None:
    assert StudyRun(recipe="micro", set_=["ppo.kl_coef=0.25"]).load_recipe().ppo.kl_coef == 0.25


@pytest.mark.parametrize(
    ("study", "own", "left_out"),
    [
        ("accuracy", ["--evaluation"], ["--save-every"]),
        ("best-of-n", ["--policy", "--helpfulness", "--safety", "--prompts", "--temperature", "--num-prompts",
                       "--num-adversarial", "--k"], []),
        ("pooling", ["--policy", "--demonstrations", "--samples", "--distilled", "--gatt", "--prompts", "--helpfulness",
                     "--safety", "--answers", "--training-seeds"], []),
    ],
)  # fmt: skip
def test_a_study_has_its_own_options_first_and_then_those_of_all(study: str, own: list[str], left_out: list[str]) -> None:
    command = typer.main.get_command(app)
    for name in ("study", study):
        command = command.commands[name]  # type: ignore[attr-defined]
    options = [each.opts[0] for each in command.params if each.opts[0] != "--help"]
    assert options == own + [each for each in SHARED if each not in left_out]
