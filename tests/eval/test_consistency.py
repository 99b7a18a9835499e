import dataclasses

import pytest
from fakes import ScriptedPolicy, tiny_tokenizer

from eval.consistency import ConsistencyDialogue, Recall, consistency
from preference_data.messages import Messages, assistant, num_turns, user


def scripted(scripts: dict[str, list[str]]) -> ScriptedPolicy:
    """At turn t of the dialogue whose first message names it, says its script's t-th line."""

    def say(messages: Messages, position: int) -> str:
        return next(lines for name, lines in scripts.items() if name in messages[0]["content"])[num_turns(messages) - 1]

    return ScriptedPolicy(say)


def dialogue(name: str, constraints: tuple[str, ...] = ("plum",), turns: int = 4, **given) -> ConsistencyDialogue:
    user_turns = (f"{name}?", *(f"{name}, q{turn}?" for turn in range(2, turns + 1)))
    return ConsistencyDialogue("trained", f"Always say {', '.join(constraints)}.", constraints, user_turns, **given)


def holds(asked):
    return [constraint in response for constraint, _, response in asked]


def fits(prompt: Messages) -> bool:
    return True


def talk(sampler, *dialogues: ConsistencyDialogue, turns=(1, 2, 4), fits_context=fits, **given):
    return list(consistency(sampler, dialogues, holds, fits_context, turns, **given))


def test_the_policy_continues_from_its_own_responses_and_sees_the_instruction_once():
    sampler = scripted({"fox": ["a1 plum", "a2", "a3 plum"]})
    talk(sampler, dialogue("fox", turns=3), turns=(1, 3))
    assert sampler.asked[2] == [
        user("Always say plum. fox?"),
        assistant("a1 plum"),
        user("fox, q2?"),
        assistant("a2"),
        user("fox, q3?"),
    ]


def test_an_instruction_in_the_system_message_is_in_no_user_message():
    sampler = ScriptedPolicy(lambda messages, position: "plum")
    talk(sampler, dialogue("fox", turns=2, instruction_in="system"), turns=(2,))
    system = {"role": "system", "content": "Always say plum."}
    assert sampler.asked == [[system, user("fox?")], [system, user("fox?"), assistant("plum"), user("fox, q2?")]]


def test_a_response_obeys_when_it_obeys_all_constraints_and_falsely_when_any_that_nobody_asked_for():
    sampler = scripted({"fox": ["plum fig", "plum"], "owl": ["fig", "pear"]})
    control = dataclasses.replace(dialogue("owl", ("plum", "fig"), 2), group="none", instruction_text="")
    first, second = talk(sampler, dialogue("fox", ("plum", "fig"), 2), control, turns=(1, 2))
    assert first.obeyed == (True, True)
    assert second.obeyed == (False, False)
    assert second.responses == ("plum", "pear")
    assert sampler.asked[1] == [user("owl?")]
    plain = [tiny_tokenizer().encode(text, add_special_tokens=False) for text in second.responses]
    assert second.num_tokens == sum(map(len, plain)) + 2, "each with its EOS"


def test_the_judge_sees_the_prompt_that_was_answered_and_is_asked_once_a_turn():
    calls = []

    def judge(asked):
        calls.append(list(asked))
        return [True] * len(asked)

    sampler = scripted({"fox": ["one", "two"], "owl": ["three", "four"]})
    list(consistency(sampler, [dialogue("fox", turns=2), dialogue("owl", turns=2)], judge, fits, (1, 2)))
    assert [[response for _, _, response in asked] for asked in calls] == [["one", "three"], ["two", "four"]]
    assert calls[1][0][:2] == ("plum", [user("Always say plum. fox?"), assistant("one"), user("fox, q2?")])


def test_a_full_context_is_counted_and_leaves_the_rate():
    sampler = scripted({"fox": ["plum"] * 4, "owl": ["plum"] * 4})

    def owl_is_short(prompt: Messages) -> bool:
        return "owl" not in prompt[0]["content"] or num_turns(prompt) < 3

    stats = talk(sampler, dialogue("fox"), dialogue("owl"), turns=(2, 4), fits_context=owl_is_short)
    assert [s.num_overflowed for s in stats] == [0, 0, 1, 1]
    assert [s.obeyed for s in stats] == [(True, True), (True, True), (True, None), (True, None)]
    assert stats[3].responses == ("plum", None)
    assert [num_turns(prompt) for prompt in sampler.asked] == [1, 1, 2, 2, 3, 4]


