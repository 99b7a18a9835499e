"""Does a response obey a constraint? A checker decides where the constraint names one; otherwise a model judges.

The judge is a policy that is asked (``policy/judging.py``). Without one the reward model judges, by a substitute of our own: a
response obeys when the reward model, reading the dialogue with the constraint in front of every user message, scores it above
the dialogue's own last response, which was not sampled under the constraint.
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
    """Ghost Attention dialogues cannot be made from the given inputs."""


class Asked(NamedTuple):
    """A response to be judged. ``dialogue`` is without the constraint, and ends with its own last response, not this one.

    Where no reward model judges, ``dialogue`` may be the prompt alone, ending with the user message that was responded to.
    """

    constraint: Constraint
    dialogue: Messages
    response: str


Obeys = Callable[[Sequence[tuple[Constraint, Messages, str]]], list[bool]]
"""Does each response obey? From (constraint, dialogue, response), as in `Asked`."""


def by_rule(rule: Callable[[Constraint, str], bool]) -> Obeys:
    """Check each response by itself, from its text alone."""
    return lambda responses: [rule(constraint, response) for constraint, _, response in responses]


def by_checkers_and_models(
    constraints: Sequence[Constraint], judge: Judge | None = None, scorer: Scorer | None = None
) -> Obeys:
    """Checkers for those of ``constraints`` that name one; for the rest ``judge``, or ``scorer`` without a judge.

    Raises CheckError for a checker that cannot be used, and GattError where constraints need a model and there is none.
    """
    checkers = {constraint: make_checker(constraint.check) for constraint in constraints if constraint.check is not None}
    unchecked = [constraint for constraint in constraints if constraint.check is None]
    if unchecked and judge is None and scorer is None:
        first = ", ".join(f"{constraint.family} {constraint.value}" for constraint in unchecked[:8])
        raise GattError(
            f"{len(unchecked)} of {len(constraints)} constraints have no checker ({first}), and there is no model to judge "
            "whether they are obeyed; give a judge (--judge REF), or a check to each constraint"
        )

    def obeys(responses: Sequence[tuple[Constraint, Messages, str]]) -> list[bool]:
        asked = [Asked(*response) for response in responses]
        results = [entry.constraint in checkers and checkers[entry.constraint](entry.response) for entry in asked]
        unchecked_places = [i for i, entry in enumerate(asked) if entry.constraint not in checkers and entry.response.strip()]
        if unchecked_places:
            to_judge = [asked[i] for i in unchecked_places]
            judged = judge.judge([_judgement(entry) for entry in to_judge]) if judge else _preferred(to_judge, scorer)
            for i, result in zip(unchecked_places, judged, strict=True):
                results[i] = result
        return results

    return obeys


def with_instruction(dialogue: Messages, instruction: str) -> Messages:
    """The prompt of the dialogue's last turn, with ``instruction`` in front of every user message.

    Raises MessagesError for messages that are no dialogue, GattError for a dialogue with a system message.
    """
    check_dialogue(dialogue)
    if dialogue[0]["role"] == "system":
        raise GattError("a dialogue has a system message, which would compete with the instruction; give dialogues without one")
    return [user(f"{instruction} {message['content']}") if message["role"] == "user" else message for message in dialogue[:-1]]


def states_one_of(dialogue: Dialogue, constraints: Sequence[Constraint]) -> bool:
    """Does a user or system message state one of the constraints, in either wording and in any letter case?"""
    texts = [message["content"].casefold() for message in dialogue.messages if message["role"] != "assistant"]
    wordings = [wording for constraint in constraints for wording in (constraint.instruction, constraint.terse)]
    return any(wording.casefold() in text for wording in wordings for text in texts)


def _judgement(asked: Asked) -> Judgement:
    last_user_message = next(message for message in reversed(asked.dialogue) if message["role"] == "user")
    return Judgement(asked.constraint.instruction, last_user_message["content"], asked.response)


def _preferred(asked: Sequence[Asked], scorer: Scorer | None) -> list[bool]:
    """Does the reward model, reading the constraint in every user message, score the response above the dialogue's own?"""
    assert scorer is not None
    prompts = [with_instruction(entry.dialogue, entry.constraint.instruction) for entry in asked]
    own = [[*prompt, entry.dialogue[-1]] for prompt, entry in zip(prompts, asked, strict=True)]
    new = [[*prompt, assistant(entry.response)] for prompt, entry in zip(prompts, asked, strict=True)]
    scores = scorer.score([*own, *new])
    return (scores[len(own) :] > scores[: len(own)]).tolist()
