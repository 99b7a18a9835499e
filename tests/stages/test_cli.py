"""Bad input through the real command line: exit code 2, a message that says what to do, nothing half-written."""

import json
import re

import pytest
import typer
from command_line import plain, run_here

from commands.cli import app
from stages.recipe import load_recipe, shipped_recipes


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLHF_REGISTRY", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reproduce", "--recipe", "nanoo"), "there is no recipe 'nanoo'. Did you mean nano?"),
        (("reproduce", "--recipe", "mine.yaml"), "the recipe file mine.yaml does not exist"),
        (("reproduce", "--recipe", "micro", "--set", "ppo.kl_coeff=1"),
         "ppo.kl_coeff: Extra inputs are not permitted. Did you mean kl"),
        (("reproduce", "--recipe", "micro", "--set", "ppo.minibatch_size=7"),
         "batch_size 16 is not a multiple of minibatch_size 7"),
        (("reproduce", "--recipe", "micro", "--set", "rejection_sampling.k=0"),
         "rejection_sampling.k: Value error, k is 0, the number of responses to each prompt; give 1 or more"),
        (("reproduce", "--recipe", "micro", "--set", "rejection_sampling.temperatures=[]"),
         "there is no temperature to sample at; give one, or several to choose from"),
        (("reproduce", "--recipe", "micro", "--set", "rejection_sampling.temperatures=[1, 0]"), "a temperature is 0.0"),
        (("reproduce", "--recipe", "micro", "--set", "rejection_sampling.temperature=1"), "Did you mean temperatures?"),
        (("rejection-sample", "--evaluation-prompts", "prompts/none", "--policy", "policy/none"), "policy/none"),
        (("rescore", "--samples", "samples/none"), "samples/none"),
        (("reproduce", "--recipe", "micro", "--set", "kl"), "--set takes section.key=value"),
        (("reproduce", "--recipe", "micro", "--until", "pppo"), "the recipe has no step 'pppo'. Did you mean"),
        (("sft", "--policy", "policy/none"), "policy/none"),
        (("train-reward", "--axis", "harm", "--preferences", "preferences/x"), "'harm' is not one of"),
        (("import", "none.jsonl", "--axis", "safety"), "there is no file none.jsonl"),
        (("import", "--axis", "safety"), "give annotation files"),
        (("import", "x.jsonl"), "--axis is missing"),
        (("score", "none.jsonl", "--model", "reward_model/x"), "there is no file none.jsonl"),
        (("chat", "policy/none"), "policy/none"),
        (("report", "report/none"), "report/none"),
        (("recipe", "show", "micr"), "Did you mean micro?"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_to_do(here, arguments, message):
    assert message in plain(run_here(*arguments, code=2).output)
    assert not list(here.rglob("manifest.json"))


def test_unknown_option_is_refused():
    assert "--policy" in plain(run_here("sft", "--polcy", "policy/base", code=2).output)


def test_all_problems_of_a_recipe_are_reported_at_once(here):
    changes = ("--set", "ppo.clip_range=3", "--set", "sft.epochs=0", "--set", "colour=red")
    said = plain(run_here("recipe", "show", "micro", *changes, code=2).output)
    for part in ("has 3 problems", "ppo.clip_range", "sft.epochs", "colour"):
        assert part in said


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_are_valid_and_print_themselves(name):
    assert load_recipe(name).name == name
    assert json.loads(run_here("recipe", "show", name, "--json").stdout) == load_recipe(name).model_dump(mode="json")


def commands(app=app, words=()):
    """Every command with the words that call it."""
    for name, command in typer.main.get_command(app).commands.items():
        for sub, each in getattr(command, "commands", {"": command}).items():
            yield pytest.param(each, id=" ".join(filter(None, (name, sub))))


@pytest.mark.parametrize("command", commands())
def test_help_of_every_command_has_an_example_that_calls_it(request, command):
    example = re.search(r"Example: (rlhf .*)", command.help)
    words = request.node.callspec.id
    assert example and example[1].startswith(f"rlhf {words} ".rstrip()), command.help
    run_here(*words.split(), "--help")


def test_dry_run_resolves_and_makes_nothing(here):
    told = json.loads(run_here("reproduce", "--recipe", "micro", "--dry-run").stdout)
    assert told["steps"][0]["makes"] == "dialogues/corpus"
    assert not list(here.iterdir())


def test_help_and_registry_load_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, commands.cli; print([m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