def test_a_dialogue_to_the_end_continues_until_its_context_is_full_and_its_last_turn_is_marked():
    sampler = ScriptedPolicy(lambda messages, position: "plum" if num_turns(messages) < 5 else "no")
    stats = talk(
        sampler,
        dialogue("fox", turns=9, to_end=True),
        dialogue("owl", turns=2),
        turns=(1, 2),
        fits_context=lambda prompt: num_turns(prompt) < 6,
    )
    assert [s.turn for s in stats] == [1, 2, 3, 4, 5], "five turns fit"
    assert [s.is_last for s in stats] == [(False, False)] * 4 + [(True, False)]
    assert stats[4].obeyed == (False, None)
    assert (stats[2].obeyed, stats[2].responses) == ((True, None), ("plum", None)), "the other user had no more to say"
    assert [s.num_overflowed for s in stats] == [0] * 5


def test_a_dialogue_to_the_end_also_ends_with_its_users_words_or_its_policys():
    said_all = talk(ScriptedPolicy(lambda messages, position: "plum"), dialogue("fox", turns=3, to_end=True), turns=(1,))
    assert [s.is_last for s in said_all] == [(False,), (False,), (True,)]
    silent = talk(scripted({"fox": ["plum", " "]}), dialogue("fox", turns=3, to_end=True), turns=(1,))
    assert [(s.obeyed, s.is_last) for s in silent] == [((True,), (False,)), ((False,), (True,))]


def test_a_policy_that_responds_with_nothing_does_not_obey_from_there_on():
    sampler = scripted({"fox": ["plum", " ", "unused", "unused"]})
    stats = talk(sampler, dialogue("fox"))
    assert [s.obeyed for s in stats] == [(True,), (False,), (False,), (False,)]
    assert [s.responses for s in stats] == [("plum",), (" ",), (None,), (None,)]
    assert stats[3].num_overflowed == 0
    assert len(sampler.asked) == 2
    sampler = scripted({"fox": ["plum", " "], "owl": ["plum"] * 3})
    stats = talk(sampler, dialogue("fox", turns=2), dialogue("owl", turns=3), turns=(3,))
    assert [s.obeyed for s in stats] == [(True, True), (False, True), (None, True)], "it was to speak twice"


def test_recall_is_asked_on_a_branch_that_the_dialogue_does_not_see():
    sampler, branches = scripted({"fox": ["a1 plum", "a2", "a3"], "owl": ["b1", "b2", "b3"]}), []

    def answer(messages: Messages, position: int) -> str:
        branches.append(messages)
        return "fox: plum" if num_turns(messages) == 2 else "fig"

    recall = Recall(ScriptedPolicy(answer), lambda constraint, response: constraint in response)
    asked_dialogue = dialogue("fox", turns=3, recall_question="What is it?")
    stats = talk(sampler, asked_dialogue, dialogue("owl", turns=3), turns=(1, 2, 3), recall=recall)
    assert [s.recall_responses for s in stats] == [(None, None), ("fox: plum", None), ("fig", None)]
    assert [s.recalled for s in stats] == [(None, None), (True, None), (False, None)]
    assert branches[0] == [user("Always say plum. fox?"), assistant("a1 plum"), user("What is it?")]
    assert branches[1] == [*branches[0][:2], user("fox, q2?"), assistant("a2"), user("What is it?")]
    assert all("What is it?" not in str(prompt) for prompt in sampler.asked)
    alone = talk(scripted({"fox": ["a1 plum", "a2", "a3"]}), dialogue("fox", turns=3), turns=(1, 2, 3))
    assert [s.responses[0] for s in stats] == [s.responses[0] for s in alone]


def test_recall_that_does_not_fit_is_not_asked():
    recall = Recall(ScriptedPolicy(lambda messages, position: "plum"), lambda constraint, response: True)
    asked_dialogue = dialogue("fox", turns=2, recall_question="What is it?")
    sampler = scripted({"fox": ["plum", "plum"]})

    def fits_context(prompt: Messages) -> bool:
        return prompt[-1]["content"] != "What is it?"

    stats = talk(sampler, asked_dialogue, turns=(2,), recall=recall, fits_context=fits_context)
    assert (stats[1].responses, stats[1].recalled) == (("plum",), (None,))


def test_bad_input_is_refused():
    cases = {
        "cannot measure consistency on no dialogues": ([], (1,)),
        "the longest dialogue has 4 user turns and turn 6": ([dialogue("fox")], (6,)),
        "dialogue 0 has no constraints": ([dialogue("fox", ())], (1,)),
        r"turns are \(0, 1\)": ([dialogue("fox")], (0, 1)),
    }
    for message, (dialogues, turns) in cases.items():
        with pytest.raises(ValueError, match=message):
            talk(scripted({}), *dialogues, turns=turns)
