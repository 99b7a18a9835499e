import math
import random

import numpy as np
import pytest
from scipy.stats import linregress, pearsonr

from eval.bootstrap import bootstrap, bounded_mean, clipped, contrast, paired_difference, pearson, slope_weights
from eval.intervals import UNKNOWN, Estimate, bootstrap_mean
from preference_data.measuring.statistics import wilson


def coins(probability, n, seed):
    rng = random.Random(seed)
    return [float(rng.random() < probability) for _ in range(n)]


def test_a_difference_by_hand():
    estimate = contrast([1, 0, 1, 1, 0], ["a", "a", "b", "b", "b"], {"b": 1.0, "a": -1.0}, "pqpqq")
    assert estimate.value == pytest.approx(2 / 3 - 1 / 2) and estimate.n == 5


def test_groups_without_a_weight_count_for_nothing():
    two = contrast([1, 0, 1, 0], "aabb", {"b": 1.0, "a": -1.0}, "pqpq")
    three = contrast([1, 0, 1, 0, 1, 1], "aabbcc", {"b": 1.0, "a": -1.0}, "pqpqpq")
    assert three == two


def test_a_paired_difference_is_the_mean_of_the_differences_and_counts_pairs():
    ours, theirs, units = coins(0.7, 300, 1), coins(0.6, 300, 2), [f"p{i // 3}" for i in range(300)]
    estimate = paired_difference(ours, theirs, units, units)
    differences = bootstrap_mean([our_value - their_value for our_value, their_value in zip(ours, theirs, strict=True)], units)
    assert estimate.value == pytest.approx(differences.value) and estimate.n == differences.n == 300
    assert (estimate.low, estimate.high) == pytest.approx((differences.low, differences.high), abs=0.01)


def test_pairing_removes_the_variation_that_both_arms_share():
    ours = coins(0.5, 400, 3)
    theirs = [*ours[:-4], *(1 - value for value in ours[-4:])]
    paired = paired_difference(ours, theirs, range(400), range(400))
    unpaired = paired_difference(ours, theirs, range(400), range(400, 800))
    assert paired.high - paired.low < 0.25 * (unpaired.high - unpaired.low)


def test_a_paired_difference_does_not_depend_on_the_order_of_one_side():
    ours, theirs = [0.2, 0.5, 0.9], [0.1, 0.3, 0.4]
    assert paired_difference(ours, theirs, "pqr", "pqr") == paired_difference(ours, theirs[::-1], "pqr", "rqp")


def test_a_bounded_mean_is_the_mean_with_a_width_where_all_draws_agree():
    differences = np.random.default_rng(2).uniform(-1, 1, 200)
    estimate, mean = bounded_mean(differences, range(200), 1.0), bootstrap_mean(differences.tolist(), range(200))
    assert estimate.value == pytest.approx(mean.value) and estimate.n == 200
    assert (estimate.low, estimate.high) == pytest.approx((mean.low, mean.high), abs=0.02)
    equal = bounded_mean(np.full(5, 0.25), range(5), 1.0)
    spread = 2 * wilson(0.0, 5)[1]
    assert (equal.value, equal.low, equal.high) == pytest.approx((0.25, 0.25 - spread, 1.0))
    assert not bounded_mean(np.array([]), [], 1.0).known


def test_the_correlation_is_pearsons_and_undefined_for_equal_values():
    rows = np.random.default_rng(3).normal(size=(2, 50)).cumsum(axis=0)
    assert pearson(rows) == pytest.approx(pearsonr(*rows).statistic)
    assert pearson(np.array([[1.0, 2.0, 3.0], [5.0, 3.0, 1.0]])) == pytest.approx(-1)
    assert math.isnan(pearson(np.array([[0.3] * 7, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]])))


