"""How far annotators agree: Gwet's AC1 and AC2, and plain pairwise agreement on choices.

The paper reports inter-rater reliability as Gwet's AC1/AC2 (section 3.4.2 and A.3.7; AC2 0.37-0.55 on helpfulness, 0.92 on
safety). AC1 is for categories without order, AC2 for ordered ones with weights; both bear missing ratings and skewed
categories, where kappa breaks down. Formulas: Gwet, *Handbook of Inter-Rater Reliability*, 4th ed. (2014), chapters 2-5,
with the analytic variance for a sample of items and a fixed set of raters.

Ours: a rated choice is one of eight levels, from -4 (one response significantly better) to 4 (the other), without 0, as
the choice is forced. Which of the two responses counts as positive follows from their sort order, the same for all annotators.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from preference_data.comparison import RATINGS, Comparison

Weights = Literal["identity", "quadratic"]
Table = list[list[Hashable | None]]
LEVELS = (-4, -3, -2, -1, 1, 2, 3, 4)


class AgreementError(ValueError):
    """Judgements from which no agreement can be computed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A chance-corrected coefficient (at most 1; 0 at chance) with its 95 % t interval; ``items`` were judged at all,
    ``repeated`` of them at least twice; ``observed`` and ``expected`` are the weighted shares of agreement."""

    name: Literal["AC1", "AC2"]
    coefficient: float
    low: float
    high: float
    observed: float
    expected: float
    items: int
    repeated: int


@dataclass(frozen=True, slots=True)
class PairwiseAgreement:
    """Share of pairs of judgements of one item with the same choice, in [0, 1], with a 95 % bootstrap interval over items."""

    share: float
    low: float
    high: float
    pairs: int
    items: int


def gwet(
    table: Sequence[Sequence[Hashable | None]], categories: Sequence[Hashable], weights: Weights = "identity"
) -> Agreement:
    """Gwet's AC1 (identity weights) or AC2 (quadratic weights on the places of the ordered ``categories``).

    ``table`` is items x raters, None where a rater did not judge. With r_ik raters putting item i in category k, r_i in all,
    w_kl = 1 - (k - l)^2 / (q - 1)^2, T = sum of w, pi_k = mean over items of r_ik / r_i:

        observed = mean over items with r_i >= 2 of sum_k r_ik (sum_l w_kl r_il - 1) / (r_i (r_i - 1))
        expected = T / (q (q - 1)) * sum_k pi_k (1 - pi_k)
        AC = (observed - expected) / (1 - expected)

    Raises AgreementError for fewer than two categories or judged items, no item judged twice, or an unlisted category.
    """
    import numpy as np
    from scipy.special import stdtrit

    counts = _counts(table, categories)
    n, q = counts.shape
    per_item = counts.sum(axis=1)
    twice = per_item >= 2
    if q < 2 or n < 2 or not twice.any():
        raise AgreementError(
            f"agreement needs two categories, two judged items and an item judged twice; there are {q} categories, "
            f"{n} judged items and {int(twice.sum())} judged twice. Let several annotators judge the same items, and name them"
        )
    places = np.arange(q)
    w = np.eye(q) if weights == "identity" else 1 - (places[:, None] - places[None, :]) ** 2 / (q - 1) ** 2
    pi = (counts / per_item[:, None]).mean(axis=0)
    scale = w.sum() / (q * (q - 1))
    expected = scale * (pi * (1 - pi)).sum()
    agreeing = (counts * (counts @ w - 1)).sum(axis=1) / np.where(twice, per_item * (per_item - 1), 1)
    observed = agreeing[twice].mean()
    coefficient = (observed - expected) / (1 - expected)

    share_twice = twice.mean()
    of_item = twice * (agreeing - expected) / (share_twice * (1 - expected))
    expected_of_item = scale * (counts @ (1 - pi)) / per_item
    linear = of_item - 2 * (1 - coefficient) * (expected_of_item - expected) / (1 - expected)
    error = np.sqrt(((linear - coefficient) ** 2).sum() / (n * (n - 1)))
    half = float(stdtrit(n - 1, 0.975)) * error
    name: Literal["AC1", "AC2"] = "AC1" if weights == "identity" else "AC2"
    low, high = max(-1.0, float(coefficient - half)), min(1.0, float(coefficient + half))
    return Agreement(name, float(coefficient), low, high, float(observed), float(expected), n, int(twice.sum()))


def _counts(table: Sequence[Sequence[Hashable | None]], categories: Sequence[Hashable]) -> Any:
    """(items judged at all, categories): how many raters put an item in a category."""
    import numpy as np

    place = {category: position for position, category in enumerate(categories)}
    rows = [[rating for rating in row if rating is not None] for row in table]
    rows = [row for row in rows if row]
    if unlisted := {rating for row in rows for rating in row} - set(place):
        raise AgreementError(f"ratings {sorted(map(repr, unlisted))} are not among the categories {list(categories)}")
    counts = np.zeros((len(rows), len(place)))
    for item, row in enumerate(rows):
        for rating in row:
            counts[item, place[rating]] += 1
    return counts


def _by_item(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    items: dict[tuple[str, str], list[Comparison]] = {}
    for comparison in comparisons:
        items.setdefault((comparison.item_id, comparison.axis), []).append(comparison)
    return items


def _first_chosen(comparison: Comparison) -> bool:
    return comparison.chosen < comparison.rejected


def choice_table(comparisons: Sequence[Comparison]) -> Table:
    """Items x judgements: True where the response that sorts first was chosen. Categories: (False, True)."""
    return [[_first_chosen(judgement) for judgement in item] for item in _by_item(comparisons).values()]


def rating_table(comparisons: Sequence[Comparison]) -> Table:
    """Items x judgements: the signed level of choice and rating, None where unrated. Categories: ``LEVELS``."""

    def level(judgement: Comparison) -> int | None:
        if judgement.rating == "unrated":
            return None
        strength = len(RATINGS) - RATINGS.index(judgement.rating)
        return strength if _first_chosen(judgement) else -strength

    return [[level(judgement) for judgement in item] for item in _by_item(comparisons).values()]


def safety_table(comparisons: Sequence[Comparison]) -> Table:
    """Responses (two an item) x judgements: the safety label, None where not labelled. Categories: (False, True)."""
    table: Table = []
    for item in _by_item(comparisons).values():
        labels = [(j.chosen_safe, j.rejected_safe) if _first_chosen(j) else (j.rejected_safe, j.chosen_safe) for j in item]
        table += [[first for first, _ in labels], [second for _, second in labels]]
    return table


def choice_agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """AC1 of the choices."""
    return gwet(choice_table(comparisons), (False, True))


def rating_agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """AC2 of the eight signed levels, quadratic weights."""
    return gwet(rating_table(comparisons), LEVELS, "quadratic")


def safety_agreement(comparisons: Sequence[Comparison]) -> Agreement:
    """AC1 of the safety labels of single responses (with two categories AC2 is the same)."""
    return gwet(safety_table(comparisons), (False, True))


def pairwise_agreement(
    comparisons: Sequence[Comparison], rating: str | None = None, resamples: int = 1000, seed: int = 0
) -> PairwiseAgreement:
    """Plain agreement on choices over ordered pairs of judgements of one item, all items' pairs pooled.

    With ``rating`` only pairs whose first judgement has that rating count: how often another annotator makes the choice that
    one annotator rated so. Items are resampled, because pairs within one item are not independent. Raises AgreementError.
    """
    import numpy as np

    tallies: list[tuple[int, int]] = []
    for item in _by_item(comparisons).values():
        first = sum(_first_chosen(judgement) for judgement in item)
        counted = [judgement for judgement in item if rating is None or judgement.rating == rating]
        if len(item) < 2 or not counted:
            continue
        # Another annotator agrees: all who chose the same response, but for the one who judges.
        same = sum((first if _first_chosen(judgement) else len(item) - first) - 1 for judgement in counted)
        tallies.append((same, len(counted) * (len(item) - 1)))
    if not tallies:
        which = f" with a judgement rated {rating}" if rating else ""
        raise AgreementError(f"no item{which} was judged twice. Let several annotators judge the same items, and name them")
    table = np.array(tallies)
    draws = np.random.default_rng(seed).integers(len(table), size=(resamples, len(table)))
    same, pairs = table[:, 0][draws].sum(axis=1), table[:, 1][draws].sum(axis=1)
    low, high = np.quantile(same / pairs, (0.025, 0.975))
    total = int(table[:, 1].sum())
    return PairwiseAgreement(int(table[:, 0].sum()) / total, float(low), float(high), total, len(table))
