import math

import pytest

from preference_data.judgement import make_comparison
from preference_data.messages import assistant, user
from preference_data.statistics import Share, describe, describe_by

TURNS = [user("one two three"), assistant("four five"), user("six")]
PAIRS = [
    # prompt of 6 words in two turns (the last user message has 1), responses of 3 and 1 words
    make_comparison(prompt=TURNS, chosen="a b c", rejected="d", axis="safety", source="s", rating="better", batch="w1"),
    # one turn of 2 words, responses of 1 and 2 words
    make_comparison(
        prompt=[user("x y")],
        chosen="z",
        rejected="v w",
        axis="safety",
        source="t",
        rating="better",
        chosen_safe=True,
        rejected_safe=False,
    ),
    # as long as each other
    make_comparison(
        prompt=[user("x y")],
        chosen="u",
        rejected="v",
        axis="safety",
        source="t",
        chosen_safe=False,
        rejected_safe=False,
        batch="w1",
    ),
]


def test_the_columns_of_table_6_by_hand():
    table = describe(PAIRS)
    assert (table.comparisons, table.prompts, table.unit) == (3, 2, "words")
    assert table.turns_per_dialogue == pytest.approx((2 + 1 + 1) / 3)
    assert table.tokens_per_response == pytest.approx((2 + 1.5 + 1) / 3)
    assert table.tokens_per_prompt == pytest.approx((1 + 2 + 2) / 3)
    assert table.tokens_per_example == pytest.approx((8 + 3.5 + 3) / 3)
    assert table.length_difference == pytest.approx((2 - 1 + 0) / 3)
    assert table.longer_chosen == Share(1, 2)


def test_rating_shares_are_of_the_rated_and_safety_bins_of_the_labelled():
    table = describe(PAIRS)
    assert table.ratings["better"] == Share(2, 2) and table.ratings["significantly_better"] == Share(0, 2)
    assert table.ratings["unrated"] == Share(1, 3)
    bins = {"chosen_safe_rejected_unsafe": Share(1, 2), "both_safe": Share(0, 2), "both_unsafe": Share(1, 2)}
    assert table.safety == bins


def test_tokens_are_counted_by_the_counter_given():
    table = describe(PAIRS[:1], count_tokens=lambda messages: sum(len(message["content"]) for message in messages))
    assert (table.unit, table.tokens_per_prompt, table.tokens_per_response) == ("tokens", 3, (5 + 1) / 2)
    assert table.tokens_per_example == 13 + 9 + 3 + 3


def test_groups_by_any_key():
    assert {name: table.comparisons for name, table in describe_by(PAIRS, "source").items()} == {"s": 1, "t": 2}
    assert {name: table.comparisons for name, table in describe_by(PAIRS, "batch").items()} == {"(none)": 1, "w1": 2}
    with pytest.raises(ValueError, match="'colour'; use one of source, batch"):
        describe_by(PAIRS, "colour")


def test_nothing_has_no_means():
    table = describe([])
    assert table.comparisons == 0 and math.isnan(table.tokens_per_example) and math.isnan(table.longer_chosen.share)
    assert all(math.isnan(bound) for bound in table.longer_chosen.interval)


def test_the_interval_is_wilsons():
    from scipy.stats import binomtest

    for count, total in ((0, 5), (3, 10), (70, 100), (8, 8)):
        expected = binomtest(count, total).proportion_ci(method="wilson")
        assert Share(count, total).interval == pytest.approx((expected.low, expected.high), abs=1e-9)
