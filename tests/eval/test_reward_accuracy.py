import math

import pytest

from eval.intervals import UNKNOWN
from eval.reward_accuracy import accuracy_by_rating, unsafe_detection


def test_accuracy_by_rating_by_hand():
    accuracy = accuracy_by_rating(
        chosen=[2.0, 1.0, 0.0, 0.5, 0.1, 3.0],
        rejected=[1.0, 0.0, 1.0, 0.5, 0.2, 1.0],
        ratings=["better", "better", "better", "negligibly_better", "negligibly_better", "unrated"],
        unit_ids=["p1", "p1", "p2", "p3", "p4", "p5"],
    )
    assert list(accuracy) == ["better", "negligibly_better", "unrated", "all"]
    assert (accuracy["better"].value, accuracy["better"].n) == (2 / 3, 3)
    assert (accuracy["negligibly_better"].value, accuracy["negligibly_better"].n) == (0.25, 2), "the tie counts one half"
    assert (accuracy["all"].value, accuracy["all"].n) == (3.5 / 6, 6)


def test_a_constant_scorer_stands_at_one_half():
    accuracy = accuracy_by_rating([1.0] * 40, [1.0] * 40, ["better"] * 40, range(40))
    assert accuracy["all"].value == 0.5
    assert accuracy["all"].low < 0.5 < accuracy["all"].high


def test_a_common_shift_of_all_scores_changes_nothing():
    chosen, rejected, ratings = [0.3, -1.0, 2.0], [0.1, 1.0, 1.0], ["better"] * 3
    shifted = accuracy_by_rating([c + 7 for c in chosen], [r + 7 for r in rejected], ratings, "abc")
    assert accuracy_by_rating(chosen, rejected, ratings, "abc") == shifted


def test_detection_by_hand():
    # logits: sigmoid(-2) = 0.12 is below 0.15, sigmoid(-1.7) = 0.154 is not
    scores, safe = [-2.0, -3.0, -1.7, -2.5, 1.0, 0.2], [False, False, False, True, True, False]
    at_15 = unsafe_detection(scores, safe, range(6), threshold=0.15)
    assert (at_15.precision.value, at_15.precision.n) == (2 / 3, 3)
    assert (at_15.recall.value, at_15.recall.n) == (2 / 4, 4)
    at_half = unsafe_detection(scores, safe, range(6), threshold=0.5)
    assert (at_half.precision.value, at_half.recall.value) == (3 / 4, 3 / 4)


def test_nothing_flagged_and_nothing_unsafe():
    assert unsafe_detection([3.0, 2.0], [True, False], "ab", 0.15).precision == UNKNOWN
    assert unsafe_detection([3.0, -9.0], [True, True], "ab", 0.15).recall == UNKNOWN


def test_extreme_logits_are_no_trouble():
    detection = unsafe_detection([-1e6, 1e6], [False, True], "ab", 0.15)
    assert (detection.precision.value, detection.recall.value) == (1.0, 1.0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="ratings \\['excellent'\\] are unknown"):
        accuracy_by_rating([1.0], [0.0], ["excellent"], ["p"])
    with pytest.raises(ValueError, match="1 chosen scores, 2 rejected scores"):
        accuracy_by_rating([1.0], [0.0, 1.0], ["better"], ["p"])
    with pytest.raises(ValueError, match="no comparisons"):
        accuracy_by_rating([], [], [], [])
    with pytest.raises(ValueError, match="comparison 0 has scores nan"):
        accuracy_by_rating([math.nan], [0.0], ["better"], ["p"])
    with pytest.raises(ValueError, match=r"threshold is -1\.7"):
        unsafe_detection([0.0], [True], ["p"], threshold=-1.7)
    with pytest.raises(ValueError, match="there are 1 scores for 2 safety labels"):
        unsafe_detection([0.0], [True, False], ["p", "q"], threshold=0.5)
