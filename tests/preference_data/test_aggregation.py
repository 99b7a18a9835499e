import pytest
from comparisons import comparison

from preference_data.aggregation import majority


def judged(item, annotator, first=True, first_safe=None, second_safe=None, **changes):
    """A judgement of an item whose responses are "one" and "two"; ``first``: one was chosen."""
    sides = [("one", first_safe), ("two", second_safe)]
    (chosen, chosen_safe), (rejected, rejected_safe) = sides if first else sides[::-1]
    labels = {"annotator": annotator, "chosen_safe": chosen_safe, "rejected_safe": rejected_safe, "rating": "better"} | changes
    return comparison(item, chosen, rejected, **labels)


def test_the_majority_chooses_and_ties_are_left_out_and_counted():
    judgements = [
        judged("q", "ada"), judged("r", "ada", first=False), judged("q", "ben", first=False),
        judged("r", "ben", first=False), judged("q", "cleo"), judged("t", "ada"),
        judged("t", "ben", first=False), judged("single", "dev", first=False),
    ]  # fmt: skip
    found = majority(judgements)
    assert [(each.prompt[0]["content"], each.chosen) for each in found.comparisons] == [
        ("q", "one"),
        ("r", "two"),
        ("single", "two"),
    ]
    assert (found.ties, found.chosen_unsafe) == (1, 0)
    assert found.comparisons[2] is judgements[-1]
    assert {each.annotator for each in found.comparisons[:2]} == {None}
    assert len({each.id for each in found.comparisons}) == 3


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        (["significantly_better", "negligibly_better", "slightly_better"], "slightly_better"),
        (["significantly_better", "slightly_better"], "slightly_better"),  # the weaker of two
        (["unrated", "better", "unrated"], "better"),
        (["unrated", "unrated"], "unrated"),
    ],
)
def test_the_rating_is_the_median_of_those_who_made_the_choice(ratings, expected):
    judgements = [judged("q", str(number), rating=rating) for number, rating in enumerate(ratings)]
    dissent = judged("q", "other", first=False, rating="significantly_better") if len(ratings) > 1 else None
    (found,) = majority([*judgements, *([dissent] if dissent else [])]).comparisons
    assert found.rating == expected


def test_a_label_is_that_of_most_and_a_majority_for_an_unsafe_response_is_left_out():
    labels = [(True, False), (True, True), (False, None)]
    judgements = [judged("q", str(number), first_safe=one, second_safe=two) for number, (one, two) in enumerate(labels)]
    (found,) = majority(judgements).comparisons
    assert (found.chosen_safe, found.rejected_safe) == (True, None)
    # two chose "one", which most call unsafe while most call "two" safe
    judgements = [
        judged("q", "a"),
        judged("q", "b", first_safe=False, second_safe=False),
        judged("q", "c", first=False, first_safe=False, second_safe=True),
        judged("q", "d", first_safe=True, second_safe=True),
        judged("q", "e", first=False, first_safe=False, second_safe=True),
    ]
    found = majority(judgements)
    assert (found.comparisons, found.ties, found.chosen_unsafe) == ([], 0, 1)


def test_axes_are_judged_apart():
    found = majority([judged("q", "a"), judged("q", "a", first=False, axis="helpfulness")])
    assert [each.chosen for each in found.comparisons] == ["one", "two"]
