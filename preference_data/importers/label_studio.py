"""Label Studio exports of tasks that were annotated with this project's labelling config (``label_studio_config``).

JSON: one task a row, ``{"id", "data": {"item_id", "prompt", "response_a", "response_b"}, "annotations": [{"completed_by",
"was_cancelled", "result": [{"from_name", "type", "value"}]}]}``: one judgement an annotation. JSON_MIN, CSV and TSV: one
annotation a row, with the task data and the answers side by side, and ``annotator``, ``annotation_id`` and ``lead_time``.

The controls are named like the fields of the native format (``choice``, ``rating``, ``safety_bin``) and mean the same;
``choice`` may also be a Pairwise control, in which left stands for a. Task data may hold the native fields about the pair
(batch, policies and so on); other task data is not read. The annotator is the one who completed the annotation, by e-mail
address if the export has it, else by number. Skipped annotations and tasks without annotations count as not judged. Drafts,
predictions and reviews are left out.
"""

from collections.abc import Iterator
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.importers import native
from preference_data.judgement import RowError
from preference_data.values import Row, boolean, dictionary, items, label, shown

NAME = "label_studio"
CONTROLS = ("choice", "rating", "safety_bin")
DATA = ("prompt", "response_a", "response_b")
OF_PAIR = tuple(name for name in native.FIELDS if name not in (*CONTROLS, "safe_a", "safe_b", "annotator"))
"""Native fields that the task data may hold, because they are not part of the judgement."""
ONE_ANNOTATION = ("annotator", "annotation_id", "lead_time")
_TASK = (
    *("id", "inner_id", "data", "annotations", "drafts", "predictions", "meta", "agreement", "comment_authors"),
    *("total_annotations", "cancelled_annotations", "total_predictions", "comment_count", "unresolved_comment_count"),
    *("last_comment_updated_at", "created_at", "updated_at", "updated_by", "file_upload", "project"),
)
FIELDS: dict[str, Cell] = {
    **native.FIELDS,
    "choice": "messages",  # in CSV a Pairwise answer is the JSON of a list of objects
    **dict.fromkeys((*ONE_ANNOTATION, *_TASK), "text"),
}


def misfit(row: Row) -> str | None:
    data = row.get("data")
    if "annotations" not in row or not isinstance(data, dict):
        missing = [name for name in (*ONE_ANNOTATION, *DATA) if name not in row]
        return f"it has neither annotations with data, nor {', '.join(missing)}" if missing else None
    missing = [name for name in DATA if name not in data]
    return f"its task data has no {', '.join(missing)}" if missing else None


def judgements(row: Row, axis: Axis) -> Iterator[dict[str, Any] | RowError]:
    if "annotations" not in row:
        yield from native.judgements(_native_row(row, row, label(row, "annotator")), axis)
        return
    data, annotations = dictionary(row, "data"), items(row, "annotations")
    if not annotations:
        raise RowError("not_judged", "the task has no annotations; have it judged, or leave it out")
    for annotation in annotations:
        try:
            yield from native.judgements(_native_row(data, _answers(annotation), _annotator(annotation)), axis)
        except RowError as error:
            yield error


def _native_row(data: Row, answers: Row, annotator: str | None) -> Row:
    judgement = {name: _plain(answers.get(name)) for name in CONTROLS}
    if judgement["choice"] in ("tie", "Tie"):
        raise RowError("tie", "the annotator preferred neither response; leave the annotation out")
    return {name: data.get(name) for name in OF_PAIR} | judgement | {"annotator": annotator}


def _answers(annotation: Any) -> Row:
    """The value of each control of an annotation."""
    if not isinstance(annotation, dict):
        raise RowError("malformed", f"an annotation must be an object; it is {shown(annotation)}")
    if boolean(annotation, "was_cancelled"):
        raise RowError("not_judged", "the annotator skipped the task; leave the annotation out")
    answers: dict[str, Any] = {}
    for result in items(annotation, "result"):
        if not isinstance(result, dict):
            raise RowError("malformed", f"a result must be an object; it is {shown(result)}")
        name = result.get("from_name")
        if name not in CONTROLS:  # another control of the project, or a relation between results
            continue
        if name in answers:
            raise RowError("malformed", f"the annotation answers {name} twice; one answer is allowed")
        answers[name] = result.get("value")
    return answers


def _annotator(annotation: Row) -> str | None:
    person = annotation.get("completed_by")
    return (label(person, "email") or label(person, "id")) if isinstance(person, dict) else label(annotation, "completed_by")


def _plain(value: Any) -> Any:
    """The answer in ``{"choices": [answer]}``, or the side in ``{"selected": side}``; JSON_MIN puts either into a list."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return value
    if "selected" in value:
        sides = {"left": "a", "right": "b"}
        selected = value["selected"]
        return sides.get(selected, selected) if isinstance(selected, str) else value
    choices = value.get("choices")
    return choices[0] if isinstance(choices, list) and len(choices) == 1 else value
