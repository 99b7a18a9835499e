"""Ghost Attention's data: sampled with the instruction everywhere, trained with it at the beginning alone."""

from collections.abc import Callable
from typing import Any

import pytest
from fakes import LengthScorer, ScriptedPolicy, tiny_tokenizer

from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.dataset import gatt_dialogues
from gatt.obedience import Asked, GattError, by_rule
from gatt.synthesis import GattStats, synthesise
from policy.chat import encode_dialogue
from preference_data.messages import Messages, assistant, num_turns, user

NAPOLEON = Constraint("figure", "Napoleon", "Act as Napoleon.", "Act as Napoleon.")
DIALOGUE = [
    user("The fox?"),
    assistant("It is brown."),
    user("The sea?"),
    assistant("It is blue."),
    user("The owl?"),
    assistant("Old."),
]
SHORT = [user("The plum?"), assistant("Good."), user("The pot?"), assistant("Here.")]
CONFIG = GattConfig(k=3, dialogues_per_batch=2)
RESAMPLED = GattConfig(k=3, dialogues_per_batch=2, intermediate="resampled")
names_napoleon = by_rule(lambda constraint, response: constraint.value in response)


def always(messages: Messages) -> bool:
    return True


def synthesise_all(
    dialogues: list[Messages],
    script: Callable[[Messages, int], str],
    config: GattConfig = CONFIG,
    fits: Callable[[Messages], bool] = always,
    unfinished: tuple[str, ...] = (),
    scorer: Any = None,
) -> tuple[list[GattStats], list[Messages]]:
    """(the stats of all batches, the prompts that the policy got)"""
    sampler = ScriptedPolicy(script, unfinished)
    return list(synthesise(dialogues, [NAPOLEON], sampler, names_napoleon, fits, config, 0, scorer)), sampler.asked


def run(
    dialogues: list[Messages], answers: list[str], unfinished: tuple[str, ...] = (), scorer: object = None
) -> list[GattStats]:
    return synthesise_all(dialogues, lambda messages, position: answers[position], unfinished=unfinished, scorer=scorer)[0]


def test_sampling_sees_the_instruction_before_every_user_message() -> None:
    _, prompts = synthesise_all([DIALOGUE], lambda messages, position: "As Napoleon: old.")
    assert prompts == [
        [
            user("Act as Napoleon. The fox?"),
            assistant("It is brown."),
            user("Act as Napoleon. The sea?"),
            assistant("It is blue."),
            user("Act as Napoleon. The owl?"),
        ]
    ]


