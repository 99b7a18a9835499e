import math
import statistics
import string

import pytest
from comparisons import comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.comparison import RATINGS, Comparison
from preference_data.measuring.statistics import COLUMNS, KEYS, Share, Tally, describe, place_of
from preference_data.messages import assistant, user
from preference_data.parquet import read_batches, write_records

TURNS = [user("one two three"), assistant("four five"), user("six")]
PAIRS = [
    comparison(TURNS, "a b c", "d", rating="better", batch="w1"),
    comparison("x y", "z", "v w", source="t", rating="better", chosen_safe=True, rejected_safe=False, annotator="ann"),
    comparison("x y", "u", "v", source="t", chosen_safe=False, rejected_safe=False, batch="w1"),
]


def tally_of(comparisons, keys=(), folder=None, count_tokens=None):
    """A Tally of comparisons that were written to a file and read again."""
    write_records(folder / "comparisons.parquet", comparisons, Comparison)
    tally = Tally(keys, count_tokens)
    for batch in read_batches(folder / "comparisons.parquet", Comparison, COLUMNS):
        tally.add(batch)
    return tally


def test_tokens_are_counted_by_the_counter_given():
    table = describe(PAIRS[:1], count_tokens=lambda texts: [len(text) for text in texts])
    assert (table.unit, table.tokens_per_prompt, table.tokens_per_response) == ("tokens", 3, (5 + 1) / 2)
    assert table.tokens_per_example == 13 + 9 + 3 + 3


def test_an_item_judged_twice_is_one_and_on_two_axes_two():
    twice = comparison(annotator="x"), comparison(chosen="b", rejected="a", annotator="y")
    table = describe([*twice, comparison(axis="helpfulness", annotator="x")])
    assert (table.comparisons, table.prompts, table.items, table.annotators) == (3, 1, 2, 2)


def test_groups_by_any_key(tmp_path):
    tally = tally_of(PAIRS, KEYS, tmp_path)
    assert {name: table.comparisons for name, table in tally.by("source").items()} == {"s": 1, "t": 2}
    assert {name: table.comparisons for name, table in tally.by("batch").items()} == {"(none)": 1, "w1": 2}
    assert {name: table.annotators for name, table in tally.by("annotator").items()} == {"(none)": 0, "ann": 1}
    assert tally.by("source")["t"] == describe(PAIRS[1:]) and tally.total() == describe(PAIRS)
    with pytest.raises(ValueError, match="'colour'; use one of source, batch"):
        Tally(["colour"])


def test_groups_come_in_the_order_that_people_expect():
    assert sorted(["week-10", "week-9", "Week-2", "(none)"], key=place_of) == ["(none)", "Week-2", "week-9", "week-10"]
    assert sorted(["unrated", "better", "negligibly_better", "significantly_better"], key=place_of) == [
        "significantly_better",
        "better",
        "negligibly_better",
        "unrated",
    ]


def test_nothing_has_no_means(tmp_path):
    for table in (describe([]), tally_of([], folder=tmp_path).total()):
        assert table.comparisons == 0 and math.isnan(table.tokens_per_example) and math.isnan(table.longer_chosen.share)
        assert all(math.isnan(bound) for bound in table.longer_chosen.interval)
    assert tally_of([], ["batch"], tmp_path).by("batch") == {}


def test_ids_that_are_none_are_refused():
    from dataclasses import replace

    for wrong in ("short", "g" * 16):
        with pytest.raises(ValueError, match="16 hexadecimal digits"):
            describe([replace(PAIRS[0], prompt_id=wrong)])


