"""How often the scores of pairs agree with the annotators: counts that can be added up, and the accuracy that follows.

Accuracy is as in ``eval/reward_accuracy.py``: the share of pairs whose chosen response scores higher, where a tie counts one
half. The interval here is Wilson's, which needs only the counts and assumes that the pairs are independent.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from preference_data.comparison import RATINGS
from preference_data.measuring.statistics import wilson

_ORDER: tuple[str, ...] = (*RATINGS, "unrated")
Agreement = dict[str, dict[str, tuple[int, int]]]
"""By model and rating: twice the pairs whose chosen response scores higher plus the ties, and the number of pairs."""
Verdict = tuple[str, str, int]
"""Model, rating, and 2 where the chosen response of a pair scores higher, 1 for a tie, 0 where the rejected one does."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``share`` in [0, 1] of ``judged`` > 0 pairs with a choice, and the ends of its 95 % Wilson interval."""

    share: float
    interval: tuple[float, float]
    judged: int


def added(agreement: Agreement, verdicts: Iterable[Verdict]) -> Agreement:
    """``agreement`` with the counts of ``verdicts`` added."""
    sums = {model: dict(by_rating) for model, by_rating in agreement.items()}
    for model, rating, halves in verdicts:
        by_rating = sums.setdefault(model, {})
        before, judged = by_rating.get(rating, (0, 0))
        by_rating[rating] = (before + halves, judged + 1)
    return sums


def accuracies(agreement: Agreement) -> dict[str, dict[str, Accuracy]]:
    """By model: each rating that occurs, from clearest to faintest, then "unrated" where other pairs are rated, then "all"."""
    return {model: _by_rating(counts) for model, counts in agreement.items()}


def _by_rating(counts: dict[str, tuple[int, int]]) -> dict[str, Accuracy]:
    is_rated = any(rating in counts for rating in RATINGS)
    by_rating = {rating: _accuracy(*counts[rating]) for rating in _ORDER if is_rated and rating in counts}
    halves, judged = (sum(column) for column in zip(*counts.values(), strict=True))
    return {**by_rating, "all": _accuracy(halves, judged)}


def _accuracy(halves: int, judged: int) -> Accuracy:
    share = halves / (2 * judged)
    return Accuracy(share, wilson(share, judged), judged)
