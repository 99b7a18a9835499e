import json

import pytest
from hypothesis import given
from importer_rows import broken, import_rows, outcomes, recognised, refused

from preference_data.comparison import AXES
from preference_data.importers import argilla
from preference_data.messages import assistant, user

FIELDS = {"prompt": "Hi", "response_a": "Yo", "response_b": "Hello"}
ALL = ("choice", "rating", "safety_bin", "safe_a", "safe_b")


def flat(answers, fields=FIELDS, **metadata):
    """``answers``: by question, a list of (value, user, status). As ``records.to_list(flatten=True)`` has it."""
    row = {"id": "r1", "status": "pending", "_server_id": None} | fields | metadata
    for question, given_ in answers.items():
        values, users, statuses = ([answer[part] for answer in given_] or None for part in range(3))
        row |= {f"{question}.responses": values, f"{question}.responses.users": users, f"{question}.responses.status": statuses}
    return row | {"choice.suggestion": "b", "choice.suggestion.score": 0.9, "choice.suggestion.agent": "llm"}


def nested(answers, fields=FIELDS, status="completed", **metadata):
    """As ``records.to_json`` has it: without the status of each answer."""
    responses = {name: [{"value": a[0], "user_id": a[1]} for a in given_] for name, given_ in answers.items()}
    about = {"suggestions": {}, "vectors": {}, "status": status, "_server_id": None}
    return {"id": "r1", "fields": fields, "metadata": metadata, "responses": responses} | about


def version_1(answers, fields=FIELDS, **metadata):
    row = fields | {"external_id": None, "metadata": json.dumps(metadata)}
    for name, given_ in answers.items():
        row[name] = [{"value": a[0], "user_id": a[1], "status": a[2]} for a in given_]
        row |= {f"{name}-suggestion": None, f"{name}-suggestion-metadata": {"type": None, "score": None, "agent": None}}
    return row


SHAPES = [flat, nested, version_1]
ONE = {"choice": [("b", "u1", "submitted")], "rating": [("better", "u1", "submitted")]}
SEVERAL = {
    "choice": [("a", "u1", "submitted"), ("b", "u2", "submitted"), ("a", "u3", "discarded")],
    "rating": [("slightly_better", "u2", "submitted")],
    "safe_a": [("true", "u1", "submitted")],
    "safe_b": [("false", "u1", "submitted"), ("true", "u2", "draft")],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_is_a_judgement_of_the_record(tmp_path, shape):
    result = import_rows(tmp_path, [shape(ONE, batch="b7", policy_b="m2", source="pilot")])
    (kept,) = result.comparisons
    assert (kept.prompt, kept.chosen, kept.rejected) == ([user("Hi")], "Hello", "Yo")
    assert (kept.rating, kept.annotator, kept.batch, kept.chosen_policy) == ("better", "u1", "b7", "m2")
    assert (kept.source, kept.chosen_safe, result.ignored_columns) == ("pilot", None, {})


@pytest.mark.parametrize("shape", [flat, version_1])
def test_each_person_who_submitted_made_a_judgement(tmp_path, shape):
    result = import_rows(tmp_path, [shape(SEVERAL)], "safety")
    first, second = result.comparisons
    assert (first.annotator, first.chosen, first.rating) == ("u1", "Yo", "unrated")
    assert (first.chosen_safe, first.rejected_safe) == (True, False)
    assert (second.annotator, second.chosen, second.rating) == ("u2", "Hello", "slightly_better")
    assert (second.chosen_safe, second.rejected_safe) == (None, None)
    assert first.item_id == second.item_id
    assert [(reject.reason, "u3" in reject.fix) for reject in result.rejects] == [("not_judged", True)]


def test_the_nested_form_counts_where_it_is_known_who_submitted(tmp_path):
    assert refused(tmp_path, [nested(SEVERAL)]) == ["malformed"]
    assert refused(tmp_path, [nested(ONE, status="pending")]) == ["not_judged"]
    assert refused(tmp_path, [nested(ONE, status="completed")]) == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("fields", "answer", "chosen"),
    [
        ({"response_a": "Yo", "response_b": "Hello"}, "response_a", "Yo"),
        ({"response_1": "Yo", "response_2": "Hello"}, "2", "Hello"),
        ({"response_1": "Yo", "response_2": "Hello"}, 1, "Yo"),
        ({"response_1": "Yo", "response_2": "Hello"}, "response_2", "Hello"),
        ({"chosen": "Yo", "rejected": "Hello"}, "rejected", "Hello"),
    ],
)
def test_the_answer_names_a_field_or_its_last_part(tmp_path, shape, fields, answer, chosen):
    row = shape({"choice": [(answer, "u1", "submitted")]}, {"prompt": "Hi"} | fields)
    assert recognised(tmp_path, row)[0] == "argilla"
    assert import_rows(tmp_path, [row]).comparisons[0].chosen == chosen


