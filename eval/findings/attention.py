"""What the paper claims of attention under Ghost Attention (Figure 10): F17.

Every policy reads the same tokens: dialogues that the policy without Ghost Attention held, its own answers in them. What sets
two policies apart is therefore paired, and lies in how they read, not in what was said. The unit is the dialogue.

Figure 10 is a picture of one dialogue. Ours is its number: for each dialogue the maximum, over layers, heads and pairs of
tokens, of the attention from a turn to the instruction. The maximum saturates at 1, early in a dialogue and in models of many
heads, where a difference then cannot be seen; the table has beside it two measures that do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.bootstrap import bootstrap, clipped
from eval.findings.claims import finding
from eval.findings.study import Row, Table
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, bootstrap_ratio

WITHOUT, RIGHT_AFTER, WITH = "without", "right after", "with"
Measure = Literal["maximum", "mean_of_heads", "share"]
MEASURES: dict[Measure, str] = {
    "maximum": "maximum over layers and heads (Fig 10)",
    "mean_of_heads": "each head's maximum, mean over heads",
    "share": "share of what a token looks at, mean over tokens and heads",
}


@dataclass(frozen=True, slots=True)
class TurnAttention:
    """Attention of the policy of ``arm`` from the tokens of one turn (from 1) of one dialogue to those of its instruction.

    The three measures lie in [0, 1]: the maximum over layers, heads and pairs of tokens; each head's maximum over pairs of
    tokens, averaged over heads; what a token gives to the whole instruction, averaged over tokens and heads.
    """

    arm: str
    dialogue: str
    turn: int
    maximum: float
    mean_of_heads: float
    share: float


def late_turns_attend(rows: Sequence[TurnAttention]) -> Finding:
    """F17, at the last turn there is; not measured without rows."""
    if not rows:
        return finding("F17")
    last = max(row.turn for row in rows)
    name = f"maximum attention from turn {last} to the instruction: {WITH} - {WITHOUT}"
    return finding("F17", Effect(name, attention_difference(rows, WITH, WITHOUT, last)))


def attention_mean(rows: Sequence[TurnAttention], arm: str, turn: int, measure: Measure = "maximum") -> Estimate:
    """Mean of a measure over dialogues, bootstrapped over them; `UNKNOWN` of none."""
    found = _of(rows, arm, turn, measure)
    return bootstrap_ratio(list(found.values()), [1.0] * len(found), list(found))


def attention_difference(
    rows: Sequence[TurnAttention], ours: str, theirs: str, turn: int, measure: Measure = "maximum"
) -> Estimate:
    """Mean of a measure in one arm minus that in another, paired by dialogue; n counts the dialogues, `UNKNOWN` of none.

    Raises ValueError unless both arms read the same dialogues at that turn.
    """
    mine, other = _of(rows, ours, turn, measure), _of(rows, theirs, turn, measure)
    if mine.keys() != other.keys():
        raise ValueError(
            f"at turn {turn} {ours} read {len(mine)} dialogues and {theirs} {len(other)}, of which both read "
            f"{len(mine.keys() & other)}; show both the same dialogues"
        )
    apart = np.array([mine[each] - other[each] for each in mine])
    return clipped(bootstrap(lambda drawn: float(apart[drawn].mean()), list(mine), 2.0), -1.0, 1.0)


def attention_tables(rows: Sequence[TurnAttention], turns: Sequence[int]) -> tuple[Table, ...]:
    """A table a measure: its mean at each of ``turns`` by arm, and each other arm minus the one without Ghost Attention."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    columns = {f"turn {turn}": turn for turn in turns}
    found = []
    for measure, words in MEASURES.items():
        lines = [Row(arm, {name: attention_mean(rows, arm, turn, measure) for name, turn in columns.items()}) for arm in arms]
        for arm in (each for each in arms if each != WITHOUT):
            apart = {name: attention_difference(rows, arm, WITHOUT, turn, measure) for name, turn in columns.items()}
            lines.append(Row(f"{arm} - {WITHOUT}", apart))
        found.append(Table(f"Attention to the instruction: {words}", tuple(columns), tuple(lines), percent=measure == "share"))
    return tuple(found)


def _of(rows: Sequence[TurnAttention], arm: str, turn: int, measure: Measure) -> dict[str, float]:
    return {row.dialogue: getattr(row, measure) for row in rows if (row.arm, row.turn) == (arm, turn)}
