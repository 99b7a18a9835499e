"""``rlhf data stats`` and ``rlhf data agreement``: what an artifact of comparisons holds, read once, a batch at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from preference_data import judged
from preference_data.agreement import (
    Agreement,
    AgreementError,
    PairwiseAgreement,
    choice_agreement,
    pairwise_agreement,
    rating_agreement,
    safety_agreement,
)
from preference_data.annotator_table import AnnotatorRow, annotator_table
from preference_data.columns import Names
from preference_data.comparison import RATINGS, Comparison
from preference_data.judged import Judgements, joined, read_judgements
from preference_data.parquet import num_records, read_batches
from preference_data.statistics import COLUMNS, CountTokens, Statistics, Tally, place_of
from registry.artifact import Artifact
from stages.terminal.progress import Progress

Side = Literal["train", "test", "all"]
Found = Agreement | PairwiseAgreement | AgreementError
Measure = Callable[[Judgements], Agreement | PairwiseAgreement]


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """``groups`` by a key, or None where none was asked for; so the ``annotators``."""

    total: Statistics
    groups: dict[str, Statistics] | None
    annotators: dict[str, AnnotatorRow] | None


@dataclass(frozen=True, slots=True)
class DataAgreement:
    """For each group, what each of ``MEASURES`` found, or why it found nothing."""

    judgements: int
    items: int
    groups: dict[str, dict[str, Found]]

    @property
    def is_known(self) -> bool:
        """Whether anything was judged twice."""
        return any(not isinstance(found, AgreementError) for group in self.groups.values() for found in group.values())


MEASURES: dict[str, Measure] = {
    "choices": choice_agreement,
    "ratings": rating_agreement,
    "safety_labels": safety_agreement,
    "same_choice": pairwise_agreement,
    **{f"same_choice_if_{rating}": partial(pairwise_agreement, rating=rating) for rating in RATINGS},
}


def sides_of(artifact: Artifact, side: Side) -> dict[str, Path]:
    """The files of one side, or of both. Raises ReferenceNotFound for an artifact without them."""
    return {name: artifact.file(f"{name}.parquet") for name in (("train", "test") if side == "all" else (side,))}


def statistics_of(
    files: Sequence[Path], by: str | None, annotators: bool, count_tokens: CountTokens | None, progress: Progress
) -> DataStatistics:
    """Statistics of all comparisons, of their groups by a key, and of each annotator where asked for."""
    keys = [key for key in (by, "annotator" if annotators else None) if key]
    tally, names, parts = Tally(keys, count_tokens), Names(), []
    for batch in _batches(files, COLUMNS, progress):
        tally.add(batch)
        if annotators:
            parts.append(read_judgements(batch, names))
    return DataStatistics(
        tally.total(),
        tally.by(by) if by else None,
        annotator_table(tally.by("annotator"), joined(parts), names.names()) if annotators else None,
    )


def agreement_of(files: Sequence[Path], by: str, progress: Progress) -> DataAgreement:
    """Every measure for each value of a key; judgements of one item under different values are not compared."""
    annotators, groups = Names(), Names()
    parts, places = [], [np.zeros(0, np.int64)]
    for batch in _batches(files, {*judged.COLUMNS, by}, progress):
        parts.append(read_judgements(batch, annotators))
        places.append(groups.places(batch[by]))
    judgements, place = joined(parts), np.concatenate(places)
    found = {name: _measured(judgements.where(place == number)) for number, name in enumerate(groups.names())}
    ordered = {name: found[name] for name in sorted(found, key=place_of)}
    return DataAgreement(len(judgements.items), len(np.unique(judgements.items)), ordered)


def _measured(judgements: Judgements) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for name, measure in MEASURES.items():
        try:
            found[name] = measure(judgements)
        except AgreementError as error:
            found[name] = error
    return found


def _batches(files: Sequence[Path], columns: Iterable[str], progress: Progress) -> Iterator[pa.RecordBatch]:
    batches = (batch for file in files for batch in read_batches(file, Comparison, list(columns)))
    return progress.track(batches, sum(map(num_records, files)), "comparisons", "row", len)
