import pytest
from fakes import ScriptedPolicy, tiny_policy, tiny_tokenizer

from eval.consistency import ConsistencyDialogue, consistency
from policy.generation import TransformersSampler
from preference_data.messages import Messages, assistant, num_turns, user


def scripted(scripts: dict[str, list[str]]) -> ScriptedPolicy:
    """At turn t of the dialogue whose first message names it, says its script's t-th line."""

    def say(messages: Messages, position: int) -> str:
        return next(lines for name, lines in scripts.items() if name in messages[0]["content"])[num_turns(messages) - 1]

    return ScriptedPolicy(say)


def dialogue(name: str, constraints: tuple[str, ...] = ("plum",), turns: int = 4) -> ConsistencyDialogue:
    user_turns = (f"{name}?", *(f"{name}, q{turn}?" for turn in range(2, turns + 1)))
    return ConsistencyDialogue(f"Always say {', '.join(constraints)}.", constraints, user_turns)


def holds(constraint: str, response: str) -> bool:
    return constraint in response


def test_the_policy_goes_on_from_its_own_answers_and_hears_the_instruction_once():
    sampler = scripted({"fox": ["a1 plum", "a2", "a3 plum", "a4"]})
    list(consistency(sampler, [dialogue("fox")], holds, lambda prompt: True, turns=(1, 3)))
    assert len(sampler.asked) == 3, "turns after the last one asked about are not sampled"
    assert sampler.asked[2] == [
        user("Always say plum. fox?"),
        assistant("a1 plum"),
        user("fox, q2?"),
        assistant("a2"),
        user("fox, q3?"),
    ]


def test_a_dialogue_obeys_when_all_its_constraints_do():
    sampler = scripted({"fox": ["plum fig", "plum"], "owl": ["plum fig", "plum fig"]})
    dialogues = [dialogue("fox", ("plum", "fig")), dialogue("owl", ("plum", "fig"))]
    first, second = consistency(sampler, dialogues, holds, lambda prompt: True, turns=(1, 2))
    assert first.obeyed == (True, True)
    assert second.obeyed == (False, True)
    assert (second.estimate.value, second.estimate.n) == (0.5, 2)
    assert second.responses == ("plum", "plum fig")
    plain = [tiny_tokenizer().encode(text, add_special_tokens=False) for text in second.responses]
    assert second.num_tokens == sum(map(len, plain)) + 2, "each with its EOS"


def test_turns_between_those_asked_about_are_sampled_and_not_judged():
    sampler = scripted({"fox": ["plum", "no", "no", "plum"]})
    stats = list(consistency(sampler, [dialogue("fox")], holds, lambda prompt: True, turns=(4,)))
    assert [s.obeyed for s in stats] == [None, None, None, (True,)]
    with pytest.raises(ValueError, match="turn 2 was sampled but not asked about"):
        _ = stats[1].estimate


def test_a_full_context_is_counted_and_leaves_the_rate():
    sampler = scripted({"fox": ["plum"] * 4, "owl": ["plum"] * 4})

    def fits(prompt: Messages) -> bool:
        return "owl" not in prompt[0]["content"] or num_turns(prompt) < 3

    stats = list(consistency(sampler, [dialogue("fox"), dialogue("owl")], holds, fits, turns=(2, 4)))
    assert [s.num_overflowed for s in stats] == [0, 0, 1, 1]
    assert stats[3].obeyed == (True, None)
    assert (stats[3].estimate.value, stats[3].estimate.n) == (1.0, 1)
    assert stats[3].responses == ("plum", None)
    assert [num_turns(prompt) for prompt in sampler.asked] == [1, 1, 2, 2, 3, 4]


def test_a_policy_that_falls_silent_does_not_obey_from_there_on():
    sampler = scripted({"fox": ["plum", " ", "unused", "unused"]})
    stats = list(consistency(sampler, [dialogue("fox")], holds, lambda prompt: True, turns=(1, 2, 4)))
    assert [s.obeyed for s in stats] == [(True,), (False,), None, (False,)]
    assert stats[3].num_overflowed == 0
    assert len(sampler.asked) == 2


def test_the_return_value_holds_every_turn_asked_about():
    sampler = scripted({"fox": ["plum", "no"]})
    run = consistency(sampler, [dialogue("fox")], holds, lambda prompt: True, turns=(1, 2))
    with pytest.raises(StopIteration) as end:
        while True:
            next(run)
    assert end.value.value == {1: (True,), 2: (False,)}


def test_a_real_policy_talks_through_it():
    sampler = TransformersSampler(tiny_policy(), tiny_tokenizer())
    dialogues = [dialogue("fox", turns=2), dialogue("owl", turns=2)]
    runs = [
        list(consistency(sampler, dialogues, holds, lambda prompt: True, turns=(1, 2), max_new_tokens=4, seed=1))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert all(len(stats.responses) == 2 for stats in runs[0])


def test_bad_input_is_refused():
    sampler = scripted({})
    cases = {
        "asked of no dialogues": ([], (1,)),
        "dialogue 0 has 4 user turns and turn 6": ([dialogue("fox")], (6,)),
        "dialogue 0 has no constraints": ([dialogue("fox", ())], (1,)),
        r"turns are \(0, 1\)": ([dialogue("fox")], (0, 1)),
    }
    for message, (dialogues, turns) in cases.items():
        with pytest.raises(ValueError, match=message):
            next(consistency(sampler, dialogues, holds, lambda prompt: True, turns=turns))