@pytest.mark.parametrize(
    ("instruction_in", "opening"),
    [
        ("first_message", [user("Act as Napoleon. The fox?")]),
        ("system", [{"role": "system", "content": "Act as Napoleon."}, user("The fox?")]),
    ],
)
def test_training_sees_it_at_the_beginning_alone_and_learns_the_last_answer_alone(
    instruction_in: Any, opening: Messages
) -> None:
    (stats,) = run([DIALOGUE], ["nothing", "As Napoleon: old.", "nothing"])
    (dialogue,) = gatt_dialogues(stats.synthesised, instruction_in)
    assert dialogue.messages == [*opening, *DIALOGUE[1:-1], assistant("As Napoleon: old.")]
    assert (dialogue.source, dialogue.family, dialogue.train_on) == ("gatt", "figure", "last")
    tokenizer = tiny_tokenizer()
    encoded = encode_dialogue(tokenizer, dialogue.messages, dialogue.train_on)
    trained = [token for token, is_trained in zip(encoded.ids, encoded.loss_mask, strict=True) if is_trained]
    assert trained[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(trained[:-1]).strip() == "As Napoleon: old."
    assert tokenizer.decode(encoded.ids).count("Act as Napoleon.") == 1
    assert DIALOGUE[-1] == assistant("Old.")  # the given dialogue is not changed


def test_the_best_obeying_answer_is_kept_and_the_first_without_a_scorer() -> None:
    answers = ["Napoleon.", "Napoleon, at length.", "something longer than all that, by nobody"]
    assert run([DIALOGUE], answers, scorer=LengthScorer())[0].synthesised[0].response == "Napoleon, at length."
    assert run([DIALOGUE], answers)[0].synthesised[0].response == "Napoleon."
    assert run([DIALOGUE], answers, unfinished=("Napoleon.",))[0].synthesised[0].response == "Napoleon, at length."


def test_dialogues_without_an_obeying_answer_are_dropped_and_counted() -> None:
    def answer(messages: Messages, position: int) -> str:
        return "nothing" if "pot" in messages[-1]["content"] or position else "As Napoleon."

    first, second = synthesise_all([DIALOGUE, SHORT, DIALOGUE], answer)[0]
    assert (first.num_kept, first.dropped, first.obeying, first.sampled) == (1, {"figure": 1}, {"figure": 1}, {"figure": 6})
    assert (second.num_done, second.num_kept, second.dropped) == (3, 1, {})
    assert [one.response for one in first.synthesised] == ["As Napoleon.", None]
    assert len(gatt_dialogues(first.synthesised)) == 1


def test_every_constraint_of_the_instruction_must_be_obeyed() -> None:
    fox = Constraint("animal", "fox", "Name a fox.", "Name a fox.")
    sampler = ScriptedPolicy(lambda messages, position: ("Napoleon", "fox", "Napoleon and the fox")[position])
    dialogues = [[user(f"Number {i}?"), assistant("Yes.")] for i in range(20)]
    stats = list(synthesise(dialogues, [NAPOLEON, fox], sampler, names_napoleon, always, CONFIG, seed=0))
    synthesised = [entry for batch in stats for entry in batch.synthesised]
    both = [entry for entry in synthesised if len(entry.instruction.constraints) == 2]
    assert both and all(entry.response == "Napoleon and the fox" and entry.obeying == (2, 2) for entry in both)
    assert {entry.response for entry in synthesised if entry.instruction.family == "figure"} == {"Napoleon"}


def test_responses_are_judged_in_one_call_each_with_its_dialogue_and_constraint() -> None:
    calls: list[list[Asked]] = []

    def obeys(asked: Any) -> list[bool]:
        calls.append(list(asked))
        return [entry.response == "b" for entry in asked]

    sampler = ScriptedPolicy(lambda messages, position: "abc"[position])
    (stats,) = synthesise([DIALOGUE, SHORT], [NAPOLEON], sampler, obeys, always, CONFIG, 0)
    assert calls == [[Asked(NAPOLEON, dialogue, response) for dialogue in (DIALOGUE, SHORT) for response in "abc"]]
    assert [(synthesised.response, synthesised.obeying) for synthesised in stats.synthesised] == [("b", (1,))] * 2


def test_resampled_answers_come_turn_by_turn_under_the_instruction_and_stay_in_the_history() -> None:
    def answer(messages: Messages, position: int) -> str:
        return f"Napoleon {num_turns(messages)}"

    (stats,), prompts = synthesise_all([DIALOGUE, SHORT], answer, RESAMPLED)
    inst = [f"Act as Napoleon. {text}" for text in ("The fox?", "The sea?", "The owl?")]
    one, two = assistant("Napoleon 1"), assistant("Napoleon 2")
    assert prompts[0] == [user(inst[0])] and prompts[2] == [user(inst[0]), one, user(inst[1])]
    assert prompts[-2] == [user(inst[0]), one, user(inst[1]), two, user(inst[2])]
    assert len(prompts) == 2 + 1 + 2  # two turns before the last, one, and the last of both
    (dialogue, short) = gatt_dialogues(stats.synthesised)
    assert dialogue.messages == [
        user(inst[0]), one, user("The sea?"), two, user("The owl?"), assistant("Napoleon 3")
    ]  # fmt: skip
    assert short.messages[1:] == [one, user("The pot?"), assistant("Napoleon 2")]
    assert DIALOGUE[1] == assistant("It is brown.")


@pytest.mark.parametrize(("question", "later"), [("fox", ("sea", "owl")), ("sea", ("owl",))])
@pytest.mark.parametrize("bad", ["  ", "cut", "[INST] more"])
def test_a_dialogue_stops_at_a_response_that_cannot_be_used(bad: str, question: str, later: tuple[str, ...]) -> None:
    def answer(messages: Messages, position: int) -> str:
        return bad if question in messages[-1]["content"] else "Napoleon"

    (stats,), prompts = synthesise_all([DIALOGUE, SHORT], answer, RESAMPLED, unfinished=("cut",))
    assert not any(words in messages[-1]["content"] for messages in prompts for words in later)
    assert [(entry.response, entry.obeying, entry.too_long) for entry in stats.synthesised] == [
        (None, (), False), ("Napoleon", (3,), False)
    ]  # fmt: skip
    assert (stats.dropped, stats.sampled) == ({"figure": 1}, {"figure": 3})


def test_dialogues_that_do_not_fit_with_their_instruction_are_counted_and_not_sampled() -> None:
    def fits(messages: Messages) -> bool:
        return sum(len(message["content"]) for message in messages) < 90

    for config in (CONFIG, RESAMPLED):
        (stats,), prompts = synthesise_all([DIALOGUE, SHORT], lambda messages, position: "Napoleon", config, fits)
        assert (stats.num_too_long, stats.num_kept, stats.dropped) == (1, 1, {})
        assert not any("owl" in messages[-1]["content"] for messages in prompts)
        assert all(fits(messages) for messages in prompts)
    longer = [*SHORT[:-1], assistant("x" * 80)]  # its own last answer is read by the reward model
    with pytest.raises(GattError, match="none of 1 dialogues reached its last response: 1 do not fit"):
        synthesise_all([longer], lambda messages, position: "Napoleon", fits=fits)


def test_an_instruction_longer_than_the_context_is_refused_before_anything_is_sampled() -> None:
    sampler = ScriptedPolicy(lambda messages, position: "Napoleon")
    long = Constraint("style", "long", "Write it long. " * 20, "Long.")
    with pytest.raises(GattError, match=r"the instruction of the style 'long' \(300 characters, beginning 'Write it long"):
        list(synthesise([SHORT], [NAPOLEON, long], sampler, names_napoleon, lambda m: len(m[0]["content"]) < 200, CONFIG, 0))
    many_tokens = Constraint("language", "Japanese", "Always answer in Japanese.", "\u65e5\u672c\u8a9e" * 4)
    with pytest.raises(GattError, match=r"the instruction of the language 'Japanese'"):
        fits = lambda messages: len(messages[0]["content"].encode()) < 30  # noqa: E731
        list(synthesise([SHORT], [many_tokens], sampler, names_napoleon, fits, CONFIG, 0))
    assert sampler.asked == []


def test_a_held_out_constraint_is_refused() -> None:
    held_out = Constraint("figure", "Plato", "Act as Plato.", "Figure: Plato.", held_out=True)
    sampler = ScriptedPolicy(lambda messages, position: "Napoleon Plato")
    with pytest.raises(GattError, match="held-out constraints are for evaluation and cannot be trained on: figure Plato"):
        list(synthesise([SHORT], [NAPOLEON, held_out], sampler, names_napoleon, always, CONFIG, 0))
    assert sampler.asked == []


def test_where_nothing_obeys_the_error_gives_the_rates() -> None:
    with pytest.raises(GattError, match=r"to any of 2 dialogues .*figure 0 of 6\).*in a single turn"):
        run([DIALOGUE, DIALOGUE], ["nothing"] * 3)
    with pytest.raises(GattError, match=r"figure 3 of 3\)"):
        run([DIALOGUE], ["Napoleon"] * 3, unfinished=("Napoleon",))


def test_a_system_message_is_refused() -> None:
    with pytest.raises(GattError, match="has a system message"):
        run([[{"role": "system", "content": "Be brief."}, *DIALOGUE]], ["Napoleon"] * 3)
