"""The annotation formats that can be imported, and how the format of a file is recognised.

Each module of ``importers/`` reads the rows of one format. A file has the first format of ``IMPORTERS`` that fits one of its
first readable rows.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from preference_data.comparison import Axis
from preference_data.files.csv_rows import Cell, from_cells
from preference_data.files.opening import AnnotationFileError, file_type
from preference_data.files.reading import read_rows
from preference_data.files.rows import RawRow
from preference_data.importers import (
    anthropic_hh,
    argilla,
    chatbot_arena,
    dahoas,
    helpsteer,
    label_studio,
    native,
    openai_summarize,
    pku_saferlhf,
    shp,
    stack_exchange,
    trl,
    ultrafeedback,
    webgpt,
)
from preference_data.judgement import RowError
from preference_data.values import Row

LOOKED_AT = 100
"""Readable rows among which a format is looked for."""


class Importer(Protocol):
    """One format, as a module of ``importers/`` describes it.

    ``FIELDS``: the columns it reads, with what their cells hold in CSV. ``misfit`` says why a row is not in this format; None
    where it is. ``judgements`` yields for each judgement in a row the arguments of ``make_comparison`` except the axis, or a
    RowError where that judgement cannot be used; it yields at least one, or raises RowError for the whole row. Only formats
    that hold a choice per axis read ``axis``.
    """

    NAME: str
    FIELDS: dict[str, Cell]

    def misfit(self, row: Row) -> str | None: ...

    def judgements(self, row: Row, axis: Axis) -> Iterator[dict[str, Any] | RowError]: ...


_MODULES: tuple[Importer, ...] = (
    argilla,
    label_studio,
    chatbot_arena,
    pku_saferlhf,
    helpsteer,
    native,
    anthropic_hh,
    openai_summarize,
    webgpt,
    shp,
    stack_exchange,
    ultrafeedback,
    dahoas,
    trl,
)
IMPORTERS: dict[str, Importer] = {module.NAME: module for module in _MODULES}
"""By name, in the order in which they are tried."""


def importer_of(row: Row, is_csv: bool) -> Importer | None:
    """The first importer that fits ``row``, or None."""
    return next((importer for importer in IMPORTERS.values() if _misfit(importer, row, is_csv) is None), None)


def recognise(path: Path) -> Importer:
    """The importer that fits one of the first readable rows. Raises AnnotationFileError with the reason why no format fits."""
    first: RawRow | None = None
    is_csv = file_type(path) == "csv"
    for row in itertools.islice(read_rows(path), LOOKED_AT):
        first = first or row
        if row.values is not None and (importer := importer_of(row.values, is_csv)):
            return importer
    if first is None:
        raise AnnotationFileError(f"import {path}", "the file holds no rows", "Check that it was written completely")
    asked = f"recognise the format of {path}"
    if first.values is None:
        do = "Look at its first lines: a file has one JSON object a line, or is one JSON list of objects"
        raise AnnotationFileError(asked, f"no row can be read; line {first.line}: {first.problem}", do)
    names = ", ".join(map(repr, itertools.islice(first.values, 20))) or "(none)"
    reasons = "".join(f"\n  {name}: {_misfit(importer, first.values, is_csv)}" for name, importer in IMPORTERS.items())
    raise AnnotationFileError(
        asked,
        f"line {first.line} has the fields {names}, which fit no known format",
        f"{_advice(first.values)}. Why each format does not fit:{reasons}",
    )


def _misfit(importer: Importer, row: Row, is_csv: bool) -> str | None:
    try:
        return importer.misfit(from_cells(row, importer.FIELDS) if is_csv else row)
    except RowError as error:
        return str(error)


def _advice(row: Row) -> str:
    """How to map the columns; by name where only capitals and spaces differ."""
    fields = {_plain(field): field for field in native.FIELDS}
    near = {column: fields[_plain(column.strip())] for column in row if _plain(column.strip()) in fields}
    maps = " ".join(
        f"--map {column!r}={field}" if " " in column else f"--map {column}={field}" for column, field in near.items()
    )
    return f"Rename them, or map them with {maps or '--map column=field'}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower())
