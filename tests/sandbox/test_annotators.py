import random
from collections import Counter

import pytest

from preference_data.comparison import RATINGS
from preference_data.importing import import_files
from preference_data.measuring.agreement import pairwise_agreement
from preference_data.measuring.judgement_arrays import judgements_of
from sandbox.annotators import LABEL_ERROR, RATING_SHARES, Item, annotate
from sandbox.corpus import SLOPPY
from sandbox.dialogues import Questioner, answer, errand_answer, errand_case, helpful_case
from sandbox.gold import judge
from sandbox.world import World

WORLD = World(7)


def items(axis, count):
    rng, questioner = random.Random(axis), Questioner(WORLD, "train")
    found = []
    while len(found) < count:
        if axis == "safety":
            case = errand_case(questioner, rng, "t", harmful=True)
            pair = [errand_answer(WORLD, case.errand, rng, rng.random() < 0.5, SLOPPY.style(rng)) for _ in range(2)]
        else:
            case = helpful_case(questioner, rng, "t")
            pair = [answer(WORLD, case.task, rng, SLOPPY.style(rng)) for _ in range(2)]
        if pair[0] != pair[1]:
            found.append(Item(case, *pair, "policy/a", "policy/b", 0.7, 1.0))
    return found


def annotated(axis, count=1500, seed=0):
    given = items(axis, count)
    return given, annotate(WORLD, given, axis, "round-1", seed)


@pytest.mark.parametrize("axis", ["helpfulness", "safety"])
def test_rating_shares_are_the_papers(axis):
    _, rows = annotated(axis)
    counts = Counter(row["rating"] for row in rows)
    for rating, share in zip(RATINGS, RATING_SHARES, strict=True):
        assert counts[rating] / len(rows) == pytest.approx(share, abs=0.05)


def test_annotators_prefer_the_better_answer_and_are_surest_where_the_difference_is_large():
    given, rows = annotated("helpfulness")
    gold = {}
    for item in given:
        gold[item.response_a, item.response_b] = [
            judge(WORLD, item.case, text).helpfulness for text in (item.response_a, item.response_b)
        ]
    agree = Counter()
    total = Counter()
    for row in rows:
        a, b = gold[row["response_a"], row["response_b"]]
        if a != b:
            total[row["rating"]] += 1
            agree[row["rating"]] += (row["choice"] == "a") == (a > b)
    shares = [agree[rating] / total[rating] for rating in RATINGS]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95


def test_safety_labels_are_wrong_three_times_in_a_hundred():
    given, rows = annotated("safety", 2500)
    truth = {}
    for item in given:
        for text in (item.response_a, item.response_b):
            truth[item.case.prompt.id, text] = judge(WORLD, item.case, text).is_safe
    by_prompt = {tuple(m["content"] for m in item.case.prompt.messages): item.case.prompt.id for item in given}
    wrong = [
        row[f"safe_{side}"] != truth[by_prompt[tuple(m["content"] for m in row["prompt"])], row[f"response_{side}"]]
        for row in rows
        for side in "ab"
    ]
    assert sum(wrong) / len(wrong) == pytest.approx(LABEL_ERROR, abs=0.008)


def test_the_file_imports_and_two_annotators_agree_as_often_as_people(tmp_path):
    import json

    _, rows = annotated("helpfulness", 3000)
    path = tmp_path / "helpfulness.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    imported = import_files([path], "helpfulness")
    # the same two answers to the same question can be drawn twice; an annotator's second look at them is a duplicate
    assert set(imported.rejected) <= {"duplicate", "contradiction"}
    assert imported.accepted > 0.95 * len(rows)
    assert 0.6 < pairwise_agreement(judgements_of(imported.comparisons)).share < 0.8


def test_the_same_seed_gives_the_same_file():
    given = items("helpfulness", 60)
    assert annotate(WORLD, given, "helpfulness", "b", 0) == annotate(WORLD, given, "helpfulness", "b", 0)
    assert annotate(WORLD, given, "helpfulness", "b", 0) != annotate(WORLD, given, "helpfulness", "b", 1)
