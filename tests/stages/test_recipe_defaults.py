"""A section given in part keeps the recipe's own defaults for the rest."""

import pytest
import yaml

from stages.recipe import load_recipe

SECTIONS = {"gatt": "k", "consistency": "num_dialogues", "annotation": "num_helpful", "gatt_tuning": "epochs"}


@pytest.fixture
def bare(tmp_path):
    """A team's recipe with none of the sections that have defaults."""
    values = load_recipe("llama2-7b").model_dump(mode="json")
    for section in SECTIONS:
        del values[section]
    path = tmp_path / "team.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(("section", "key"), SECTIONS.items())
def test_one_setting_changes_no_other(bare, section, key):
    before = getattr(load_recipe(str(bare)), section).model_dump()
    after = getattr(load_recipe(str(bare), [f"{section}.{key}=7"]), section).model_dump()
    assert after == before | {key: 7} != before


def test_the_same_in_the_file_itself(bare):
    bare.write_text(bare.read_text() + "gatt: {k: 7}\n")
    gatt = load_recipe(str(bare)).gatt
    assert (gatt.k, gatt.multi_turn, gatt.num_replayed) == (7, "given", 600)
