"""Every key of a recipe and of a stage's config is read somewhere: an option that is accepted and ignored is a lie."""

import ast
from pathlib import Path

import pytest
from pydantic import BaseModel

from gatt import config as gatt_config
from policy import config as policy_config
from reward_model import config as reward_model_config
from rlhf import config as rlhf_config
from stages import recipe, sections

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("registry", "preference_data", "policy", "sandbox", "reward_model", "rlhf", "gatt", "eval", "stages", "commands")
MODULES = (gatt_config, policy_config, reward_model_config, rlhf_config, recipe, sections)


def configs() -> list[type[BaseModel]]:
    found = {value for module in MODULES for value in vars(module).values() if isinstance(value, type)}
    return sorted(
        (each for each in found if issubclass(each, BaseModel) and each is not BaseModel), key=lambda each: each.__name__
    )


def names_read() -> set[str]:
    """Every attribute that is read in the packages, and every section that a row of the catalog names."""
    read = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    read.add(node.attr)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "section":
                    read.update(argument.value for argument in node.args if isinstance(argument, ast.Constant))
    return read


READ = names_read()


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.__name__)
def test_every_field_is_read(config: type[BaseModel]) -> None:
    own = [name for name in config.model_fields if name in config.__annotations__]
    assert [name for name in own if name not in READ] == []
