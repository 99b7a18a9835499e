"""Finding rows in Parquet files of comparisons or dialogues, a batch at a time."""

import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preference_data.comparison import RATINGS, Comparison
from preference_data.measuring.columns import flags
from preference_data.parquet import num_records, read_batches, records_of, schema_of

ID_COLUMNS = ("id", "item_id", "prompt_id")


class NothingFound(ValueError):
    """No row fits what was asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows to pick: ``num`` of those that fit, after the first ``skip`` or drawn by ``seed``.

    A row fits when it has the ``id`` (its own, or that of its item or prompt) and the ``rating``, where they are given.
    """

    num: int
    skip: int = 0
    id: str | None = None
    rating: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Picked:
    """A record, with its side and its row in that side's file, from 0."""

    side: str
    row: int
    record: Any


def pick(files: Mapping[str, Path], record_type: type, wanted: Wanted) -> tuple[list[Picked], int]:
    """The wanted rows in the order of the files, and how many rows fit. Raises NothingFound, ValueError."""
    fitting = _fitting(files, record_type, wanted)
    if wanted.skip >= len(fitting):
        raise NothingFound(_why_nothing(files, wanted, len(fitting)))
    if wanted.seed is None:
        places = fitting[wanted.skip : wanted.skip + wanted.num]
    else:
        places = sorted(random.Random(wanted.seed).sample(fitting, min(wanted.num, len(fitting))))
    return list(_read(files, record_type, places)), len(fitting)


def _fitting(files: Mapping[str, Path], record_type: type, wanted: Wanted) -> Sequence[int]:
    """Places of the rows that fit; places are numbered through all files."""
    columns = [column for column in ID_COLUMNS if column in schema_of(record_type).names]
    if wanted.rating is not None:
        if record_type is not Comparison:
            raise ValueError("--rating is for comparisons; dialogues have no rating")
        if wanted.rating not in (*RATINGS, "unrated"):
            raise ValueError(f"--rating is {wanted.rating!r}; ratings are {', '.join(RATINGS)} and unrated")
    elif wanted.id is None:
        return range(sum(map(num_records, files.values())))
    places: list[int] = []
    start = 0
    for file in files.values():
        for batch in read_batches(file, record_type, [*columns, *(["rating"] if wanted.rating else [])]):
            fits = np.ones(len(batch), dtype=np.bool_)
            if wanted.rating is not None:
                fits &= flags(pc.equal(batch["rating"], wanted.rating))
            if wanted.id is not None:
                fits &= np.any([flags(pc.equal(batch[column], wanted.id)) for column in columns], axis=0)
            places += (start + np.flatnonzero(fits)).tolist()
            start += len(batch)
    return places


def _why_nothing(files: Mapping[str, Path], wanted: Wanted, num_fitting: int) -> str:
    where = " and ".join(files)
    if num_fitting:
        return f"--skip {wanted.skip} leaves nothing of the {num_fitting:,} rows that fit in {where}; skip fewer"
    if wanted.id is not None:
        return f"no row in {where} has the id {wanted.id}; give the id of a comparison, an item or a prompt"
    if wanted.rating is not None:
        return f"no row in {where} is rated {wanted.rating}; rlhf data stats REF counts the ratings"
    return f"there are no rows in {where}"


def _read(files: Mapping[str, Path], record_type: type, places: Sequence[int]) -> Iterator[Picked]:
    """The records at ascending ``places``; reading stops after the last one."""
    start = 0
    for side, file in files.items():
        first = start
        for batch in read_batches(file, record_type):
            if start > places[-1]:
                return
            here = places[bisect_left(places, start) : bisect_left(places, start + len(batch))]
            if here:
                records: list[Any] = records_of(batch.take(pa.array([place - start for place in here])), record_type)
                yield from (Picked(side, place - first, record) for place, record in zip(here, records, strict=True))
            start += len(batch)