@pytest.mark.parametrize("shape", SHAPES)
def test_a_prompt_may_be_a_chat_and_safety_a_bin(tmp_path, shape):
    chat = [user("Hi"), assistant("Hello"), user("Again?")]
    answers = {"choice": [("a", "u1", "submitted")], "safety_bin": [("both_unsafe", "u1", "submitted")]}
    (kept,) = import_rows(tmp_path, [shape(answers, FIELDS | {"prompt": chat})], "safety").comparisons
    assert (kept.prompt, kept.chosen_safe, kept.rejected_safe) == (chat, False, False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("reason", "answers"),
    [
        ("not_judged", {"choice": []}),
        ("not_judged", {"choice": [], "rating": [("better", "u1", "submitted")]}),
        ("not_judged", {"choice": [("", "u1", "submitted")]}),
        ("tie", {"choice": [("tie", "u1", "submitted")]}),
        ("unknown_choice", {"choice": [("A", "u1", "submitted")]}),
        ("unknown_choice", {"choice": [("1", "u1", "submitted")]}),
        ("malformed", {"choice": [(["a"], "u1", "submitted")]}),
        ("malformed", {"choice": [("a", {}, "submitted")]}),
        ("malformed", {"choice": [("a", "u1", "submitted"), ("b", "u1", "submitted")]}),
        ("malformed", {"choice": [("a", None, "submitted"), ("b", None, "submitted")]}),
        ("unknown_rating", ONE | {"rating": [(4, "u1", "submitted")]}),
        ("malformed", ONE | {"safe_b": [("perhaps", "u1", "submitted")]}),
    ],
)
def test_what_is_refused(tmp_path, shape, reason, answers):
    assert refused(tmp_path, [shape(answers)]) == [reason]


@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("not_judged", flat({"choice": [("a", "u1", "draft")]})),
        ("not_judged", flat({"choice": [("a", "u1", None)]})),
        ("not_judged", version_1({"choice": [("a", "u1", "discarded")]})),
        ("missing_field", flat(ONE, FIELDS | {"prompt": None})),
        ("missing_field", flat(ONE) | {"choice.responses.users": None}),
        ("malformed", flat(ONE) | {"choice.responses.users": []}),
        ("malformed", flat(ONE) | {"choice.responses": "b"}),
        ("malformed", version_1(ONE) | {"choice": ["b"]}),
        ("malformed", version_1(ONE) | {"metadata": "{"}),
        ("malformed", nested(ONE) | {"metadata": [1]}),
    ],
)
def test_what_else_is_refused(tmp_path, reason, row):
    assert refused(tmp_path, [row]) == [reason]


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_recognised(tmp_path, shape):
    first, fitting = recognised(tmp_path, shape(ONE))
    assert first == "argilla" and set(fitting) <= {"argilla", "native"}
    assert argilla.misfit(shape(ONE, {"prompt": "Hi", "text": "x"})).startswith("its fields are not prompt with response_a")
    assert argilla.misfit(FIELDS).startswith("it has neither choice.responses")


@given(broken(*(shape(answers) for shape in SHAPES for answers in (ONE, SEVERAL))))
def test_a_broken_row_has_an_outcome_for_each_person_at_most(broken_row):
    for axis in AXES:
        assert 1 <= len(outcomes(argilla, broken_row, axis)) <= 6
