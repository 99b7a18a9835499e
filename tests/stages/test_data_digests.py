"""Whoever changes what a data stage makes raises its revision: otherwise old artifacts pass for up to date, untold."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import ROOT
from data_digests import RECORDED, data_steps, digest, made_by
from fakes import function_stage

from stages.stage import Step

RECORD = "record it: python tests/data_digests.py"


def complaint(step: Step, folder: Path, recorded: dict) -> str:
    """What is wrong with a step, and what to do; '' when it makes what it made."""
    made, before = made_by(step, folder), recorded.get(step.makes)
    where = "stages/catalog.py"
    if before is None:
        return f"{step.makes} has no recorded digest; {RECORD}"
    if made["config"] != before["config"] or made["revision"] != before["revision"]:
        return f"{step.makes} is asked for otherwise than when its digest was recorded (config or revision); {RECORD}"
    if made != before:
        moved = [path for path in {**before["files"], **made["files"]} if made["files"].get(path) != before["files"].get(path)]
        return f"the stage {step.stage.name} moved ({', '.join(moved)}): raise its revision in {where}, then {RECORD}"
    return ""


@pytest.mark.parametrize("step", data_steps(), ids=lambda step: step.makes)
def test_a_data_stage_makes_what_it_made(step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert complaint(step, tmp_path, json.loads(RECORDED.read_text())) == ""


def test_the_data_stages_are_all_there() -> None:
    names = ["dialogues/corpus", "dialogues/demonstrations", "prompts/tuning", "prompts/evaluation", "preferences/example"]
    assert [step.makes for step in data_steps()] == names == list(json.loads(RECORDED.read_text()))


def test_a_stage_that_moved_is_named_unless_its_revision_was_raised(tmp_path: Path) -> None:
    step = next(step for step in data_steps() if step.makes == "dialogues/demonstrations")
    recorded = json.loads(RECORDED.read_text())

    def fewer(config, inputs, out, progress, seed, states):
        return step.stage.load()(config.model_copy(update={"num_dialogues": 20}), inputs, out, progress, seed, states)

    stage = function_stage("demonstrations", "dialogues", step.stage.revision, step.stage.config, fewer)
    moved = replace(step, stage=stage)
    assert complaint(moved, tmp_path / "moved", recorded) == (
        "the stage demonstrations moved (dialogues.parquet): raise its revision in stages/catalog.py, "
        "then record it: python tests/data_digests.py"
    )
    raised = replace(step, stage=replace(stage, revision=step.stage.revision + 1))
    assert "is asked for otherwise than when its digest was recorded" in complaint(raised, tmp_path / "raised", recorded)
    assert "has no recorded digest" in complaint(replace(step, name="new"), tmp_path / "new", recorded)


def test_the_digest_is_of_the_rows_and_not_of_how_they_are_stored(tmp_path: Path) -> None:
    rows = [{"text": "ä", "score": 0.1}, {"text": None, "score": 2.0}]
    schema = pa.schema([("text", pa.string()), ("score", pa.float64())])
    for name, compression in (("one", "zstd"), ("other", "none")):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / f"{name}.parquet", compression=compression)
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    assert one.read_bytes() != other.read_bytes() and digest(one) == digest(other)
    pq.write_table(pa.Table.from_pylist(rows[::-1], schema=schema), other)
    assert digest(one) != digest(other)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema.set(1, pa.field("points", pa.float64()))), other)
    assert digest(one) != digest(other)
