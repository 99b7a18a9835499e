"""Files with other column names and other values: what ``--map`` and ``--map-value`` do.

A mapped file is read as a native one with other names (or as TRL's, where ``chosen`` or ``rejected`` is mapped). A column of a
nested row is named by its path, ``meta.worker``. Columns that are not mapped keep their names.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell
from preference_data.formats import Importer
from preference_data.importers import native, trl
from preference_data.judgement import RowError
from preference_data.values import Row

_ABSENT = object()


class ColumnMapError(ValueError):
    """A mapping that cannot be used."""


class ColumnMap:
    """An importer of files with other names. ``columns`` are ``column=field``, ``values`` are ``field:found=meant``.

    Raises ColumnMapError for a mapping of another form, for an unknown field, and for a field that is mapped twice.
    """

    NAME = "mapped"

    def __init__(self, columns: Sequence[str], values: Sequence[str] = ()):
        self._fields = {field: column for column, field in (_split(text, "=", "column=field") for text in columns)}
        if len(self._fields) < len(columns):
            raise ColumnMapError(f"--map {' --map '.join(columns)} maps two columns to one field; map one of them")
        self._importer: Importer = trl if {"chosen", "rejected"} & set(self._fields) else native
        self._meanings: dict[str, dict[str, Any]] = {}
        for text in values:
            field, rest = _split(text, ":", "field:found=meant")
            value, meant = _split(rest, "=", "field:found=meant")
            self._meanings.setdefault(field, {})[value] = self._meaning(field, meant)
        for field in (*self._fields, *self._meanings):
            self._check_field(field)
        self._unseen = set(self._fields.values())
        self.FIELDS: dict[str, Cell] = dict(self._importer.FIELDS)
        for field, column in self._fields.items():
            self.FIELDS[column.partition(".")[0]] = self._importer.FIELDS[field] if "." not in column else "json"

    def misfit(self, row: Row) -> str | None:
        return self._importer.misfit(self._renamed(row))

    def judgements(self, row: Row, axis: Axis) -> Iterator[dict[str, Any] | RowError]:
        return self._importer.judgements(self._renamed(row), axis)

    def check_all_seen(self) -> None:
        """Raise ColumnMapError for a column that no row had so far; a misspelt name would go unnoticed."""
        if self._unseen:
            columns = ", ".join(map(repr, sorted(self._unseen)))
            raise ColumnMapError(f"no row has a column {columns}; check the spelling in --map")

    def _renamed(self, row: Row) -> dict[str, Any]:
        taken = {column.partition(".")[0] for column in self._fields.values()}
        named = {name: value for name, value in row.items() if name not in taken}
        for field, column in self._fields.items():
            if (value := _at(row, column)) is not _ABSENT:
                named[field] = value
                self._unseen.discard(column)
        for field, meanings in self._meanings.items():
            value = named.get(field)
            named[field] = meanings.get(value if isinstance(value, str) else _plain(value), value)
        return named

    def _meaning(self, field: str, meant: str) -> Any:
        if self._importer.FIELDS.get(field) != "json":
            return meant
        try:
            return json.loads(meant)
        except ValueError as error:
            raise ColumnMapError(
                f"--map-value {field}: {meant!r} is not a value of {field}; write true, false or a number"
            ) from error

    def _check_field(self, field: str) -> None:
        known = self._importer.FIELDS
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ColumnMapError(f"there is no field {field!r}; {hint}fields are {', '.join(known)}")


def _split(text: str, mark: str, shape: str) -> tuple[str, str]:
    before, _, after = text.rpartition(mark) if mark == "=" else text.partition(mark)
    if not (before and after):
        raise ColumnMapError(f"{text!r} is not of the form {shape}")
    return before, after


def _plain(value: Any) -> str:
    """How a value that is not text is written in ``--map-value``: 1, true, null."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else json.dumps(value, default=repr)


def _at(row: Row, path: str) -> Any:
    """The value at a path of names, ``_ABSENT`` where there is none. A column whose name is the whole path comes first."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value
