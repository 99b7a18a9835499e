"""Does an answer obey a constraint? Told by a checker where the constraint names one, and judged by a model where it does not.

A judge is a policy that is asked (``policy/judging.py``). Without one the reward model judges, by a stand-in that is ours: an
answer obeys when the reward model, reading the dialogue with the constraint in front of every user message, scores it above the
dialogue's own last answer, which was not made under the constraint.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gatt.checkers import make_checker
from gatt.constraints import Constraint
from policy.judging import Judge, Judgement
from preference_data.messages import Messages, assistant, check_dialogue, user
from preference_data.prompt import Dialogue
from reward_model.scoring import Scorer


class GattError(ValueError):
    """Ghost Attention dialogues cannot be made of what was given."""


class Asked(NamedTuple):
    """An answer to be judged. ``dialogue`` is without the constraint, and ends with its own last answer, not the one judged.

    Where no reward model judges, a prompt will do: what is judged was said to the last user message.
    """

    constraint: Constraint
    dialogue: Messages
    response: str


Obeys = Callable[[Sequence[tuple[Constraint, Messages, str]]], list[bool]]


def by_rule(rule: Callable[[Constraint, str], bool]) -> Obeys:
    """Judge each answer by itself, from its text alone."""
    return lambda asked: [rule(constraint, response) for constraint, _, response in asked]


def by_checkers_and_models(
    constraints: Sequence[Constraint], judge: Judge | None = None, scorer: Scorer | None = None
) -> Obeys:
    """Checkers for those of ``constraints`` that name one; for the rest ``judge``, or ``scorer`` without a judge.

    Raises CheckError for a checker that cannot be used, and GattError where constraints need a model and there is none.
    """
    checkers = {each: make_checker(each.check) for each in constraints if each.check is not None}
    unchecked = [each for each in constraints if each.check is None]
    if unchecked and judge is None and scorer is None:
        shown = ", ".join(f"{each.family} {each.value}" for each in unchecked[:8])
        raise GattError(
            f"{len(unchecked)} of {len(constraints)} constraints have no checker ({shown}), and nothing was given to tell "
            "whether they are obeyed; give a judge (--judge REF), or a check to each constraint"
        )

    def obeys(given: Sequence[tuple[Constraint, Messages, str]]) -> list[bool]:
        asked = [Asked(*each) for each in given]
        verdicts = [each.constraint in checkers and checkers[each.constraint](each.response) for each in asked]
        left = [place for place, each in enumerate(asked) if each.constraint not in checkers and each.response.strip()]
        if left:
            rest = [asked[place] for place in left]
            judged = judge.judge([_judgement(each) for each in rest]) if judge else _preferred(rest, scorer)
            for place, verdict in zip(left, judged, strict=True):
                verdicts[place] = verdict
        return verdicts

    return obeys


def with_instruction(dialogue: Messages, instruction: str) -> Messages:
    """The prompt of the dialogue's last turn, with ``instruction`` in front of every user message.

    Raises MessagesError for what is no dialogue, GattError for one with a system message.
    """
    check_dialogue(dialogue)
    if dialogue[0]["role"] == "system":
        raise GattError("this dialogue has a system message, which would compete with the instruction; give one without")
    return [user(f"{instruction} {message['content']}") if message["role"] == "user" else message for message in dialogue[:-1]]


def states_one_of(dialogue: Dialogue, constraints: Sequence[Constraint]) -> bool:
    """Does the user, or a system message, state one of the constraints, in one of its two wordings and in any letter case?"""
    asked = [message["content"].casefold() for message in dialogue.messages if message["role"] != "assistant"]
    return any(
        words.casefold() in content for each in constraints for words in (each.instruction, each.terse) for content in asked
    )


def _judgement(asked: Asked) -> Judgement:
    message = next(each for each in reversed(asked.dialogue) if each["role"] == "user")
    return Judgement(asked.constraint.instruction, message["content"], asked.response)


def _preferred(asked: Sequence[Asked], scorer: Scorer | None) -> list[bool]:
    """Does the reward model, told of the constraint, score the answer above the dialogue's own last one?"""
    assert scorer is not None
    prompts = [with_instruction(each.dialogue, each.constraint.instruction) for each in asked]
    own = [[*prompt, each.dialogue[-1]] for prompt, each in zip(prompts, asked, strict=True)]
    new = [[*prompt, assistant(each.response)] for prompt, each in zip(prompts, asked, strict=True)]
    scores = scorer.score([*own, *new])
    return (scores[len(own) :] > scores[: len(own)]).tolist()
