"""Argilla exports of records whose fields and questions have the names below.

Fields: ``prompt`` (text or chat), and the pair as ``response_a`` and ``response_b``, ``response_1`` and ``response_2``, or
``chosen`` and ``rejected``. Questions: ``choice``, a label question that answers with a field's name or its last part (``a``,
``1``), or with ``tie``; and, if asked, ``rating`` and ``safety_bin`` with the labels of the native format, and ``safe_a`` and
``safe_b`` (``safe_1`` and so on) with the labels ``true`` and ``false``. Metadata may hold the native fields about the pair.

Argilla 2, flat (``records.to_list(flatten=True)``, ``records.to_datasets()``): fields and metadata side by side, and for each
question the parallel lists ``choice.responses``, ``choice.responses.users`` and ``choice.responses.status``. Argilla 2, nested
(``records.to_json``): ``{"fields", "metadata", "responses": {question: [{"value", "user_id"}]}, "status"}``. Argilla 1: fields
side by side, a question as ``[{"user_id", "value", "status"}]``, and ``choice-suggestion``.

Each annotator who answered made one judgement; an answer that was not submitted (a draft, or discarded) counts as not judged.
The nested form does not say what was submitted. A completed record with one annotator must have been submitted; with several
annotators it is refused, because nobody can tell whose answers count. Suggestions are not judgements and are left out.
"""

import json
from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.importers import native
from preference_data.judgement import RowError
from preference_data.values import Row, dictionary, items, label, shown

NAME = "argilla"
PAIRS = (("response_a", "response_b"), ("response_1", "response_2"), ("chosen", "rejected"))
QUESTIONS = ("choice", "rating", "safety_bin", *(f"safe_{name.rpartition('_')[2]}" for pair in PAIRS for name in pair))
ABOUT_QUESTIONS = ("", "-suggestion", "-suggestion-metadata", ".responses", ".responses.users", ".responses.status")
SUGGESTED = (".suggestion", ".suggestion.score", ".suggestion.agent")
OF_PAIR = tuple(name for name in native.FIELDS if name not in (*native.REQUIRED, *QUESTIONS, "annotator"))
"""Native fields that the metadata may hold, because they are not part of the judgement."""
FIELDS: dict[str, Cell] = {
    **{name: native.FIELDS[name] for name in OF_PAIR},
    "prompt": "messages",
    **dict.fromkeys((name for pair in PAIRS for name in pair), "text"),
    **{question + ending: "json" for question in QUESTIONS for ending in (*ABOUT_QUESTIONS, *SUGGESTED)},
    **dict.fromkeys(("fields", "metadata", "suggestions", "responses", "vectors"), "json"),
    **dict.fromkeys(("id", "status", "_server_id", "external_id"), "text"),
}
Answer = tuple[str | None, Any, str, Any]
"""(annotator, status, question, value)."""


def _is_nested(row: Row) -> bool:
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict)


def _fields(row: Row) -> Row:
    return dictionary(row, "fields") if _is_nested(row) else row


def _pair(fields: Row) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if all(name in fields for name in pair)), None)


def misfit(row: Row) -> str | None:
    if not (_is_nested(row) or "choice.responses" in row or {"choice", "choice-suggestion"} <= row.keys()):
        return "it has neither choice.responses, nor fields with responses, nor choice with choice-suggestion"
    fields = _fields(row)
    if "prompt" in fields and _pair(fields):
        return None
    return f"its fields are not prompt with {', or '.join(' and '.join(pair) for pair in PAIRS)}"


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any] | RowError]:
    by_annotator: dict[str | None, dict[str, Any]] = {}
    for annotator, status, question, value in _answers(row):
        answers = by_annotator.setdefault(annotator, {})
        if question in answers:
            raise RowError("malformed", f"{question} is answered twice by user {annotator}; one answer is allowed")
        if status == "submitted":
            answers[question] = value
    if not by_annotator:
        raise RowError("not_judged", "nobody has answered; have the record judged, or leave it out")
    for annotator, answers in by_annotator.items():
        try:
            yield from native.judgements(_native_row(row, answers, annotator), axis)
        except RowError as error:
            yield error


