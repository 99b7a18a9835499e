"""The dialogues that get an instruction: chained from single turns, or multi-turn ones as given."""

import pytest
from pydantic import ValidationError

from gatt.config import GattConfig
from gatt.dialogues import chain_dialogues, draw_num_turns, given_dialogues, mean_num_turns
from gatt.obedience import GattError
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Dialogue, make_dialogue


def turns(number: int, name: str = "") -> Messages:
    return [
        message for turn in range(number) for message in (user(f"question {name}{turn}"), assistant(f"answer {name}{turn}"))
    ]


def dialogue(messages: Messages) -> Dialogue:
    return make_dialogue(messages, family="fact", source="test")


def single(number: int) -> Dialogue:
    return dialogue([user(f"question {number}"), assistant(f"answer {number}")])


def test_chained_dialogues_have_the_turns_asked_for_and_repeat_no_question() -> None:
    singles = [single(number) for number in range(6)]
    chained = chain_dialogues(singles, [1, 3, 6], seed=0)
    assert [len(messages) for messages in chained] == [2, 6, 12]
    for messages in chained:
        pairs = list(zip(messages[::2], messages[1::2], strict=True))
        assert len({question["content"] for question, _ in pairs}) == len(pairs)
        assert all(question["content"].split()[1] == reply["content"].split()[1] for question, reply in pairs)
    assert chained == chain_dialogues(singles, [1, 3, 6], seed=0)
    assert chained != chain_dialogues(singles, [1, 3, 6], seed=1)


def test_chaining_refuses_what_it_cannot_do() -> None:
    with pytest.raises(GattError, match="a dialogue of 4 turns was asked for, and there are 2"):
        chain_dialogues([single(0), single(1)], [4], seed=0)
    with pytest.raises(GattError, match="chaining takes single turns"):
        chain_dialogues([dialogue(turns(3))], [1], seed=0)


def test_numbers_of_turns_cover_the_range() -> None:
    drawn = draw_num_turns(GattConfig(num_dialogues=200, min_turns=2, max_turns=5), seed=0)
    assert len(drawn) == 200 and set(drawn) == {2, 3, 4, 5}


def test_every_number_of_turns_has_about_the_same_cost() -> None:
    config = GattConfig(num_dialogues=30_000, min_turns=2, max_turns=4)
    drawn = draw_num_turns(config, seed=0)
    spent = [turns * drawn.count(turns) for turns in (2, 3, 4)]
    assert max(spent) / min(spent) < 1.06
    assert mean_num_turns(config) == pytest.approx(3 / (1 / 2 + 1 / 3 + 1 / 4))
    assert sum(drawn) / len(drawn) == pytest.approx(mean_num_turns(config), rel=0.01)


def test_a_minimum_of_turns_above_the_maximum_is_refused() -> None:
    with pytest.raises(ValidationError, match="min_turns 7 is above max_turns 3"):
        GattConfig(min_turns=7, max_turns=3)


def test_given_dialogues_are_drawn_and_what_is_left_out_or_cut_is_counted() -> None:
    system = [{"role": "system", "content": "Be brief."}, *turns(3)]
    given = [dialogue(turns(1)), dialogue(turns(2, "b")), dialogue(turns(3, "c")), dialogue(turns(5, "d")), dialogue(system)]
    config = GattConfig(num_dialogues=10, min_turns=2, max_turns=3)
    usable, counts = given_dialogues(given, config, seed=0)
    assert sorted(usable, key=len) == [turns(2, "b"), turns(3, "c"), turns(5, "d")[:6]] or sorted(usable, key=len) == [
        turns(2, "b"), turns(5, "d")[:6], turns(3, "c")
    ]  # fmt: skip
    assert counts == {"system message": 1, "too few turns": 1, "cut": 1}
    samples = [given_dialogues(given, config.model_copy(update={"num_dialogues": 2}), seed)[0] for seed in range(8)]
    assert all(len(sample) == 2 for sample in samples) and len({str(sample) for sample in samples}) > 1


def test_single_turn_dialogues_are_not_multi_turn_ones() -> None:
    with pytest.raises(GattError, match=r"none of 2 dialogues has 2 turns or more .*too few turns: 2.*multi_turn: chained"):
        given_dialogues([single(0), single(1)], GattConfig(), seed=0)
