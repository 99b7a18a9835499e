"""What the paper claims of attention under Ghost Attention (Figure 10): F17.

Every policy reads the same tokens: the dialogues of the policy without Ghost Attention, with its own responses. Differences
between two policies are therefore paired, and come from how they read and not from what was said. The unit is the dialogue.

Figure 10 is a picture of one dialogue. Here it is a number: for each dialogue the maximum, over layers, heads and pairs of
tokens, of the attention from a turn to the instruction. The maximum saturates at 1, early in a dialogue and in models with many
heads, and then shows no difference; the tables have two more measures that do not saturate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.bootstrap import bounded_mean
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
    tokens, averaged over heads; the share that a token gives to the whole instruction, averaged over tokens and heads.
    """

    arm: str
    dialogue: str
    turn: int
    maximum: float
    mean_of_heads: float
    share: float


def late_turns_attend(rows: Sequence[TurnAttention]) -> Finding:
    """F17, at the last turn in ``rows``; not measured without rows."""
    if not rows:
        return finding("F17")
    last = max(row.turn for row in rows)
    name = f"maximum attention from turn {last} to the instruction: {WITH} - {WITHOUT}"
    return finding("F17", Effect(name, attention_difference(rows, WITH, WITHOUT, last)))


def attention_mean(rows: Sequence[TurnAttention], arm: str, turn: int, measure: Measure = "maximum") -> Estimate:
    """Mean of a measure over dialogues, bootstrapped over them; `UNKNOWN` where there are none."""
    by_dialogue = _by_dialogue(rows, arm, turn, measure)
    return bootstrap_ratio(list(by_dialogue.values()), [1.0] * len(by_dialogue), list(by_dialogue))


def attention_difference(
    rows: Sequence[TurnAttention], ours: str, theirs: str, turn: int, measure: Measure = "maximum"
) -> Estimate:
    """Mean of a measure in one arm minus that in another, paired by dialogue; n counts the dialogues.

    `UNKNOWN` where there are none. Raises ValueError unless both arms read the same dialogues at that turn.
    """
    our_values, their_values = _by_dialogue(rows, ours, turn, measure), _by_dialogue(rows, theirs, turn, measure)
    if our_values.keys() != their_values.keys():
        raise ValueError(
            f"at turn {turn} the arm {ours!r} read {len(our_values)} dialogues and the arm {theirs!r} {len(their_values)}, and "
            f"{len(our_values.keys() & their_values)} of them are the same; let both read the same dialogues"
        )
    differences = np.array([our_values[dialogue] - their_values[dialogue] for dialogue in our_values])
    return bounded_mean(differences, list(our_values), 1.0)


def attention_tables(rows: Sequence[TurnAttention], turns: Sequence[int]) -> tuple[Table, ...]:
    """One table per measure: its mean at each of ``turns`` by arm, every other arm minus the one without Ghost Attention."""
    arms = list(dict.fromkeys(row.arm for row in rows))
    columns = {f"turn {turn}": turn for turn in turns}
    tables = []
    for measure, description in MEASURES.items():
        lines = [Row(arm, {name: attention_mean(rows, arm, turn, measure) for name, turn in columns.items()}) for arm in arms]
        for arm in arms:
            if arm != WITHOUT:
                differences = {name: attention_difference(rows, arm, WITHOUT, turn, measure) for name, turn in columns.items()}
                lines.append(Row(f"{arm} - {WITHOUT}", differences))
        title = f"Attention to the instruction: {description}"
        tables.append(Table(title, tuple(columns), tuple(lines), percent=measure == "share"))
    return tuple(tables)


def _by_dialogue(rows: Sequence[TurnAttention], arm: str, turn: int, measure: Measure) -> dict[str, float]:
    return {row.dialogue: getattr(row, measure) for row in rows if (row.arm, row.turn) == (arm, turn)}
