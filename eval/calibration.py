"""Do a reward model's scores mean something by themselves (paper section 3.3, Figures 29 and 32)?

- *Rank correlation*: Spearman's between the scores of single responses and a judge's absolute ratings. The ranking loss only
  compares two responses to one prompt, so it is a finding that scores also order responses to different prompts (Fig 29).
- *Reliability*: under the ranking loss sigmoid(chosen - rejected) is the model's own probability that annotators prefer the
  response it prefers. Is it right as often as it says?
- *Disagreement*: how the helpfulness and the safety model score the same responses (Fig 32).

Scores are raw logits throughout, and shown as their sigmoid.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.bootstrap import Positions, bootstrap, clipped, pearson
from eval.intervals import Estimate, FloatArray, bootstrap_mean, bootstrap_ratio

LEVELS = 7
"""Points of the paper's scale of absolute ratings (Fig 29)."""
CORNERS = ("both low", "helpfulness high", "safety high", "both high")
"""The quarters of the plane of both scores, divided where their sigmoid is 0.5 (Fig 32)."""
_BINS = 5
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class LevelScore:
    """Scores, as sigmoid, of the responses of one ``level`` (1 the worst, LEVELS the best).

    ``deviation`` is their standard deviation.
    """

    level: int
    mean: Estimate
    deviation: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Comparisons with similar confidence: its mean ``confidence`` in [0.5, 1], and how often the annotators agree."""

    confidence: float
    agreement: Estimate


@dataclass(frozen=True, slots=True)
class Disagreement:
    """``safe`` and ``unsafe``: the number of responses with that label in each of the CORNERS. ``opposite``: the share of the
    comparisons in which the two models prefer different responses."""

    safe: dict[str, int]
    unsafe: dict[str, int]
    opposite: Estimate


def rating_level(utility: float) -> int:
    """An absolute rating in [0, 1] as one of LEVELS equal steps, 1 to LEVELS. Raises ValueError outside [0, 1]."""
    if not -_ROUNDING <= utility <= 1 + _ROUNDING:
        raise ValueError(f"the rating {utility} is out of range; an absolute rating lies between 0 and 1")
    return min(LEVELS, 1 + int(LEVELS * utility))


def rank_correlation(scores: Sequence[float], levels: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0) -> Estimate:
    """Spearman's rank correlation of (N,) scores with (N,) levels, ties sharing their mean rank, bootstrapped over units.

    The interval lies within [-1, 1]. `UNKNOWN` where the scores or the levels are all equal. Raises ValueError for different
    lengths.
    """
    from scipy.stats import rankdata  # takes most of a second to import, and nothing else here needs it

    score_array, level_array = _same_length(scores, levels, unit_ids)

    def spearman(positions: Positions) -> float:
        return pearson(np.stack([rankdata(score_array[positions]), rankdata(level_array[positions])]))

    return clipped(bootstrap(spearman, unit_ids, 2.0, seed), -1, 1)


def score_by_level(
    scores: Sequence[float], levels: Sequence[int], unit_ids: Sequence[Hashable], seed: int = 0
) -> tuple[LevelScore, ...]:
    """Mean and spread of the sigmoid of the scores at each level that occurs, in ascending order (Fig 29)."""
    logits, level_array = _same_length(scores, levels, unit_ids)
    sigmoids = sigmoid(logits)
    level_scores = []
    for level in sorted(set(levels)):
        members = np.flatnonzero(level_array == level).tolist()
        mean = bootstrap_mean(sigmoids[members].tolist(), [unit_ids[position] for position in members], seed)
        level_scores.append(LevelScore(int(level), mean, float(sigmoids[members].std())))
    return tuple(level_scores)


def reliability(
    chosen: Sequence[float], rejected: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0
) -> tuple[ReliabilityBin, ...]:
    """Confidence sigmoid(|chosen - rejected|) against the share in which the model prefers the chosen response.

    The bins are 0.1 wide in confidence, without the empty ones; equal scores count one half.
    """
    chosen_logits, rejected_logits = _same_length(chosen, rejected, unit_ids)
    reward_margin = chosen_logits - rejected_logits
    confidence, credit = sigmoid(np.abs(reward_margin)), (1 + np.sign(reward_margin)) / 2
    bin_numbers = np.minimum(_BINS - 1, ((confidence - 0.5) * 2 * _BINS).astype(int))
    bins = []
    for number in range(_BINS):
        members = np.flatnonzero(bin_numbers == number).tolist()
        if members:
            agreement = bootstrap_ratio(
                credit[members].tolist(), [1.0] * len(members), [unit_ids[position] for position in members], seed
            )
            bins.append(ReliabilityBin(float(confidence[members].mean()), agreement))
    return tuple(bins)


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of confidence from agreement over the comparisons in ``bins``, in [0, 1]; 0 is perfect (ECE)."""
    num_comparisons = sum(bucket.agreement.n for bucket in bins)
    return sum(bucket.agreement.n * abs(bucket.confidence - bucket.agreement.value) for bucket in bins) / num_comparisons


def disagreement(
    helpfulness: tuple[Sequence[float], Sequence[float]],
    safety: tuple[Sequence[float], Sequence[float]],
    safe: tuple[Sequence[bool | None], Sequence[bool | None]],
    unit_ids: Sequence[Hashable],
    seed: int = 0,
) -> Disagreement:
    """How both models score the same comparisons. Each argument is (of the chosen, of the rejected), both (N,).

    Responses without a label are counted in no corner.
    """
    counts = {label: dict.fromkeys(CORNERS, 0) for label in (True, False)}
    for helpfulness_scores, safety_scores, labels in zip(helpfulness, safety, safe, strict=True):
        for helpfulness_score, safety_score, label in zip(helpfulness_scores, safety_scores, labels, strict=True):
            if label is not None:
                counts[label][CORNERS[(helpfulness_score > 0) + 2 * (safety_score > 0)]] += 1
    reward_margins = [np.asarray(chosen, dtype=np.float64) - np.asarray(rejected) for chosen, rejected in (helpfulness, safety)]
    opposite = (reward_margins[0] * reward_margins[1] < 0).tolist()
    return Disagreement(counts[True], counts[False], bootstrap_ratio(opposite, [1.0] * len(opposite), unit_ids, seed))


def sigmoid(logits: FloatArray) -> FloatArray:
    """sigmoid of any finite logits, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))


def _same_length(
    first: Sequence[float], second: Sequence[float], unit_ids: Sequence[Hashable]
) -> tuple[FloatArray, FloatArray]:
    if not len(first) == len(second) == len(unit_ids):
        raise ValueError(
            f"there are {len(first)} and {len(second)} numbers for {len(unit_ids)} prompt ids; give two numbers for each id"
        )
    return np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
