"""Multi-turn consistency: does a policy keep to an instruction that was given once? (paper section 3.3, Table 30)

The instruction stands in the first user message only. The policy then talks through the whole dialogue: every later prompt
holds its own earlier responses, good or bad, so a slip at turn 2 burdens turn 4 as it would in use. At the turns asked
about, a dialogue obeys when its response obeys every constraint of the instruction.

Two ways in which a dialogue ends early are counted, never hidden:

- the context is full: the dialogue leaves the count from there on (the paper, too, measures up to a full context) and
  ``num_overflowed`` tells how many did;
- the response is empty: a chat format has no empty message to go on from, so the dialogue counts as not obeying from there on.

Which constraints there are, and what obeying them means, comes in as values and a function: this module knows neither.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from eval.intervals import Estimate, rate
from policy.generation import Response, Sampler
from preference_data.messages import Messages, assistant, user

TURNS = (1, 2, 4, 6, 20)  # Table 30 asks at 2, 4, 6 and 20; turn 1 shows that the instruction was understood at all


@dataclass(frozen=True, slots=True)
class ConsistencyDialogue:
    """An instruction meant to hold throughout, its constraints, and what the user says at each turn."""

    instruction_text: str
    constraints: tuple[Any, ...]
    user_turns: tuple[str, ...]

    def user_message(self, turn: int) -> str:
        """What the user says at ``turn`` (from 1); the instruction comes before the first."""
        content = self.user_turns[turn - 1]
        return f"{self.instruction_text} {content}" if turn == 1 else content


@dataclass(frozen=True, slots=True)
class ConsistencyStats:
    """One turn of all dialogues; tuples have one entry a dialogue, in order."""

    turn: int
    last_turn: int
    responses: tuple[str | None, ...]  # None: the dialogue had ended before
    obeyed: tuple[bool | None, ...] | None  # None for a turn not asked about; inside, None where the context was full
    num_overflowed: int  # dialogues whose context has been full by this turn
    num_tokens: int  # response tokens sampled in this turn

    @property
    def estimate(self) -> Estimate:
        """Share of dialogues that obey, among those whose context was not full; only for a turn asked about."""
        if self.obeyed is None:
            raise ValueError(f"turn {self.turn} was sampled but not asked about; add it to turns")
        return rate([obeyed for obeyed in self.obeyed if obeyed is not None])


def consistency(
    sampler: Sampler,
    dialogues: Sequence[ConsistencyDialogue],
    obeys: Callable[[Any, str], bool],
    fits_context: Callable[[Messages], bool],
    turns: Sequence[int] = TURNS,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_new_tokens: int = 32,
    seed: int = 0,
    done: Sequence[ConsistencyStats] = (),
) -> Generator[ConsistencyStats, None, dict[int, tuple[bool | None, ...]]]:
    """Talk through all dialogues at once, turn by turn; yields each turn's stats.

    ``obeys(constraint, response)`` judges one constraint; ``fits_context(prompt)`` says whether the prompt and
    ``max_new_tokens`` more tokens fit the policy's context. ``done``: the first turns, from an earlier run; they are told again
    and not sampled. The generator's return value maps each turn asked about to ``obeyed``. Raises ValueError when there are no
    dialogues, or one is shorter than the last turn.
    """
    last_turn = _check(dialogues, turns)
    histories: list[Messages] = [[] for _ in dialogues]
    overflowed, fell_silent = set[int](), set[int]()
    obeyed_at: dict[int, tuple[bool | None, ...]] = {}
    for turn in range(1, last_turn + 1):
        speaking = []
        for i, dialogue in enumerate(dialogues):
            if i in overflowed or i in fell_silent:
                continue
            histories[i].append(user(dialogue.user_message(turn)))
            if fits_context(histories[i]):
                speaking.append(i)
            else:
                overflowed.add(i)
        if turn <= len(done):
            said = {i: text for i, text in enumerate(done[turn - 1].responses) if text is not None}
            num_tokens = done[turn - 1].num_tokens
        else:
            responses = _respond(sampler, [histories[i] for i in speaking], temperature, top_p, max_new_tokens, seed)
            said = {i: response.text for i, response in zip(speaking, responses, strict=True)}
            num_tokens = sum(len(response.ids) for response in responses)
        for i, text in said.items():
            if text.strip():
                histories[i].append(assistant(text))
            else:
                fell_silent.add(i)
        if turn in turns:
            obeyed_at[turn] = tuple(
                None if i in overflowed else i not in fell_silent and all(obeys(c, said[i]) for c in dialogue.constraints)
                for i, dialogue in enumerate(dialogues)
            )
        yield ConsistencyStats(
            turn=turn,
            last_turn=last_turn,
            responses=tuple(said.get(i) for i in range(len(dialogues))),
            obeyed=obeyed_at.get(turn),
            num_overflowed=len(overflowed),
            num_tokens=num_tokens,
        )
    return obeyed_at


def _respond(
    sampler: Sampler, prompts: list[Messages], temperature: float, top_p: float, max_new_tokens: int, seed: int
) -> list[Response]:
    if not prompts:
        return []
    # copies, so that what a sampler keeps does not grow with the dialogue
    samples = sampler.sample([list(prompt) for prompt in prompts], 1, temperature, top_p, max_new_tokens, seed)
    return [responses[0] for responses in samples]


def _check(dialogues: Sequence[ConsistencyDialogue], turns: Sequence[int]) -> int:
    """The last turn asked about, after checking that every dialogue reaches it."""
    if not dialogues:
        raise ValueError("consistency was asked of no dialogues; give at least one")
    if not turns or min(turns) < 1:
        raise ValueError(f"turns are {tuple(turns)}; name at least one, counted from 1")
    last_turn = max(turns)
    for position, dialogue in enumerate(dialogues):
        if len(dialogue.user_turns) < last_turn:
            raise ValueError(
                f"dialogue {position} has {len(dialogue.user_turns)} user turns and turn {last_turn} was asked about; "
                "give longer dialogues or earlier turns"
            )
        if not dialogue.constraints:
            raise ValueError(f"dialogue {position} has no constraints, so any response would obey; give at least one")
    return last_turn
