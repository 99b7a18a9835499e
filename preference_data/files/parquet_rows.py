"""Rows of Parquet files; the number of a row takes the place of its line."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from preference_data.files.opening import AnnotationFileError, check_columns
from preference_data.files.rows import RawRow, too_large
from preference_data.judgement import RowError

_UNREADABLE = (ValueError, OverflowError, LookupError)
"""Raised by values that Python cannot hold: text that is not UTF-8, a date out of range, an unknown time zone."""


def parquet_rows(path: Path) -> Iterator[RawRow]:
    """Raises AnnotationFileError for a broken file, and for one that names a column twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow.names)
            for batch in file.iter_batches(1024):
                for row in _batch_rows(batch, number + 1):
                    number = row.line
                    yield row
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        do = "Check that it was written completely"
        raise AnnotationFileError(f"import {path}", f"after row {number} it cannot be read ({error})", do) from error


def _batch_rows(batch: Any, first: int) -> Iterator[RawRow]:
    """The rows of a RecordBatch; ``first`` is the number of the first one."""
    try:
        rows = batch.to_pylist()
    except _UNREADABLE:
        for index in range(batch.num_rows):
            yield _single_row(first + index, batch.slice(index, 1))
    else:
        for index, values in enumerate(rows):
            yield _row(first + index, values)


def _single_row(number: int, row: Any) -> RawRow:
    try:
        (values,) = row.to_pylist()
    except _UNREADABLE as error:
        reason = "invalid_text" if isinstance(error, UnicodeDecodeError) else "malformed"
        found = f"a value cannot be read ({type(error).__name__}: {error}); write it as UTF-8 text, or leave its column out"
        shown = {name: _shown(column) for name, column in zip(row.schema.names, row.columns, strict=True)}
        return RawRow(number, json.dumps(shown, ensure_ascii=False, default=repr), None, RowError(reason, found))
    return _row(number, values)


def _shown(column: Any) -> Any:
    """The value in a column of one row; where Python cannot hold it, as Arrow prints it."""
    try:
        (value,) = column.to_pylist()
    except _UNREADABLE:
        return str(column)
    return value


def _row(number: int, values: dict[str, Any]) -> RawRow:
    if problem := too_large(sum(len(value) for value in values.values() if isinstance(value, str))):
        return RawRow(number, json.dumps(values, ensure_ascii=False, default=repr), None, problem)
    absent = {name: None for name, value in values.items() if isinstance(value, float) and math.isnan(value)}
    return RawRow(number, None, values | absent)
