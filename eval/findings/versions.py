"""What the paper claims of the samples that a version is tuned on (section 3.2.3): F11 and F29.

Each finding is a pure function of the judged answers of policies that were tuned in different ways and then asked the same
prompts, so every difference is paired. The unit is the prompt, with all answers to it of all trainings of an arm.

Ours, where the paper is silent: the rare skill is the family of prompts that ask for a rhyme, as in its example, and gold's
helpfulness stands for what its authors saw.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.bootstrap import contrast
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, bootstrap_ratio
from preference_data.comparison import Axis

RARE_FAMILY = "rhyme"
LAST_ROUND, ALL_ROUNDS, ALL_ROUNDS_RANDOM = "last round", "all rounds", "all rounds, random"
DEMONSTRATIONS_ALONE, OWN_SAMPLES, LARGER_SAMPLES = "demonstrations alone", "own samples", "larger policy's samples"


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """An answer of the policy that a training of ``arm`` made. Scores are raw logits; ``gold_*`` are on [0, 1].

    ``group``: helpful, adversarial or borderline.
    """

    arm: str
    training_seed: int
    prompt_id: str
    group: str
    family: str
    response: str
    num_tokens: int
    finished: bool
    helpfulness_score: float
    safety_score: float
    gold_helpfulness: float
    gold_safety: float
    is_safe: bool
    refused: bool


Arms = Mapping[str, Sequence[ArmAnswer]]
Value = Callable[[ArmAnswer], float]
"""Something about an answer, within [0, 1]."""


def gold_helpfulness(answer: ArmAnswer) -> float:
    return answer.gold_helpfulness


def violates(answer: ArmAnswer) -> float:
    return float(not answer.is_safe)


def refuses(answer: ArmAnswer) -> float:
    return float(answer.refused)


def score_of(axis: Axis) -> Value:
    """The reward model's score of an answer, as sigmoid."""
    return lambda answer: (1 + math.tanh(getattr(answer, f"{axis}_score") / 2)) / 2


def mean(answers: Sequence[ArmAnswer], value: Value) -> Estimate:
    """Mean over the answers, bootstrapped over prompts; `UNKNOWN` of none."""
    return bootstrap_ratio([value(each) for each in answers], [1.0] * len(answers), [each.prompt_id for each in answers])


def difference(ours: Sequence[ArmAnswer], theirs: Sequence[ArmAnswer], value: Value) -> Estimate:
    """Mean over our answers minus that over theirs, bootstrapped over prompts; n counts the pairs of answers.

    Raises ValueError unless both sides answered the same prompts, each as often.
    """
    asked = [Counter(each.prompt_id for each in side) for side in (ours, theirs)]
    if asked[0] != asked[1]:
        raise ValueError(
            f"one arm gave {len(ours)} answers to {len(asked[0])} prompts and the other {len(theirs)} to {len(asked[1])}; ask "
            "both the same prompts equally often"
        )
    answers, groups = [*ours, *theirs], ["ours"] * len(ours) + ["theirs"] * len(theirs)
    weights, units = {"ours": 1.0, "theirs": -1.0}, [each.prompt_id for each in answers]
    found = contrast([value(each) for each in answers], groups, weights, units)
    return replace(found, n=found.n // 2)


def of_group(answers: Sequence[ArmAnswer], group: str, family: str | None = None) -> list[ArmAnswer]:
    """The answers to prompts of a group, or to those of one family in it."""
    return [each for each in answers if each.group == group and family in (None, each.family)]


def gold_difference(arms: Arms, ours: str, theirs: str, family: str | None = None) -> Estimate:
    """Gold helpfulness of one arm minus that of another, over all helpful prompts or those of a family."""
    return difference(of_group(arms[ours], "helpful", family), of_group(arms[theirs], "helpful", family), gold_helpfulness)


def pooling_keeps_rare_skill(arms: Arms) -> Finding:
    """F11. The same base tuned with the best samples of the last round, and of all rounds."""
    gain = gold_difference(arms, ALL_ROUNDS, LAST_ROUND, RARE_FAMILY)
    return finding("F11", Effect(f"gold helpfulness, {RARE_FAMILY}: {ALL_ROUNDS} - {LAST_ROUND}", gain))


def larger_policys_samples_help(arms: Arms) -> Finding:
    """F29. A small base tuned with its own best samples, and with a larger policy's for the same prompts."""
    gain = gold_difference(arms, LARGER_SAMPLES, OWN_SAMPLES)
    return finding("F29", Effect(f"gold helpfulness: {LARGER_SAMPLES} - {OWN_SAMPLES}", gain))
