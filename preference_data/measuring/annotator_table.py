"""What each annotator does: their ratings, how often they choose the longer response, how often others agree with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from preference_data.measuring.judgement_arrays import Judgements
from preference_data.measuring.statistics import Statistics, wilson


@dataclass(frozen=True, slots=True)
class AnnotatorRow:
    """One annotator. ``statistics``: of their judgements. ``shared``: items that others judged too.

    ``agreement``: the share of the others' judgements with the same choice, averaged over the shared items; NaN without any.
    ``low`` and ``high``: Wilson's interval with the items as observations. It is conservative where more than two annotators
    judged an item, because a quantity in [0, 1] varies at most as much as a coin with the same mean.
    """

    statistics: Statistics
    shared: int
    agreement: float
    low: float
    high: float


def annotator_table(
    statistics: Mapping[str, Statistics], judgements: Judgements, names: Sequence[str]
) -> dict[str, AnnotatorRow]:
    """A row for each annotator in ``statistics``; ``names`` are those with which ``judgements`` were read.

    Judgements without an annotator count as those of one person.
    """
    shared, agreement = _with_others(judgements, len(names))
    place = {name: position for position, name in enumerate(names)}
    return {name: _row(own, shared[place[name]], agreement[place[name]]) for name, own in statistics.items()}


def _row(statistics: Statistics, shared: int, agreement: float) -> AnnotatorRow:
    low, high = wilson(agreement, shared) if shared else (math.nan, math.nan)
    return AnnotatorRow(statistics, shared, agreement, low, high)


def _with_others(judgements: Judgements, num_annotators: int) -> tuple[list[int], list[float]]:
    """For each annotator, the number of items that others judged too, and the mean share of the others who chose the same."""
    item = np.unique(judgements.items, return_inverse=True)[1]
    total, total_first = np.bincount(item), np.bincount(item, judgements.first_chosen)
    pairs, pair = np.unique(item * num_annotators + judgements.annotators, return_inverse=True)
    items, annotators = pairs // num_annotators, pairs % num_annotators
    own, own_first = np.bincount(pair), np.bincount(pair, judgements.first_chosen)
    others, others_first = total[items] - own, total_first[items] - own_first
    is_shared = others > 0
    agreeing = own_first * others_first + (own - own_first) * (others - others_first)
    shares = agreeing[is_shared] / (own * others)[is_shared]
    shared = np.bincount(annotators[is_shared], minlength=num_annotators)
    sums = np.bincount(annotators[is_shared], shares, num_annotators)
    means = np.divide(sums, shared, out=np.full(num_annotators, np.nan), where=shared > 0)
    return shared.tolist(), means.tolist()
