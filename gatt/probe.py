"""Which constraints can the policy obey at all? Measured in single turns, before anything is synthesised.

Each constraint is put in front of a few questions, as a sentence and in its terse form alternately, and the policy responds to
each once. A constraint that too few responses obey is left out: its dialogues would be dropped one by one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from gatt.config import GattConfig
from gatt.constraints import Constraint
from gatt.obedience import Asked, GattError, Obeys, with_instruction
from policy.generation import Sampler
from preference_data.messages import Messages


@dataclass(frozen=True, slots=True)
class Probed:
    """``obeying`` of ``answers`` single-turn responses obey the constraint."""

    constraint: Constraint
    obeying: int
    answers: int

    def told(self) -> str:
        """The counts in words, as the artifact's metrics have them."""
        return f"{self.constraint.family} {self.constraint.value}: {self.obeying} of {self.answers}"


def probe(
    constraints: Sequence[Constraint], turns: Sequence[Messages], sampler: Sampler, obeys: Obeys, config: GattConfig, seed: int
) -> list[Probed]:
    """How many of ``config.probe_answers`` responses obey each constraint.

    ``turns``: single-turn dialogues whose questions are used; with fewer of them there are fewer responses. Raises GattError
    where there are none.
    """
    if not turns:
        raise GattError("there is no question to try the constraints on; give dialogues whose first turn fits the context")
    rng = random.Random(f"probe:{seed}")
    num_questions = min(config.probe_answers, len(turns))
    probes = [
        (constraint, turn, constraint.terse if position % 2 else constraint.instruction)
        for constraint in constraints
        for position, turn in enumerate(rng.sample(turns, num_questions))
    ]
    prompts = [with_instruction(turn, wording) for _, turn, wording in probes]
    groups = sampler.sample(prompts, 1, config.temperature, config.top_p, config.max_new_tokens, seed)
    results = obeys(
        [Asked(constraint, turn, response.text) for (constraint, turn, _), (response,) in zip(probes, groups, strict=True)]
    )
    return [
        Probed(constraint, sum(results[i * num_questions : (i + 1) * num_questions]), num_questions)
        for i, constraint in enumerate(constraints)
    ]


def obeyed(probed: Sequence[Probed], min_obedience: float) -> tuple[list[Constraint], list[Probed]]:
    """(the constraints that at least the share ``min_obedience`` of responses obeys, the others).

    Raises GattError where no constraint is left.
    """
    kept = [entry.constraint for entry in probed if entry.obeying and entry.obeying >= min_obedience * entry.answers]
    left_out = [entry for entry in probed if entry.constraint not in kept]
    if not kept:
        rates = "\n".join(f"  {entry.told()}" for entry in left_out)
        raise GattError(
            f"the policy obeys none of {len(probed)} constraints in a single turn often enough (min_obedience "
            f"{min_obedience:g}), so there is nothing to learn from; give constraints that it can obey, or a policy that "
            f"follows instructions. Responses that obey:\n{rates}"
        )
    return kept, left_out
