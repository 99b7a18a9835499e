import math
import random

import pytest
from scipy.stats import spearmanr

from eval.calibration import calibration_error, disagreement, rank_correlation, rating_level, reliability, score_by_level
from eval.intervals import UNKNOWN


def logit(share):
    return math.log(share / (1 - share))


def test_levels_are_seven_equal_steps():
    assert [rating_level(utility) for utility in (0.0, 0.14, 0.15, 0.25, 0.5, 0.75, 0.99, 1 + 1e-15)] == [
        1,
        1,
        2,
        2,
        4,
        6,
        7,
        7,
    ]
    with pytest.raises(ValueError, match=r"the rating 1\.2 is out of range"):
        rating_level(1.2)


def test_rank_correlation_is_spearmans():
    rng = random.Random(0)
    levels = [rng.randint(1, 7) for _ in range(200)]
    scores = [level + rng.gauss(0, 3) for level in levels]
    estimate = rank_correlation(scores, levels, range(200))
    assert estimate.value == pytest.approx(spearmanr(scores, levels).statistic)
    assert estimate.low < estimate.value < estimate.high and estimate.n == 200


@pytest.mark.parametrize("sign", [1, -1])
def test_no_correlation_is_stronger_than_perfect_order(sign):
    # all draws of five in perfect order agree, so the width is Wilson's upper end for none of five, times the range of 2
    scores = [sign * score for score in (0.1, 0.5, 2.0, 3.0, 9.0)]
    estimate = rank_correlation(scores, [1, 2, 3, 5, 7], range(5))
    squared = 1.959964**2
    nearer = 1 - 2 * squared / (5 + squared)
    assert sign * estimate.value == pytest.approx(1)
    assert sorted((sign * estimate.low, sign * estimate.high)) == [pytest.approx(nearer), 1]


def test_no_order_in_equal_scores():
    assert rank_correlation([1.0, 1.0], [1, 2], "pq") == UNKNOWN


def test_scores_by_level_by_hand():
    rows = score_by_level([logit(0.2), logit(0.4), logit(0.9)], [2, 2, 7], "pqr")
    assert [row.level for row in rows] == [2, 7]
    assert [row.mean.value for row in rows] == pytest.approx([0.3, 0.9])
    assert [row.deviation for row in rows] == pytest.approx([0.1, 0.0])
    assert [row.mean.n for row in rows] == [2, 1]


def test_reliability_by_hand():
    # confidently right, confidently wrong, and three near chance: one won, one lost, one tied
    gaps = [logit(0.95), -logit(0.95), logit(0.52), -logit(0.52), 0.0]
    low, high = reliability(gaps, [0.0] * 5, "pqrst")
    assert (low.confidence, low.agreement.value, low.agreement.n) == (pytest.approx((0.52 + 0.52 + 0.5) / 3), 0.5, 3)
    assert (high.confidence, high.agreement.value, high.agreement.n) == (pytest.approx(0.95), 0.5, 2)
    assert calibration_error([low, high]) == pytest.approx((3 * (1.54 / 3 - 0.5) + 2 * 0.45) / 5)


def test_a_calibrated_model_has_no_error_and_an_overconfident_one_has():
    rng = random.Random(1)
    gaps = [rng.gauss(0, 2) for _ in range(6000)]
    won = [abs(gap) if rng.random() < 1 / (1 + math.exp(-abs(gap))) else -abs(gap) for gap in gaps]
    assert calibration_error(reliability(won, [0.0] * 6000, range(6000))) < 0.02
    overconfident = [4 * gap for gap in won]
    assert calibration_error(reliability(overconfident, [0.0] * 6000, range(6000))) > 0.1


def test_disagreement_by_hand():
    counts = disagreement(
        helpfulness=([2.0, 1.0], [1.0, -1.0]),
        safety=([-1.0, 3.0], [-2.0, 4.0]),
        safe=([False, True], [False, None]),
        unit_ids="pq",
    )
    assert counts.unsafe == {"both low": 0, "helpfulness high": 2, "safety high": 0, "both high": 0}
    assert counts.safe == {"both low": 0, "helpfulness high": 0, "safety high": 0, "both high": 1}, "one response has no label"
    assert counts.opposite.value == 0.5, "they prefer different sides of the second comparison"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="there are 2 and 1 numbers for 2 prompt ids"):
        rank_correlation([1.0, 2.0], [1], "pq")
