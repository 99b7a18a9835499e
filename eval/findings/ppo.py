"""What the paper claims of the checkpoints of PPO (section 3.4.1): F25 and F30.

Each checkpoint gave one response to each of the same held-out prompts, so differences between two checkpoints are paired. The
*chosen* checkpoint has the highest mean score by the reward used in training, the earliest of equal ones; the *first* is the
policy that training began with.

Our choices, where the paper is silent: the correlation of F25 is Pearson's, between the mean score and the mean gold of each
checkpoint, over three checkpoints or more; its bootstrap draws prompts and computes all means again. For fewer checkpoints it
is unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.bootstrap import Positions, bootstrap, bounded_mean, clipped, pearson
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import UNKNOWN, Estimate, FloatArray, bootstrap_mean, bootstrap_ratio

SCORE, GOLD, TOKENS, KL = "score", "gold", "tokens", "KL in nats"
UNBOUNDED = (SCORE, TOKENS, KL)


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoints:
    """C checkpoints, each after a number of ``iterations`` in ascending order, and their responses to P prompts.

    ``measures`` by name, (C, P): `SCORE` is the reward of the training, in its own unit; all but the `UNBOUNDED` ones lie in
    [0, 1]. NaN where a measure does not apply to a prompt, which is then so at every checkpoint.
    """

    iterations: tuple[int, ...]
    prompt_ids: Sequence[str]
    measures: Mapping[str, FloatArray]

    @property
    def chosen(self) -> int:
        """Position of the checkpoint with the highest mean score."""
        return int(self.measures[SCORE].mean(axis=1).argmax())


def no_goodhart(checkpoints: Checkpoints) -> Finding:
    """F25. Not measured without gold."""
    if GOLD not in checkpoints.measures:
        return finding("F25")
    return finding(
        "F25",
        Effect(f"gold: {chosen_less_first(checkpoints)}", gain(checkpoints, GOLD)),
        Effect(
            f"correlation of mean score and mean gold over {len(checkpoints.iterations)} checkpoints",
            correlation(checkpoints, SCORE, GOLD),
        ),
    )


def guards_rise(checkpoints: Checkpoints, guards: Sequence[str]) -> Finding:
    """F30. ``guards`` are the names of their measures; not measured without one."""
    return finding("F30", *(Effect(f"{name}: {chosen_less_first(checkpoints)}", gain(checkpoints, name)) for name in guards))


def chosen_less_first(checkpoints: Checkpoints) -> str:
    """Which two checkpoints are compared, in words."""
    first, chosen = checkpoints.iterations[0], checkpoints.iterations[checkpoints.chosen]
    return f"iteration {chosen} (chosen) - iteration {first}"


def mean_of(checkpoints: Checkpoints, name: str, place: int) -> Estimate:
    """Mean of a measure at the checkpoint in ``place``, bootstrapped over prompts; `UNKNOWN` where it applies to no prompt."""
    measure, prompt_ids = _applicable(checkpoints, name)
    if not prompt_ids:
        return UNKNOWN
    values = measure[place].tolist()
    if name in UNBOUNDED:
        return bootstrap_mean(values, prompt_ids)
    return bootstrap_ratio(values, [1.0] * len(values), prompt_ids)


def gain(checkpoints: Checkpoints, name: str) -> Estimate:
    """Mean of a measure in [0, 1] at the chosen checkpoint minus that at the first, paired by prompt."""
    measure, prompt_ids = _applicable(checkpoints, name)
    return bounded_mean(measure[checkpoints.chosen] - measure[0], prompt_ids, 1.0)


def correlation(checkpoints: Checkpoints, one: str, other: str) -> Estimate:
    """Pearson's correlation of the means of two measures over the checkpoints; n counts the responses.

    `UNKNOWN` for fewer than three checkpoints, which always lie on a line, and where one of the means is the same everywhere.
    """
    if len(checkpoints.iterations) < 3:
        return UNKNOWN
    measures = np.stack([checkpoints.measures[one], checkpoints.measures[other]])  # (2, C, P)
    columns = _complete_columns(measures.reshape(-1, measures.shape[-1]))
    measures = measures[:, :, columns]

    def correlation_of_means(positions: Positions) -> float:
        return pearson(measures[:, :, positions].mean(axis=2))

    prompt_ids = [checkpoints.prompt_ids[column] for column in columns]
    estimate = clipped(bootstrap(correlation_of_means, prompt_ids, 2.0), -1.0, 1.0)
    return replace(estimate, n=estimate.n * len(checkpoints.iterations))


def _applicable(checkpoints: Checkpoints, name: str) -> tuple[FloatArray, list[str]]:
    """A measure (C, K) on the prompts that it applies to, and their ids (K,)."""
    measure = checkpoints.measures[name]
    columns = _complete_columns(measure)
    return measure[:, columns], [checkpoints.prompt_ids[column] for column in columns]


def _complete_columns(values: FloatArray) -> list[int]:
    """The columns of (R, P) that hold no NaN."""
    return np.flatnonzero(~np.isnan(values).any(axis=0)).tolist()
