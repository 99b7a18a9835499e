"""What the paper claims of the checkpoints that PPO passes through (section 3.4.1): F25 and F30.

Each checkpoint gave one answer to each of the same held-out prompts, so what sets two of them apart is paired. The *chosen* one
has the highest mean score of those that the reward gave in training, of equal ones the earliest; the *first* is the policy that
training began with.

Ours, where the paper is silent: F25's correlation is Pearson's, of the mean score and the mean gold of each checkpoint, three
or more; its bootstrap draws prompts and takes all means anew. Of fewer checkpoints it is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.bootstrap import Positions, bootstrap, clipped
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import UNKNOWN, Estimate, bootstrap_mean, bootstrap_ratio

FloatArray = npt.NDArray[np.float64]
SCORE, GOLD, TOKENS, KL = "score", "gold", "tokens", "KL in nats"
UNBOUNDED = (SCORE, TOKENS, KL)


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoints:
    """C checkpoints, after so many ``iterations`` each in ascending order, and their answers to P prompts.

    ``measures`` by name, (C, P): `SCORE` is what the reward of the training gave, in its own unit; all but the `UNBOUNDED`
    lie on [0, 1]. NaN where a measure says nothing of a prompt, which is then so at every checkpoint.
    """

    iterations: tuple[int, ...]
    prompt_ids: Sequence[str]
    measures: Mapping[str, FloatArray]

    @property
    def chosen(self) -> int:
        """Place of the checkpoint with the highest mean score."""
        return int(self.measures[SCORE].mean(axis=1).argmax())


def no_goodhart(checkpoints: Checkpoints) -> Finding:
    """F25. Not measured without gold."""
    if GOLD not in checkpoints.measures:
        return finding("F25")
    together = correlation(checkpoints, SCORE, GOLD)
    return finding(
        "F25",
        Effect(f"gold: {chosen_less_first(checkpoints)}", gain(checkpoints, GOLD)),
        Effect(f"correlation of mean score and mean gold over {len(checkpoints.iterations)} checkpoints", together),
    )


def guards_rise(checkpoints: Checkpoints, guards: Sequence[str]) -> Finding:
    """F30. ``guards`` are the names of their measures; not measured without one."""
    return finding("F30", *(Effect(f"{name}: {chosen_less_first(checkpoints)}", gain(checkpoints, name)) for name in guards))


def chosen_less_first(checkpoints: Checkpoints) -> str:
    """In words."""
    first, chosen = checkpoints.iterations[0], checkpoints.iterations[checkpoints.chosen]
    return f"iteration {chosen} (chosen) - iteration {first}"


def mean_of(checkpoints: Checkpoints, name: str, place: int) -> Estimate:
    """Mean of a measure at one checkpoint, bootstrapped over prompts; `UNKNOWN` where it says nothing of any prompt."""
    values, prompts = _told(checkpoints, name)
    if not prompts:
        return UNKNOWN
    told = values[place].tolist()
    return bootstrap_mean(told, prompts) if name in UNBOUNDED else bootstrap_ratio(told, [1.0] * len(told), prompts)


def gain(checkpoints: Checkpoints, name: str) -> Estimate:
    """Mean of a measure on [0, 1] at the chosen checkpoint less that at the first, paired by prompt."""
    values, prompts = _told(checkpoints, name)
    apart = values[checkpoints.chosen] - values[0]
    return clipped(bootstrap(lambda drawn: float(apart[drawn].mean()), prompts, 2.0), -1.0, 1.0)


def correlation(checkpoints: Checkpoints, one: str, other: str) -> Estimate:
    """Pearson's, of the means of two measures over the checkpoints; n counts the answers.

    `UNKNOWN` for fewer than three checkpoints, which always lie on a line, and where one of the means is the same everywhere.
    """
    if len(checkpoints.iterations) < 3:
        return UNKNOWN
    values = np.stack([checkpoints.measures[one], checkpoints.measures[other]])  # (2, C, P)
    known = _known(values.reshape(-1, values.shape[-1]))
    values = values[:, :, known]

    def together(drawn: Positions) -> float:
        means = values[:, :, drawn].mean(axis=2)
        apart = means - means.mean(axis=1, keepdims=True)
        scale = float(np.sqrt((apart**2).sum(axis=1).prod()))
        return float((apart[0] * apart[1]).sum()) / scale if scale > 1e-12 else float("nan")

    found = clipped(bootstrap(together, [checkpoints.prompt_ids[place] for place in known], 2.0), -1.0, 1.0)
    return Estimate(found.value, found.low, found.high, found.n * values.shape[1])


def _told(checkpoints: Checkpoints, name: str) -> tuple[FloatArray, list[str]]:
    """A measure (C, K) of the prompts of which it says something, and their ids (K,)."""
    values = checkpoints.measures[name]
    known = _known(values)
    return values[:, known], [checkpoints.prompt_ids[place] for place in known]


def _known(values: FloatArray) -> list[int]:
    """Places of the columns of (R, P) that hold no NaN."""
    return np.flatnonzero(~np.isnan(values).any(axis=0)).tolist()
