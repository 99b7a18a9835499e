"""A key of a recipe that has another name now is refused, in a file and with ``--set``, and the new name is given."""

import pytest
import yaml

from stages.recipe import RecipeError, load_recipe

RENAMED = [
    ("helpfulness.beta1", "helpfulness.adam_beta1", "0.9"),
    ("safety.beta2", "safety.adam_beta2", "0.95"),
    ("safety.epsilon", "safety.adam_epsilon", "1.0e-5"),
    ("ppo.lora.targets", "ppo.lora.target_modules", "[q_proj]"),
    ("sft.lora.targets", "sft.lora.target_modules", "[q_proj]"),
    ("consistency.num_held_out", "consistency.num_heldout", "3"),
]


@pytest.mark.parametrize(("old", "new", "value"), RENAMED)
def test_an_old_key_is_refused_with_its_new_name(old: str, new: str, value: str) -> None:
    load_recipe("nano", [f"{new}={value}"])
    with pytest.raises(RecipeError) as caught:
        load_recipe("nano", [f"{old}={value}"])
    assert f"{old}: Extra inputs are not permitted. It is now called {'.'.join(new.split('.')[-2:])}" in str(caught.value)


def test_an_old_key_in_a_file_is_refused_too(tmp_path) -> None:
    values = load_recipe("llama2-7b").model_dump(mode="json")
    values["safety"]["epsilon"] = values["safety"].pop("adam_epsilon")
    path = tmp_path / "team.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(RecipeError, match=r"safety\.epsilon: .* It is now called safety\.adam_epsilon"):
        load_recipe(str(path))


def test_a_key_that_never_existed_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(RecipeError, match=r"safety\.beta3: .* Valid: .*adam_beta1, adam_beta2"):
        load_recipe("nano", ["safety.beta3=0.9"])
