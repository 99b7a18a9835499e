"""The options that all commands have which make something: they stand in the place of ``run``, and arrive as one."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from commands.cli import app
from commands.options import TRACKING, RunOptions, run_options

SHARED = ["--name", "--recipe", "--set", "--registry", "--seed", "--force", "--save-every", "--device", "--dry-run"]
SHARED += ["--json", "--quiet"]


def invoked(*words: str, without: tuple[str, ...] = TRACKING) -> tuple[int, RunOptions | None, str]:
    """Exit code and what a command with one option of its own was given: ``run`` and that option."""
    found: list[tuple[RunOptions, str]] = []
    single = typer.Typer()

    @single.command()
    @run_options(*without)
    def command(size: Annotated[str, typer.Option("--size")] = "pico", *, run: RunOptions) -> None:
        found.append((run, size))

    done = CliRunner().invoke(single, list(words))
    return (done.exit_code, *(found[0] if found else (None, "")))


def test_what_is_not_given_is_the_default() -> None:
    assert invoked() == (0, RunOptions(), "pico")


def test_every_option_arrives() -> None:
    words = ["--size", "nano", "--name", "mine", "--recipe", "micro", "--set", "ppo.kl_coef=0", "--set", "ppo.gamma=1"]
    words += ["--registry", "here", "--seed", "7", "--force", "--save-every", "10m", "--device", "cuda:1"]
    words += ["--dry-run", "--json", "--quiet"]
    code, run, size = invoked(*words)
    assert (code, size) == (0, "nano")
    assert run is not None and (run.name, run.recipe, run.set_) == ("mine", "micro", ["ppo.kl_coef=0", "ppo.gamma=1"])
    assert (run.registry, run.seed, run.force, run.save_every, run.device) == (Path("here"), 7, True, "10m", "cuda:1")
    assert run.dry_run and run.json_ and run.quiet
    assert run.same_recipe == " --recipe micro --set ppo.kl_coef=0 --set ppo.gamma=1 --registry here"


def test_one_that_is_left_out_is_no_option_and_has_its_default() -> None:
    assert invoked("--save-every", "10m", without=("save_every",))[0] == 2
    code, run, _ = invoked("--seed", "7", without=("save_every",))
    assert run is not None and (code, run.seed, run.save_every) == (0, 7, "1m")


def test_the_recipe_is_read_with_what_is_set() -> None:
    assert RunOptions(recipe="micro", set_=["ppo.kl_coef=0.25"]).load_recipe().ppo.kl_coef == 0.25


@pytest.mark.parametrize(
    ("study", "own", "left_out"),
    [
        ("accuracy", ["--input"], ["--save-every"]),
        ("best-of-n", ["--input", "--num-helpful", "--num-adversarial", "--k", "--temperatures"], []),
        ("pooling", ["--input", "--answers", "--training-seeds"], []),
        ("reward-scaling", ["--input", "--sizes", "--training-seeds"], []),
    ],
)  # fmt: skip
def test_a_study_has_its_own_options_first_and_then_those_of_all(study: str, own: list[str], left_out: list[str]) -> None:
    command = typer.main.get_command(app)
    for name in ("study", study):
        command = command.commands[name]  # type: ignore[attr-defined]
    options = [each.opts[0] for each in command.params if each.opts[0] != "--help"]
    assert options == own + [each for each in SHARED if each not in left_out]
