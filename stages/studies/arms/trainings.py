"""How often a study trains each of its arms: three times where an arm is cheap, so that the seed of a training is heard too.

Cheap is an arm that costs under 20 s. Its cost is estimated and not measured, so that the same study trains as often on every
machine: 6 operations a parameter and token (Kaplan et al. 2020, section 2.1), at the rate that two cores of a laptop reached in
ten reward-model trainings of the recipe ``nano`` (0.66 to 0.97 * 10^11 operations a second, median 0.76 * 10^11).

An arm that is done is not trained again when the study goes on after it was stopped, and one that is not goes on where it was.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from transformers import AutoConfig

from policy.checkpoint import load_tokenizer
from policy.footprint import num_parameters
from preference_data.comparison import Comparison
from registry.saved_states import SavedStates
from reward_model.batch import encode_pairs
from stages.engine.batches import SavedBatches
from stages.sections import RewardTrainingConfig

OPERATIONS_PER_SECOND = 0.75e11
CHEAP_SECONDS, CHEAP_TRAININGS = 20.0, 3
_SEED_STEP = 1000  # apart from the seeds of other epochs, which are next to each other


class Named(Protocol):
    """An arm, whatever it trains."""

    @property
    def name(self) -> str: ...


OneArm = TypeVar("OneArm", bound=Named)
Run = TypeVar("Run")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one training of an arm takes: ``num_tokens`` are all that it reads, of every epoch, without padding."""

    arm: str
    num_parameters: int
    num_tokens: int

    @property
    def seconds(self) -> float:
        """The estimate."""
        return 6 * self.num_parameters * self.num_tokens / OPERATIONS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: from the policy in ``policy``, on ``comparisons``."""

    name: str
    policy: Path
    config: RewardTrainingConfig
    comparisons: Sequence[Comparison]


@dataclass(frozen=True, slots=True)
class Trainings:
    """How often each arm is trained; by rule, from the estimated cost of the dearest, or as asked for."""

    number: int
    dearest_arm: str
    reckoned_seconds: float
    by_rule: bool

    @property
    def note(self) -> str:
        """What a reader of a reward-model study is told of it."""
        return self.told("from other heads and in other orders of the data", "a comparison")

    def told(self, apart: str, counted: str) -> str:
        """What a reader is told; ``apart``: in what an arm's trainings differ; ``counted``: one of the things that n counts."""
        times = "once" if self.number == 1 else f"{self.number} times, {apart}"
        why = (
            f"the dearest, {self.dearest_arm}, is reckoned at {self.reckoned_seconds:.3g} s, and under {CHEAP_SECONDS:g} s an "
            f"arm is trained {CHEAP_TRAININGS} times"
            if self.by_rule
            else "as asked for"
        )
        each = "" if self.number == 1 else f" n counts {counted} once for each training."
        return f"Each arm was trained {times} ({why}).{each}"


def trainings(arms: Sequence[Arm], wanted: int | None) -> Trainings:
    """The number of trainings of each of ``arms``: as ``asked``, or else by rule."""
    pairs = {arm.name: parameters_of(arm.policy) * arm.config.epochs * len(arm.comparisons) for arm in arms}
    dearest = max(arms, key=lambda arm: pairs[arm.name])
    return trainings_at(Cost(dearest.name, parameters_of(dearest.policy), _tokens(dearest)), wanted)


def trainings_at(dearest: Cost, wanted: int | None) -> Trainings:
    """The number of trainings where the ``dearest`` arm costs so much: as ``asked``, or else by rule."""
    by_rule = CHEAP_TRAININGS if dearest.seconds < CHEAP_SECONDS else 1
    return Trainings(wanted or by_rule, dearest.arm, round(dearest.seconds, 3), wanted is None)


def train_each(
    arms: Sequence[OneArm],
    how_often: Trainings,
    seed: int,
    states: SavedStates,
    run_type: type[Run],
    train: Callable[[OneArm, int, str, SavedStates], Run],
) -> list[Run]:
    """What ``train`` makes of each of ``arms`` with each of its training seeds, arm by arm; ``run_type`` is a dataclass.

    ``train(arm, training_seed, label, states)`` finds there again what it had saved. Runs that are done are not made again.
    """
    runs = [(arm, seed + _SEED_STEP * number) for arm in arms for number in range(how_often.number)]
    saved = SavedBatches(states, run_type)

    def made() -> Iterator[Run]:
        yield from saved.done
        for number, (arm, training_seed) in enumerate(runs[len(saved.done) :], start=len(saved.done)):
            own = SavedStates(states.root / f"run-{number}", states.say, states.every)
            yield train(arm, training_seed, f"run {number + 1} of {len(runs)}, {arm.name}", own)
            shutil.rmtree(own.root, ignore_errors=True)  # the run is saved as a whole by now

    return list(saved.save(made()))


def parameters_of(policy: Path) -> int:
    """Of the language model in the folder ``policy``, by its config."""
    return num_parameters(AutoConfig.from_pretrained(policy))


def _tokens(arm: Arm) -> int:
    """Tokens that the arm is trained on, without padding."""
    pairs, _ = encode_pairs(load_tokenizer(arm.policy), arm.comparisons, arm.config.margin, arm.config.max_length)
    return arm.config.epochs * sum(len(pair.chosen_ids) + len(pair.rejected_ids) for pair in pairs)
