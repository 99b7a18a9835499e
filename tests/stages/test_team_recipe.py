"""A team's recipe: a checkpoint and files from outside, through the same stages as the sandbox's."""

import json
import shutil

import pytest
import yaml
from commands import rlhf

from preference_data.parquet import read_records
from preference_data.prompt import Dialogue, Prompt
from registry.store import Registry
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
    for name in ("tuning", "evaluation"):
        prompts = read_records(registry.resolve(f"prompts/{name}").file("prompts.parquet"), Prompt)
        write(folder / f"{name}.jsonl", [
            {"messages": each.messages, "family": each.family, "source": each.source, "is_safety": each.is_safety,
             "risk_category": each.risk_category, "attack_vector": each.attack_vector}
            for each in prompts
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
            "evaluation_prompts": "evaluation.jsonl",
            "annotations": "{round}-{axis}.jsonl",
            "heldout_share": 0.0,
        },
        "max_rejected": 0.1,
        "rounds": [{"version": "v1", "pool": "last"}, {"version": "v2", "pool": "last"}],
        **{section: sandbox[section] for section in COMMON},
    }
    (folder / "team.yaml").write_text(yaml.safe_dump(recipe))
    return folder, registry


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


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
    for name in ("tuning", "evaluation"):
        files = [each.resolve(f"prompts/{name}").file("prompts.parquet").read_bytes() for each in (registry, source)]
        assert files[0] == files[1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "hi"}', "line 2: a row needs messages; this one has text"),
        ("[1]", "line 2: a row must be a JSON object, this one is a list"),
        ("{", "line 2: Expecting property name"),
        ('{"messages": [{"role": "user", "content": "hi"}]}', "line 2: "),
    ],
)
def test_a_file_with_a_row_that_cannot_be_used_is_refused_with_its_line(project, tmp_path, row, said):
    folder, _ = project
    first = (folder / "demonstrations.jsonl").read_text().splitlines()[0]
    (tmp_path / "bad.jsonl").write_text(f"{first}\n{row}\n")
    done = rlhf(
        "reproduce", "--recipe", "team.yaml", "--dir", tmp_path / "run", "--until", "dialogues/demonstrations", "--quiet",
        "--set", f"data.demonstrations={tmp_path / 'bad.jsonl'}", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 2
    assert "has 1 rows that cannot be used" in done.stderr and said in done.stderr


def test_a_checkpoint_of_another_family_is_refused(project, tmp_path):
    folder, _ = project
    shutil.copytree(folder / "llama", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "tokenizer_config.json").read_text())
    (tmp_path / "other" / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<unk>"}))
    for checkpoint, said in (
        (tmp_path / "other", "Llama 2's chat format needs (0, 1, 2, 0)"),
        (tmp_path / "none", "no tokenizer"),
    ):
        done = rlhf(
            "reproduce", "--recipe", "team.yaml", "--dir", tmp_path / "run", "--until", "policy/base", "--quiet",
            "--set", f"base.checkpoint={checkpoint}", cwd=folder,
        )  # fmt: skip
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_sections_of_the_other_kind_of_recipe_are_named_where_they_are_missing(project):
    folder, _ = project
    done = rlhf("pretrain", "--recipe", "team.yaml", "--registry", folder / "run" / "registry", cwd=folder)
    assert done.returncode == 2
    assert "the recipe team has no section 'pretrain', because its data come from a team" in done.stderr
    done = rlhf("recipe", "show", "team.yaml", "--set", "rounds=[{version: v1, gatt: true}]", cwd=folder)
    assert done.returncode == 2 and "which only the sandbox has" in done.stderr
