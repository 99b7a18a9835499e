"""How far annotators agree: Gwet's AC1 and AC2, and plain pairwise agreement on choices.

The paper reports inter-rater reliability as Gwet's AC1/AC2 (section 3.4.2 and A.3.7; AC2 0.37-0.55 on helpfulness, 0.92 on
safety). AC1 is for categories without order, AC2 for ordered ones with weights. Both work with missing ratings and with
skewed categories, where kappa breaks down. Formulas: Gwet, *Handbook of Inter-Rater Reliability*, 4th ed. (2014), chapters 2-5,
with the analytic variance for a sample of items and a fixed set of raters.

Ours: a rated choice is one of eight levels, from -4 (one response significantly better) to 4 (the other one). There is no 0,
because annotators must choose. Which of the two responses counts as positive follows from their sort order, which is the same
for all annotators.

Items with a single judgement say nothing about agreement but count in the shares of the categories. They are folded into one
row a category, so that millions of them need no more memory than their judgements.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preference_data.measuring.columns import UNLABELLED, Flags, Integers
from preference_data.measuring.judgement_arrays import Judgements, strength

Weights = Literal["identity", "quadratic"]
LEVELS = (-4, -3, -2, -1, 1, 2, 3, 4)
_RESAMPLES = 1000


class AgreementError(ValueError):
    """Judgements from which no agreement can be computed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A chance-corrected coefficient (at most 1; 0 at chance) with its 95 % t interval; ``items`` were annotated,
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

    ``table`` is items x raters, None where a rater gave no rating. Raises AgreementError as ``gwet_of_counts``, and for an
    unlisted category.
    """
    place = {category: position for position, category in enumerate(categories)}
    rows = [[rating for rating in row if rating is not None] for row in table]
    if unlisted := {rating for row in rows for rating in row} - set(place):
        raise AgreementError(f"ratings {sorted(map(repr, unlisted))} are not among the categories {list(categories)}")
    units = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    places = np.array([place[rating] for row in rows for rating in row], dtype=np.int64)
    return gwet_of_counts(*_counts(units, places, len(categories)), weights)


def gwet_of_counts(counts: Integers, times: Integers, weights: Weights = "identity") -> Agreement:
    """As ``gwet``, from ``counts`` (rows, q): raters who put an item in each category. Row i stands for ``times[i]`` items.

    With r_ik raters putting item i in category k, r_i in all, w_kl = 1 - (k - l)^2 / (q - 1)^2, T = sum of w, pi_k = mean
    over items of r_ik / r_i:

        observed = mean over items with r_i >= 2 of sum_k r_ik (sum_l w_kl r_il - 1) / (r_i (r_i - 1))
        expected = T / (q (q - 1)) * sum_k pi_k (1 - pi_k)
        AC = (observed - expected) / (1 - expected)

    Raises AgreementError for fewer than two categories or annotated items, or no item annotated twice.
    """
    from scipy.special import stdtrit

    n, q = int(times.sum()), counts.shape[1]
    per_item = counts.sum(axis=1)
    twice = per_item >= 2
    repeated = int(times[twice].sum())
    if q < 2 or n < 2 or not repeated:
        raise AgreementError(
            f"agreement needs two categories, two annotated items and one item annotated twice; there are {q} categories, "
            f"{n} annotated items and {repeated} annotated twice. Give the same items to several annotators, and name them"
        )

    def mean(values: NDArray[Any]) -> Any:
        """Over all items."""
        return times @ values / n

    places = np.arange(q)
    w = np.eye(q) if weights == "identity" else 1 - (places[:, None] - places[None, :]) ** 2 / (q - 1) ** 2
    pi = mean(counts / per_item[:, None])
    scale = w.sum() / (q * (q - 1))
    expected = scale * (pi * (1 - pi)).sum()
    agreeing = (counts * (counts @ w - 1)).sum(axis=1) / np.where(twice, per_item * (per_item - 1), 1)
    share_twice = repeated / n
    observed = mean(twice * agreeing) / share_twice
    coefficient = (observed - expected) / (1 - expected)

    of_item = twice * (agreeing - expected) / (share_twice * (1 - expected))
    expected_of_item = scale * (counts @ (1 - pi)) / per_item
    linear = of_item - 2 * (1 - coefficient) * (expected_of_item - expected) / (1 - expected)
    error = np.sqrt(mean((linear - coefficient) ** 2) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * error
    name: Literal["AC1", "AC2"] = "AC1" if weights == "identity" else "AC2"
    low, high = float(coefficient - half), min(1.0, float(coefficient + half))
    return Agreement(name, float(coefficient), low, high, float(observed), float(expected), n, repeated)


def _counts(units: NDArray[Any], places: NDArray[Any], num_categories: int) -> tuple[Integers, Integers]:
    """Judgements of ``units`` as (counts, times): a row for each unit with two or more, then one for each category."""
    unit = np.unique(units, return_inverse=True)[1]
    again = np.bincount(unit)[unit] >= 2
    rows = np.unique(unit[again], return_inverse=True)[1]
    num_rows = int(rows.max(initial=-1)) + 1
    counts = np.bincount(rows * num_categories + places[again], minlength=num_rows * num_categories)
    once = np.bincount(places[~again], minlength=num_categories)
    table = np.concatenate([counts.reshape(num_rows, num_categories), np.eye(num_categories, dtype=np.int64)])
    return table, np.concatenate([np.ones(num_rows, dtype=np.int64), once])


def choice_agreement(judgements: Judgements) -> Agreement:
    """AC1 of the choices."""
    return gwet_of_counts(*_counts(judgements.items, judgements.first_chosen.astype(np.int64), 2))


def rating_agreement(judgements: Judgements) -> Agreement:
    """AC2 of the eight signed levels, quadratic weights; unrated judgements are left out."""
    rated = judgements.levels != 0
    places = np.searchsorted(LEVELS, judgements.levels[rated])
    return gwet_of_counts(*_counts(judgements.items[rated], places, len(LEVELS)), "quadratic")


def safety_agreement(judgements: Judgements) -> Agreement:
    """AC1 of the safety labels of single responses, two an item (with two categories AC2 is the same)."""
    items = np.unique(judgements.items, return_inverse=True)[1]
    units = np.stack([2 * items, 2 * items + 1], axis=1)
    labelled = judgements.is_safe != UNLABELLED
    return gwet_of_counts(*_counts(units[labelled], judgements.is_safe[labelled].astype(np.int64), 2))


def pairwise_agreement(judgements: Judgements, rating: str | None = None, seed: int = 0) -> PairwiseAgreement:
    """Plain agreement on choices over ordered pairs of judgements of one item, all items' pairs pooled.

    With ``rating`` only pairs whose first judgement has that rating count: how often another annotator makes the same choice
    when one annotator gave it this rating. Items are resampled, because pairs within one item are not independent. Raises
    AgreementError.
    """
    same, pairs, times = _tallies(judgements, _rated(judgements, rating))
    if not len(times):
        which = f" with a judgement rated {rating}" if rating else ""
        raise AgreementError(f"no item{which} was annotated twice. Give the same items to several annotators, and name them")
    items = int(times.sum())
    # drawing items with replacement is the same as drawing how often each kind of item comes up
    draws = np.random.default_rng(seed).multinomial(items, times / items, size=_RESAMPLES)
    low, high = np.quantile((draws @ same) / (draws @ pairs), (0.025, 0.975))
    total = int(times @ pairs)
    return PairwiseAgreement(int(times @ same) / total, float(low), float(high), total, items)


def _rated(judgements: Judgements, rating: str | None) -> Flags:
    if rating is None:
        return np.ones(len(judgements.levels), dtype=np.bool_)
    return np.abs(judgements.levels) == strength(rating)


def _tallies(judgements: Judgements, counted: Flags) -> tuple[Integers, Integers, Integers]:
    """(pairs that agree, pairs, number of items) for each kind of item judged twice that has a counted judgement."""
    item = np.unique(judgements.items, return_inverse=True)[1]
    total, first = np.bincount(item), np.bincount(item, judgements.first_chosen).astype(np.int64)
    # the others who agree with a judgement: all who chose the same response, less the annotator who made it
    same = np.where(judgements.first_chosen, first[item], (total - first)[item]) - 1
    of_item = np.stack(
        [np.bincount(item[counted], values[counted], len(total)) for values in (same, total[item] - 1)], axis=1
    ).astype(np.int64)
    kinds, times = np.unique(of_item[of_item[:, 1] > 0], axis=0, return_counts=True)
    return kinds[:, 0], kinds[:, 1], times
