"""What the paper claims of instructions under Ghost Attention: F15 (Table 30) and F16 (A.3.5).

The policies held the same dialogues: the same instruction and the same user messages, each with its own responses. Every
difference is therefore paired, and the unit is the dialogue. ``without``: the policy before Ghost Attention; ``with``: the
final one, after the later versions and PPO; ``right after``, if present, is between them.

Our choices, where the paper is silent: an instruction holds when the response obeys it, checked in every response, where Table
30 asks people whether the policy still knows the instruction; recall is shown beside it. F16 is over turns 2, 4 and 6, once for
families of constraints that Ghost Attention was never trained with and once for new values of the families it was trained with.
"""

from collections.abc import Mapping, Sequence

from eval.consistency_turns import (
    HELD_OUT,
    TRAINED,
    UNINSTRUCTED,
    Pick,
    Turn,
    difference,
    families,
    last_turns,
    obeyed,
    recalled,
    select,
    share,
)
from eval.findings.attention import WITH, WITHOUT
from eval.findings.claims import finding
from eval.findings.study import Row, Table
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, rate
from eval.report.paper import TABLE_30

Held = Mapping[str, Sequence[Turn]]
"""The turns of each arm: ``without`` and ``with``, and optionally ``right after``."""
EARLY, LATE = (2, 4, 6), 20
LAST_TURN, ALL_TURNS = "last turn", "all turns"


def instruction_holds(held: Held) -> Finding:
    """F15. Not measured unless both arms have turns 2, 4, 6 and 20."""

    def obeyed_at(arm: str, turn: int) -> Estimate:
        return share(select(held[arm], TRAINED, (turn,)))

    def gain_at(turn: int) -> Estimate:
        return difference(select(held[WITH], TRAINED, (turn,)), select(held[WITHOUT], TRAINED, (turn,)))

    if not all(obeyed_at(arm, turn).known for arm in (WITH, WITHOUT) for turn in (*EARLY, LATE)):
        return finding("F15")
    paper = TABLE_30[WITH]
    return finding(
        "F15",
        Effect(f"{WITHOUT}: obeyed at turn 6, the value", obeyed_at(WITHOUT, 6), "below", 0.4, TABLE_30[WITHOUT][6], "value"),
        *(
            Effect(f"{WITH}: obeyed at turn {turn}, the value", obeyed_at(WITH, turn), "above", 0.95, paper[turn], "value")
            for turn in EARLY
        ),
        Effect(f"{WITH}: obeyed at turn {LATE}", obeyed_at(WITH, LATE), "above", 0.80, paper[LATE]),
        *(Effect(f"obeyed at turn {turn}: {WITH} - {WITHOUT}", gain_at(turn), paper=1.0) for turn in (6, LATE)),
    )


def generalises(held: Held) -> Finding:
    """F16. Not measured where no dialogue had a held-out constraint."""
    trained_families = set(families(held[WITH], TRAINED))

    def turns(arm: str, is_trained: bool) -> list[Turn]:
        held_out = select(held[arm], HELD_OUT, EARLY)
        return [turn for turn in held_out if bool(trained_families & set(turn.families)) == is_trained]

    kinds = {"families never trained": False, "other values of trained families": True}
    effects = [
        Effect(
            f"{kind}, obeyed at turns 2, 4 and 6: {WITH} - {WITHOUT}",
            difference(turns(WITH, is_trained), turns(WITHOUT, is_trained)),
        )
        for kind, is_trained in kinds.items()
        if turns(WITH, is_trained)
    ]
    return finding("F16", *effects)


def consistency_tables(held: Held, turn_numbers: Sequence[int]) -> tuple[Table, ...]:
    """Tables at the turns ``asked``: trained constraints obeyed and recalled, held-out ones obeyed, constraints obeyed falsely,
    each by arm; then trained and held-out constraints by family."""
    groups = {
        "Instructions kept, trained constraints (the paper's: recall, Table 30)": (TRAINED, obeyed, TABLE_30),
        "The instruction recalled when asked after (Table 30)": (TRAINED, recalled, TABLE_30),
        "Instructions kept, held-out constraints (A.3.5)": (HELD_OUT, obeyed, {}),
        "Constraints obeyed that nobody had asked for": (UNINSTRUCTED, obeyed, {}),
    }
    by_turn = [_by_turn(title, held, turn_numbers, group, pick, paper) for title, (group, pick, paper) in groups.items()]
    by_family = [_by_family(group, held, turn_numbers) for group in (TRAINED, HELD_OUT)]
    return tuple(table for table in (*by_turn, *by_family) if table.rows and table.columns)


def copying_tables(copied: Mapping[str, Sequence[bool]]) -> tuple[Table, ...]:
    """Share of the words that were copied from the prompt, by arm; () where copying was not asked for."""
    rows = [Row(arm, {"copied": rate(flags)}) for arm, flags in copied.items() if flags]
    return (Table("Two words said back when asked to", ("copied",), tuple(rows)),) if rows else ()


def _by_turn(
    title: str, held: Held, turn_numbers: Sequence[int], group: str, pick: Pick, paper: Mapping[str, Mapping[int, float]]
) -> Table:
    """One line per arm, then every other arm minus ``without``. One column per turn, then the last turn that the context holds
    (trained constraints) or all turns (no instruction)."""
    columns = {
        f"turn {number}": {arm: select(turns, group, (number,)) for arm, turns in held.items()}
        for number in turn_numbers
        if any(pick(turn) is not None for turn in select(held[WITH], group, (number,)))
    }
    if group == TRAINED and pick is obeyed and last_turns(held[WITH]):
        columns[LAST_TURN] = {arm: last_turns(turns) for arm, turns in held.items()}
    if group == UNINSTRUCTED and columns:
        columns[ALL_TURNS] = {arm: select(turns, group) for arm, turns in held.items()}
    rows = [
        Row(
            arm,
            {column: share(turns[arm], pick) for column, turns in columns.items()},
            {f"turn {number}": value for number, value in paper.get(arm, {}).items() if f"turn {number}" in columns},
        )
        for arm in held
    ]
    paired = {column: turns for column, turns in columns.items() if column != LAST_TURN}  # last turns differ between arms
    rows += [
        Row(f"{arm} - {WITHOUT}", {column: difference(turns[arm], turns[WITHOUT], pick) for column, turns in paired.items()})
        for arm in held
        if arm != WITHOUT
    ]
    return Table(title, tuple(columns), tuple(rows) if columns else ())


def _by_family(group: str, held: Held, turn_numbers: Sequence[int]) -> Table:
    """One line per arm and family."""
    numbers = [number for number in turn_numbers if select(held[WITH], group, (number,))]
    rows = [
        Row(
            f"{family.replace('_', ' ')}, {arm}",
            {f"turn {number}": share(select(turns, group, (number,), family)) for number in numbers},
        )
        for family in families(held[WITH], group)
        for arm, turns in held.items()
    ]
    title = "Instructions kept, by family" + (", held-out constraints" if group == HELD_OUT else "")
    return Table(title, tuple(f"turn {number}" for number in numbers), tuple(rows))
