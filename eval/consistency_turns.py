"""The turns of dialogues held under an instruction, as they are written down, and the shares that are read off them.

Groups: ``trained``, constraints that Ghost Attention was trained with; ``held_out``, those that it was not; ``none``, dialogues
without an instruction, where obeying means obeying falsely.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eval.bootstrap import contrast
from eval.consistency import ConsistencyDialogue, ConsistencyStats
from eval.intervals import UNKNOWN, Estimate, bootstrap_ratio, rate

TRAINED, HELD_OUT, UNINSTRUCTED = "trained", "held_out", "none"
GROUPS = (TRAINED, HELD_OUT, UNINSTRUCTED)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one dialogue. ``obeyed`` is None where the context was full.

    ``is_last``: of a dialogue that went on until its context was full, the last turn. ``recall_response``: what was said on a
    branch to ``recall_question`` in place of ``user``; None where it was not asked.
    """

    dialogue: int
    group: str
    turn: int
    instruction: str
    families: list[str]
    user: str
    response: str | None
    obeyed: bool | None
    is_last: bool
    recall_question: str | None
    recall_response: str | None
    recalled: bool | None


Pick = Callable[[Turn], bool | None]
"""What a turn is asked; None where it has nothing to say to it."""


def obeyed(turn: Turn) -> bool | None:
    return turn.obeyed


def recalled(turn: Turn) -> bool | None:
    return turn.recalled


def turns_of(dialogues: Sequence[ConsistencyDialogue], stats: ConsistencyStats, last_asked: int) -> list[Turn]:
    """A row for each dialogue that was to speak in this turn; after ``last_asked``, for those alone that did."""
    rows = []
    for i, dialogue in enumerate(dialogues):
        response = stats.responses[i]
        if stats.turn > len(dialogue.user_turns) or (response is None and stats.turn > last_asked):
            continue
        asked = stats.recall_responses[i] is not None
        rows.append(
            Turn(
                dialogue=i,
                group=dialogue.group,
                turn=stats.turn,
                instruction=dialogue.instruction_text,
                families=[constraint.family for constraint in dialogue.constraints] if dialogue.instruction_text else [],
                user=dialogue.user_message(stats.turn),
                response=response,
                obeyed=stats.obeyed[i],
                is_last=stats.is_last[i],
                recall_question=dialogue.recall_question if asked else None,
                recall_response=stats.recall_responses[i],
                recalled=stats.recalled[i],
            )
        )
    return rows


def select(turns: Sequence[Turn], group: str, at: Sequence[int] = (), family: str | None = None) -> list[Turn]:
    """The turns of a group, at the numbers ``at`` or at all, of instructions with ``family`` in them or of all."""
    return [
        turn
        for turn in turns
        if turn.group == group and (not at or turn.turn in at) and (family is None or family in turn.families)
    ]


def last_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The last turn of each dialogue that went on until its context was full."""
    return [turn for turn in turns if turn.is_last]


def families(turns: Sequence[Turn], group: str) -> list[str]:
    """The families of a group's constraints, in alphabetical order."""
    return sorted({family for turn in turns if turn.group == group for family in turn.families})


def share(turns: Sequence[Turn], pick: Pick = obeyed) -> Estimate:
    """Share of yes among the turns that have an answer; over dialogues where one has several. `UNKNOWN` where none has."""
    known = [(turn.dialogue, answer) for turn in turns if (answer := pick(turn)) is not None]
    dialogues = [dialogue for dialogue, _ in known]
    if len(set(dialogues)) == len(dialogues):
        return rate([answer for _, answer in known])
    return bootstrap_ratio([float(answer) for _, answer in known], [1.0] * len(known), dialogues)


def difference(ours: Sequence[Turn], theirs: Sequence[Turn], pick: Pick = obeyed) -> Estimate:
    """Our share less theirs, on the turns where both have an answer, bootstrapped over dialogues; n counts the pairs.

    `UNKNOWN` where there are none. Raises ValueError where the two did not hold the same dialogues.
    """
    others = {(turn.dialogue, turn.turn): turn for turn in theirs}
    pairs = [(turn, others[turn.dialogue, turn.turn]) for turn in ours if (turn.dialogue, turn.turn) in others]
    if strange := [mine for mine, other in pairs if (mine.user, mine.group) != (other.user, other.group)]:
        raise ValueError(
            f"dialogue {strange[0].dialogue} differs between the two evaluations at turn {strange[0].turn}, so they cannot be "
            "compared; make both with the same prompts, settings and seed: `rlhf evaluate consistency`"
        )
    known = [pair for pair in pairs if None not in map(pick, pair)]
    if not known:
        return UNKNOWN
    sides, weights = ("ours", "theirs"), {"ours": 1.0, "theirs": -1.0}
    found = contrast(
        [float(bool(pick(turn))) for pair in known for turn in pair],
        [side for _ in known for side in sides],
        weights,
        [turn.dialogue for pair in known for turn in pair],
    )
    return replace(found, n=len(known))


def consistency_measures(turns: Sequence[Turn]) -> dict[str, Estimate]:
    """What else there is to tell of an arm, in a few words each, beside the shares of trained constraints by turn."""
    asked = [turn.turn for turn in turns if turn.recalled is not None]
    late = max((turn.turn for turn in select(turns, HELD_OUT)), default=0)
    found = {
        "instruction kept at the last turn that the context holds": share(last_turns(turns)),
        f"recalled when asked at turn {max(asked, default=0)}": share(
            select(turns, TRAINED, (max(asked, default=0),)), recalled
        ),
        f"held-out constraints kept at turn {late}": share(select(turns, HELD_OUT, (late,))),
        "obeyed though nobody asked, all turns": share(select(turns, UNINSTRUCTED)),
    }
    return {name: estimate for name, estimate in found.items() if estimate.known}
