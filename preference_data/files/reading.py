"""Any annotation file as rows."""

from collections.abc import Callable, Iterator
from pathlib import Path

from preference_data.files.csv_rows import csv_rows
from preference_data.files.json_rows import json_rows, jsonl_rows
from preference_data.files.opening import FileType, file_type
from preference_data.files.parquet_rows import parquet_rows
from preference_data.files.rows import RawRow

_READERS: dict[FileType, Callable[[Path], Iterator[RawRow]]] = {
    "jsonl": jsonl_rows,
    "json": json_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}


def read_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file that passed ``check_file``, one at a time. Raises AnnotationFileError for a file broken as a whole."""
    return _READERS[file_type(path)](path)