def test_a_slope_is_that_of_least_squares():
    places = {"s": 1.0, "m": 2.5, "l": 7.0}
    means = {"s": 0.25, "m": 0.5, "l": 0.75}
    groups = [name for name in means for _ in range(20)]
    values = [value for mean in means.values() for value in [1.0] * round(20 * mean) + [0.0] * round(20 - 20 * mean)]
    estimate = contrast(values, groups, slope_weights(places), range(60))
    assert estimate.value == pytest.approx(linregress(list(places.values()), list(means.values())).slope)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(40):
        values = [*coins(0.6, 60, seed), *coins(0.5, 60, 1000 + seed)]
        estimate = contrast(values, ["a"] * 60 + ["b"] * 60, {"a": 1, "b": -1}, range(120))
        hits += estimate.low <= 0.1 <= estimate.high
    assert 34 <= hits <= 40


def test_whole_units_are_drawn():
    values, units = coins(0.5, 40, 4), list(range(40))
    once = contrast(values, "a" * 40, {"a": 1.0}, units)
    copied = contrast(values * 9, "a" * 360, {"a": 1.0}, units * 9)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high)) and copied.n == 360


def test_arms_that_never_differ_are_not_certain():
    estimate = contrast([1, 0, 1, 1, 0, 1] * 2, "aaabbb" * 2, {"a": 1, "b": -1}, "pqrpqrstustu")
    assert estimate.value == 0 and estimate.high == -estimate.low == pytest.approx(2 * wilson(0.0, 6)[1])


def test_an_interval_stays_within_the_range_of_the_statistic():
    """With one or three prompts, Wilson's end times the width would leave the range."""
    weights = {"a": 1, "b": -1}
    equal, opposite = contrast([1, 1], "ab", weights, "pp"), contrast([1, 1, 1, 0, 0, 0], "aaabbb", weights, "pqrpqr")
    assert (equal.value, equal.low, equal.high) == (0, -1, 1)
    assert (opposite.value, opposite.high) == (1, 1) and opposite.low == pytest.approx(1 - 2 * wilson(0.0, 3)[1])
    share = contrast([1, 1, 1], "aaa", {"a": 1}, "pqr")
    assert (share.value, share.high) == (1, 1) and share.low == pytest.approx(1 - wilson(0.0, 3)[1])
    slope = contrast([0, 0.5, 1], "sml", slope_weights({"s": 0.0, "m": 1.0, "l": 2.0}), "ppp")
    assert (slope.value, slope.low, slope.high) == pytest.approx((0.5, 0.5 - wilson(0.0, 1)[1], 0.5)), "1 over 2 places at most"


def test_clipping_leaves_intervals_inside_the_range_and_unknown_estimates():
    assert clipped(Estimate(0.5, 0.2, 0.9, 4), -1, 1) == Estimate(0.5, 0.2, 0.9, 4)
    assert clipped(Estimate(0.5, -2, 2, 4), -1, 0.75) == Estimate(0.5, -1, 0.75, 4)
    assert clipped(UNKNOWN, 0.2, 0.3) == UNKNOWN


def test_an_empty_group_is_unknown_and_so_is_nothing_at_all():
    assert contrast([1.0], ["a"], {"a": 1, "b": -1}, ["p"]) == UNKNOWN
    assert contrast([], [], {"a": 1}, []) == UNKNOWN


def test_draws_without_a_value_are_left_out():
    # a quarter of the draws of two units hold the first one only, which has no value
    estimate = bootstrap(lambda positions: float(np.max(positions)) if 1 in positions else math.nan, ["p", "q"], 1.0)
    assert estimate.value == 1 and estimate.low < 1 < estimate.high, "all remaining draws agree"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"1 values, 2 groups and 1 unit ids"):
        contrast([1.0], ["a", "b"], {"a": 1}, ["p"])
    with pytest.raises(ValueError, match=r"2.0 is not within \[0, 1\]"):
        contrast([2.0], ["a"], {"a": 1}, ["p"])
    with pytest.raises(ValueError, match="a slope needs groups at two different places or more"):
        slope_weights({"a": 1.0, "b": 1.0})
