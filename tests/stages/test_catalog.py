"""Every row of the catalog: it leads to a function, fits the recipes, is documented, and what saves states is killed."""

import inspect

import pytest
from command_line import ROOT
from kill_targets import TARGETS
from stage_table import PAGE, page

from registry.artifact import KINDS
from stages.catalog import STAGES
from stages.pipeline import steps
from stages.recipe import load_recipe
from stages.references import SANDBOX_SIZES
from stages.stage import Study
from stages.study_catalog import STUDIES
from stages.study_steps import planned_study

ROWS = [*STAGES.values(), *STUDIES.values()]
KILLED_IN_PLACE_OF = {  # studies train or sample through the same few functions, and one of each is killed
    "study-safety-loss": "study-pooling", "study-margin": "study-pooling", "study-reward-scaling": "study-pooling",
    "study-size-distillation": "study-pooling", "study-whitening": "study-pooling", "study-temperature": "study-best-of-n",
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_leads_to_a_function_of_a_stage(row):
    parameters = list(inspect.signature(row.load()).parameters)
    assert parameters == ["config", "inputs", "out", "progress", "seed", "states"]
    assert row.kind in KINDS and {role.kind for role in row.inputs.values()} <= {*KINDS, ""}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_role_is_read_by_its_name_in_the_function_or_what_it_calls(row):
    files = (path for path in (ROOT / "stages").rglob("*.py") if path.name != "catalog.py")
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in row.inputs if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", ["nano", "micro", "llama2-7b", "llama2-7b-lora"])
def test_the_config_of_every_step_is_that_of_its_row(name):
    for step in steps(load_recipe(name), "all"):
        assert type(step.config) is step.stage.config, step.makes
        assert set(step.inputs) <= set(step.stage.inputs), step.makes


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.artifact)
def test_every_study_can_be_planned_for_nano_with_its_defaults(study: Study):
    recipe = load_recipe("nano")
    *_, step = planned_study(study, recipe, sizes=SANDBOX_SIZES if study.sizes == "several" else ())
    assert step.makes == f"study/{study.artifact}"
    assert {role for role, of in study.inputs.items() if of.references(recipe)} <= set(step.inputs)


def test_the_page_of_stages_is_made_from_the_catalog():
    assert PAGE.read_text(encoding="utf-8") == page(), "make it again: python tests/stage_table.py"


def test_every_stage_that_saves_states_is_killed():
    targets = {target.name for target in TARGETS}
    saving = {KILLED_IN_PLACE_OF.get(row.name, row.name) for row in ROWS if row.saves_states}
    assert saving <= targets, f"{saving - targets} need a target in tests/kill_targets.py, or saves_states=False in their rows"


@pytest.mark.parametrize("row", [row for row in ROWS if row.command], ids=lambda row: row.name)
def test_a_row_with_a_command_says_its_config_and_its_name(row):
    assert row.config_of or row.by_axis, f"{row.name} needs config_of, which gives its config in a recipe's run"
    assert row.artifact or row.by_axis or row.named_after, f"{row.name} needs artifact, the default name of what it makes"
    assert row.help and row.example.startswith(f"rlhf {row.command}")


def test_a_stage_says_in_which_number_format_it_trains():
    assert {name for name, stage in STAGES.items() if stage.dtype("cuda:1") != "float32"} == {"sft", "tune"}
    assert STAGES["sft"].dtype("cuda") == "bfloat16 autocast" and STAGES["sft"].dtype("cpu") == "float32"
