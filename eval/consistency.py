"""Multi-turn consistency: does a policy keep to an instruction that was given once? (paper section 3.3, Table 30)

The instruction stands in the first user message, or in the system message, where training had put it. The policy then talks
through the whole dialogue: every later prompt holds its own earlier responses, good or bad, so a slip at turn 2 burdens turn 4
as it would in use. A response obeys when it obeys every constraint of the instruction.

*Recall* is what the paper's Table 30 asks about: at the turns asked about, from the second on, the same dialogue is also asked
what the instruction had set. The answer is a branch, on which the dialogue does not go on.

A dialogue without an instruction is the control: its constraints are those that nobody asked for, and a response that obeys any
of them obeys falsely.

Two ways in which a dialogue ends early are counted, never hidden:

- the context is full: the dialogue leaves the count from there on (the paper, too, measures up to a full context) and
  ``num_overflowed`` tells how many did. A dialogue ``to_end`` is meant to come there, and its last turn is marked;
- the response is empty: a chat format has no empty message to go on from, so the dialogue counts as not obeying from there on.

Which constraints there are, and what obeying them means, comes in as values and functions: this module knows neither.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, user

TURNS = (1, 2, 4, 6, 10, 20)  # Table 30 asks at 2, 4, 6 and 20; turn 1 shows that the instruction was understood at all

Obeys = Callable[[Sequence[tuple[Any, Messages, str]]], list[bool]]
"""Does each response obey? From (constraint, the prompt that was answered, response)."""
InstructionIn = Literal["first_message", "system"]


@dataclass(frozen=True, slots=True)
class ConsistencyDialogue:
    """An instruction meant to hold throughout, its constraints, and what the user says at each turn.

    ``group`` says what the dialogue is measured for. Without ``instruction_text``, ``constraints`` are those not asked for.
    ``to_end``: the user goes on until the context is full; ``user_turns`` must suffice for that.
    """

    group: str
    instruction_text: str
    constraints: tuple[Any, ...]
    user_turns: tuple[str, ...]
    instruction_in: InstructionIn = "first_message"
    to_end: bool = False
    recall_question: str | None = None

    @property
    def system(self) -> Messages:
        """The system message, where the instruction is one."""
        held = self.instruction_text and self.instruction_in == "system"
        return [{"role": "system", "content": self.instruction_text}] if held else []

    def user_message(self, turn: int) -> str:
        """What the user says at ``turn`` (from 1), with the instruction before it where it stands there."""
        content = self.user_turns[turn - 1]
        stated = turn == 1 and self.instruction_text and self.instruction_in == "first_message"
        return f"{self.instruction_text} {content}" if stated else content


@dataclass(frozen=True, slots=True)
class Recall:
    """How recall is asked: ``sampler`` answers on the branches, ``recalls(constraint, response)`` judges.

    The sampler that holds the dialogues, where it keeps what it reads of them, would lose that to a branch: give another.
    """

    sampler: Sampler
    recalls: Callable[[Any, str], bool]


@dataclass(frozen=True, slots=True)
class ConsistencyStats:
    """One turn of all dialogues; tuples have one entry a dialogue, in order."""

    turn: int
    last_turn: int
    responses: tuple[str | None, ...]  # None: the dialogue had ended before
    obeyed: tuple[bool | None, ...]  # None where the context was full, or the user had no more to say
    is_last: tuple[bool, ...]  # True at the last turn of a dialogue to_end
    recall_responses: tuple[str | None, ...]
    recalled: tuple[bool | None, ...]  # None where it was not asked
    num_overflowed: int  # dialogues whose context has been full by this turn
    num_tokens: int  # response tokens sampled in this turn


@dataclass(slots=True)
class _Talk:
    """A dialogue under way; while it is open, ``messages`` is the prompt of the coming turn."""

    dialogue: ConsistencyDialogue
    messages: Messages
    state: Literal["open", "silent", "full", "over"] = "open"

    def ask(self, turn: int, fits_context: Callable[[Messages], bool]) -> None:
        """The user speaks at ``turn``, if there is anything left to say and room for an answer."""
        if turn > len(self.dialogue.user_turns):
            self.state = "over"
            return
        self.messages.append(user(self.dialogue.user_message(turn)))
        if not fits_context(self.messages):
            self.state = "full"

    def hear(self, text: str) -> bool:
        """The policy answers; is there anything to go on from?"""
        if text.strip():
            self.messages.append(assistant(text))
        else:
            self.state = "silent"
        return self.state == "open"


def consistency(
    sampler: Sampler,
    dialogues: Sequence[ConsistencyDialogue],
    obeys: Obeys,
    fits_context: Callable[[Messages], bool],
    turns: Sequence[int] = TURNS,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int = 32,
    seed: int = 0,
    done: Sequence[ConsistencyStats] = (),
    recall: Recall | None = None,
) -> Iterator[ConsistencyStats]:
    """Talk through all dialogues at once, turn by turn; yields each turn's stats, until all have ended and ``turns`` are past.

    ``fits_context(prompt)`` says whether the prompt and ``max_new_tokens`` more tokens fit the policy's context. ``turns`` are
    those at which recall is asked. ``done``: the first turns, from an earlier run; they are told again, and nothing of them is
    sampled or judged. Raises ValueError when there are no dialogues, when one has no constraints, and when none reaches the
    last of ``turns``.
    """
    _check(dialogues, turns)
    talks = [_Talk(dialogue, dialogue.system) for dialogue in dialogues]
    last_turn = max(len(dialogue.user_turns) for dialogue in dialogues)

    def respond(asked: Sampler, prompts: Sequence[Messages]) -> list[Response]:
        if not prompts:
            return []
        # copies, so that what a sampler keeps does not grow with the dialogue
        return [group[0] for group in asked.sample([list(p) for p in prompts], 1, temperature, top_p, max_new_tokens, seed)]

    def told(turn: int) -> ConsistencyStats:
        prompts = {i: list(talk.messages) for i, talk in enumerate(talks) if talk.state == "open"}
        responses = respond(sampler, list(prompts.values()))
        said = {i: response.text for i, response in zip(prompts, responses, strict=True)}
        branches = _branches(prompts, dialogues, fits_context) if recall and turn > 1 and turn in turns else {}
        answers = respond(recall.sampler, list(branches.values())) if recall else []
        recalled = {i: response.text for i, response in zip(branches, answers, strict=True)}
        everyone = range(len(dialogues))
        return ConsistencyStats(
            turn=turn,
            last_turn=last_turn,
            responses=tuple(said.get(i) for i in everyone),
            obeyed=_obeyed(talks, turn, prompts, said, obeys),
            is_last=(False,) * len(dialogues),
            recall_responses=tuple(recalled.get(i) for i in everyone),
            recalled=tuple(_recalled(dialogues[i], recalled.get(i), recall) for i in everyone),
            num_overflowed=sum(talk.state == "full" for talk in talks),
            num_tokens=sum(len(response.ids) for response in (*responses, *answers)),
        )

    for talk in talks:
        talk.ask(1, fits_context)
    for turn in range(1, last_turn + 1):
        if turn > max(turns) and all(talk.state != "open" for talk in talks):
            return
        stats = done[turn - 1] if turn <= len(done) else told(turn)
        spoke = [talk for talk, text in zip(talks, stats.responses, strict=True) if text is not None and talk.hear(text)]
        for talk in spoke:
            talk.ask(turn + 1, fits_context)
        is_last = [
            text is not None and talk.dialogue.to_end and talk.state != "open"
            for talk, text in zip(talks, stats.responses, strict=True)
        ]
        yield replace(stats, is_last=tuple(is_last))


def _branches(
    prompts: Mapping[int, Messages], dialogues: Sequence[ConsistencyDialogue], fits_context: Callable[[Messages], bool]
) -> dict[int, Messages]:
    """The prompts that ask for recall in place of what the user says in ``prompts``, by number of the dialogue."""
    found = {i: [*prompt[:-1], user(question)] for i, prompt in prompts.items() if (question := dialogues[i].recall_question)}
    return {i: prompt for i, prompt in found.items() if fits_context(prompt)}


def _obeyed(
    talks: Sequence[_Talk], turn: int, prompts: Mapping[int, Messages], said: Mapping[int, str], obeys: Obeys
) -> tuple[bool | None, ...]:
    """What ``obeys`` finds of all that was ``said``, in one call; the silent do not obey, nor do they obey falsely."""
    asked = [
        (i, (constraint, prompts[i], text))
        for i, text in said.items()
        if text.strip()
        for constraint in talks[i].dialogue.constraints
    ]
    verdicts: dict[int, list[bool]] = {}
    for (i, _), verdict in zip(asked, obeys([each for _, each in asked]) if asked else [], strict=True):
        verdicts.setdefault(i, []).append(verdict)

    def of(i: int, talk: _Talk) -> bool | None:
        if i in verdicts:
            return all(verdicts[i]) if talk.dialogue.instruction_text else any(verdicts[i])
        is_silent = i in said or (talk.state == "silent" and turn <= len(talk.dialogue.user_turns))
        return False if is_silent else None

    return tuple(of(i, talk) for i, talk in enumerate(talks))


def _recalled(dialogue: ConsistencyDialogue, response: str | None, recall: Recall | None) -> bool | None:
    if recall is None or response is None:
        return None
    return all(recall.recalls(constraint, response) for constraint in dialogue.constraints)


def _check(dialogues: Sequence[ConsistencyDialogue], turns: Sequence[int]) -> None:
    if not dialogues:
        raise ValueError("consistency was asked of no dialogues; give at least one")
    if not turns or min(turns) < 1:
        raise ValueError(f"turns are {tuple(turns)}; name at least one, counted from 1")
    longest = max(len(dialogue.user_turns) for dialogue in dialogues)
    if longest < max(turns):
        raise ValueError(
            f"the longest dialogue has {longest} user turns and turn {max(turns)} was asked about; give longer dialogues or "
            "earlier turns"
        )
    for position, dialogue in enumerate(dialogues):
        if not dialogue.constraints:
            raise ValueError(f"dialogue {position} has no constraints, so any response would obey; give at least one")
