"""One comparison for each item of several annotators: the choice of the majority.

By default training takes every comparison. The paper does not say what it did.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from preference_data.comparison import RATINGS, Comparison, Rating, comparison_id


@dataclass(frozen=True)
class Majority:
    """One comparison an item, in the order of the items, and how many items were left out.

    ``ties``: no choice had a majority; ``chosen_unsafe``: most annotators label the chosen response unsafe and the other safe.
    """

    comparisons: list[Comparison]
    ties: int
    chosen_unsafe: int


def majority(comparisons: Iterable[Comparison]) -> Majority:
    """The comparison that most annotators of each item agree on.

    Its rating is the median rating of those who made the choice (of two in the middle, the weaker one). A safety label is
    that of most annotators, or None where they are divided. Items of a single annotator stay as they are.
    """
    items: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        items.setdefault((comparison.item_id, comparison.axis), []).append(comparison)
    decided = [decision for group in items.values() if (decision := _decision(group)) is not None]
    kept = [decision for decision in decided if not (decision.chosen_safe is False and decision.rejected_safe is True)]
    return Majority(kept, ties=len(items) - len(decided), chosen_unsafe=len(decided) - len(kept))


def _decision(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The majority's comparison among those of one item; None for a tie."""
    if len(comparisons) == 1:
        return comparisons[0]
    votes = Counter(comparison.chosen for comparison in comparisons)
    chosen, count = votes.most_common(1)[0]
    if 2 * count == len(comparisons):
        return None
    winners = [comparison for comparison in comparisons if comparison.chosen == chosen]
    labels = [
        (comparison.chosen_safe, comparison.rejected_safe)
        if comparison.chosen == chosen
        else (comparison.rejected_safe, comparison.chosen_safe)
        for comparison in comparisons
    ]
    return dataclasses.replace(
        winners[0],
        id=comparison_id(winners[0].item_id, winners[0].axis, None, chosen),
        annotator=None,
        rating=_median([comparison.rating for comparison in winners]),
        chosen_safe=_most([chosen_safe for chosen_safe, _ in labels]),
        rejected_safe=_most([rejected_safe for _, rejected_safe in labels]),
    )


def _median(ratings: Sequence[Rating]) -> Rating:
    rated = sorted((rating for rating in ratings if rating != "unrated"), key=RATINGS.index)
    return rated[len(rated) // 2] if rated else "unrated"


def _most(labels: Sequence[bool | None]) -> bool | None:
    safe, unsafe = labels.count(True), labels.count(False)
    return None if safe == unsafe else safe > unsafe
