import itertools
import random
from dataclasses import astuple

import pytest
from comparisons import comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.comparison import AXES, RATINGS, Comparison
from preference_data.measuring.agreement import (
    LEVELS,
    AgreementError,
    choice_agreement,
    gwet,
    pairwise_agreement,
    rating_agreement,
    safety_agreement,
)
from preference_data.measuring.columns import Names
from preference_data.measuring.judgement_arrays import COLUMNS, joined, judgements_of, read_judgements
from preference_data.parquet import read_batches, write_records

pandas = pytest.importorskip("pandas")
CAC = pytest.importorskip("irrCAC.raw", reason="`make test` installs irrCAC").CAC


def table_of(seed, items, raters, categories, missing):
    """A random table in which raters lean to the item's own category."""
    rng = random.Random(seed)
    table = []
    for _ in range(items):
        true = rng.randrange(categories)
        row = [true if rng.random() < 0.6 else rng.randrange(categories) for _ in range(raters)]
        table.append([None if rng.random() < missing else rating for rating in row])
    return [[0, 0], [categories - 1, 0], *table] if raters == 2 else table


SHAPES = [(0, 12, 2, 2, 0), (1, 30, 4, 8, 0.4), (2, 25, 3, 5, 0.6), (3, 40, 5, 4, 0.3), (4, 60, 3, 8, 0.7)]


@pytest.mark.parametrize("weights", ["identity", "quadratic"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore")
def test_gwet_is_what_irrcac_finds(weights, shape):
    table, categories = table_of(*shape), shape[3]
    frame = pandas.DataFrame(table, dtype=float)
    expected = CAC(frame, weights=weights, categories=list(range(categories)), digits=12).gwet()["est"]
    ours = gwet(table, range(categories), weights)
    assert ours.coefficient == pytest.approx(expected["coefficient_value"], abs=1e-9)
    assert (ours.observed, ours.expected) == pytest.approx((expected["pa"], expected["pe"]), abs=1e-9)
    assert (ours.low, ours.high) == pytest.approx(expected["confidence_interval"], abs=1e-9)
    assert ours.name == {"identity": "AC1", "quadratic": "AC2"}[weights]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=8))
def test_full_agreement_is_one(items):
    for weights in ("identity", "quadratic"):
        ours = gwet([[item] * 3 for item in items], "abc", weights)
        assert ours.coefficient == pytest.approx(1) and ours.high == pytest.approx(1)


def test_what_cannot_agree_is_refused():
    for table, categories in (
        ([["a", None], ["b", None]], "ab"),
        ([["a", "a"]], "ab"),
        ([["a", "a"], ["a", "a"]], "a"),
        ([], "ab"),
    ):
        with pytest.raises(AgreementError, match="agreement needs"):
            gwet(table, categories)
    with pytest.raises(AgreementError, match=r"'c'.*not among"):
        gwet([["a", "c"], ["a", "b"]], "ab")


def judged(item, annotator, chosen, rating="unrated", safe=None, axis="safety"):
    rejected = "b" if chosen == "a" else "a"
    labels = {} if safe is None else {"chosen_safe": chosen in safe, "rejected_safe": rejected in safe}
    return comparison(f"q{item}", chosen, rejected, axis, rating=rating, annotator=annotator, **labels)


JUDGED = [
    judged(1, "x", "a", "significantly_better", safe="a"),
    judged(1, "y", "a", "better", safe="ab"),
    judged(1, "z", "b", "negligibly_better"),
    judged(2, "x", "b", "slightly_better", safe=""),
    judged(2, "y", "b", safe=""),
    judged(3, "x", "b", "better"),
    judged(3, "x", "a", axis="helpfulness"),  # another axis is another item
]


def by_item(comparisons):
    items = {}
    for each in comparisons:
        items.setdefault((each.item_id, each.axis), []).append(each)
    return items.values()


def tables_of(comparisons):
    """Choices, ratings and safety labels as tables for ``gwet``, row by row."""
    choices, ratings, safety = [], [], []
    for item in by_item(comparisons):
        first = [each.chosen < each.rejected for each in item]
        choices.append(first)
        strengths = {"significantly_better": 4, "better": 3, "slightly_better": 2, "negligibly_better": 1}
        signs = [1 if each else -1 for each in first]
        ratings.append(
            [sign * strengths[j.rating] if j.rating in strengths else None for sign, j in zip(signs, item, strict=True)]
        )
        labels = [{j.chosen: j.chosen_safe, j.rejected: j.rejected_safe} for j in item]
        safety += [[label[text] for label in labels] for text in sorted(labels[0])]
    return choices, ratings, safety


def agreement_of_tables(comparisons):
    choices, ratings, safety = tables_of(comparisons)
    return gwet(choices, (False, True)), gwet(ratings, LEVELS, "quadratic"), gwet(safety, (False, True))


def agreement_of(judgements):
    return choice_agreement(judgements), rating_agreement(judgements), safety_agreement(judgements)


def random_judgements(seed, num_items, annotators):
    """Items judged by none to all of the annotators, some unrated, some unlabelled, on both axes."""
    rng = random.Random(seed)
    comparisons = []
    for item in range(num_items):
        for name in rng.sample(range(annotators), rng.choice([0, 1, 1, 1, 2, annotators])):
            chosen, rating = rng.choice("aab"), rng.choice([*RATINGS, "unrated"])
            safe, axis = rng.choice([None, "", chosen, "ab"]), rng.choice(AXES)
            comparisons.append(judged(item, str(name), chosen, rating, safe, axis))
    return comparisons


