"""A team's recipe: a checkpoint and files from outside, through the same stages as the sandbox's."""

import json
import shutil

import pytest
import torch
import yaml
from command_line import rlhf, rlhf_here
from row_files import write
from safetensors.torch import load_file, save_file

from preference_data.parquet import read_records
from preference_data.prompt import Dialogue, Prompt
from registry.store import Registry
from stages.pipeline import steps
from stages.recipe import load_recipe

COMMON = ("sft", "helpfulness", "safety", "distillation", "rejection_sampling", "tuning", "ppo", "expected")


@pytest.fixture(scope="module")
def project(micro, tmp_path_factory):
    """(folder with a team's files, the registry they were taken from): what the sandbox wrote, as people would hand it over."""
    registry = Registry(micro[0] / "registry")
    folder = tmp_path_factory.mktemp("team")
    shutil.copytree(registry.resolve("policy/base").path, folder / "llama")
    demonstrations = read_records(registry.resolve("dialogues/demonstrations").file("dialogues.parquet"), Dialogue)
    write(folder / "demonstrations.jsonl", [
        {"messages": each.messages, "family": each.family, "is_safety": each.is_safety} for each in demonstrations
    ])  # fmt: skip
    prompts = read_records(registry.resolve("prompts/tuning").file("prompts.parquet"), Prompt)
    write(folder / "tuning.jsonl", [
        {"messages": each.messages, "family": each.family, "source": each.source, "is_safety": each.is_safety,
         "risk_category": each.risk_category, "attack_vector": each.attack_vector}
        for each in [*prompts, prompts[0]]
    ])  # fmt: skip
    for axis in ("helpfulness", "safety"):
        shutil.copy(registry.resolve("annotations/round-1").file(f"{axis}.jsonl"), folder / f"1-{axis}.jsonl")
    sandbox = load_recipe("micro").model_dump(mode="json")
    recipe = {
        "name": "team",
        "description": "A team's.",
        "base": {"checkpoint": "llama", "preset": "micro"},
        "data": {
            "demonstrations": "demonstrations.jsonl",
            "prompts": "tuning.jsonl",
            "annotations": "{round}-{axis}.jsonl",
            "heldout_share": 0.0,
        },
        "max_rejected": 0.1,
        "rounds": [{"version": "v1", "pool": "last"}, {"version": "v2", "pool": "last"}],
        **{section: sandbox[section] for section in COMMON},
    }
    (folder / "team.yaml").write_text(yaml.safe_dump(recipe))
    return folder, registry


def test_files_from_outside_give_what_the_sandbox_gave_up_to_the_round_that_people_have_not_judged(project):
    folder, source = project
    done = rlhf("reproduce", "--recipe", "team.yaml", "--dir", "run", "--seed", "100", "--quiet", cwd=folder)
    assert done.returncode == 2
    assert "the file 2-helpfulness.jsonl was not there when this run began" in done.stderr
    registry = Registry(folder / "run" / "registry")
    made = [str(artifact.reference) for artifact in registry.list()]
    assert "policy/v1@1" in made and not any("round-2" in reference for reference in made)
    same = ("policy/base", "dialogues/demonstrations", "policy/sft")
    for reference in same:
        assert registry.resolve(reference).digest == source.resolve(reference).digest, reference
    files = [each.resolve("prompts/tuning").file("prompts.parquet").read_bytes() for each in (registry, source)]
    assert files[0] == files[1]
    assert registry.resolve("prompts/tuning").manifest.metrics["repeated"] == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "hi"}', "line 2: a row needs messages; this one has text"),
        ("[1]", "line 2: a row must be a JSON object, this one is list"),
        ("{", "line 2: Expecting property name"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "line 2: the row holds bytes or half a character"),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "line 2: "),
    ],
)
def test_a_file_with_a_row_that_cannot_be_used_is_refused_with_its_line(project, tmp_path, row, said):
    folder, _ = project
    first = (folder / "demonstrations.jsonl").read_text().splitlines()[0]
    (tmp_path / "bad.jsonl").write_text(f"{first}\n{row}\n")
    done = rlhf_here(
        "reproduce", "--recipe", "team.yaml", "--dir", tmp_path / "run", "--until", "dialogues/demonstrations", "--quiet",
        "--set", f"data.demonstrations={tmp_path / 'bad.jsonl'}", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 2
    assert "has 1 rows that cannot be used" in done.stderr and said in done.stderr


def test_a_checkpoint_that_cannot_be_used_is_refused(project, tmp_path):
    folder, _ = project
    for name in ("tokens", "pickled"):
        shutil.copytree(folder / "llama", tmp_path / name)
    config = json.loads((tmp_path / "tokens" / "tokenizer_config.json").read_text())
    (tmp_path / "tokens" / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<unk>"}))
    weights = load_file(tmp_path / "pickled" / "model.safetensors")
    torch.save(weights, tmp_path / "pickled" / "pytorch_model.bin")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    for changes, said in (
        ([f"base.checkpoint={tmp_path / 'tokens'}"], "Llama 2's chat format needs (0, 1, 2, 0)"),
        ([f"base.checkpoint={tmp_path / 'pickled'}"], "cannot be opened as a language model with safetensors weights"),
        ([f"base.checkpoint={tmp_path / 'none'}"], "no tokenizer"),
        (["base.preset=nano"], "the recipe's base.preset, nano, has"),
    ):
        done = rlhf_here(
            "reproduce", "--recipe", "team.yaml", "--dir", tmp_path / "run", "--until", "policy/base", "--quiet",
            *(word for change in changes for word in ("--set", change)), cwd=folder,
        )  # fmt: skip
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_other_weights_in_the_same_folder_are_another_base(project, tmp_path, monkeypatch):
    folder, _ = project
    shutil.copytree(folder / "llama", tmp_path / "llama")
    monkeypatch.chdir(tmp_path)

    def base():
        return next(step for step in steps(load_recipe(str(folder / "team.yaml"))) if step.makes == "policy/base").config

    before = base()
    assert before == base()
    weights = load_file("llama/model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, "llama/model.safetensors", {"format": "pt"})
    assert base() != before


def test_sections_of_the_other_kind_of_recipe_are_named_where_they_are_missing(project):
    folder, _ = project
    done = rlhf_here("pretrain", "--recipe", "team.yaml", "--registry", folder / "run" / "registry", cwd=folder)
    assert done.returncode == 2
    assert "the recipe team has no section 'pretrain', because its data come from a team" in done.stderr
    done = rlhf_here("recipe", "show", "team.yaml", "--set", "data.annotations=judged-{axis}.jsonl", cwd=folder)
    assert done.returncode == 2 and "must hold {round} and {axis} once each" in done.stderr
    done = rlhf_here("recipe", "show", "team.yaml", "--set", "rounds=[{version: v1, gatt: true}]", cwd=folder)
    assert done.returncode == 2 and "a round with gatt: true needs data.constraints" in done.stderr
