"""Records on disk: a list of one frozen dataclass, written to and read from one Parquet file.

The Arrow schema comes from the dataclass's type hints, so an all-None column keeps its type and the bytes depend on the
records alone.
"""

import dataclasses
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from preference_data.messages import Message

Record = TypeVar("Record")

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


def write_records(path: Path, records: Sequence[Any], record_type: type) -> None:
    """Write ``records`` (all of ``record_type``) to one Parquet file."""
    names = [field.name for field in dataclasses.fields(record_type)]
    rows = [{name: getattr(record, name) for name in names} for record in records]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema_of(record_type)), path, compression="zstd")


def read_records(path: Path, record_type: type[Record]) -> list[Record]:
    """Read back what ``write_records`` wrote. Raises ValueError when the columns are not those of ``record_type``."""
    table = pq.read_table(path)
    if not table.schema.equals(schema_of(record_type)):
        raise ValueError(
            f"{path} does not hold {record_type.__name__} records: its columns are {', '.join(table.schema.names)}"
        )
    return [record_type(**row) for row in table.to_pylist()]