def test_agreement_of_comparisons_by_hand():
    judgements = judgements_of(JUDGED)
    # Choices: items agree in 1/3 (of three judges) and 1/1 of their pairs.
    assert choice_agreement(judgements).observed == pytest.approx((1 / 3 + 1) / 2)
    assert choice_agreement(judgements).name == "AC1" and rating_agreement(judgements).name == "AC2"
    assert (choice_agreement(judgements).items, choice_agreement(judgements).repeated) == (4, 2)
    # Ratings: places 7, 6 and 3 of eight; weights 1 - (d / 7)^2 for d = 1, 4, 3.
    assert rating_agreement(judgements).observed == pytest.approx(1 - (1 + 16 + 9) / 49 / 3)
    assert rating_agreement(judgements).repeated == 1
    assert safety_agreement(judgements).observed == pytest.approx(3 / 4)


@pytest.mark.parametrize("seed", range(4))
def test_agreement_of_comparisons_is_gwet_of_their_tables(seed):
    comparisons = random_judgements(seed, 300, 4)
    for ours, expected in zip(agreement_of(judgements_of(comparisons)), agreement_of_tables(comparisons), strict=True):
        assert astuple(ours)[1:] == pytest.approx(astuple(expected)[1:], abs=1e-12)
        assert 0 < ours.repeated < ours.items


def test_agreement_of_batches_is_that_of_all(tmp_path):
    comparisons = random_judgements(9, 8000, 3)
    random.Random(1).shuffle(comparisons)
    write_records(tmp_path / "comparisons.parquet", comparisons, Comparison)
    names, parts = Names(), []
    for batch in read_batches(tmp_path / "comparisons.parquet", Comparison, COLUMNS):
        parts.append(read_judgements(batch, names))
    assert len(parts) > 1
    whole = joined(parts)
    assert agreement_of(whole) == agreement_of(judgements_of(comparisons))
    assert [names.names()[place] for place in whole.annotators] == [each.annotator for each in comparisons]
    half = whole.where(whole.annotators < 2)
    kept = [each for each in comparisons if each.annotator in names.names()[:2]]
    assert choice_agreement(half) == choice_agreement(judgements_of(kept))


def test_nothing_agrees_with_nothing():
    for measure in (choice_agreement, rating_agreement, safety_agreement):
        with pytest.raises(AgreementError, match="categories, 0 annotated items"):
            measure(judgements_of([]))
    with pytest.raises(AgreementError, match="no item was annotated twice"):
        pairwise_agreement(judgements_of([]))


def test_pairwise_agreement_by_hand():
    judgements = judgements_of(JUDGED)
    plain = pairwise_agreement(judgements)
    # Ordered pairs: 6 in item 1, of which 2 agree; 2 in item 2, both agree.
    assert (plain.share, plain.pairs, plain.items) == (4 / 8, 8, 2)
    assert plain.low == pytest.approx(1 / 3) and plain.high == 1
    rated = pairwise_agreement(judgements, rating="significantly_better")
    assert (rated.share, rated.pairs, rated.items) == (1 / 2, 2, 1)
    with pytest.raises(AgreementError, match="no item was annotated twice"):
        pairwise_agreement(judgements_of(JUDGED[-2:]))
    with pytest.raises(AgreementError, match="rated better was annotated twice"):
        pairwise_agreement(judgements_of(JUDGED[3:]), rating="better")
    with pytest.raises(ValueError, match="no rating 'best'; ratings are significantly_better"):
        pairwise_agreement(judgements, rating="best")


@pytest.mark.parametrize("rating", [None, *RATINGS, "unrated"])
def test_pairwise_agreement_is_what_counting_pairs_finds(rating):
    comparisons = random_judgements(5, 300, 4)
    pairs = [
        (one.chosen == other.chosen)
        for item in by_item(comparisons)
        for one, other in itertools.permutations(item, 2)
        if rating in (None, one.rating)
    ]
    ours = pairwise_agreement(judgements_of(comparisons), rating)
    assert (ours.share, ours.pairs) == (sum(pairs) / len(pairs), len(pairs))


def test_the_bootstrap_covers_a_known_rate():
    rng = random.Random(0)
    pairs = [(judged(n, "x", "a"), judged(n, "y", "a" if rng.random() < 0.7 else "b")) for n in range(400)]
    judgements = judgements_of([judgement for pair in pairs for judgement in pair])
    ours = pairwise_agreement(judgements)
    # The binomial interval of 400 items at 0.7 is +- 0.045.
    assert ours.low < 0.7 < ours.high and 0.07 < ours.high - ours.low < 0.11
    assert ours == pairwise_agreement(judgements)


def test_the_bootstrap_over_items_is_wider_than_over_pairs():
    # ten judges an item, all of one mind within it: 40 items say no more than 40 coins
    rng = random.Random(0)
    minds = [rng.random() < 0.5 for _ in range(40)]
    comparisons = [
        judged(n, str(annotator), "ab"[annotator % 2] if split else "a")
        for n, split in enumerate(minds)
        for annotator in range(10)
    ]
    ours = pairwise_agreement(judgements_of(comparisons))
    spread = ours.high - ours.low
    of_items = (1 - 4 / 9) * 2 * 1.96 * (0.25 / 40) ** 0.5  # an item agrees in all its pairs, or in 4 of 9
    assert 0.75 * of_items < spread < 1.25 * of_items
