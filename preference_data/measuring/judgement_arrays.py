"""Judgements as arrays, 15 bytes each: what agreement needs of comparisons, small enough to keep millions in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preference_data.comparison import RATINGS, Comparison
from preference_data.measuring.columns import Flags, Ids, Names, first_chosen, item_ids, labels
from preference_data.parquet import table_of

COLUMNS = ("item_id", "chosen", "rejected", "rating", "axis", "chosen_safe", "rejected_safe", "annotator")
"""The columns of comparisons that are read."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgements:
    """N judgements. On the other axis, an item counts as another item."""

    items: Ids  # (N,)
    annotators: NDArray[np.int32]  # (N,) places in the names with which they were read
    first_chosen: Flags  # (N,) of the two responses in sorted order
    levels: NDArray[np.int8]  # (N,) from -4 to 4: strength of the rating, negative for the second response; 0 unrated
    is_safe: NDArray[np.int8]  # (N, 2) labels of the first and the second response: 1 safe, 0 unsafe, UNLABELLED

    def where(self, kept: Flags) -> "Judgements":
        """The judgements that ``kept`` (N,) flags."""
        return Judgements(*(getattr(self, field.name)[kept] for field in fields(self)))


_NONE = Judgements(
    np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.int8), np.zeros((0, 2), np.int8)
)


def read_judgements(batch: pa.RecordBatch, annotators: Names) -> Judgements:
    """The judgements of a batch that has ``COLUMNS``, or more."""
    first = first_chosen(batch)
    ratings = batch["rating"].dictionary_encode()
    strengths = np.array([strength(rating) for rating in ratings.dictionary.to_pylist()], dtype=np.int8)
    levels = strengths[ratings.indices.to_numpy()]
    chosen, rejected = labels(batch["chosen_safe"]), labels(batch["rejected_safe"])
    return Judgements(
        item_ids(batch),
        annotators.places(batch["annotator"]).astype(np.int32),
        first,
        np.where(first, levels, -levels),
        np.stack([np.where(first, chosen, rejected), np.where(first, rejected, chosen)], axis=1),
    )


def strength(rating: str) -> int:
    """4 for significantly_better to 1 for negligibly_better; 0 for unrated. Raises ValueError for any other word."""
    if rating == "unrated":
        return 0
    if rating not in RATINGS:
        raise ValueError(f"there is no rating {rating!r}; ratings are {', '.join(RATINGS)} and unrated")
    return len(RATINGS) - RATINGS.index(rating)


def joined(parts: Iterable[Judgements]) -> Judgements:
    """The judgements of all ``parts``, which were read with the same names."""
    parts = [_NONE, *parts]
    return Judgements(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Judgements)))


def judgements_of(comparisons: Sequence[Comparison]) -> Judgements:
    """The judgements in ``comparisons``."""
    names = Names()
    return joined(read_judgements(batch, names) for batch in table_of(comparisons, Comparison).to_batches())
