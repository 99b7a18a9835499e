"""docs/annotation-format.md, its JSON Schema and its example say what the import does."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_rows import BROKEN, same_folder, write_lines

from preference_data.comparison import AXES, RATINGS
from preference_data.formats import IMPORTERS
from preference_data.importers.native import FIELDS
from preference_data.importing import import_files
from preference_data.judgement import DROPPED_BY_RULE, REASONS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("axis", AXES)
def test_the_example_of_the_docs_imports_whole(axis):
    result = import_files([DOCS / "annotation-example.jsonl"], axis, max_rejected=0)
    assert result.accepted == result.read == 5 and not result.ignored_columns


def test_the_docs_name_every_reason_and_every_field():
    text = (DOCS / "annotation-format.md").read_text()
    table = re.findall(r"^\| `(\w+)`( \*)? \|", text.split("What an import reports")[1], re.MULTILINE)
    assert [name for name, _ in table] == list(REASONS)
    assert {name for name, mark in table if mark} == set(DROPPED_BY_RULE)
    formats = re.findall(r"^\| `(\w+)` \|", text.split("## Other formats")[1].split("##")[0], re.MULTILINE)
    assert sorted([*formats, "native"]) == sorted(IMPORTERS)
    rows = [
        line.split("|")[1]
        for line in text.split("## Fields")[1].split("## Other formats")[0].splitlines()
        if line.startswith("| `")
    ]
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(FIELDS)


SCHEMA = jsonschema.Draft202012Validator(json.loads((DOCS / "annotation-format.schema.json").read_text()))


def test_the_schema_and_the_import_agree_on_every_broken_row(tmp_path):
    assert set(SCHEMA.schema["properties"]) == set(FIELDS)
    # what a schema cannot say
    beyond = {"identical_responses", "not_alternating", "no_user_last", "chat_tags", "chosen_unsafe", "changed_text",
              "duplicate", "contradiction", "too_large", "invalid_text", "not_judged", "tie"}  # fmt: skip
    for reason, row in BROKEN:
        if isinstance(row, dict) and reason not in beyond and "safety_bin" not in row:
            assert not SCHEMA.is_valid(row), (reason, row)
    for line in (DOCS / "annotation-example.jsonl").read_text().splitlines():
        SCHEMA.validate(json.loads(line))


words = st.sampled_from(["yes", "no", "", " ", "a longer text"])
labels_of_rows = st.one_of(st.none(), words, st.integers(0, 9), st.booleans(), st.floats(0, 2))
field_values = {
    "prompt": st.one_of(
        words, st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": words}), max_size=1), st.none()
    ),
    "response_a": st.sampled_from(["one", "uno", "", 1]),
    "response_b": st.sampled_from(["two", "due"]),
    "choice": st.sampled_from(["a", "b", "c"]),
    "rating": st.sampled_from([*RATINGS, "unrated", "", None, "great", 3]),
    **{name: st.one_of(st.none(), st.just(True), st.just(""), st.just("true")) for name in ("safe_a", "safe_b", "is_safety")},
    **dict.fromkeys(("annotator", "batch", "source", "policy_a", "risk_category"), labels_of_rows),
    "temperature_a": st.one_of(st.none(), st.floats(-1, 2), st.just(""), st.just("0.5")),
}


@same_folder
@given(row=st.fixed_dictionaries({}, optional=field_values))
def test_the_schema_and_the_import_agree(tmp_path, row):
    path = write_lines(tmp_path / "f.jsonl", row)
    accepted = import_files([path], "helpfulness", format="native", max_rejected=1).accepted
    assert SCHEMA.is_valid(row) == bool(accepted)
