"""Writing chosen rows of Parquet files in any order, without holding them all: a shuffle in two passes.

The first pass writes each row to the bucket of its place, the second sorts each bucket.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preference_data.parquet import RecordWriter, num_records, read_batches, schema_of

BUCKET = 1 << 16
_PLACE = "place in the order"


def write_in_order(path: Path, sources: Sequence[Path], rows: Sequence[int], record_type: type, bucket: int = BUCKET) -> None:
    """Write the ``rows`` of ``sources`` to ``path`` in the order given; rows are numbered through all sources.

    All files hold records of ``record_type``; each row may occur once. At most ``bucket`` rows are in memory at a time.
    """
    with RecordWriter(path, record_type) as writer, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        count = -(-len(rows) // bucket)
        buckets = [Path(folder) / f"{number}.parquet" for number in range(count)]
        _scatter(buckets, sources, rows, record_type, bucket)
        for file in buckets:
            table = pq.read_table(file)
            writer.write_table(table.sort_by(_PLACE).drop_columns([_PLACE]))


def _scatter(buckets: Sequence[Path], sources: Sequence[Path], rows: Sequence[int], record_type: type, bucket: int) -> None:
    schema = schema_of(record_type).append(pa.field(_PLACE, pa.int64()))
    writers = [pq.ParquetWriter(path, schema, compression="zstd") for path in buckets]
    for table in _placed(sources, rows, record_type):
        numbers = pc.divide(table[_PLACE], bucket)
        for number in pc.unique(numbers).to_pylist():
            writers[number].write_table(table.filter(pc.equal(numbers, number)).cast(schema))
    for writer in writers:
        writer.close()


def _placed(sources: Sequence[Path], rows: Sequence[int], record_type: type) -> Iterator[pa.Table]:
    """The rows to write, in the order of the files, each with its place in the order to write."""
    total = sum(map(num_records, sources))
    places = np.full(total, -1, dtype=np.int64)
    places[np.asarray(rows, dtype=np.int64)] = np.arange(len(rows))
    offset = 0
    for path in sources:
        for batch in read_batches(path, record_type):
            here = places[offset : offset + batch.num_rows]
            offset += batch.num_rows
            yield pa.Table.from_batches([batch]).append_column(_PLACE, pa.array(here)).filter(pa.array(here >= 0))