texts = st.text(alphabet=string.ascii_letters + " \t\n\x1c\u00a0\u3000é猫😀.", max_size=20).map(lambda text: "w" + text)
prompts = st.lists(texts, min_size=1, max_size=5).map(
    lambda parts: [(user, assistant)[place % 2](text) for place, text in enumerate(parts[: len(parts) - 1 + len(parts) % 2])]
)
labels = st.sampled_from([(None, None), (True, None), (None, False), (True, True), (True, False), (False, False)])
rows = st.builds(
    lambda safe, **fields: comparison(chosen_safe=safe[0], rejected_safe=safe[1], **fields),
    labels,
    prompt=prompts,
    chosen=texts,
    rejected=texts.map(lambda text: text + " other"),
    axis=st.sampled_from(["helpfulness", "safety"]),
    rating=st.sampled_from([*RATINGS, "unrated"]),
    batch=st.sampled_from([None, "w1", "w2"]),
    annotator=st.sampled_from([None, "x", "y"]),
).filter(lambda row: row.chosen != row.rejected)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_statistics_are_what_plain_python_finds(comparisons):
    def words(messages):
        return sum(len(message["content"].split()) for message in messages)

    found = describe(comparisons)
    assert (found.comparisons, found.unit) == (len(comparisons), "words")
    sides = [(len(row.chosen.split()), len(row.rejected.split())) for row in comparisons]
    assert found.prompts == len({row.prompt_id for row in comparisons})
    assert found.items == len({(row.item_id, row.axis) for row in comparisons})
    assert found.annotators == len({row.annotator for row in comparisons} - {None})
    assert found.turns_per_dialogue == pytest.approx(statistics.fmean((len(row.prompt) + 1) // 2 for row in comparisons))
    assert found.tokens_per_prompt == pytest.approx(statistics.fmean(words(row.prompt[-1:]) for row in comparisons))
    assert found.tokens_per_response == pytest.approx(statistics.fmean(length for pair in sides for length in pair))
    examples = [words(row.prompt) + sum(pair) / 2 for row, pair in zip(comparisons, sides, strict=True)]
    assert found.tokens_per_example == pytest.approx(statistics.fmean(examples))
    assert found.length_difference == pytest.approx(statistics.fmean(one - other for one, other in sides))
    assert found.longer_chosen == Share(sum(one > other for one, other in sides), sum(one != other for one, other in sides))
    rated = [row.rating for row in comparisons if row.rating != "unrated"]
    assert [found.ratings[rating] for rating in RATINGS] == [Share(rated.count(rating), len(rated)) for rating in RATINGS]
    assert found.ratings["unrated"] == Share(len(comparisons) - len(rated), len(comparisons))
    pairs = [(row.chosen_safe, row.rejected_safe) for row in comparisons]
    whole = [pair for pair in pairs if None not in pair]
    bins = {"chosen_safe_rejected_unsafe": (True, False), "both_safe": (True, True), "both_unsafe": (False, False)}
    assert found.safety == {name: Share(whole.count(pair), len(whole)) for name, pair in bins.items()}
    given_labels = [label for pair in pairs for label in pair if label is not None]
    assert found.unsafe == Share(given_labels.count(False), len(given_labels))


def test_many_batches_are_counted_as_one(tmp_path):
    many = [
        comparison(f"q {n % 3000}", "a " * (n % 5 + 1), f"b {n // 3000}", annotator=f"ann-{n % 7}", batch=f"w{n * 3 // 20_000}")
        for n in range(20_000)
    ]
    tally = tally_of(many, ["batch"], tmp_path)
    assert tally.total() == describe(many) and tally.total().prompts == 3000
    for name, found in tally.by("batch").items():
        part = [row for row in many if row.batch == name]
        assert found.comparisons == len(part) and found.prompts == len({row.prompt_id for row in part})
        assert found.items == len({row.item_id for row in part}) and found.annotators == 7
    assert list(tally.by("batch")) == ["w0", "w1", "w2"]


def test_the_interval_is_wilsons():
    from scipy.stats import binomtest

    for count, total in ((0, 5), (3, 10), (70, 100), (8, 8)):
        expected = binomtest(count, total).proportion_ci(method="wilson")
        assert Share(count, total).interval == pytest.approx((expected.low, expected.high), abs=1e-9)
