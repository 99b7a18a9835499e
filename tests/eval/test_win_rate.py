import math

import pytest
from fakes import LengthJudge

from eval.intervals import UNKNOWN, bootstrap_ratio
from eval.win_rate import Judge, win_rate
from preference_data.messages import assistant, user


def test_ties_are_taken_out_and_counted():
    result = win_rate([3, 3, 1, 2, 2], [1, 1, 2, 2, 2], ["a", "b", "c", "d", "e"])
    assert (result.wins, result.losses, result.ties, result.n) == (2, 1, 2, 5)
    assert result.estimate.value == 2 / 3
    assert result.estimate.n == 3
    assert 0 <= result.estimate.low < 2 / 3 < result.estimate.high <= 1


def test_a_difference_within_the_margin_is_a_tie():
    result = win_rate([0.50, 0.75, 0.25], [0.25, 0.25, 0.75], ["a", "b", "c"], tie_margin=0.25)
    assert (result.wins, result.losses, result.ties) == (1, 1, 1)


def test_swapping_sides_mirrors_the_rate():
    ours, theirs, ids = [1, 5, 2, 4, 4, 0], [2, 1, 1, 4, 0, 3], list("abcdef")
    forward, backward = win_rate(ours, theirs, ids), win_rate(theirs, ours, ids)
    assert forward.estimate.value == pytest.approx(1 - backward.estimate.value)
    assert forward.estimate.low == pytest.approx(1 - backward.estimate.high)


def test_nothing_but_ties_says_nothing():
    result = win_rate([1.0, 2.0], [1.0, 2.0], ["a", "b"])
    assert result.estimate == UNKNOWN
    assert (result.ties, result.n) == (2, 2)


def test_the_prompt_is_the_unit():
    ours, theirs = [1, 1, 0, 0] * 10, [0, 0, 1, 1] * 10
    by_prompt = win_rate(ours, theirs, [i // 2 for i in range(40)])
    summed = bootstrap_ratio([2, 0] * 10, [2, 2] * 10, range(20))  # the same, one entry a prompt
    assert (by_prompt.estimate.low, by_prompt.estimate.high) == (summed.low, summed.high)
    alone = win_rate(ours, theirs, range(40))
    assert by_prompt.estimate.high - by_prompt.estimate.low > 1.2 * (alone.estimate.high - alone.estimate.low)


def test_a_judge_feeds_it():
    judge: Judge = LengthJudge()
    prompt = user("Which foods are red?")
    ours = judge.judge([[prompt, assistant("Plums and beets.")], [prompt, assistant("None.")]])
    theirs = judge.judge([[prompt, assistant("Plums.")], [prompt, assistant("Beets.")]])
    assert win_rate(ours, theirs, ["a", "b"]).wins == 1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="there are 1 judgements of ours, 2 of theirs and 2 prompt ids"):
        win_rate([1.0], [1.0, 2.0], ["a", "b"])
    with pytest.raises(ValueError, match=r"comparison 1 \(prompt 'b'\) has judgements nan and 1\.0"):
        win_rate([1.0, math.nan], [1.0, 1.0], ["a", "b"])
