"""Files of constraints: the constraint that a line becomes, and the lines that are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gatt.constraint_file import constraint_of, named, read_constraints, write_constraints
from gatt.constraints import Constraint
from preference_data.strict_rows import RowsError


def written(folder: Path, *rows: Any) -> Path:
    file = folder / "constraints.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return file


def test_lines_without_wordings_get_the_papers_wordings(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        {"family": "figure", "value": "Oscar Wilde"},
        "",
        {"family": "hobby", "value": "tennis", "instruction": "You love tennis.", "check": "contains tennis"},
        {"family": "language", "value": "French", "check": None},
        {"family": "length", "value": "1", "instruction": "Answer in one sentence.", "terse": "Length: 1.",
         "check": "one_sentence", "held_out": True},
    )  # fmt: skip
    assert read_constraints(file) == [
        Constraint("figure", "Oscar Wilde", "Always act as Oscar Wilde.", "Figure: Oscar Wilde.", None, False),
        Constraint("hobby", "tennis", "You love tennis.", "Hobby: tennis.", "contains tennis", False),
        Constraint("language", "French", "Always answer in French.", "Language: French.", None, False),
        Constraint("length", "1", "Answer in one sentence.", "Length: 1.", "one_sentence", True),
    ]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    constraints = [named("figure", "Zoë"), Constraint("end", "amen", "End with amen.", "End: amen.", "ends_with amen", True)]
    write_constraints(constraints, tmp_path / "c.jsonl")
    assert read_constraints(tmp_path / "c.jsonl") == constraints


def test_a_language_has_a_default_checker_unless_the_line_says_otherwise() -> None:
    assert named("language", "French").check == "language French"
    row = {"family": "language", "value": "French"}
    assert constraint_of(row | {"check": "max_words 9"}).check == "max_words 9"
    assert constraint_of(row | {"check": None}).check is None
    pytest.importorskip("lingua")
    assert constraint_of(row).check == "language French"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "a row must be a JSON object, this one is list"),
        ({"family": "figure"}, "value is missing"),
        ({"value": "x"}, "family is missing"),
        ({"family": "figure", "value": " "}, "value must be a non-empty text; it is ' '"),
        ({"family": "figure", "value": 3}, "value must be a non-empty text; it is 3"),
        ({"family": "figure", "value": "x", "checker": "one_sentence"}, "unknown key 'checker'; the keys are family, value"),
        (
            {"family": "mood", "value": "x"},
            "instruction is missing; only the families hobby, language, figure have default wordings",
        ),
        ({"family": "mood", "value": "x", "instruction": "Be x."}, "terse is missing"),
        ({"family": "figure", "value": "x", "held_out": "no"}, "held_out must be true, false or left out; it is 'no'"),
        ({"family": "figure", "value": "x", "check": "sings"}, "there is no checker 'sings'"),
        ({"family": "figure", "value": "x", "check": 3}, "check must be a checker with its argument"),
        ({"family": "figure", "value": "</s>"}, "value holds the chat-format tag '</s>'"),
        ('{"family": "figure", "value": "\\ud800"}', "the row holds bytes or half a character"),
        ({"family": "figure", "value": "Plato", "held_out": True}, "the figure 'Plato' is in an earlier line too"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, row: Any, message: str) -> None:
    file = written(tmp_path, {"family": "figure", "value": "Plato"}, row)
    with pytest.raises(RowsError) as caught:
        read_constraints(file)
    assert str(caught.value).startswith(f"{file} has 1 constraints that cannot be used") and f"  line 2: {message}" in str(
        caught.value
    )


def test_all_faulty_lines_are_named_and_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match=r"(?s)has 25 constraints.*line 1:.*line 20:.*and 5 more"):
        read_constraints(written(tmp_path, *["?"] * 25))
    with pytest.raises(RowsError, match="has no constraints"):
        read_constraints(written(tmp_path))


def test_a_file_that_holds_all_of_them_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match=r"every constraint of .* is held out; give some to train on"):
        read_constraints(written(tmp_path, {"family": "figure", "value": "Plato", "held_out": True}))


def test_the_constraints_that_the_documentation_shows_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "gatt.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    constraints = read_constraints(
        written(tmp_path, block.replace('"value": "French"', '"value": "French", "check": null').rstrip())
    )
    assert [(constraint.family, constraint.held_out) for constraint in constraints] == [
        ("figure", False), ("language", False), ("style", False), ("length", True)
    ]  # fmt: skip