def _native_row(row: Row, answers: Row, annotator: str | None) -> Row:
    if not answers:
        raise RowError("not_judged", f"no answer of user {annotator} is marked as submitted; leave them out, or submit them")
    fields = _fields(row)
    pair = _pair(fields)
    if pair is None or fields.get("prompt") is None:
        raise RowError("missing_field", f"the record needs prompt and {', or '.join(' and '.join(pair) for pair in PAIRS)}")
    sides = [name.rpartition("_")[2] for name in pair]
    metadata = _metadata(row)
    return {name: metadata.get(name) for name in OF_PAIR} | {
        "prompt": fields["prompt"],
        "response_a": fields[pair[0]],
        "response_b": fields[pair[1]],
        "choice": _choice(answers.get("choice"), pair, sides),
        "rating": answers.get("rating"),
        "safety_bin": answers.get("safety_bin"),
        "safe_a": _label(answers.get(f"safe_{sides[0]}")),
        "safe_b": _label(answers.get(f"safe_{sides[1]}")),
        "annotator": annotator,
    }


def _choice(value: Any, pair: tuple[str, str], sides: list[str]) -> str | None:
    if value is None or value == "":
        return None
    plain = label({"choice": value}, "choice")
    if plain == "tie":
        raise RowError("tie", "the annotator preferred neither response; leave the answer out")
    for letter, field, side in zip("ab", pair, sides, strict=True):
        if plain in (field, side):
            return letter
    raise RowError("unknown_choice", f"choice is {shown(value)}; it must be {' or '.join(sides)}")


def _label(value: Any) -> Any:
    """A safety label: true or false for the words; any other value as it is, to be refused later."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _metadata(row: Row) -> Row:
    if "choice.responses" in row:
        return row
    metadata = row.get("metadata")
    if isinstance(metadata, str) and metadata:
        try:
            metadata = json.loads(metadata)
        except ValueError as error:
            raise RowError("malformed", f"metadata is not JSON ({error}); write an object") from error
    return dictionary({"metadata": metadata or {}}, "metadata")


def _answers(row: Row) -> Iterator[Answer]:
    if _is_nested(row):
        yield from _nested_answers(row)
        return
    read = _flat_answers if "choice.responses" in row else _listed_answers
    for question in QUESTIONS:
        yield from read(row, question)


def _flat_answers(row: Row, question: str) -> Iterator[Answer]:
    names = [f"{question}.responses{ending}" for ending in ("", ".users", ".status")]
    if row.get(names[0]) is None:
        return
    values, users, statuses = (items(row, name) for name in names)
    if not len(values) == len(users) == len(statuses):
        raise RowError("malformed", f"{', '.join(names)} differ in length; each must have one item an answer")
    for user, status, value in zip(users, statuses, values, strict=True):
        yield label({"user": user}, "user"), status, question, value


def _listed_answers(answers: Row, question: str) -> Iterator[Answer]:
    for answer in items(answers, question) if answers.get(question) is not None else ():
        if not isinstance(answer, dict):
            raise RowError("malformed", f"an answer to {question} must be an object; it is {shown(answer)}")
        yield label(answer, "user_id"), answer.get("status"), question, answer.get("value")


def _nested_answers(row: Row) -> Iterator[Answer]:
    responses = dictionary(row, "responses")
    answers = [answer for question in QUESTIONS for answer in _listed_answers(responses, question)]
    status = "submitted" if row.get("status") == "completed" else None
    if status and len({annotator for annotator, *_ in answers}) > 1:
        raise RowError(
            "malformed",
            "several people answered, and this export does not say who submitted; export with to_list(flatten=True)",
        )
    for annotator, _, question, value in answers:
        yield annotator, status, question, value
