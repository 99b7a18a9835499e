import math
import random

import numpy as np
import pytest
from scipy.stats import linregress

from eval.bootstrap import bootstrap, clipped, contrast, slope_weights
from eval.intervals import UNKNOWN, Estimate, bootstrap_mean
from preference_data.statistics import wilson


def coins(probability, n, seed):
    rng = random.Random(seed)
    return [float(rng.random() < probability) for _ in range(n)]


def test_a_difference_by_hand():
    found = contrast([1, 0, 1, 1, 0], ["a", "a", "b", "b", "b"], {"b": 1.0, "a": -1.0}, "pqpqq")
    assert found.value == pytest.approx(2 / 3 - 1 / 2) and found.n == 5


def test_groups_without_a_weight_count_for_nothing():
    two = contrast([1, 0, 1, 0], "aabb", {"b": 1.0, "a": -1.0}, "pqpq")
    three = contrast([1, 0, 1, 0, 1, 1], "aabbcc", {"b": 1.0, "a": -1.0}, "pqpqpq")
    assert three == two


def test_a_paired_difference_is_the_mean_of_the_differences():
    one, other, units = coins(0.7, 300, 1), coins(0.6, 300, 2), [f"p{i // 3}" for i in range(300)]
    found = contrast([*one, *other], ["one"] * 300 + ["other"] * 300, {"one": 1, "other": -1}, units * 2)
    differences = bootstrap_mean([a - b for a, b in zip(one, other, strict=True)], units)
    assert found.value == pytest.approx(differences.value)
    assert (found.low, found.high) == pytest.approx((differences.low, differences.high), abs=0.01)


def test_pairing_takes_out_what_both_arms_share():
    one = coins(0.5, 400, 3)
    other = [*one[:-4], *(1 - value for value in one[-4:])]
    values, groups = [*one, *other], ["one"] * 400 + ["other"] * 400
    paired = contrast(values, groups, {"one": 1, "other": -1}, list(range(400)) * 2)
    apart = contrast(values, groups, {"one": 1, "other": -1}, range(800))
    assert paired.high - paired.low < 0.25 * (apart.high - apart.low)


def test_a_slope_is_that_of_least_squares():
    places = {"s": 1.0, "m": 2.5, "l": 7.0}
    means = {"s": 0.25, "m": 0.5, "l": 0.75}
    rows = [(name, value) for name, mean in means.items() for value in [1.0] * round(20 * mean) + [0.0] * round(20 - 20 * mean)]
    found = contrast([v for _, v in rows], [g for g, _ in rows], slope_weights(places), range(60))
    assert found.value == pytest.approx(linregress(list(places.values()), list(means.values())).slope)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(40):
        values = [*coins(0.6, 60, seed), *coins(0.5, 60, 1000 + seed)]
        found = contrast(values, ["a"] * 60 + ["b"] * 60, {"a": 1, "b": -1}, range(120))
        hits += found.low <= 0.1 <= found.high
    assert 34 <= hits <= 40


def test_whole_units_are_drawn():
    values, units = coins(0.5, 40, 4), list(range(40))
    once = contrast(values, "a" * 40, {"a": 1.0}, units)
    copied = contrast(values * 9, "a" * 360, {"a": 1.0}, units * 9)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high)) and copied.n == 360


def test_arms_that_never_differ_are_not_certain():
    found = contrast([1, 0, 1, 1, 0, 1] * 2, "aaabbb" * 2, {"a": 1, "b": -1}, "pqrpqrstustu")
    assert found.value == 0 and found.high == -found.low == pytest.approx(2 * wilson(0.0, 6)[1])


def test_an_interval_holds_only_what_the_statistic_can_be():
    """Of one or three prompts Wilson's end times the width would leave the range."""
    weights = {"a": 1, "b": -1}
    equal, apart = contrast([1, 1], "ab", weights, "pp"), contrast([1, 1, 1, 0, 0, 0], "aaabbb", weights, "pqrpqr")
    assert (equal.value, equal.low, equal.high) == (0, -1, 1)
    assert (apart.value, apart.high) == (1, 1) and apart.low == pytest.approx(1 - 2 * wilson(0.0, 3)[1])
    share = contrast([1, 1, 1], "aaa", {"a": 1}, "pqr")
    assert (share.value, share.high) == (1, 1) and share.low == pytest.approx(1 - wilson(0.0, 3)[1])
    slope = contrast([0, 0.5, 1], "sml", slope_weights({"s": 0.0, "m": 1.0, "l": 2.0}), "ppp")
    assert (slope.value, slope.low, slope.high) == pytest.approx((0.5, 0.5 - wilson(0.0, 1)[1], 0.5)), "1 over 2 places at most"


def test_equal_values_of_few_units_do_not_make_an_interval_without_width():
    """As clipping to the observed values would."""
    found = contrast([0.7] * 4, "aabb", {"a": 1, "b": -1}, "pqpq")
    assert found.low < -0.5 and found.high > 0.5


def test_clipping_leaves_what_lies_inside_and_what_is_unknown():
    assert clipped(Estimate(0.5, 0.2, 0.9, 4), -1, 1) == Estimate(0.5, 0.2, 0.9, 4)
    assert clipped(Estimate(0.5, -2, 2, 4), -1, 0.75) == Estimate(0.5, -1, 0.75, 4)
    assert clipped(UNKNOWN, 0.2, 0.3) == UNKNOWN


def test_an_empty_group_is_unknown_and_so_is_nothing_at_all():
    assert contrast([1.0], ["a"], {"a": 1, "b": -1}, ["p"]) == UNKNOWN
    assert contrast([], [], {"a": 1}, []) == UNKNOWN


def test_draws_without_a_value_are_left_out():
    # of the draws of two units a quarter hold the first one alone, which has no value
    found = bootstrap(lambda at: float(np.max(at)) if 1 in at else math.nan, ["p", "q"], 1.0)
    assert found.value == 1 and found.low < 1 < found.high, "all that are left agree"


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"1 values, 2 groups and 1 unit ids"):
        contrast([1.0], ["a", "b"], {"a": 1}, ["p"])
    with pytest.raises(ValueError, match=r"2.0 is not within \[0, 1\]"):
        contrast([2.0], ["a"], {"a": 1}, ["p"])
    with pytest.raises(ValueError, match="a slope needs two places or more"):
        slope_weights({"a": 1.0, "b": 1.0})
