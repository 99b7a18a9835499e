"""How often a reward model agrees with the annotators (paper Tables 7, 8, 28 and 29).

*Accuracy* is the share of comparisons in which the chosen response scores above the rejected one, over all comparisons and by
the annotators' rating, since clear preferences are easier than near ties (Table 8). Equal scores count one half, so that a
constant scorer has accuracy 0.5 and not 0. The margin of the training loss plays no part here.

*Detection* asks whether a low safety score finds the responses that annotators labelled unsafe: recall at 0.5 is the last
column of Table 29; precision and recall at 0.15 are those of the threshold in the combined reward (section 3.2.3: 0.89, 0.55).

Intervals are bootstrapped over prompts, because the six comparisons of a prompt with four responses are not independent.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.intervals import Estimate, bootstrap_ratio
from preference_data.comparison import RATINGS


@dataclass(frozen=True, slots=True)
class Detection:
    """Precision: the unsafe share of the responses scored below ``threshold``. Recall: the share of the unsafe responses
    scored below it."""

    threshold: float
    precision: Estimate
    recall: Estimate


def accuracy_by_rating(
    chosen: Sequence[float],
    rejected: Sequence[float],
    ratings: Sequence[str],
    unit_ids: Sequence[Hashable],
    seed: int = 0,
) -> dict[str, Estimate]:
    """Accuracy for each rating that occurs, from the clearest to the faintest, then "unrated" if it occurs, then "all".

    ``chosen`` and ``rejected`` are (N,) scores, ``unit_ids`` (N,) prompt ids. Raises ValueError for different lengths, an
    unknown rating, scores that are not finite, and no comparisons at all.
    """
    if not len(chosen) == len(rejected) == len(ratings) == len(unit_ids):
        raise ValueError(
            f"there are {len(chosen)} chosen scores, {len(rejected)} rejected scores, {len(ratings)} ratings and "
            f"{len(unit_ids)} prompt ids; give one of each for every comparison"
        )
    if len(chosen) == 0:
        raise ValueError("cannot measure accuracy on no comparisons; give a test set with at least one")
    known = (*RATINGS, "unrated")
    if unknown := set(ratings) - set(known):
        raise ValueError(f"ratings {sorted(unknown)} are unknown; a rating is one of {', '.join(known)}")
    reward_margin = np.asarray(chosen, dtype=np.float64) - np.asarray(rejected, dtype=np.float64)
    if not np.isfinite(reward_margin).all():
        position = int(np.flatnonzero(~np.isfinite(reward_margin))[0])
        raise ValueError(f"comparison {position} has scores {chosen[position]} and {rejected[position]}; scores must be finite")
    credit = (1 + np.sign(reward_margin)) / 2
    groups: dict[str, list[int]] = {name: [i for i, rating in enumerate(ratings) if rating == name] for name in known}
    groups["all"] = list(range(len(ratings)))
    return {
        name: bootstrap_ratio(credit[members].tolist(), [1.0] * len(members), [unit_ids[i] for i in members], seed)
        for name, members in groups.items()
        if members
    }


def unsafe_detection(
    scores: Sequence[float], safe: Sequence[bool], unit_ids: Sequence[Hashable], threshold: float, seed: int = 0
) -> Detection:
    """Precision and recall of "sigmoid(score) < threshold means unsafe" against annotators' labels.

    ``scores`` (N,) are raw logits of the safety model, ``safe`` (N,) the labels of the same responses (leave unlabelled ones
    out), ``threshold`` is in (0, 1). Precision is `UNKNOWN` where no response scores below it, recall where none is unsafe.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold is {threshold}; it is compared with sigmoid(score) and must lie between 0 and 1")
    # sigmoid is monotone, so comparing logits is the same test without its rounding near 0 and 1
    flagged = np.asarray(scores, dtype=np.float64) < np.log(threshold / (1 - threshold))
    unsafe = ~np.asarray(safe, dtype=bool)
    if flagged.shape != unsafe.shape:
        raise ValueError(f"there are {flagged.size} scores for {unsafe.size} safety labels; give one label for each score")
    flagged_and_unsafe = (flagged & unsafe).tolist()
    return Detection(
        threshold,
        precision=bootstrap_ratio(flagged_and_unsafe, flagged.tolist(), unit_ids, seed),
        recall=bootstrap_ratio(flagged_and_unsafe, unsafe.tolist(), unit_ids, seed),
    )


@dataclass(frozen=True, slots=True)
class ScoredComparison:
    """A held-out comparison with both models' raw scores; ``gold_*`` are the utilities of its responses on its own axis."""

    prompt_id: str
    axis: str
    rating: str
    helpfulness_chosen: float
    helpfulness_rejected: float
    safety_chosen: float
    safety_rejected: float
    gold_chosen: float
    gold_rejected: float
    chosen_safe: bool | None
    rejected_safe: bool | None


def model_accuracy(rows: Sequence[ScoredComparison], model: str, axis: str) -> dict[str, Estimate]:
    """Accuracy by rating of ``model`` ("helpfulness", "safety" or "gold") on the comparisons of ``axis``."""
    own = [row for row in rows if row.axis == axis]
    return accuracy_by_rating(
        [getattr(row, f"{model}_chosen") for row in own],
        [getattr(row, f"{model}_rejected") for row in own],
        [row.rating for row in own],
        [row.prompt_id for row in own],
    )
