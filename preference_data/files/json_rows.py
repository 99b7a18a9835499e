"""Rows of JSONL files, and of files that hold one JSON list."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preference_data.files.opening import AnnotationFileError, opened
from preference_data.files.rows import MARK, RawRow, decoded, lines_of, printable, too_large
from preference_data.judgement import RowError, check_text


def jsonl_rows(path: Path) -> Iterator[RawRow]:
    for number, line in enumerate(lines_of(path), start=1):
        if line.strip():
            text, problem = decoded(line)
            yield RawRow(number, text, None, problem) if problem else _json_row(number, text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _json_row(number: int, text: str) -> RawRow:
    try:
        values = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        problem = RowError("broken_json", f"the line is not JSON ({error}); write one JSON object a line")
        return RawRow(number, text, None, problem)
    return _row_of_value(number, text, values)


def _row_of_value(number: int, text: str | None, values: Any) -> RawRow:
    if isinstance(values, dict):
        return RawRow(number, text, values)
    if isinstance(values, list) and values and all(isinstance(record, dict) for record in values):
        return RawRow(number, text, {"records": values})  # WebGPT's own file has two records a line
    kind = type(values).__name__
    return RawRow(number, text, None, RowError("malformed", f"the row is a JSON {kind}; write one JSON object a row"))


def json_rows(path: Path) -> Iterator[RawRow]:
    """Rows of a JSON list, which is read whole; a file that does not start with a list is read as JSONL."""
    if not _starts_a_list(path):
        yield from jsonl_rows(path)
        return
    with opened(path) as file:
        text = file.read().removeprefix(MARK).decode("utf-8", "surrogateescape")
    place = _after_space(text, 0)
    line, place, last = 1, place + 1, 0
    while text[(place := _after_space(text, place)) : place + 1] != "]":
        line += text.count("\n", last, place)
        last = place
        try:
            values, end = _DECODER.raw_decode(text, place)
            place = _after_space(text, end)
            if text[place : place + 1] not in (",", "]"):
                raise ValueError("after a row there must be a comma, or the end of the list")
        except (ValueError, RecursionError) as error:
            raise AnnotationFileError(
                f"import {path}", f"line {line} is not JSON ({error})", "Fix the list there, or save it as JSONL, a row a line"
            ) from error
        yield _element(line, text[last:end], values)
        place += text[place] == ","
    if (rest := _after_space(text, place + 1)) < len(text):
        line = text.count("\n", 0, rest) + 1
        raise AnnotationFileError(
            f"import {path}", f"more text follows the list, in line {line}", "Put all rows into one list, or save it as JSONL"
        )


def _starts_a_list(path: Path) -> bool:
    with opened(path) as file:
        start = file.read(len(MARK)).removeprefix(MARK)
        while not start.strip() and (more := file.read(1)):
            start = more
    return start.lstrip().startswith(b"[")


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _element(line: int, text: str, values: Any) -> RawRow:
    try:
        check_text("the row", text)
    except RowError as problem:
        return RawRow(line, printable(text), None, problem)
    if large := too_large(len(text)):
        return RawRow(line, text, None, large)
    return _row_of_value(line, text, values)
