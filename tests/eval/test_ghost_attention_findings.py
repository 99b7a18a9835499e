"""F15 and F16, and the shares that they use, on turns with a known verdict, and reversed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from eval.consistency import ConsistencyDialogue, ConsistencyStats
from eval.consistency_turns import (
    Turn,
    consistency_measures,
    difference,
    families,
    last_turns,
    recalled,
    select,
    share,
    turns_of,
)
from eval.findings.ghost_attention import consistency_tables, generalises, instruction_holds
from preference_data.measuring.statistics import wilson

ASKED = (1, 2, 4, 6, 10, 20)
N = 100


def turn(dialogue: int, number: int, obeyed: bool | None, group: str = "trained", family: str = "figure", **given) -> Turn:
    values = {"is_last": False, "recall_question": None, "recall_response": None, "recalled": None} | given
    return Turn(dialogue, group, number, "Act.", [family], f"q{number}", "r", obeyed, **values)


def talks(shares: dict[int, float], group: str = "trained", family: str = "figure", first: int = 0) -> list[Turn]:
    """N dialogues; at each turn the given share of them obeys, the first ones."""
    return [
        turn(first + number, at, number < round(value * N), group, family)
        for at, value in shares.items()
        for number in range(N)
    ]


LOST, KEPT = {1: 0.9, 2: 0.1, 4: 0.0, 6: 0.0, 10: 0.0, 20: 0.0}, dict.fromkeys(ASKED, 0.97)


def holding(without=LOST, kept=KEPT):
    return instruction_holds({"without": talks(without), "with": talks(kept)})


def test_f15_holds_on_the_papers_side_and_names_the_parts_that_the_value_decides():
    finding = holding()
    assert finding.verdict == "holds"
    assert [effect.name for effect in finding.effects] == [
        "without: obeyed at turn 6, the value", "with: obeyed at turn 2, the value", "with: obeyed at turn 4, the value",
        "with: obeyed at turn 6, the value", "with: obeyed at turn 20", "obeyed at turn 6: with - without",
        "obeyed at turn 20: with - without",
    ]  # fmt: skip
    assert [effect.judged_by for effect in finding.effects] == ["value"] * 4 + ["interval"] * 3
    assert finding.effects[5].estimate.value == pytest.approx(0.97)
    assert finding.effects[0].paper == 0.0 and finding.effects[4].paper == 1.0


@pytest.mark.parametrize(
    ("without", "kept", "part", "verdict"),
    [
        ({6: 0.41}, {}, 0, "fails"),
        ({6: 0.40}, {}, 0, "holds"),  # the value decides, though its interval extends beyond
        ({}, {2: 0.94}, 1, "fails"),
        ({}, {4: 0.95}, 2, "holds"),
        ({}, {6: 0.94}, 3, "fails"),
        ({}, {20: 0.90}, 4, "holds"),  # 0.826 to 0.945
        ({}, {20: 0.85}, 4, "inconclusive"),  # 0.767 to 0.907
        ({}, {20: 0.60}, 4, "fails"),
        ({6: 0.35}, {6: 0.2}, 5, "fails"),
        ({20: 0.97}, {}, 6, "inconclusive"),
    ],
)
def test_each_part_of_f15_decides(without, kept, part, verdict):
    finding = holding(LOST | without, KEPT | kept)
    assert finding.effects[part].verdict == verdict
    others = [effect.verdict for place, effect in enumerate(finding.effects) if place != part]
    assert finding.verdict == (verdict if set(others) == {"holds"} else "fails")


def test_f15_is_not_measured_without_turn_20():
    short = {at: value for at, value in LOST.items() if at < 20}
    assert holding(short).verdict == holding(kept=short).verdict == "not measured"


def held_out(new: float, values: float) -> list[Turn]:
    shares = dict.fromkeys((1, 2, 4, 6), new)
    return [
        *talks(KEPT),
        *talks(shares, "held_out", "end_word", N),
        *talks(dict.fromkeys(shares, values), "held_out", "figure", 2 * N),
    ]


def test_f16_has_a_part_for_new_families_and_one_for_new_values_and_both_must_hold():
    both = generalises({"with": held_out(0.5, 0.7), "without": held_out(0.1, 0.2)})
    assert [effect.estimate.value for effect in both.effects] == pytest.approx([0.4, 0.5])
    assert [effect.estimate.n for effect in both.effects] == [3 * N, 3 * N]
    assert both.verdict == "holds"
    half = generalises({"with": held_out(0.1, 0.7), "without": held_out(0.1, 0.2)})
    assert [effect.verdict for effect in half.effects] == ["inconclusive", "holds"] and half.verdict == "inconclusive"
    lost = generalises({"with": held_out(0.1, 0.7), "without": held_out(0.5, 0.2)})
    assert lost.verdict == "fails"


def test_f16_leaves_out_turn_1_where_the_instruction_was_just_given():
    late = [turn for turn in held_out(0.5, 0.7) if turn.turn > 1]
    first = [replace(turn, obeyed=False) for turn in held_out(0.5, 0.7) if turn.turn == 1]
    other = held_out(0.1, 0.2)
    assert generalises({"with": [*first, *late], "without": other}) == generalises(
        {"with": held_out(0.5, 0.7), "without": other}
    )


def test_f16_is_not_measured_without_held_out_constraints():
    assert generalises({"with": talks(KEPT), "without": talks(LOST)}).verdict == "not measured"


def test_a_difference_is_paired_over_the_dialogues_that_both_held():
    ours = [turn(0, 6, True), turn(1, 6, True), turn(2, 6, None), turn(3, 6, True)]
    theirs = [turn(0, 6, False), turn(1, 6, True), turn(2, 6, False), turn(3, 6, None)]
    estimate = difference(ours, theirs)
    assert (estimate.value, estimate.n) == (0.5, 2)
    assert not difference(ours[2:], theirs[2:]).known
    with pytest.raises(ValueError, match="dialogue 1 differs between the two evaluations at turn 6"):
        difference(ours, [theirs[0], replace(theirs[1], user="something else")])


def test_shares_leave_out_turns_without_an_answer_and_use_the_dialogue_as_unit():
    turns = [turn(number, 6, number < 3, recalled=number < 1 if number < 4 else None) for number in range(10)]
    assert (share(turns).value, share(turns).n) == (0.3, 10)
    assert (share(turns).low, share(turns).high) == pytest.approx(wilson(0.3, 10))
    assert (share(turns, recalled).value, share(turns, recalled).n) == (0.25, 4)
    assert not share([]).known
    often = [turn(number, at, number < 5) for number in range(10) for at in (2, 4, 6, 10)]
    assert share(often).high - share(often).low > 1.5 * (wilson(0.5, 40)[1] - wilson(0.5, 40)[0])


def test_turns_are_selected_by_group_number_and_family():
    turns = [turn(0, 2, True), turn(0, 4, True), turn(1, 4, True, family="hobby"), turn(2, 4, True, "held_out")]
    assert select(turns, "trained", (4,)) == turns[1:3]
    assert select(turns, "trained", family="figure") == turns[:2]
    assert families(turns, "trained") == ["figure", "hobby"]


def test_a_turn_is_recorded_for_each_dialogue_that_was_to_respond():
    figure, end = SimpleNamespace(family="figure"), SimpleNamespace(family="end_word")
    words = tuple("abc")
    dialogues = [
        ConsistencyDialogue("trained", "Act.", (figure,), words, recall_question="Who?"),
        ConsistencyDialogue("held_out", "End.", (end,), words[:1]),
        ConsistencyDialogue("none", "", (figure, end), words),
        ConsistencyDialogue("trained", "Act.", (figure,), words, to_end=True),
    ]

    def stats(number: int, *responses: str | None) -> ConsistencyStats:
        obeyed = tuple(None if response is None else True for response in responses)
        recall_responses = ("I am.", None, None, None)
        return ConsistencyStats(number, 3, responses, obeyed, (False,) * 4, recall_responses, (True, None, None, None), 0, 9)

    first, second, third = (
        turns_of(dialogues, each, 2) for each in (stats(1, *"wxyz"), stats(2, "w", None, None, None), stats(3, *[None] * 4))
    )
    assert [(row.dialogue, row.families, row.user) for row in first] == [
        (0, ["figure"], "Act. a"), (1, ["end_word"], "End. a"), (2, [], "a"), (3, ["figure"], "Act. a")
    ]  # fmt: skip
    assert [(row.recall_question, row.recall_response, row.recalled) for row in first[:2]] == [
        ("Who?", "I am.", True), (None, None, None)
    ]  # fmt: skip
    assert [(row.dialogue, row.response, row.obeyed) for row in second] == [(0, "w", True), (2, None, None), (3, None, None)]
    assert third == [], "after the last turn asked for, only dialogues that responded"


def test_measures_and_tables_have_the_last_turn_recall_held_out_and_false_obedience():
    control = [turn(500 + number, at, number == 0 and at == 4, "none") for number in range(4) for at in (1, 2, 4, 6)]
    rows = [
        *held_out(0.5, 0.7),
        *control,
        turn(0, 51, True, is_last=True),
        turn(1, 53, False, is_last=True),
        *(turn(700 + number, 20, True, recalled=number > 0) for number in range(4)),
    ]
    measures = {name: estimate.value for name, estimate in consistency_measures(rows).items()}
    assert measures == {
        "instruction kept at the last turn that the context holds": 0.5,
        "recalled when asked at turn 20": 0.75,
        "held-out constraints kept at turn 6": 0.6,
        "obeyed though nobody asked, all turns": 1 / 16,
    }
    assert [row.turn for row in last_turns(rows)] == [51, 53]
    lost = [replace(row, obeyed=False) for row in rows]
    kept, recall, new, nobody, by_family, _ = consistency_tables({"without": lost, "with": rows}, ASKED)
    assert kept.columns == ("turn 1", "turn 2", "turn 4", "turn 6", "turn 10", "turn 20", "last turn")
    assert kept.rows[0].paper == {"turn 2": 1.0, "turn 4": 0.10, "turn 6": 0.0, "turn 20": 0.0}
    assert kept.rows[1].measured["last turn"].value == 0.5
    assert kept.rows[2].name == "with - without" and "last turn" not in kept.rows[2].measured
    assert recall.columns == ("turn 20",) and recall.rows[1].paper == {"turn 20": 1.0}
    assert new.columns == nobody.columns[:4] == ("turn 1", "turn 2", "turn 4", "turn 6")
    assert nobody.columns[4:] == ("all turns",)
    assert nobody.rows[1].measured["all turns"].value == 1 / 16
    assert [row.name for row in by_family.rows] == ["figure, without", "figure, with"]
    *_, others = consistency_tables({"without": held_out(0.1, 0.2), "with": held_out(0.5, 0.7)}, ASKED)
    assert [row.name for row in others.rows][:2] == ["end word, without", "end word, with"]
