"""How often a study trains each of its arms: three times where an arm is cheap, so that the seed of a training is heard too.

Cheap is an arm that costs under 20 s. Its cost is reckoned and not measured, so that the same study trains as often on every
machine: 6 operations a parameter and token (Kaplan et al. 2020, section 2.1), at the rate that two cores of a laptop reached in
ten reward-model trainings of the recipe ``nano`` (0.66 to 0.97 * 10^11 operations a second, median 0.76 * 10^11).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from policy.checkpoint import load_tokenizer
from policy.footprint import num_parameters
from preference_data.comparison import Comparison
from reward_model.batch import encode_pairs
from stages.sections import RewardTrainingConfig

OPERATIONS_PER_SECOND = 0.75e11
CHEAP_SECONDS, CHEAP_TRAININGS = 20.0, 3


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: from the policy in ``policy``, on ``comparisons``."""

    name: str
    policy: Path
    config: RewardTrainingConfig
    comparisons: Sequence[Comparison]


@dataclass(frozen=True, slots=True)
class Trainings:
    """How often each arm is trained; by rule, from the reckoned cost of the dearest, or as asked for."""

    number: int
    dearest_arm: str
    reckoned_seconds: float
    by_rule: bool

    @property
    def note(self) -> str:
        """What a reader is told of it."""
        times = "once" if self.number == 1 else f"{self.number} times, from other heads and in other orders of the data"
        why = (
            f"the dearest, {self.dearest_arm}, is reckoned at {self.reckoned_seconds:.3g} s, and under {CHEAP_SECONDS:g} s an "
            f"arm is trained {CHEAP_TRAININGS} times"
            if self.by_rule
            else "as asked for"
        )
        counted = "" if self.number == 1 else " n counts a comparison once for each training."
        return f"Each arm was trained {times} ({why}).{counted}"


def trainings(arms: Sequence[Arm], asked: int | None) -> Trainings:
    """The number of trainings of each of ``arms``: as ``asked``, or else by rule."""
    costs = {arm.name: parameters_of(arm.policy) * arm.config.epochs * len(arm.comparisons) for arm in arms}
    dearest = max(arms, key=lambda arm: costs[arm.name])
    seconds = 6 * parameters_of(dearest.policy) * _tokens(dearest) / OPERATIONS_PER_SECOND
    by_rule = CHEAP_TRAININGS if seconds < CHEAP_SECONDS else 1
    return Trainings(asked or by_rule, dearest.name, round(seconds, 3), asked is None)


def parameters_of(policy: Path) -> int:
    """Of the language model in the folder ``policy``, by its config."""
    return num_parameters(AutoConfig.from_pretrained(policy))


def _tokens(arm: Arm) -> int:
    """Tokens that the arm is trained on, without padding."""
    pairs, _ = encode_pairs(load_tokenizer(arm.policy), arm.comparisons, arm.config.margin, arm.config.max_length)
    return arm.config.epochs * sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
