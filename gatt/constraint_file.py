"""A file of constraints, one JSON object per line, written by hand or by ``gatt/proposals.py`` and then edited.

    {"family": "figure", "value": "Napoleon"}
    {"family": "language", "value": "French"}
    {"family": "style", "value": "haiku", "instruction": "Always answer with a haiku.", "terse": "Style: haiku."}
    {"family": "length", "value": "one sentence", "instruction": "Answer in one sentence.", "terse": "Length: one sentence.",
     "check": "one_sentence", "held_out": true}

The paper's families (hobby, language, figure) have default wordings; any other needs both ``instruction`` and ``terse``.
``check`` names a checker (``gatt/checkers.py``); without it, or with null, a model judges. Only languages have a default
checker. ``held_out``: for evaluation, never trained on.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatt.checkers import make_checker
from gatt.constraints import Constraint
from preference_data.judgement import check_text
from preference_data.messages import tags_in
from preference_data.strict_rows import RowsError, records_in

WORDINGS = {
    "hobby": ("You enjoy {value}. Let it show in every answer.", "Hobby: {value}."),
    "language": ("Always answer in {value}.", "Language: {value}."),
    "figure": ("Always act as {value}.", "Figure: {value}."),
}
_TEXTS = ("family", "value", "instruction", "terse")
_KEYS = (*_TEXTS, "check", "held_out")


def read_constraints(file: Path) -> list[Constraint]:
    """The constraints of ``file``. Raises RowsError naming every faulty line, or where all are held out; FileNotFoundError."""
    seen: set[tuple[str, str]] = set()

    def unseen_constraint(row: Mapping[str, Any]) -> Constraint:
        constraint = constraint_of(row)
        if (constraint.family, constraint.value) in seen:
            raise ValueError(f"the {constraint.family} {constraint.value!r} is in an earlier line too; remove one of the two")
        seen.add((constraint.family, constraint.value))
        return constraint

    constraints = records_in(file, unseen_constraint, "constraints")
    if all(constraint.held_out for constraint in constraints):
        raise RowsError(f"every constraint of {file} is held out; give some to train on")
    return constraints


def write_constraints(constraints: Iterable[Constraint], file: Path) -> None:
    """Write one line per constraint with every key, so that each key can be edited."""
    rows = (json.dumps(asdict(constraint), ensure_ascii=False) + "\n" for constraint in constraints)
    file.write_text("".join(rows), encoding="utf-8")


def constraint_of(row: Mapping[str, Any]) -> Constraint:
    """The constraint of a line's JSON. Raises ValueError, and CheckError for a ``check`` that cannot be used."""
    if unknown := sorted(set(row) - set(_KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    texts = {name: row[name] for name in _TEXTS if name in row}
    _check_texts(texts)
    if missing := [name for name in ("family", "value") if name not in texts]:
        raise ValueError(f"{missing[0]} is missing; a constraint needs a family and a value")
    if not isinstance(row.get("held_out", False), bool):
        raise ValueError(f"held_out must be true, false or left out; it is {row['held_out']!r:.80}")
    default = named(texts["family"], texts["value"]) if texts["family"] in WORDINGS else None
    if default is None and (missing := [name for name in ("instruction", "terse") if name not in texts]):
        raise ValueError(
            f"{missing[0]} is missing; only the families {', '.join(WORDINGS)} have default wordings, so {texts['family']!r} "
            "needs an instruction and its terse form"
        )
    check = row.get("check", default.check if default else None)
    if check is not None:
        if not isinstance(check, str):
            raise ValueError(f"check must be a checker with its argument, null or left out; it is {check!r:.80}")
        make_checker(check)
    if default is not None:
        texts = {"instruction": default.instruction, "terse": default.terse} | texts
    return Constraint(**texts, check=check, held_out=row.get("held_out", False))


def named(family: str, value: str) -> Constraint:
    """A constraint of one of the paper's families, in its default wording; a language has its checker."""
    instruction, terse = (wording.format(value=value) for wording in WORDINGS[family])
    return Constraint(family, value, instruction, terse, f"language {value}" if family == "language" else None)


def _check_texts(texts: Mapping[str, Any]) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} must be a non-empty text; it is {text!r:.80}")
        check_text(name, text)
        if tags := tags_in(text):
            raise ValueError(f"{name} holds the chat-format tag {tags[0]!r}; remove it from the text")
