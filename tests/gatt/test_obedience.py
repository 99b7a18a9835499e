"""Who decides whether a response obeys: a checker, a judge, or the reward model."""

import pytest
from fakes import LengthScorer, ScriptedPolicy

from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.obedience import Asked, GattError, by_checkers_and_models, states_one_of
from gatt.probe import Probed, obeyed, probe
from policy.judging import Judgement
from preference_data.messages import Messages, assistant, user
from preference_data.prompt import make_dialogue

CHECKED = Constraint("end", "amen", "End with amen.", "End: amen.", "ends_with amen")
FREE = Constraint("figure", "Plato", "Act as Plato.", "Figure: Plato.")
DIALOGUE = [user("The fox?"), assistant("Brown."), user("The owl?"), assistant("Old.")]
ASKED = [Asked(CHECKED, DIALOGUE, "So be it, amen."), Asked(FREE, DIALOGUE, "As Plato: old."), Asked(CHECKED, DIALOGUE, "No."),
         Asked(FREE, DIALOGUE, "Old."), Asked(FREE, DIALOGUE, " ")]  # fmt: skip


class NamingJudge:
    def __init__(self) -> None:
        self.judgements: list[Judgement] = []

    def judge(self, judgements: list[Judgement]) -> list[bool]:
        self.judgements += judgements
        return ["Plato" in judgement.answer for judgement in judgements]


def test_a_checker_comes_first_and_the_judge_is_asked_of_the_rest() -> None:
    judge, scorer = NamingJudge(), LengthScorer()
    assert by_checkers_and_models([CHECKED, FREE], judge, scorer)(ASKED) == [True, True, False, False, False]
    assert judge.judgements == [Judgement("Act as Plato.", "The owl?", text) for text in ("As Plato: old.", "Old.")]
    assert scorer.seen == []


def test_without_a_judge_the_reward_model_must_prefer_the_answer_to_the_dialogues_own() -> None:
    scorer = LengthScorer()
    assert by_checkers_and_models([CHECKED, FREE], scorer=scorer)(ASKED) == [True, True, False, False, False]
    prompt = [user("Act as Plato. The fox?"), assistant("Brown."), user("Act as Plato. The owl?")]
    own, same = [*prompt, assistant("Old.")], [*prompt, assistant("Old.")]
    assert scorer.seen == [own, own, [*prompt, assistant("As Plato: old.")], same]  # an equal score is no preference


def test_constraints_that_nobody_can_judge_are_refused() -> None:
    with pytest.raises(
        GattError, match=r"1 of 2 constraints have no checker \(figure Plato\), and there is no model to judge .* give a judge"
    ):
        by_checkers_and_models([CHECKED, FREE])
    assert by_checkers_and_models([CHECKED])(ASKED[:1]) == [True]


@pytest.mark.parametrize(
    ("messages", "stated"),
    [
        ([user("act as plato. The fox?"), assistant("Brown.")], True),
        ([user("The fox?"), assistant("Brown."), user("FIGURE: PLATO. The owl?"), assistant("Old.")], True),
        ([{"role": "system", "content": "Act as Plato."}, user("The fox?"), assistant("Brown.")], True),
        ([user("The fox?"), assistant("Act as Plato.")], False),
        ([user("Who was Plato?"), assistant("A figure.")], False),
    ],
)
def test_users_and_system_messages_state_constraints_and_answers_do_not(messages: Messages, stated: bool) -> None:
    dialogue = make_dialogue(messages, family="fact", source="test")
    assert states_one_of(dialogue, [CHECKED, FREE]) is stated
    assert not states_one_of(dialogue, [CHECKED])


# The probe

TURNS = [[user(f"Question {number}?"), assistant("Yes.")] for number in range(5)]
CONFIG = GattConfig(probe_answers=4)


def test_each_constraint_is_asked_in_a_single_turn_in_both_wordings() -> None:
    sampler = ScriptedPolicy(lambda messages, position: "Yes, amen." if "End:" in messages[0]["content"] else "Yes.")
    probed = probe([CHECKED, FREE], TURNS, sampler, by_checkers_and_models([CHECKED, FREE], NamingJudge()), CONFIG, 0)
    assert probed == [Probed(CHECKED, 2, 4), Probed(FREE, 0, 4)]
    assert all(len(messages) == 1 for messages in sampler.asked) and len(sampler.asked) == 8
    words = ["End with amen.", "End: amen."] * 2 + ["Act as Plato.", "Figure: Plato."] * 2
    assert [messages[0]["content"].partition(" Question")[0] for messages in sampler.asked] == words
    questions = [messages[0]["content"].split()[-1] for messages in sampler.asked]
    assert len(set(questions[:4])) == len(set(questions[4:])) == 4, "no question twice to one constraint"


def test_fewer_questions_give_fewer_answers_and_none_is_refused() -> None:
    sampler = ScriptedPolicy(lambda messages, position: "amen")
    assert probe([CHECKED], TURNS[:2], sampler, by_checkers_and_models([CHECKED]), CONFIG, 0) == [Probed(CHECKED, 2, 2)]
    with pytest.raises(GattError, match="there is no question"):
        probe([CHECKED], [], sampler, by_checkers_and_models([CHECKED]), CONFIG, 0)


def test_constraints_that_too_few_answers_obey_are_left_out() -> None:
    probed = [Probed(CHECKED, 1, 4), Probed(FREE, 2, 4)]
    assert obeyed(probed, 0.5) == ([FREE], probed[:1])
    assert obeyed(probed, 0.25) == ([CHECKED, FREE], [])
    assert obeyed([Probed(CHECKED, 0, 4), Probed(FREE, 2, 4)], 0.0)[0] == [FREE], "what is never obeyed cannot be learnt"


def test_a_policy_that_obeys_none_is_told_with_the_rate_of_each() -> None:
    with pytest.raises(GattError, match=r"(?s)obeys none of 2 constraints.*  end amen: 1 of 4\n  figure Plato: 0 of 4"):
        obeyed([Probed(CHECKED, 1, 4), Probed(FREE, 0, 4)], 0.5)
