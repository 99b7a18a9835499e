import math
import random
from statistics import fmean

import pytest
from comparisons import comparison

from preference_data.comparison import Comparison
from preference_data.measuring.annotator_table import annotator_table
from preference_data.measuring.columns import NO_VALUE, Names
from preference_data.measuring.judgement_arrays import joined, read_judgements
from preference_data.measuring.statistics import Share, Tally, wilson
from preference_data.parquet import read_batches, write_records


def judged(item, annotator, chosen, axis="helpfulness", **rest):
    texts = {"a": "a short one", "b": "another, a longer one"}
    rejected = texts["b" if chosen == "a" else "a"]
    return comparison(f"q{item}", texts[chosen], rejected, axis, annotator=annotator, **rest)


def table_of(comparisons, folder):
    write_records(folder / "comparisons.parquet", comparisons, Comparison)
    tally, names, parts = Tally(["annotator"]), Names(), []
    for batch in read_batches(folder / "comparisons.parquet", Comparison):
        tally.add(batch)
        parts.append(read_judgements(batch, names))
    return annotator_table(tally.by("annotator"), joined(parts), names.names())


def test_the_table_by_hand(tmp_path):
    table = table_of(
        [
            # item 1: x and y chose a, z chose b; item 2: x and z chose b; item 3: x alone; on another axis y is alone
            judged(1, "x", "a", rating="better"),
            judged(1, "y", "a"),
            judged(1, "z", "b", chosen_safe=True, rejected_safe=False),
            judged(2, "x", "b"),
            judged(2, "z", "b", chosen_safe=True, rejected_safe=True),
            judged(3, "x", "a"),
            judged(3, "y", "b", axis="safety"),
            judged(4, None, "b"),
        ],
        tmp_path,
    )
    assert list(table) == [NO_VALUE, "x", "y", "z"]
    assert {name: (row.statistics.comparisons, row.shared) for name, row in table.items()} == {
        NO_VALUE: (1, 0),
        "x": (3, 2),
        "y": (2, 1),
        "z": (2, 2),
    }
    # x: of the two others on item 1 one chose the same, the other on item 2 did.
    assert table["x"].agreement == pytest.approx((1 / 2 + 1) / 2)
    assert table["y"].agreement == pytest.approx(1 / 2) and table["z"].agreement == pytest.approx((0 + 1) / 2)
    assert (table["x"].low, table["x"].high) == pytest.approx(wilson(0.75, 2))
    assert math.isnan(table[NO_VALUE].agreement) and math.isnan(table[NO_VALUE].low)
    assert table["z"].statistics.unsafe == Share(1, 4) and table["x"].statistics.unsafe == Share(0, 0)
    assert table["z"].statistics.longer_chosen == Share(2, 2) and table["x"].statistics.longer_chosen == Share(1, 3)
    assert table["x"].statistics.ratings["better"] == Share(1, 1)


def test_the_table_is_what_counting_pairs_finds(tmp_path):
    rng = random.Random(3)
    comparisons = [
        judged(item, f"ann-{name}", rng.choice("aab"))
        for item in range(4000)
        for name in rng.sample(range(9), rng.choice([1, 1, 2, 4]))
    ]
    rng.shuffle(comparisons)
    table = table_of(comparisons, tmp_path)
    by_item = {}
    for each in comparisons:
        by_item.setdefault(each.item_id, []).append(each)
    for name, row in table.items():
        shares = []
        for item in by_item.values():
            own = [each for each in item if each.annotator == name]
            others = [each for each in item if each.annotator != name]
            if own and others:
                shares.append(fmean(other.chosen == own[0].chosen for other in others))
        assert row.shared == len(shares) and row.agreement == pytest.approx(fmean(shares), abs=1e-12)


def test_one_who_judges_an_item_twice_is_no_other(tmp_path):
    twice = [
        judged(1, "x", "a"),
        judged(1, "x", "b"),
        judged(2, "x", "a"),
        judged(2, "x", "b"),
        judged(2, "y", "a"),
    ]
    table = table_of(twice, tmp_path)
    assert (table["x"].shared, table["x"].agreement) == (1, 1 / 2)
    assert (table["y"].shared, table["y"].agreement) == (1, 1 / 2)


def test_no_comparisons_no_annotators(tmp_path):
    assert table_of([], tmp_path) == {}
