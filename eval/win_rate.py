"""Win rate of one policy against another on the same prompts (paper Figures 2, 11 and 12).

Both policies respond to each prompt, a judge rates each response with a number, and the higher number wins. The win rate is
wins / (wins + losses): ties are left out, as in Figure 2 of the paper, and reported beside it. The interval comes from a
bootstrap over prompts (`eval.intervals`), which keeps the two responses to a prompt together.

A judge rates one dialogue at a time, so that the same call serves the sandbox's gold judge and a reward model. A judge that
must see both responses side by side (the paper's raters, GPT-4 with swapped order) is left out until there is one to call.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from eval.intervals import Estimate, bootstrap_ratio
from preference_data.messages import Messages


class Judge(Protocol):
    """Rates the last response of each dialogue; higher is better, on any scale."""

    def judge(self, dialogues: Sequence[Messages]) -> Sequence[float]:
        """One finite number per dialogue, in order. Only numbers for the same prompt are compared with each other."""
        ...


@dataclass(frozen=True, slots=True)
class WinRate:
    """``estimate`` is wins / (wins + losses), its n the decided comparisons; ``n`` here counts ties too.

    When all are ties the estimate is `eval.intervals.UNKNOWN`.
    """

    estimate: Estimate
    wins: int
    losses: int
    ties: int
    n: int


def win_rate(
    ours: Sequence[float],
    theirs: Sequence[float],
    unit_ids: Sequence[Hashable],
    tie_margin: float = 0.0,
    seed: int = 0,
) -> WinRate:
    """The share of decided comparisons that ``ours`` wins.

    ``ours`` and ``theirs`` are (N,) judgements of two responses to the same prompt, ``unit_ids`` (N,) the ids of the prompts.
    A difference of at most ``tie_margin`` (in the judge's unit) is a tie. Raises ValueError for different lengths and for
    judgements that are not finite.
    """
    if not len(ours) == len(theirs) == len(unit_ids):
        raise ValueError(
            f"there are {len(ours)} judgements of ours, {len(theirs)} of theirs and {len(unit_ids)} prompt ids; "
            "give one of each for every comparison"
        )
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if not np.isfinite(difference).all():
        position = int(np.flatnonzero(~np.isfinite(difference))[0])
        raise ValueError(
            f"comparison {position} (prompt {unit_ids[position]!r}) has judgements {ours[position]} and {theirs[position]}; "
            "a judge must return finite numbers"
        )
    won, lost = difference > tie_margin, difference < -tie_margin
    wins, losses = int(won.sum()), int(lost.sum())
    estimate = bootstrap_ratio(won.tolist(), (won | lost).tolist(), unit_ids, seed)
    return WinRate(estimate, wins, losses, ties=len(ours) - wins - losses, n=len(ours))
