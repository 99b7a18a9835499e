"""Columns of comparisons as NumPy arrays, one RecordBatch at a time, from which statistics and agreement are computed."""

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Ids = NDArray[np.uint64]
Flags = NDArray[np.bool_]
Numbers = Integers | Flags

NO_VALUE = "(none)"
UNLABELLED = -1
_DIGITS = 16
_SAFETY = np.uint64(0x9E3779B97F4A7C15)  # any odd constant


class Names:
    """Numbers for names, consecutive from 0 in the order in which the names first occur."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def names(self) -> list[str]:
        return list(self._places)

    def places(self, column: pa.Array) -> Integers:
        """The number of each value of a string column; a null is named ``NO_VALUE``."""
        encoded = column.dictionary_encode(null_encoding="encode")
        places = [self._places.setdefault(name or NO_VALUE, len(self._places)) for name in encoded.dictionary.to_pylist()]
        return np.array(places, dtype=np.int64)[encoded.indices.to_numpy()]


def ids(column: pa.Array) -> Ids:
    """Ids of 16 hexadecimal digits as integers. Raises ValueError for others."""
    texts = column.to_pylist()
    if any(len(text) != _DIGITS for text in texts):
        raise ValueError(f"ids have {_DIGITS} hexadecimal digits, and {next(t for t in texts if len(t) != _DIGITS)!r} is none")
    try:
        return np.frombuffer(binascii.unhexlify("".join(texts)), ">u8").astype(np.uint64)
    except ValueError as error:
        raise ValueError(f"ids have {_DIGITS} hexadecimal digits, and one near {texts[0]!r} is none: {error}") from error


def item_ids(batch: pa.RecordBatch) -> Ids:
    """Ids of the items as integers; on the other axis an item has another id, because the question is another."""
    is_safety = flags(pc.equal(batch["axis"], "safety"))
    return ids(batch["item_id"]) ^ np.where(is_safety, _SAFETY, np.uint64(0))


def flags(column: pa.Array) -> Flags:
    """A boolean column without nulls."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


def labels(column: pa.Array) -> NDArray[np.int8]:
    """Safety labels: 1 safe, 0 unsafe, ``UNLABELLED`` where there is none."""
    return np.asarray(column.cast(pa.int8()).fill_null(UNLABELLED).to_numpy(zero_copy_only=False), dtype=np.int8)


def first_chosen(batch: pa.RecordBatch) -> Flags:
    """Whether the response that sorts first was chosen: the positive choice, the same for all annotators of an item."""
    return flags(pc.less(batch["chosen"], batch["rejected"]))


def sums_by_row(values: Numbers, lengths: Integers) -> Integers:
    """Sums of consecutive runs of ``values``: the first ``lengths[0]``, the next ``lengths[1]``, and so on."""
    running = np.concatenate(([0], np.cumsum(values, dtype=np.int64)))
    ends = np.cumsum(lengths)
    return np.asarray(running[ends] - running[ends - lengths])
