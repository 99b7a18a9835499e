import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.agreement import (
    LEVELS,
    AgreementError,
    choice_agreement,
    choice_table,
    gwet,
    pairwise_agreement,
    rating_agreement,
    rating_table,
    safety_agreement,
    safety_table,
)
from preference_data.judgement import make_comparison
from preference_data.messages import user


def table_of(seed, items, raters, categories, missing):
    """A random table in which raters lean to the item's own category."""
    rng = random.Random(seed)
    table = []
    for _ in range(items):
        true = rng.randrange(categories)
        row = [true if rng.random() < 0.6 else rng.randrange(categories) for _ in range(raters)]
        table.append([None if rng.random() < missing else rating for rating in row])
    return [[0, 0], [categories - 1, 0], *table] if raters == 2 else table


# What irrCAC 0.4.4 answers: coefficient, observed, expected, low, high; recorded by the call in the second test below.
IRRCAC = {
    (0, 12, 2, 2, 0): {
        "identity": (0.16, 0.571428571, 0.489795918, -0.447429237, 0.767429237),
        "quadratic": (0.16, 0.571428571, 0.489795918, -0.447429237, 0.767429237),
    },
    (1, 30, 4, 8, 0.4): {
        "identity": (0.400903631, 0.474358974, 0.122610229, 0.20393904, 0.597868223),
        "quadratic": (0.390697423, 0.860282575, 0.77069287, 0.074978323, 0.706416523),
    },
    (2, 25, 3, 5, 0.6): {
        "identity": (0.376016979, 0.5, 0.198696145, -0.234979156, 0.987013114),
        "quadratic": (0.754795663, 0.9375, 0.745110544, 0.118958521, 1.0),
    },
}


@pytest.mark.parametrize("weights", ["identity", "quadratic"])
@pytest.mark.parametrize("shape", IRRCAC)
def test_gwet_is_what_irrcac_recorded(weights, shape):
    ours = gwet(table_of(*shape), range(shape[3]), weights)
    values = (ours.coefficient, ours.observed, ours.expected, ours.low, ours.high)
    assert values == pytest.approx(IRRCAC[shape][weights], abs=1e-8)


@pytest.mark.parametrize("weights", ["identity", "quadratic"])
@pytest.mark.parametrize("shape", [*IRRCAC, (3, 40, 5, 4, 0.3)])
@pytest.mark.filterwarnings("ignore")
def test_gwet_agrees_with_irrcac_where_it_is_installed(weights, shape):
    raw = pytest.importorskip("irrCAC.raw", exc_type=ImportError)
    pandas = pytest.importorskip("pandas")
    table, categories = table_of(*shape), shape[3]
    frame = pandas.DataFrame(table, dtype=float)
    expected = raw.CAC(frame, weights=weights, categories=list(range(categories)), digits=9).gwet()["est"]
    ours = gwet(table, range(categories), weights)
    assert ours.coefficient == pytest.approx(expected["coefficient_value"], abs=1e-8)
    assert (ours.observed, ours.expected) == pytest.approx((expected["pa"], expected["pe"]), abs=1e-8)
    assert (ours.low, ours.high) == pytest.approx(expected["confidence_interval"], abs=1e-8)
    assert ours.name == {"identity": "AC1", "quadratic": "AC2"}[weights]


def test_ac1_by_hand():
    # 10 items, 2 raters, 9 agree on "yes", one is split: pi_yes = 0.95, chance = 2 * 0.95 * 0.05 = 0.095.
    ours = gwet([["yes", "yes"]] * 9 + [["yes", "no"]], ["no", "yes"])
    assert (ours.observed, ours.expected) == pytest.approx((0.9, 0.095))
    assert ours.coefficient == pytest.approx((0.9 - 0.095) / 0.905)
    assert (ours.items, ours.repeated) == (10, 10)


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
    return make_comparison(
        prompt=[user(f"q{item}")],
        chosen=chosen,
        rejected=rejected,
        axis=axis,
        source="s",
        rating=rating,
        annotator=annotator,
        **labels,
    )


JUDGED = [
    judged(1, "x", "a", "significantly_better", safe="a"),
    judged(1, "y", "a", "better", safe="ab"),
    judged(1, "z", "b", "negligibly_better"),
    judged(2, "x", "b", "slightly_better", safe=""),
    judged(2, "y", "b", safe=""),
    judged(3, "x", "b", "better"),
    judged(3, "x", "a", axis="helpfulness"),  # another axis is another item
]


def test_tables_of_comparisons():
    assert choice_table(JUDGED) == [[True, True, False], [False, False], [False], [True]]
    assert rating_table(JUDGED) == [[4, 3, -1], [-2, None], [-3], [None]]
    assert safety_table(JUDGED)[:4] == [[True, True, None], [False, True, None], [False, False], [False, False]]
    assert set(LEVELS) == {sign * level for sign in (-1, 1) for level in range(1, 5)}


def test_agreement_of_comparisons_is_gwet_of_their_tables():
    # Choices: items agree in 1/3 (of three judges) and 1/1 of their pairs.
    assert choice_agreement(JUDGED).observed == pytest.approx((1 / 3 + 1) / 2)
    assert choice_agreement(JUDGED).name == "AC1" and rating_agreement(JUDGED).name == "AC2"
    # Ratings: places 7, 6 and 3 of eight; weights 1 - (d / 7)^2 for d = 1, 4, 3.
    assert rating_agreement(JUDGED).observed == pytest.approx(1 - (1 + 16 + 9) / 49 / 3)
    assert rating_agreement(JUDGED).repeated == 1
    assert safety_agreement(JUDGED).observed == pytest.approx(3 / 4)


def test_pairwise_agreement_by_hand():
    plain = pairwise_agreement(JUDGED)
    # Ordered pairs: 6 in item 1, of which 2 agree; 2 in item 2, both agree.
    assert (plain.share, plain.pairs, plain.items) == (4 / 8, 8, 2)
    assert plain.low == pytest.approx(1 / 3) and plain.high == 1
    rated = pairwise_agreement(JUDGED, rating="significantly_better")
    assert (rated.share, rated.pairs, rated.items) == (1 / 2, 2, 1)
    with pytest.raises(AgreementError, match="no item was judged twice"):
        pairwise_agreement(JUDGED[-2:])
    with pytest.raises(AgreementError, match="rated better was judged twice"):
        pairwise_agreement(JUDGED[3:], rating="better")


def test_the_bootstrap_covers_a_known_rate():
    rng = random.Random(0)
    pairs = [(judged(n, "x", "a"), judged(n, "y", "a" if rng.random() < 0.7 else "b")) for n in range(400)]
    ours = pairwise_agreement([judgement for pair in pairs for judgement in pair])
    # The binomial interval of 400 items at 0.7 is +- 0.045.
    assert ours.low < 0.7 < ours.high and 0.07 < ours.high - ours.low < 0.11
    assert ours == pairwise_agreement([judgement for pair in pairs for judgement in pair])
