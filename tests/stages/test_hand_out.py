"""Pairs for people: sampled, written for each tool, filled in, and imported back to the items that went out."""

import csv
import io
import json
import xml.etree.ElementTree as ET

import pytest
from command_line import run_here
from stage_runs import put_policy, put_prompts

from preference_data.comparison import Comparison
from preference_data.handing_out import Pair
from preference_data.messages import assistant, user
from preference_data.parquet import read_records
from preference_data.prompt import make_prompt
from registry.store import Registry

COUNTS = {"num_helpful": 4, "num_safety": 2, "max_new_tokens": 12}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A registry with two random policies and a team's prompts, about which the sandbox knows nothing."""
    registry = Registry(tmp_path_factory.mktemp("team") / "registry")
    for seed, name in enumerate(("old", "new")):
        put_policy(registry, name, seed)
    prompts = [
        make_prompt(
            [user("Hi"), assistant("Hello,\nyou."), user(f'The "fox" {number}?')] if number % 2 else [user(f"Why {number}?")],
            family="own", split="train", source="team", is_safety=number >= 6, risk_category="r" if number >= 6 else None,
        )
        for number in range(10)
    ]  # fmt: skip
    put_prompts(registry, "own", prompts)
    return registry


@pytest.fixture
def run(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLHF_REGISTRY", str(filled.root))
    return lambda *words, code=0: run_here(*words, code=code).output


def annotated(run, judges, policies=("old", "new"), name=None, code=0, **settings):
    policies = [part for policy in policies for part in ("--policies", f"policy/{policy}")]
    settings = [part for key, value in (COUNTS | settings).items() for part in ("--set", f"annotation.{key}={value}")]
    inputs = [*policies, "--prompts", "prompts/own", "--recipe", "micro"]
    return run("annotate", *inputs, "--for", judges, *settings, "--name", name or f"for-{judges}", "--quiet", code=code)


def pairs_of(registry, judges):
    return read_records(registry.open(f"annotations/for-{judges}").file("pairs.parquet"), Pair)


def judged(row):
    return {**row, "choice": "a", "rating": "better", "safety_bin": "both_safe", "annotator": "ada"}


def filled_in_csv(path):
    rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*rows[0]])
    writer.writeheader()
    writer.writerows({name: value for name, value in judged(row).items() if name in rows[0]} for row in rows)
    return out.getvalue()


def filled_in_jsonl(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return "".join(json.dumps({name: judged(row)[name] for name in row}) + "\n" for row in rows)


def filled_in_label_studio(path):
    """As Label Studio exports a project of these tasks: each with the answer of one annotator."""
    asked = {each.get("name") for each in ET.parse(path.with_suffix(".xml")).iter("Choices")}
    answers = {name: value for name, value in judged({}).items() if name in asked}
    common = {"to_name": "dialogue", "type": "choices"}
    result = [common | {"from_name": name, "value": {"choices": [value]}} for name, value in answers.items()]
    tasks = json.loads(path.read_text())
    return json.dumps([
        {"id": number, **task, "annotations": [{"id": number, "completed_by": 7, "was_cancelled": False, "result": result}]}
        for number, task in enumerate(tasks)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("judges", "suffix", "fill", "annotator"),
    [("csv", "csv", filled_in_csv, "ada"), ("jsonl", "jsonl", filled_in_jsonl, "ada"),
     ("label-studio", "json", filled_in_label_studio, "7")],
)  # fmt: skip
def test_what_people_filled_in_comes_back_to_the_items_that_went_out(run, filled, tmp_path, judges, suffix, fill, annotator):
    said = annotated(run, judges)
    folder = filled.open(f"annotations/for-{judges}").path
    assert f"--pairs annotations/for-{judges}@1" in said and str(folder) in said
    pairs = pairs_of(filled, judges)
    assert {policy for pair in pairs for policy in (pair.policy_a, pair.policy_b)} == {"policy/old@1", "policy/new@1"}
    for axis, count in (("helpfulness", 4), ("safety", 2)):
        handed_out = [pair for pair in pairs if pair.is_safety == (axis == "safety")]
        assert len(handed_out) == count
        assert "policy/" not in (folder / f"{axis}.{suffix}").read_text()
        (tmp_path / f"{axis}.{suffix}").write_text(fill(folder / f"{axis}.{suffix}"))
        options = ["--axis", axis, "--heldout-share", "0", "--name", f"{judges}-{axis}", "--max-rejected", "0"]
        given = [f"{axis}.{suffix}", "--pairs", f"annotations/for-{judges}"]
        told = json.loads(run("import", *given, *options, "--quiet", "--json"))
        assert told["accepted"] == count
        artifact = filled.open(told["artifact"])
        found = {each.item_id: each for each in read_records(artifact.file("train.parquet"), Comparison)}
        assert set(found) == {pair.item_id for pair in handed_out}
        for pair in handed_out:
            each = found[pair.item_id]
            assert (each.chosen, each.chosen_policy, each.rejected_policy) == (pair.response_a, pair.policy_a, pair.policy_b)
            assert (each.annotator, each.rating, each.risk_category) == (annotator, "better", pair.risk_category)
            assert each.chosen_safe is (True if axis == "safety" else None)
        assert [parent.reference for parent in artifact.manifest.parents["pairs"]] == [f"annotations/for-{judges}@1"]


def test_one_policy_answers_twice(run, filled):
    annotated(run, "jsonl", policies=["old"], name="alone", num_safety=0)
    folder = filled.open("annotations/alone").path
    assert len((folder / "helpfulness.jsonl").read_text().splitlines()) == 4 and not (folder / "safety.jsonl").exists()


def test_judges_of_no_kind_are_refused(run):
    assert "'excel' is not one of" in annotated(run, "excel", code=2)


def test_answers_that_are_all_equal_are_no_pairs(run):
    # at temperature 0 a policy gives the same answer twice
    said = annotated(run, "csv", policies=["old"], name="equal", temperatures="[0.0]", code=2)
    assert "no two answers to one prompt differ" in said
