"""Multi-turn consistency: does a policy keep to an instruction that was given once? (paper section 3.3, Table 30)

The instruction is in the first user message, or in the system message, wherever training had it. The policy then goes through
the whole dialogue: every later prompt holds its own earlier responses, good or bad, so that a slip at turn 2 affects turn 4 as
it would in use. A response obeys when it obeys every constraint of the instruction.

*Recall* is what the paper's Table 30 asks about: at given turns, from the second on, the same dialogue is also asked what the
instruction was. The response is a branch; the dialogue continues without it.

A dialogue without an instruction is the control: nobody asked for its constraints, and a response that obeys any of them obeys
falsely.

A dialogue can end early in two ways, and both are counted:

- the context is full: the dialogue leaves the count from there on (the paper, too, measures up to a full context), and
  ``num_overflowed`` says how many did. A dialogue with ``to_end`` is meant to get there, and its last turn is marked;
- the response is empty: the chat format has no empty message to continue from, so the dialogue counts as not obeying from
  there on.

Constraints and the functions that check them are arguments: this module knows neither.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, user

TURNS = (1, 2, 4, 6, 10, 20)  # Table 30 asks at 2, 4, 6 and 20; turn 1 shows that the instruction was understood at all

Obeys = Callable[[Sequence[tuple[Any, Messages, str]]], list[bool]]
"""Does each response obey? From (constraint, prompt, response)."""
FitsContext = Callable[[Messages], bool]
"""Do a prompt and the longest response to it fit the policy's context?"""
InstructionIn = Literal["first_message", "system"]


@dataclass(frozen=True, slots=True)
class ConsistencyDialogue:
    """An instruction meant to hold throughout, its constraints, and what the user says at each turn.

    ``group`` says what the dialogue is measured for. Without ``instruction_text``, ``constraints`` are those not asked for.
    ``to_end``: the user continues until the context is full; ``user_turns`` must be enough for that.
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
        in_system = self.instruction_text and self.instruction_in == "system"
        return [{"role": "system", "content": self.instruction_text}] if in_system else []

    def user_message(self, turn: int) -> str:
        """What the user says at ``turn`` (from 1), with the instruction in front where the first message holds it."""
        content = self.user_turns[turn - 1]
        in_this_message = turn == 1 and self.instruction_text and self.instruction_in == "first_message"
        return f"{self.instruction_text} {content}" if in_this_message else content


@dataclass(frozen=True, slots=True)
class Recall:
    """How recall is asked: ``sampler`` responds on the branches, ``recalls(constraint, response)`` checks the response.

    A sampler that caches the dialogues it samples would lose the cache of a dialogue to its branch: give a second sampler here.
    """

    sampler: Sampler
    recalls: Callable[[Any, str], bool]


@dataclass(frozen=True, slots=True)
class ConsistencyStats:
    """One turn of all dialogues; tuples have one entry per dialogue, in order."""

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
class _OpenDialogue:
    """A dialogue in progress; while its state is open, ``messages`` is the prompt of the coming turn."""

    dialogue: ConsistencyDialogue
    messages: Messages
    state: Literal["open", "silent", "full", "over"] = "open"

    def add_user_message(self, turn: int, fits_context: FitsContext) -> None:
        """Add what the user says at ``turn``, if there is anything left to say and room for a response."""
        if turn > len(self.dialogue.user_turns):
            self.state = "over"
            return
        self.messages.append(user(self.dialogue.user_message(turn)))
        if not fits_context(self.messages):
            self.state = "full"

    def add_response(self, response: str) -> None:
        """Add the policy's response; an empty one ends the dialogue."""
        if response.strip():
            self.messages.append(assistant(response))
        else:
            self.state = "silent"


