import math

import numpy as np
import pytest
from scipy.stats import binomtest

from eval.intervals import UNKNOWN, bootstrap_mean, bootstrap_ratio, rate


@pytest.mark.parametrize("yes, n", [(0, 400), (1, 3), (37, 210), (200, 400), (400, 400)])
def test_rate_is_wilsons_interval_as_scipy_has_it(yes, n):
    estimate = rate([True] * yes + [False] * (n - yes))
    reference = binomtest(yes, n).proportion_ci(0.95, method="wilson")
    assert (estimate.value, estimate.n) == (yes / n, n)
    assert (estimate.low, estimate.high) == (pytest.approx(reference.low, abs=1e-12), pytest.approx(reference.high, abs=1e-12))


def test_a_rate_of_nothing_is_unknown():
    assert rate([]) == UNKNOWN
    assert not UNKNOWN.known
    assert bootstrap_ratio([0.0, 0.0], [0.0, 0.0], ["a", "b"]) == UNKNOWN


def test_the_mean_and_its_interval_agree_with_the_normal_formula():
    values = np.random.default_rng(5).normal(3.0, 2.0, 900)
    estimate = bootstrap_mean(values.tolist(), range(900))
    error = values.std() / math.sqrt(900)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(
        values.mean() - 1.96 * error, abs=0.15 * error
    )  # 2,000 draws leave about 5 % of noise in each end
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_same_seed_same_interval():
    values = [float(x) for x in range(30)]
    assert bootstrap_mean(values, range(30), seed=3) == bootstrap_mean(values, range(30), seed=3)
    assert bootstrap_mean(values, range(30), seed=3) != bootstrap_mean(values, range(30), seed=4)


def test_repeating_every_observation_within_its_unit_adds_no_certainty():
    values = np.random.default_rng(0).normal(size=100)
    once = bootstrap_mean(values.tolist(), range(100))
    six_times = bootstrap_mean(np.repeat(values, 6).tolist(), np.repeat(np.arange(100), 6).tolist())
    assert (six_times.low, six_times.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert six_times.n == 600
    as_if_independent = bootstrap_mean(np.repeat(values, 6).tolist(), range(600))
    assert as_if_independent.high - as_if_independent.low < 0.6 * (once.high - once.low)


def test_a_ratio_weights_units_by_their_denominator():
    # by hand: (1 + 0 + 2) / (1 + 1 + 4); the entry with denominator 0 is no observation
    estimate = bootstrap_ratio([1, 0, 2, 0], [1, 1, 4, 0], ["a", "a", "b", "c"])
    assert (estimate.value, estimate.n) == (0.5, 3)


def test_where_all_draws_agree_the_interval_is_wilsons():
    estimate = bootstrap_ratio([1.0] * 50, [1.0] * 50, range(50))
    reference = binomtest(50, 50).proportion_ci(0.95, method="wilson")
    assert (estimate.value, estimate.low, estimate.high) == (1.0, pytest.approx(reference.low), 1.0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="value 1 is nan"):
        bootstrap_mean([1.0, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="there are 2 values for 1 unit ids"):
        bootstrap_mean([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="cannot take the mean of no values"):
        bootstrap_mean([], [])
