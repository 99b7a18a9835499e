"""The rows of a file to score: dialogues, or pairs of responses.

The first row that is either decides what the file holds, and all rows are read as that. A row with ``prompt`` and ``response``,
or with ``messages``, is a dialogue. A row in an annotation format is a pair: TRL's ``chosen`` and ``rejected``, with or without
a separate ``prompt``; ``prompt``, ``response_a`` and ``response_b`` of the native format, where ``choice`` may be missing; or a
row of any other format that ``rlhf import`` reads. A row may hold several pairs.

The sides of a pair are called ``response_a`` and ``response_b`` in the native format, ``chosen`` and ``rejected`` in others. A
pair has a preferred side where the import would accept it as a comparison: it needs a choice and two different texts, and its
chosen response may not be labelled unsafe while the rejected one is labelled safe. Where a format holds a choice for each axis,
the first of the axes in question names the sides.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preference_data.comparison import Axis, Rating
from preference_data.files.csv_rows import Cell, from_cells
from preference_data.files.opening import AnnotationFileError, file_type
from preference_data.files.reading import read_rows
from preference_data.files.rows import RawRow
from preference_data.formats import IMPORTERS, LOOKED_AT, Importer, importer_of, recognise
from preference_data.importers import native
from preference_data.judgement import RowError, check_text
from preference_data.messages import Messages, MessagesError, assistant, check_dialogue
from preference_data.values import Row, boolean, messages, text

DIALOGUES = "dialogues"
"""The form of a file of dialogues; the form of a file of pairs is the name of its format."""
ALONE = ""
"""The one side of a dialogue."""
_SIDES, _NATIVE_SIDES = ("chosen", "rejected"), ("response_a", "response_b")
_DIALOGUE_FIELDS: dict[str, Cell] = {"prompt": "messages", "response": "text", "messages": "messages"}
_IS_SAFETY: dict[str, Cell] = {"is_safety": "json"}
_NEEDED = (
    "Each row needs prompt and response, or messages; or a pair: prompt with chosen and rejected, or with response_a and "
    f"response_b, or a row of one of the formats {', '.join(IMPORTERS)}"
)


@dataclass(frozen=True, slots=True)
class Scorable:
    """The content of one line of output: the row's ``fields`` and its dialogues by side.

    ``chosen`` is the preferred side by axis; empty where the row holds no choice.
    """

    fields: Mapping[str, Any]
    dialogues: Mapping[str, Messages]
    is_safety: bool
    rating: Rating = "unrated"
    chosen: Mapping[Axis, str] = field(default_factory=dict)


def form_of(path: Path) -> str:
    """DIALOGUES or the name of a format in ``IMPORTERS``, by its first rows. Raises AnnotationFileError."""
    is_csv = file_type(path) == "csv"
    for row in itertools.islice(read_rows(path), LOOKED_AT):
        if row.values is not None and (form := _form(row.values, is_csv)):
            return form
    try:
        return recognise(path).NAME
    except AnnotationFileError as error:
        raise AnnotationFileError(error.asked, error.found, _NEEDED) from error


def _form(row: Row, is_csv: bool) -> str | None:
    is_pair = {"chosen", "rejected"} <= row.keys()  # such a row may have prompt, response and messages as well
    if not is_pair and ("messages" in row or {"prompt", "response"} <= row.keys()):
        return DIALOGUES
    importer = importer_of(row, is_csv)
    return importer.NAME if importer else None


def scorables(row: RawRow, form: str, is_csv: bool, axes: Sequence[Axis]) -> Iterator[Scorable | str]:
    """What to score in a row, or the reasons why it cannot be scored; ``axes``: those whose choices are read."""
    if row.values is None:
        yield str(row.problem)
        return
    try:
        cells = _DIALOGUE_FIELDS if form == DIALOGUES else IMPORTERS[form].FIELDS
        values = from_cells(row.values, cells | _IS_SAFETY) if is_csv else row.values
        is_safety = boolean(values, "is_safety") or False
        if form == DIALOGUES:
            yield Scorable(values, {ALONE: _dialogue(values)}, is_safety)
        else:
            yield from _pairs(values, IMPORTERS[form], is_safety, axes)
    except (RowError, MessagesError) as error:
        yield str(error)
    except RecursionError:
        yield "a value is nested too deeply; make it flat"


def _dialogue(row: Row) -> Messages:
    if row.get("messages") not in (None, ""):
        return _checked(messages(row, "messages"))
    if row.get("prompt") is None or row.get("response") is None:
        found = ", ".join(sorted(name for name, value in row.items() if value is not None)) or "nothing"
        raise RowError("missing_field", f"a row needs prompt and response, or messages; this one has {found}")
    return _checked([*native.prompt_of(row), assistant(text(row, "response"))])


def _checked(dialogue: Messages) -> Messages:
    check_dialogue(dialogue)
    for position, message in enumerate(dialogue):
        check_text(f"message {position}", message["content"])
    return dialogue


def _pairs(row: Row, importer: Importer, is_safety: bool, axes: Sequence[Axis]) -> Iterator[Scorable | str]:
    is_native = importer.NAME == native.NAME
    has_choice = not is_native or row.get("choice") not in (None, "")
    complete = row if has_choice else {**row, "choice": "a"}  # the importer refuses a row without a choice
    by_axis = {axis: _judgements(complete, importer, axis) for axis in axes}
    for place, fields in enumerate(by_axis[axes[0]]):
        if isinstance(fields, RowError):
            yield str(fields)
            continue
        sides = {name: row[name] for name in _NATIVE_SIDES} if is_native else {name: fields[name] for name in _SIDES}
        at_place = {axis: rows[place] for axis, rows in by_axis.items() if has_choice and place < len(rows)}
        chosen = {axis: side for axis, judgement in at_place.items() if (side := _chosen(judgement, sides))}
        try:
            dialogues = {name: _checked([*fields["prompt"], assistant(response)]) for name, response in sides.items()}
        except (MessagesError, RowError) as error:
            yield str(error)
            continue
        responses = {name: response for name, response in sides.items() if row.get(name) is None}
        yield Scorable({**row, **responses}, dialogues, is_safety, fields.get("rating") or "unrated", chosen)


def _judgements(row: Row, importer: Importer, axis: Axis) -> list[dict[str, Any] | RowError]:
    try:
        return list(importer.judgements(row, axis))
    except RowError as error:
        return [error]


def _chosen(judgement: Row | RowError, sides: Mapping[str, str]) -> str | None:
    """The preferred side; None for a judgement that the import would reject."""
    if isinstance(judgement, RowError) or judgement["chosen"].strip() == judgement["rejected"].strip():
        return None
    if judgement.get("chosen_safe") is False and judgement.get("rejected_safe") is True:
        return None
    return next(name for name, response in sides.items() if response == judgement["chosen"])
