"""Records of the turns of dialogues under an instruction, and the shares that are computed from them.

Groups: ``trained``, constraints that Ghost Attention was trained with; ``held_out``, those that it was not; ``none``, dialogues
without an instruction, where obeying means obeying falsely.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.bootstrap import paired_difference
from eval.consistency import ConsistencyDialogue, ConsistencyStats
from eval.intervals import UNKNOWN, Estimate, bootstrap_ratio, rate

TRAINED, HELD_OUT, UNINSTRUCTED = "trained", "held_out", "none"
GROUPS = (TRAINED, HELD_OUT, UNINSTRUCTED)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one dialogue. ``obeyed`` is None where the context was full.

    ``is_last``: the last turn of a dialogue that continued until its context was full. ``recall_response``: the response on a
    branch, to ``recall_question`` in place of ``user``; None where it was not asked.
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
"""A yes or no about a turn; None where the turn does not say."""


def obeyed(turn: Turn) -> bool | None:
    return turn.obeyed


def recalled(turn: Turn) -> bool | None:
    return turn.recalled


def turns_of(dialogues: Sequence[ConsistencyDialogue], stats: ConsistencyStats, last_asked: int) -> list[Turn]:
    """A record for each dialogue that was to respond in this turn; after turn ``last_asked`` only for those that did."""
    turns = []
    for i, dialogue in enumerate(dialogues):
        response = stats.responses[i]
        if stats.turn > len(dialogue.user_turns) or (response is None and stats.turn > last_asked):
            continue
        asked_for_recall = stats.recall_responses[i] is not None
        turns.append(
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
                recall_question=dialogue.recall_question if asked_for_recall else None,
                recall_response=stats.recall_responses[i],
                recalled=stats.recalled[i],
            )
        )
    return turns


def select(turns: Sequence[Turn], group: str, at: Sequence[int] = (), family: str | None = None) -> list[Turn]:
    """The turns of a group, only those numbered ``at`` if given, and only of instructions with the ``family`` if given."""
    return [
        turn
        for turn in turns
        if turn.group == group and (not at or turn.turn in at) and (family is None or family in turn.families)
    ]


def last_turns(turns: Sequence[Turn]) -> list[Turn]:
    """The last turn of each dialogue that continued until its context was full."""
    return [turn for turn in turns if turn.is_last]


def families(turns: Sequence[Turn], group: str) -> list[str]:
    """The families of a group's constraints, in alphabetical order."""
    return sorted({family for turn in turns if turn.group == group for family in turn.families})


def share(turns: Sequence[Turn], pick: Pick = obeyed) -> Estimate:
    """Share of yes among the turns where ``pick`` is not None; `UNKNOWN` where there are none.

    The interval is over dialogues where a dialogue has several turns.
    """
    known = [(turn.dialogue, is_yes) for turn in turns if (is_yes := pick(turn)) is not None]
    dialogues = [dialogue for dialogue, _ in known]
    if len(set(dialogues)) == len(dialogues):
        return rate([is_yes for _, is_yes in known])
    return bootstrap_ratio([float(is_yes) for _, is_yes in known], [1.0] * len(known), dialogues)


def difference(ours: Sequence[Turn], theirs: Sequence[Turn], pick: Pick = obeyed) -> Estimate:
    """Our share minus theirs, on the turns where both have a yes or no, bootstrapped over dialogues; n counts the pairs.

    `UNKNOWN` where there are none. Raises ValueError where the two sides did not hold the same dialogues.
    """
    theirs_by_turn = {(turn.dialogue, turn.turn): turn for turn in theirs}
    pairs = [
        (our_turn, theirs_by_turn[our_turn.dialogue, our_turn.turn])
        for our_turn in ours
        if (our_turn.dialogue, our_turn.turn) in theirs_by_turn
    ]
    different = [
        our_turn for our_turn, their_turn in pairs if (our_turn.user, our_turn.group) != (their_turn.user, their_turn.group)
    ]
    if different:
        raise ValueError(
            f"dialogue {different[0].dialogue} differs between the two evaluations at turn {different[0].turn}, so they cannot "
            "be compared; make both with the same prompts, settings and seed: `rlhf evaluate consistency`"
        )
    known = [pair for pair in pairs if None not in map(pick, pair)]
    if not known:
        return UNKNOWN
    dialogues = [our_turn.dialogue for our_turn, _ in known]
    our_shares, their_shares = ([float(bool(pick(turn))) for turn in side] for side in zip(*known, strict=True))
    return paired_difference(our_shares, their_shares, dialogues, dialogues)


def consistency_measures(turns: Sequence[Turn]) -> dict[str, Estimate]:
    """What is measured of an arm beside the shares of trained constraints by turn, by what the report calls it."""
    last_recall = max((turn.turn for turn in turns if turn.recalled is not None), default=0)
    last_held_out = max((turn.turn for turn in select(turns, HELD_OUT)), default=0)
    measures = {
        "instruction kept at the last turn that the context holds": share(last_turns(turns)),
        f"recalled when asked at turn {last_recall}": share(select(turns, TRAINED, (last_recall,)), recalled),
        f"held-out constraints kept at turn {last_held_out}": share(select(turns, HELD_OUT, (last_held_out,))),
        "obeyed though nobody asked, all turns": share(select(turns, UNINSTRUCTED)),
    }
    return {name: estimate for name, estimate in measures.items() if estimate.known}
