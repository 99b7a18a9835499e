"""The estimators against all subsets, enumerated, in exact fractions on small samples."""

import itertools
import math
from fractions import Fraction
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.best_of_n import (
    best_of_n_kl,
    expected_choice,
    expected_maximum,
    expected_mean,
    expected_median,
)

whole = st.integers(-5, 5)
samples = st.lists(whole, min_size=1, max_size=7)


def over_subsets(scores, size, statistic):
    """The mean of ``statistic`` over all subsets of ``size``, as a fraction."""
    values = [Fraction(statistic(subset)) for subset in itertools.combinations(scores, size)]
    return sum(values) / len(values)


def of(scores):
    return np.array(scores, dtype=np.float64)


@given(samples, st.data())
def test_maximum_median_and_mean_are_those_of_all_subsets(scores, data):
    size = data.draw(st.integers(1, len(scores)))
    for estimator, statistic in (
        (expected_maximum, max),
        (expected_median, lambda subset: median(map(Fraction, subset))),
        (expected_mean, lambda subset: Fraction(sum(subset), len(subset))),
    ):
        assert estimator(of(scores), size) == pytest.approx(float(over_subsets(scores, size, statistic)), abs=1e-12)


@given(st.lists(st.tuples(whole, whole), min_size=1, max_size=6), st.data())
def test_the_choice_is_that_of_all_subsets_and_equal_scores_share_it(rows, data):
    """Equal best scores are taken equally often."""
    size = data.draw(st.integers(1, len(rows)))

    def chosen(subset):
        best = max(score for score, _ in subset)
        return Fraction(sum(value for score, value in subset if score == best), sum(score == best for score, _ in subset))

    scores, values = (of([column]) for column in zip(*rows, strict=True))
    assert expected_choice(scores, values, size)[0] == pytest.approx(float(over_subsets(rows, size, chosen)), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.randoms())
def test_laws(scores, rng):
    n, shuffled = len(scores), rng.sample(scores, len(scores))
    maxima = [expected_maximum(of(scores), size) for size in range(1, n + 1)]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(maxima))
    assert maxima[0] == pytest.approx(fmean(scores)) and maxima[-1] == max(scores)
    assert expected_median(of(scores), 1) == pytest.approx(fmean(scores))
    assert expected_median(of(scores), n) == pytest.approx(median(scores))
    for size in {1, n // 2, n}:
        if size:
            assert expected_maximum(of(shuffled), size) == expected_maximum(of(scores), size)
            assert expected_median(of(shuffled), size) == expected_median(of(scores), size)
            assert -expected_maximum(-of(scores), size) <= expected_median(of(scores), size) + 1e-12


@given(st.lists(st.lists(whole, min_size=5, max_size=5), min_size=1, max_size=4), st.integers(1, 5), st.permutations(range(5)))
def test_the_choice_ignores_order_and_choosing_the_scores_themselves_gives_the_maximum(scores, size, order):
    rows, values = of(scores), of(scores) ** 2 + np.arange(len(scores))[:, None]
    expected = expected_choice(rows, values, size)
    assert expected_choice(rows[:, order], values[:, order], size) == pytest.approx(expected)
    assert expected_choice(rows, rows, size) == pytest.approx(expected_maximum(rows, size))
    alone = [expected_choice(rows[[i]], values[[i]], size)[0] for i in range(len(rows))]
    assert expected == pytest.approx(alone), "prompts do not mix, even where their scores are equal"


def test_samples_of_one_distribution_give_its_expected_maximum():
    """Uniform samples: the maximum of N is N / (N + 1) in expectation, and the median 1 / 2."""
    scores = np.random.default_rng(0).random((4000, 16))
    for size in (1, 4, 16):
        assert expected_maximum(scores, size).mean() == pytest.approx(size / (size + 1), abs=0.005)
        assert expected_median(scores, size).mean() == pytest.approx(0.5, abs=0.005)
    first = scores[:, :4].max(axis=1)
    assert expected_maximum(scores, 4).std() < first.std(), "less noisy than the first four"


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_kl_is_the_integral_over_the_best_of_n_density(size):
    """Of a continuous score the best of N has density N u^(N - 1) over its quantile u: KL is the mean of its log under it."""
    u = (np.arange(400_000) + 0.5) / 400_000
    density = size * u ** (size - 1)
    integral = fmean((density * np.log(np.maximum(density, 1e-300))).tolist())
    assert best_of_n_kl(size) == pytest.approx(integral, abs=1e-3)
    assert best_of_n_kl(size) <= math.log(size)


@pytest.mark.parametrize("size", [0, 4])
def test_a_size_outside_the_number_of_samples_is_refused(size):
    scores = np.zeros((2, 3))
    for estimator in (expected_maximum, expected_median):
        with pytest.raises(ValueError, match=rf"of {size} out of 3 samples was asked for"):
            estimator(scores, size)
    with pytest.raises(ValueError, match=rf"the mean of {size} out of 3 samples"):
        expected_mean(scores, size)
    with pytest.raises(ValueError, match=rf"of {size} out of 3 samples was asked for"):
        expected_choice(scores, scores, size)


def test_wrong_shapes_and_no_samples_are_refused():
    with pytest.raises(ValueError, match=r"scores \(2, 3\) and values \(3, 2\) must both have the shape"):
        expected_choice(np.zeros((2, 3)), np.zeros((3, 2)), 1)
    with pytest.raises(ValueError, match="best of 0 was asked for"):
        best_of_n_kl(0)
