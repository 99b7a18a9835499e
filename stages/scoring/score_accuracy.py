"""How often the scores of pairs agree with those who judged them: counts that can be added to, and the accuracy that they make.

Accuracy is as in ``eval/reward_accuracy.py``: the share of judged pairs whose chosen response scores higher, a tie counting one
half. Its interval here is Wilson's, which needs the counts alone, and takes the pairs for independent.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from preference_data.comparison import RATINGS
from preference_data.statistics import wilson

_ORDER: tuple[str, ...] = (*RATINGS, "unrated")
Agreement = dict[str, dict[str, tuple[int, int]]]
"""By model and rating: twice the pairs whose chosen response scores higher with the ties once, and the judged pairs."""
Verdict = tuple[str, str, int]
"""Model, rating, and 2 where the chosen response of a pair scores higher, 1 for a tie, 0 where the rejected one does."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """``share`` in [0, 1] of ``judged`` > 0 pairs, with the ends of its 95 % Wilson interval."""

    share: float
    interval: tuple[float, float]
    judged: int


def added(agreement: Agreement, verdicts: Iterable[Verdict]) -> Agreement:
    sums = {model: dict(by_rating) for model, by_rating in agreement.items()}
    for model, rating, halves in verdicts:
        by_rating = sums.setdefault(model, {})
        before, judged = by_rating.get(rating, (0, 0))
        by_rating[rating] = (before + halves, judged + 1)
    return sums


def accuracies(agreement: Agreement) -> dict[str, dict[str, Accuracy]]:
    """By model: of each rating that occurs, from clearest to faintest, of "unrated" where others are rated, then of "all"."""
    return {model: _by_rating(counts) for model, counts in agreement.items()}


def _by_rating(counts: dict[str, tuple[int, int]]) -> dict[str, Accuracy]:
    rated = any(rating in counts for rating in RATINGS)
    found = {rating: _accuracy(*counts[rating]) for rating in _ORDER if rated and rating in counts}
    halves, judged = (sum(column) for column in zip(*counts.values(), strict=True))
    return {**found, "all": _accuracy(halves, judged)}


def _accuracy(halves: int, judged: int) -> Accuracy:
    share = halves / (2 * judged)
    return Accuracy(share, wilson(share, judged), judged)
