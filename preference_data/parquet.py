"""Records on disk: frozen dataclasses of one type in one Parquet file, of any length.

The Arrow schema comes from the dataclass's type hints, so an all-None column keeps its type and the bytes depend on the
records alone.
"""

import dataclasses
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from preference_data.messages import Message

Record = TypeVar("Record")

ROW_GROUP = 8192

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_SCALARS: dict[Any, pa.DataType] = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(), Message: _MESSAGE}


def _arrow_type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return pa.string()
    if origin is list:
        return pa.list_(_arrow_type(arguments[0]))
    if origin in (Union, types.UnionType):
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _arrow_type(inner)
    raise TypeError(f"no Arrow type for {hint!r}: records hold str, bool, int, float, Message, lists and optionals of them")


def schema_of(record_type: type) -> pa.Schema:
    """The Arrow schema of a dataclass."""
    hints = get_type_hints(record_type)
    return pa.schema([(field.name, _arrow_type(hints[field.name])) for field in dataclasses.fields(record_type)])


def table_of(records: Sequence[Any], record_type: type) -> pa.Table:
    """``records`` (all of ``record_type``) as an Arrow table."""
    schema = schema_of(record_type)
    columns = [pa.array([getattr(record, field.name) for record in records], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def records_of(table: pa.Table | pa.RecordBatch, record_type: type[Record]) -> list[Record]:
    """The rows of a table that has the columns of ``record_type``, in the order of its fields."""
    return [record_type(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


class RecordWriter:
    """Writes records of one type to a Parquet file, keeping at most ROW_GROUP of them in memory."""

    def __init__(self, path: Path, record_type: type):
        self._type = record_type
        self._file = pq.ParquetWriter(path, schema_of(record_type), compression="zstd")
        self._waiting: list[Any] = []
        self._groups = 0
        self.written = 0

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._waiting or not self._groups:
            self._write_group()
        self._file.close()

    def write(self, records: Iterable[Any]) -> None:
        for record in records:
            self._waiting.append(record)
            self.written += 1
            if len(self._waiting) == ROW_GROUP:
                self._write_group()

    def write_table(self, table: pa.Table) -> None:
        """Write a table. Raises ValueError after ``write``, because the order would be lost."""
        if self._waiting:
            raise ValueError("records were written before this table; write either records or tables")
        self._file.write_table(table, row_group_size=ROW_GROUP)
        self.written += table.num_rows
        self._groups += 1

    def _write_group(self) -> None:
        self._file.write_table(table_of(self._waiting, self._type))
        self._waiting.clear()
        self._groups += 1


def num_records(path: Path) -> int:
    """How many records a file holds, from its footer."""
    return pq.read_metadata(path).num_rows


def write_records(path: Path, records: Iterable[Any], record_type: type) -> None:
    """Write ``records`` (all of ``record_type``) to one Parquet file."""
    with RecordWriter(path, record_type) as writer:
        writer.write(records)


def read_batches(path: Path, record_type: type, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """What ``write_records`` wrote, ROW_GROUP rows at a time, all columns or those named.

    Raises ValueError when the columns are not those of ``record_type``.
    """
    with pq.ParquetFile(path, pre_buffer=False) as file:  # a read-ahead buffer would hold the whole file
        if not file.schema_arrow.equals(schema_of(record_type)):
            raise ValueError(
                f"{path} does not hold {record_type.__name__} records: its columns are {', '.join(file.schema_arrow.names)}"
            )
        yield from file.iter_batches(ROW_GROUP, columns=columns)


def iterate_records(path: Path, record_type: type[Record]) -> Iterator[Record]:
    """Read back what ``write_records`` wrote, record by record. Raises ValueError as ``read_batches``."""
    for batch in read_batches(path, record_type):
        yield from records_of(batch, record_type)


def read_records(path: Path, record_type: type[Record]) -> list[Record]:
    """Read back what ``write_records`` wrote, all at once. Raises ValueError as ``read_batches``."""
    return list(iterate_records(path, record_type))
