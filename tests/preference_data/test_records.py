"""Prompts, dialogues and comparisons as records, and their way to Parquet and back."""

from dataclasses import fields, replace

import pyarrow.parquet as pq
import pytest
from comparisons import comparison
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preference_data.comparison import Comparison, comparison_id, item_id
from preference_data.judgement import RowError
from preference_data.messages import MessagesError, assistant, messages_id, user
from preference_data.parquet import read_records, schema_of, write_records
from preference_data.prompt import Dialogue, Prompt, make_dialogue, make_prompt

temperatures = st.none() | st.floats(0, 2)
optional = {field.name: ... for field in fields(Comparison) if field.default is None}  # drawn by their types as well
whatever = st.builds(Comparison, **optional | dict.fromkeys(("chosen_temperature", "rejected_temperature"), temperatures))
same_folder = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_folder
@given(records=st.lists(whatever, max_size=4))
def test_comparisons_come_back_from_parquet_as_they_went(tmp_path, records):
    write_records(tmp_path / "c.parquet", records, Comparison)
    assert read_records(tmp_path / "c.parquet", Comparison) == records


@same_folder
@given(records=st.lists(st.builds(Prompt), max_size=4))
def test_prompts_come_back_from_parquet_as_they_went(tmp_path, records):
    write_records(tmp_path / "p.parquet", records, Prompt)
    assert read_records(tmp_path / "p.parquet", Prompt) == records


def test_the_bytes_depend_on_the_records_alone(tmp_path):
    for name in ("one", "two"):
        write_records(tmp_path / name, [comparison()], Comparison)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pq.read_schema(tmp_path / "one").equals(schema_of(Comparison))


def test_reading_as_another_record_is_refused(tmp_path):
    write_records(tmp_path / "d", [make_dialogue([user("a"), assistant("b")], family="f", source="s")], Dialogue)
    assert read_records(tmp_path / "d", Dialogue)[0].prompt_id == messages_id([user("a")])
    with pytest.raises(ValueError, match="does not hold Prompt records"):
        read_records(tmp_path / "d", Prompt)


def test_prompts_are_checked_and_named_by_their_messages():
    prompt = make_prompt([user("a")], family="f", split="train", source="s", is_safety=True)
    assert prompt.id == messages_id([user("a")]) and prompt.is_safety
    with pytest.raises(MessagesError):
        make_prompt([user("a"), assistant("b")], family="f", split="train", source="s")
    with pytest.raises(MessagesError):
        make_dialogue([user("a")], family="f", source="s")


def test_an_item_is_the_unordered_pair_and_a_judgement_is_not():
    one, other = comparison("a", "b", "c", annotator="x"), comparison("a", "c", "b", annotator="x")
    assert one.item_id == other.item_id == item_id(messages_id([user("a")]), "b", "c")
    assert len({one.id, other.id, comparison_id(one.item_id, "safety", "y", "b")}) == 3
    assert one.prompt_id == messages_id([user("a")])
    assert one.chosen_dialogue == [user("a"), assistant("b")] and one.rejected_dialogue == [user("a"), assistant("c")]


def test_is_safety_follows_the_axis_unless_said():
    assert comparison(axis="safety").is_safety and not comparison(axis="helpfulness").is_safety
    assert comparison(axis="helpfulness", is_safety=True).is_safety


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": " \n"}, "empty"),
        ({"rejected": ""}, "empty"),
        ({"chosen": "b", "rejected": " b\n"}, "identical_responses"),
        ({"chosen_safe": False, "rejected_safe": True}, "chosen_unsafe"),
        ({"chosen": "b\0"}, "invalid_text"),
        ({"prompt": [user("\ud800")]}, "invalid_text"),
        ({"annotator": "x\0"}, "invalid_text"),
        ({"prompt": [user("</s>")]}, "chat_tags"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(change, reason):
    with pytest.raises(RowError) as caught:
        comparison(**change)
    assert caught.value.reason == reason


@pytest.mark.parametrize("labels", [(True, False), (True, True), (False, False), (None, True), (False, None)])
def test_other_safety_labels_are_kept(labels):
    kept = comparison(chosen_safe=labels[0], rejected_safe=labels[1])
    assert (kept.chosen_safe, kept.rejected_safe) == labels
    assert replace(kept, chosen_safe=None).id == kept.id


def test_tags_in_responses_are_allowed():
    assert comparison(chosen="[INST] b").chosen == "[INST] b"
