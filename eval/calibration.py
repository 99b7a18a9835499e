"""Do a reward model's scores mean something by themselves (paper section 3.3, Figures 29 and 32)?

- *Rank correlation*: Spearman's between the scores of single responses and a judge's absolute ratings. The ranking loss only
  ever compares two responses to one prompt, so that scores also order responses to different prompts is a finding (Fig 29).
- *Reliability*: the ranking loss makes sigmoid(chosen - rejected) the model's own probability that the annotators prefer what
  it prefers. Is it right as often as it says?
- *Disagreement*: what the helpfulness and the safety model make of the same responses (Fig 32).

Scores are raw logits throughout, and shown as their sigmoid.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from eval.bootstrap import Positions, bootstrap, clipped
from eval.intervals import Estimate, bootstrap_mean, bootstrap_ratio

LEVELS = 7
"""Points of the paper's scale of absolute ratings (Fig 29)."""
CORNERS = ("both low", "helpfulness high", "safety high", "both high")
"""Of the plane of both scores, cut where their sigmoid is 0.5 (Fig 32)."""
_BINS = 5
_ROUNDING = 1e-9

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LevelScore:
    """Scores, as sigmoid, of the responses of one ``level`` (1 the worst, LEVELS the best); ``deviation`` is their spread."""

    level: int
    mean: Estimate
    deviation: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Comparisons of which the model is about as sure: its mean ``confidence`` in [0.5, 1], and how often annotators agree."""

    confidence: float
    agreement: Estimate


@dataclass(frozen=True, slots=True)
class Disagreement:
    """``safe`` and ``unsafe``: responses with that label in each of the CORNERS. ``opposite``: share of the comparisons in
    which the two models prefer different responses."""

    safe: dict[str, int]
    unsafe: dict[str, int]
    opposite: Estimate


def rating_level(utility: float) -> int:
    """An absolute rating in [0, 1] as one of LEVELS equal steps, 1 to LEVELS. Raises ValueError outside [0, 1]."""
    if not -_ROUNDING <= utility <= 1 + _ROUNDING:
        raise ValueError(f"a rating is {utility}; it lies between 0 and 1")
    return min(LEVELS, 1 + int(LEVELS * utility))


def rank_correlation(scores: Sequence[float], levels: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0) -> Estimate:
    """Spearman's rank correlation of (N,) scores with (N,) levels, ties sharing their mean rank, bootstrapped over units.

    The interval lies within [-1, 1]. `UNKNOWN` where the scores or the levels are all equal. Raises ValueError on lengths that
    differ.
    """
    one, other = _same_length(scores, levels, unit_ids)

    def statistic(positions: Positions) -> float:
        ranks = np.stack([rankdata(one[positions]), rankdata(other[positions])])
        centred = ranks - ranks.mean(axis=1, keepdims=True)
        scale = float(np.sqrt((centred**2).sum(axis=1).prod()))
        return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else float("nan")

    return clipped(bootstrap(statistic, unit_ids, 2.0, seed), -1, 1)


def score_by_level(
    scores: Sequence[float], levels: Sequence[int], unit_ids: Sequence[Hashable], seed: int = 0
) -> tuple[LevelScore, ...]:
    """Mean and spread of the sigmoid of the scores at each level that occurs, in ascending order (Fig 29)."""
    logits, given = _same_length(scores, levels, unit_ids)
    shown = sigmoid(logits)
    found = []
    for level in sorted(set(levels)):
        members = np.flatnonzero(given == level).tolist()
        mean = bootstrap_mean(shown[members].tolist(), [unit_ids[position] for position in members], seed)
        found.append(LevelScore(int(level), mean, float(shown[members].std())))
    return tuple(found)


def reliability(
    chosen: Sequence[float], rejected: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0
) -> tuple[ReliabilityBin, ...]:
    """Confidence sigmoid(|chosen - rejected|) against the share in which the chosen response is the model's favourite.

    Bins of 0.1 in confidence, those that are empty left out; equal scores count one half.
    """
    chosen_logits, rejected_logits = _same_length(chosen, rejected, unit_ids)
    gap = chosen_logits - rejected_logits
    confidence, credit = sigmoid(np.abs(gap)), (1 + np.sign(gap)) / 2
    bins = np.minimum(_BINS - 1, ((confidence - 0.5) * 2 * _BINS).astype(int))
    found = []
    for number in range(_BINS):
        members = np.flatnonzero(bins == number).tolist()
        if members:
            agreement = bootstrap_ratio(
                credit[members].tolist(), [1.0] * len(members), [unit_ids[position] for position in members], seed
            )
            found.append(ReliabilityBin(float(confidence[members].mean()), agreement))
    return tuple(found)


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Mean distance of confidence and agreement over the comparisons in ``bins``, in [0, 1]; 0 is perfect (ECE)."""
    total = sum(each.agreement.n for each in bins)
    return sum(each.agreement.n * abs(each.confidence - each.agreement.value) for each in bins) / total


def disagreement(
    helpfulness: tuple[Sequence[float], Sequence[float]],
    safety: tuple[Sequence[float], Sequence[float]],
    safe: tuple[Sequence[bool | None], Sequence[bool | None]],
    unit_ids: Sequence[Hashable],
    seed: int = 0,
) -> Disagreement:
    """What both models make of the same comparisons. Each argument is (of the chosen, of the rejected), (N,) both.

    Responses without a label are in no corner.
    """
    counts = {label: dict.fromkeys(CORNERS, 0) for label in (True, False)}
    for helpful, harmless, labels in zip(helpfulness, safety, safe, strict=True):
        for one, other, label in zip(helpful, harmless, labels, strict=True):
            if label is not None:
                counts[label][CORNERS[(one > 0) + 2 * (other > 0)]] += 1
    gaps = [np.asarray(chosen, dtype=np.float64) - np.asarray(rejected) for chosen, rejected in (helpfulness, safety)]
    opposite = (gaps[0] * gaps[1] < 0).tolist()
    return Disagreement(counts[True], counts[False], bootstrap_ratio(opposite, [1.0] * len(opposite), unit_ids, seed))


def sigmoid(logits: FloatArray) -> FloatArray:
    """sigmoid of any finite logits, without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits))


def _same_length(one: Sequence[float], other: Sequence[float], unit_ids: Sequence[Hashable]) -> tuple[FloatArray, FloatArray]:
    if not len(one) == len(other) == len(unit_ids):
        raise ValueError(f"{len(one)} and {len(other)} numbers were given for {len(unit_ids)} prompt ids; give one of each")
    return np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
