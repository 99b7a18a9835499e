"""Every command that the documentation shows exists, with every option that it is given."""

import re
import shlex

import pytest
import typer
from command_line import ROOT

from commands.cli import app
from preference_data.messages import user
from preference_data.prompt import make_prompt
from stages.engine.prompts import TooFewPrompts
from stages.recipe import SandboxRecipe, TeamRecipe, load_recipe
from stages.train.rejection_sample import draw

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


def sections():
    """The recipe's sections by name, of a sandbox's recipe and of a team's."""
    return {name: field.annotation for recipe in (SandboxRecipe, TeamRecipe) for name, field in recipe.model_fields.items()}


def named_settings():
    """`section.key` wherever a page names one."""
    for page in PAGES:
        for section, key in re.findall(r"\b([a-z_]+)\.([a-z_]+)\b", page.read_text(encoding="utf-8")):
            if section in sections() and key not in ("py", "md", "csv", "jsonl", "parquet"):
                yield pytest.param(section, key, id=f"{page.name}: {section}.{key}")


@pytest.mark.parametrize(("section", "key"), list(named_settings()))
def test_a_setting_that_a_page_names_exists(section, key):
    assert key in sections()[section].model_fields


def test_the_prompts_that_a_team_is_told_to_count_are_what_its_stages_draw():
    """`llama2-7b` on a set of prompts of exactly as many as the page says, and on one prompt less of either kind."""
    sampling = load_recipe("llama2-7b").rejection_sampling
    page = (ROOT / "docs" / "team.md").read_text(encoding="utf-8")
    table = page[page.index("| stage |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    count = {row[0]: [int(number.replace(",", "")) for number in row[-1].split(" and ")] for row in cells}
    searched, drawn = count["its search for a temperature, beside those"], count["rejection sampling, a round"]
    benign, tagged = (of_search + of_round for of_search, of_round in zip(searched, drawn, strict=True))
    prompts = [
        make_prompt([user(f"Question {n}?")], family="f", split="train", source="test", is_safety=n < tagged)
        for n in range(benign + tagged)
    ]
    assert [len(each) for each in draw(prompts, sampling, 0)] == [sum(drawn), sum(searched)]
    for fewer in (prompts[1:], prompts[:-1]):
        with pytest.raises(TooFewPrompts, match="search_prompts"):
            draw(fewer, sampling, 0)
    ppo, distillation = load_recipe("llama2-7b").ppo, load_recipe("llama2-7b").distillation
    assert count["PPO"] == [ppo.num_helpful, ppo.num_adversarial]
    assert count["safety distillation"] == [distillation.num_prompts]


def test_pages_show_commands_at_all():
    assert len(list(shown_commands())) >= 6


def test_make_targets_of_the_readme_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text())) <= set(targets)