def consistency(
    sampler: Sampler,
    dialogues: Sequence[ConsistencyDialogue],
    obeys: Obeys,
    fits_context: FitsContext,
    turns: Sequence[int] = TURNS,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int = 32,
    seed: int = 0,
    done: Sequence[ConsistencyStats] = (),
    recall: Recall | None = None,
) -> Iterator[ConsistencyStats]:
    """Go through all dialogues at once, turn by turn; yield the stats of each turn until all have ended and ``turns`` are past.

    ``fits_context(prompt)`` says whether the prompt and ``max_new_tokens`` more tokens fit the policy's context. ``turns`` are
    those at which recall is asked. ``done``: the stats of the first turns, from an earlier run; they are yielded again, and
    nothing of those turns is sampled or checked. Raises ValueError when there are no dialogues, when one has no constraints,
    and when none reaches the last of ``turns``.
    """
    _check(dialogues, turns)
    open_dialogues = [_OpenDialogue(dialogue, dialogue.system) for dialogue in dialogues]
    last_turn = max(len(dialogue.user_turns) for dialogue in dialogues)

    def sample(turn_sampler: Sampler, prompts: Sequence[Messages]) -> list[Response]:
        if not prompts:
            return []
        # copies, so that what a sampler caches does not grow with the dialogue
        copies = [list(prompt) for prompt in prompts]
        return [group[0] for group in turn_sampler.sample(copies, 1, temperature, top_p, max_new_tokens, seed)]

    def sample_turn(turn: int) -> ConsistencyStats:
        prompts = {i: list(entry.messages) for i, entry in enumerate(open_dialogues) if entry.state == "open"}
        sampled = sample(sampler, list(prompts.values()))
        responses = {i: response.text for i, response in zip(prompts, sampled, strict=True)}
        branches = _branches(prompts, dialogues, fits_context) if recall and turn > 1 and turn in turns else {}
        sampled_on_branches = sample(recall.sampler, list(branches.values())) if recall else []
        recall_responses = {i: response.text for i, response in zip(branches, sampled_on_branches, strict=True)}
        everyone = range(len(dialogues))
        return ConsistencyStats(
            turn=turn,
            last_turn=last_turn,
            responses=tuple(responses.get(i) for i in everyone),
            obeyed=_obeyed(open_dialogues, turn, prompts, responses, obeys),
            is_last=(False,) * len(dialogues),
            recall_responses=tuple(recall_responses.get(i) for i in everyone),
            recalled=tuple(_recalled(dialogues[i], recall_responses.get(i), recall) for i in everyone),
            num_overflowed=sum(entry.state == "full" for entry in open_dialogues),
            num_tokens=sum(len(response.ids) for response in (*sampled, *sampled_on_branches)),
        )

    for entry in open_dialogues:
        entry.add_user_message(1, fits_context)
    for turn in range(1, last_turn + 1):
        if turn > max(turns) and all(entry.state != "open" for entry in open_dialogues):
            return
        stats = done[turn - 1] if turn <= len(done) else sample_turn(turn)
        yield replace(stats, is_last=_advance(open_dialogues, stats.responses, turn + 1, fits_context))


def _advance(
    open_dialogues: Sequence[_OpenDialogue], responses: Sequence[str | None], next_turn: int, fits_context: FitsContext
) -> tuple[bool, ...]:
    """Add each response and what the user says at ``next_turn``. Returns for each dialogue: was this the last turn of a
    dialogue to_end?"""
    is_last = []
    for entry, response in zip(open_dialogues, responses, strict=True):
        if response is not None:
            entry.add_response(response)
            if entry.state == "open":
                entry.add_user_message(next_turn, fits_context)
        is_last.append(response is not None and entry.dialogue.to_end and entry.state != "open")
    return tuple(is_last)


def _branches(
    prompts: Mapping[int, Messages], dialogues: Sequence[ConsistencyDialogue], fits_context: FitsContext
) -> dict[int, Messages]:
    """The prompts that ask for recall in place of what the user says in ``prompts``, by number of the dialogue."""
    branches = {
        i: [*prompt[:-1], user(question)] for i, prompt in prompts.items() if (question := dialogues[i].recall_question)
    }
    return {i: prompt for i, prompt in branches.items() if fits_context(prompt)}


def _obeyed(
    open_dialogues: Sequence[_OpenDialogue],
    turn: int,
    prompts: Mapping[int, Messages],
    responses: Mapping[int, str],
    obeys: Obeys,
) -> tuple[bool | None, ...]:
    """Whether each dialogue's response obeys, from one call of ``obeys``; an empty response neither obeys nor obeys falsely."""
    checks = [
        (i, (constraint, prompts[i], response))
        for i, response in responses.items()
        if response.strip()
        for constraint in open_dialogues[i].dialogue.constraints
    ]
    results: dict[int, list[bool]] = {}
    for (i, _), result in zip(checks, obeys([check for _, check in checks]) if checks else [], strict=True):
        results.setdefault(i, []).append(result)

    def has_obeyed(i: int, entry: _OpenDialogue) -> bool | None:
        if i in results:
            return all(results[i]) if entry.dialogue.instruction_text else any(results[i])
        is_silent = i in responses or (entry.state == "silent" and turn <= len(entry.dialogue.user_turns))
        return False if is_silent else None

    return tuple(has_obeyed(i, entry) for i, entry in enumerate(open_dialogues))


def _recalled(dialogue: ConsistencyDialogue, response: str | None, recall: Recall | None) -> bool | None:
    if recall is None or response is None:
        return None
    return all(recall.recalls(constraint, response) for constraint in dialogue.constraints)


def _check(dialogues: Sequence[ConsistencyDialogue], turns: Sequence[int]) -> None:
    if not dialogues:
        raise ValueError("cannot measure consistency on no dialogues; give at least one")
    if not turns or min(turns) < 1:
        raise ValueError(f"turns are {tuple(turns)}; name at least one, counted from 1")
    longest = max(len(dialogue.user_turns) for dialogue in dialogues)
    if longest < max(turns):
        raise ValueError(
            f"the longest dialogue has {longest} user turns and turn {max(turns)} was asked for; give longer dialogues or "
            "earlier turns"
        )
    for position, dialogue in enumerate(dialogues):
        if not dialogue.constraints:
            raise ValueError(f"dialogue {position} has no constraints, so any response would obey; give at least one")
