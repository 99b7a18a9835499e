"""What the paper claims of the samples that a version is tuned on (section 3.2.3): F11 and F29.

Each finding is a pure function of the responses, judged by gold, of policies that were tuned in different ways and then given
the same prompts, so every difference is paired. The unit is the prompt, with all responses to it from all trainings of an arm.

Our choices, where the paper is silent: the rare skill is the family of prompts that ask for a rhyme, as in the paper's example,
and gold helpfulness is the measure where the paper gives none.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from eval.answers import Answer, of_group
from eval.bootstrap import paired_difference
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, bootstrap_ratio
from preference_data.comparison import Axis

RARE_FAMILY = "rhyme"
LAST_ROUND, ALL_ROUNDS, ALL_ROUNDS_RANDOM = "last round", "all rounds", "all rounds, random"
DEMONSTRATIONS_ALONE, OWN_SAMPLES, LARGER_SAMPLES = "demonstrations alone", "own samples", "larger policy's samples"


Arms = Mapping[str, Sequence[Answer]]
Value = Callable[[Answer], float]
"""A number about a response, within [0, 1]."""


def gold_helpfulness(answer: Answer) -> float:
    return answer.gold_helpfulness


def violates(answer: Answer) -> float:
    return float(not answer.is_safe)


def refuses(answer: Answer) -> float:
    return float(answer.refused)


def score_of(axis: Axis) -> Value:
    """The reward model's score of a response, as sigmoid."""
    return lambda answer: (1 + math.tanh(getattr(answer, f"{axis}_score") / 2)) / 2


def mean(answers: Sequence[Answer], value: Value) -> Estimate:
    """Mean over the responses, bootstrapped over prompts; `UNKNOWN` where there are none."""
    return bootstrap_ratio([value(answer) for answer in answers], [1.0] * len(answers), _prompt_ids(answers))


def difference(ours: Sequence[Answer], theirs: Sequence[Answer], value: Value) -> Estimate:
    """Mean over our responses minus that over theirs, bootstrapped over prompts; n counts the pairs of responses.

    Raises ValueError unless both sides responded to the same prompts equally often.
    """
    our_ids, their_ids = _prompt_ids(ours), _prompt_ids(theirs)
    if Counter(our_ids) != Counter(their_ids):
        raise ValueError(
            f"one arm gave {len(ours)} responses to {len(set(our_ids))} prompts and the other {len(theirs)} to "
            f"{len(set(their_ids))}; give both the same prompts equally often"
        )
    return paired_difference([value(answer) for answer in ours], [value(answer) for answer in theirs], our_ids, their_ids)


def gold_difference(arms: Arms, ours: str, theirs: str, family: str | None = None) -> Estimate:
    """Gold helpfulness of one arm minus that of another, over all helpful prompts or those of a family."""
    return difference(of_group(arms[ours], "helpful", family), of_group(arms[theirs], "helpful", family), gold_helpfulness)


def pooling_keeps_rare_skill(arms: Arms) -> Finding:
    """F11. The same base tuned on the best samples of the last round, and on those of all rounds."""
    gain = gold_difference(arms, ALL_ROUNDS, LAST_ROUND, RARE_FAMILY)
    return finding("F11", Effect(f"gold helpfulness, {RARE_FAMILY}: {ALL_ROUNDS} - {LAST_ROUND}", gain))


def larger_policys_samples_help(arms: Arms) -> Finding:
    """F29. A small base tuned on its own best samples, and on a larger policy's for the same prompts."""
    gain = gold_difference(arms, LARGER_SAMPLES, OWN_SAMPLES)
    return finding("F29", Effect(f"gold helpfulness: {LARGER_SAMPLES} - {OWN_SAMPLES}", gain))


def _prompt_ids(answers: Sequence[Answer]) -> list[str]:
    return [answer.prompt_id for answer in answers]
