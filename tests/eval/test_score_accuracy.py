"""The accuracy of scores: plain counts, by hand."""

import pytest
from scipy.stats import binomtest

from eval.score_accuracy import accuracies, added


def test_counts_add_up_and_what_was_counted_before_stays():
    first = added({}, [("m", "better", 2), ("m", "better", 0), ("m", "unrated", 1)])
    both = added(first, [("m", "better", 1), ("n", "better", 2)])
    assert first == {"m": {"better": (2, 2), "unrated": (1, 1)}}
    assert both == {"m": {"better": (3, 3), "unrated": (1, 1)}, "n": {"better": (2, 1)}}


def test_accuracy_by_rating_from_clearest_to_faintest_and_of_all():
    ratings = [("unrated", 0), ("slightly_better", 1), ("significantly_better", 2), ("slightly_better", 2)]
    (by_rating,) = accuracies(added({}, [("m", *rating) for rating in ratings])).values()
    assert list(by_rating) == ["significantly_better", "slightly_better", "unrated", "all"]
    assert {rating: (found.share, found.judged) for rating, found in by_rating.items()} == {
        "significantly_better": (1, 1), "slightly_better": (0.75, 2), "unrated": (0, 1), "all": (0.625, 4),
    }  # fmt: skip


def test_where_nothing_is_rated_there_is_one_accuracy_with_its_interval():
    by_rating = accuracies(added({}, [("m", "unrated", 2 * (number < 29)) for number in range(40)]))["m"]
    expected = binomtest(29, 40).proportion_ci(method="wilson")
    assert list(by_rating) == ["all"] and by_rating["all"].interval == pytest.approx((expected.low, expected.high))
