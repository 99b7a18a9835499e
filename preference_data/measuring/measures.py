"""What Parquet files of comparisons hold: statistics and agreement, read once, a batch at a time.

``track`` shows progress: it is given the batches and the number of rows in all of them, and yields the batches.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from preference_data.comparison import RATINGS, Comparison
from preference_data.measuring import judgement_arrays
from preference_data.measuring.agreement import (
    Agreement,
    AgreementError,
    PairwiseAgreement,
    choice_agreement,
    pairwise_agreement,
    rating_agreement,
    safety_agreement,
)
from preference_data.measuring.annotator_table import AnnotatorRow, annotator_table
from preference_data.measuring.columns import Names
from preference_data.measuring.judgement_arrays import Judgements, joined, read_judgements
from preference_data.measuring.statistics import COLUMNS, CountTokens, Statistics, Tally, place_of
from preference_data.parquet import num_records, read_batches

Measured = Agreement | PairwiseAgreement | AgreementError
"""What a measure gives, or why there is nothing to measure."""
Measure = Callable[[Judgements], Agreement | PairwiseAgreement]
Track = Callable[[Iterator[pa.RecordBatch], int], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """``groups``: by the values of a key; ``annotators``: by annotator. Each is None where it was not asked for."""

    total: Statistics
    groups: dict[str, Statistics] | None
    annotators: dict[str, AnnotatorRow] | None


@dataclass(frozen=True, slots=True)
class DataAgreement:
    """For each group, what each of ``MEASURES`` gives, or why there is nothing to measure."""

    judgements: int
    items: int
    groups: dict[str, dict[str, Measured]]

    @property
    def is_known(self) -> bool:
        """Whether any item was annotated twice."""
        return any(not isinstance(value, AgreementError) for group in self.groups.values() for value in group.values())


MEASURES: dict[str, Measure] = {
    "choices": choice_agreement,
    "ratings": rating_agreement,
    "safety_labels": safety_agreement,
    "same_choice": pairwise_agreement,
    **{f"same_choice_if_{rating}": partial(pairwise_agreement, rating=rating) for rating in RATINGS},
}


def untracked(batches: Iterator[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Show nothing."""
    return batches


def statistics_of(
    files: Sequence[Path],
    by: str | None = None,
    annotators: bool = False,
    count_tokens: CountTokens | None = None,
    track: Track = untracked,
) -> DataStatistics:
    """Statistics of all comparisons, and where asked for those of their groups ``by`` a key and of each annotator."""
    keys = [key for key in (by, "annotator" if annotators else None) if key]
    tally, names, parts = Tally(keys, count_tokens), Names(), []
    for batch in _batches(files, COLUMNS, track):
        tally.add(batch)
        if annotators:
            parts.append(read_judgements(batch, names))
    return DataStatistics(
        tally.total(),
        tally.by(by) if by else None,
        annotator_table(tally.by("annotator"), joined(parts), names.names()) if annotators else None,
    )


def agreement_of(files: Sequence[Path], by: str, track: Track = untracked) -> DataAgreement:
    """Every measure for each value of the key ``by``; judgements of one item under different values are not compared."""
    annotators, groups = Names(), Names()
    parts, places = [], [np.zeros(0, np.int64)]
    for batch in _batches(files, {*judgement_arrays.COLUMNS, by}, track):
        parts.append(read_judgements(batch, annotators))
        places.append(groups.places(batch[by]))
    judgements, place = joined(parts), np.concatenate(places)
    measured = {name: _measured(judgements.where(place == number)) for number, name in enumerate(groups.names())}
    ordered = {name: measured[name] for name in sorted(measured, key=place_of)}
    return DataAgreement(len(judgements.items), len(np.unique(judgements.items)), ordered)


def _measured(judgements: Judgements) -> dict[str, Measured]:
    measured: dict[str, Measured] = {}
    for name, measure in MEASURES.items():
        try:
            measured[name] = measure(judgements)
        except AgreementError as error:
            measured[name] = error
    return measured


def _batches(files: Sequence[Path], columns: Iterable[str], track: Track) -> Iterator[pa.RecordBatch]:
    batches = (batch for file in files for batch in read_batches(file, Comparison, list(columns)))
    return track(batches, sum(map(num_records, files)))
