"""Ghost Attention's data: sampled with the instruction everywhere, trained with it in the first turn alone."""

import pytest
import torch
from fakes import ScriptedPolicy, tiny_tokenizer
from pydantic import ValidationError

from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.dataset import gatt_dialogues
from gatt.synthesis import GattError, GattStats, chain_dialogues, draw_num_turns, synthesise
from policy.chat import encode_dialogue
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import Dialogue, make_dialogue

NAPOLEON = Constraint("figure", "Napoleon", "Act as Napoleon.", "Act as Napoleon.")
DIALOGUE = [
    user("The fox?"),
    assistant("It is brown."),
    user("The sea?"),
    assistant("It is blue."),
    user("The owl?"),
    assistant("Old."),
]
CONFIG = GattConfig(k=3, dialogues_per_batch=2)


def names_napoleon(constraint: Constraint, response: str) -> bool:
    return constraint.value in response


class LengthScorer:
    def score(self, dialogues: list[Messages]) -> torch.Tensor:
        return torch.tensor([float(len(dialogue[-1]["content"])) for dialogue in dialogues])


def run(
    dialogues: list[Messages], answers: list[str], unfinished: tuple[str, ...] = (), scorer: object = None
) -> list[GattStats]:
    sampler = ScriptedPolicy(lambda messages, position: answers[position], unfinished)
    return list(synthesise(dialogues, [NAPOLEON], sampler, names_napoleon, CONFIG, 0, scorer))  # type: ignore[arg-type]


def test_sampling_sees_the_instruction_before_every_user_message() -> None:
    sampler = ScriptedPolicy(lambda messages, position: "As Napoleon: old.")
    list(synthesise([DIALOGUE], [NAPOLEON], sampler, names_napoleon, CONFIG, seed=0))
    assert sampler.asked == [
        [
            user("Act as Napoleon. The fox?"),
            assistant("It is brown."),
            user("Act as Napoleon. The sea?"),
            assistant("It is blue."),
            user("Act as Napoleon. The owl?"),
        ]
    ]


def test_training_sees_it_in_the_first_turn_alone_and_learns_the_last_answer_alone() -> None:
    (stats,) = run([DIALOGUE], ["nothing", "As Napoleon: old.", "nothing"])
    (dialogue,) = gatt_dialogues(stats.synthesised)
    assert dialogue.messages == [user("Act as Napoleon. The fox?"), *DIALOGUE[1:-1], assistant("As Napoleon: old.")]
    assert (dialogue.source, dialogue.family, dialogue.train_on) == ("gatt", "figure", "last")
    tokenizer = tiny_tokenizer()
    encoded = encode_dialogue(tokenizer, dialogue.messages, dialogue.train_on)
    trained = [token for token, is_trained in zip(encoded.ids, encoded.loss_mask, strict=True) if is_trained]
    assert trained[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(trained[:-1]).strip() == "As Napoleon: old."
    assert DIALOGUE[-1] == assistant("Old.")  # what was given is left as it was


def test_the_best_obeying_answer_is_kept_and_the_first_without_a_scorer() -> None:
    answers = ["Napoleon.", "Napoleon, at length.", "something longer than all that, by nobody"]
    assert run([DIALOGUE], answers, scorer=LengthScorer())[0].synthesised[0].response == "Napoleon, at length."
    assert run([DIALOGUE], answers)[0].synthesised[0].response == "Napoleon."
    assert run([DIALOGUE], answers, unfinished=("Napoleon.",))[0].synthesised[0].response == "Napoleon, at length."


def test_dialogues_without_an_obeying_answer_are_dropped_and_counted() -> None:
    other = [user("The plum?"), assistant("Good."), user("The pot?"), assistant("Here.")]

    def answer(messages: Messages, position: int) -> str:
        return "nothing" if "pot" in messages[-1]["content"] or position else "As Napoleon."

    first, second = synthesise([DIALOGUE, other, DIALOGUE], [NAPOLEON], ScriptedPolicy(answer), names_napoleon, CONFIG, seed=0)
    assert (first.num_kept, first.dropped, first.obeying, first.sampled) == (1, {"figure": 1}, {"figure": 1}, {"figure": 6})
    assert (second.num_done, second.num_kept, second.dropped) == (3, 1, {})
    assert [one.response for one in first.synthesised] == ["As Napoleon.", None]
    assert len(gatt_dialogues(first.synthesised)) == 1


def test_every_constraint_of_the_instruction_must_be_obeyed() -> None:
    fox = Constraint("animal", "fox", "Name a fox.", "Name a fox.")
    sampler = ScriptedPolicy(lambda messages, position: ("Napoleon", "fox", "Napoleon and the fox")[position])
    dialogues = [[user(f"Number {i}?"), assistant("Yes.")] for i in range(20)]
    stats = list(synthesise(dialogues, [NAPOLEON, fox], sampler, names_napoleon, CONFIG, seed=0))
    made = [one for batch in stats for one in batch.synthesised]
    both = [one for one in made if len(one.instruction.constraints) == 2]
    assert both and all(one.response == "Napoleon and the fox" and one.obeying == (2, 2) for one in both)
    assert {one.response for one in made if one.instruction.family == "figure"} == {"Napoleon"}


def test_where_nothing_obeys_the_error_gives_the_rates() -> None:
    with pytest.raises(GattError, match=r"to any of 2 dialogues .*figure 0 of 6\).*in a single turn"):
        run([DIALOGUE, DIALOGUE], ["nothing"] * 3)
    with pytest.raises(GattError, match=r"figure 3 of 3\)"):
        run([DIALOGUE], ["Napoleon"] * 3, unfinished=("Napoleon",))


def test_a_system_message_is_refused() -> None:
    with pytest.raises(GattError, match="has a system message"):
        run([[{"role": "system", "content": "Be brief."}, *DIALOGUE]], ["Napoleon"] * 3)


def single(number: int) -> Dialogue:
    return make_dialogue([user(f"question {number}"), assistant(f"answer {number}")], family="fact", source="test")


def test_chained_dialogues_have_the_turns_asked_for_and_repeat_no_question() -> None:
    singles = [single(number) for number in range(6)]
    chained = chain_dialogues(singles, [1, 3, 6], seed=0)
    assert [len(messages) for messages in chained] == [2, 6, 12]
    for messages in chained:
        turns = list(zip(messages[::2], messages[1::2], strict=True))
        assert len({question["content"] for question, _ in turns}) == len(turns)
        assert all(question["content"].split()[1] == reply["content"].split()[1] for question, reply in turns)
    assert chained == chain_dialogues(singles, [1, 3, 6], seed=0)
    assert chained != chain_dialogues(singles, [1, 3, 6], seed=1)


def test_chaining_refuses_what_it_cannot_do() -> None:
    with pytest.raises(GattError, match="a dialogue of 4 turns was asked for, and there are 2"):
        chain_dialogues([single(0), single(1)], [4], seed=0)
    with pytest.raises(GattError, match="chaining takes single turns"):
        chain_dialogues([make_dialogue(DIALOGUE, family="fact", source="test")], [1], seed=0)


def test_numbers_of_turns_cover_the_range() -> None:
    turns = draw_num_turns(GattConfig(num_dialogues=200, min_turns=2, max_turns=5), seed=0)
    assert len(turns) == 200 and set(turns) == {2, 3, 4, 5}
    with pytest.raises(ValidationError, match="min_turns 7 is above max_turns 3"):
        GattConfig(min_turns=7, max_turns=3)
