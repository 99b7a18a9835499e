"""Which constraints can the policy obey at all? Asked of it in a single turn, before anything is synthesised.

Each constraint is put in front of some questions, in its sentence and in its terse form by turns, and the policy answers each
once. A constraint that too few answers obey is left out: its dialogues would be dropped one by one.
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
    """``obeying`` of ``answers`` single-turn answers obey the constraint."""

    constraint: Constraint
    obeying: int
    answers: int

    def told(self) -> str:
        return f"{self.constraint.family} {self.constraint.value}: {self.obeying} of {self.answers}"


def probe(
    constraints: Sequence[Constraint], turns: Sequence[Messages], sampler: Sampler, obeys: Obeys, config: GattConfig, seed: int
) -> list[Probed]:
    """How many of ``config.probe_answers`` answers obey each constraint. ``turns``: single-turn dialogues to take questions of;
    where they are fewer, there are fewer answers. Raises GattError where there are none.
    """
    if not turns:
        raise GattError("there is no question to ask the constraints of; give dialogues whose first turn fits the context")
    rng = random.Random(f"probe:{seed}")
    asked = [
        (constraint, turn, constraint.terse if position % 2 else constraint.instruction)
        for constraint in constraints
        for position, turn in enumerate(rng.sample(turns, min(config.probe_answers, len(turns))))
    ]
    prompts = [with_instruction(turn, words) for _, turn, words in asked]
    groups = sampler.sample(prompts, 1, config.temperature, config.top_p, config.max_new_tokens, seed)
    verdicts = obeys(
        [Asked(constraint, turn, response.text) for (constraint, turn, _), (response,) in zip(asked, groups, strict=True)]
    )
    each = len(asked) // len(constraints)
    return [
        Probed(constraint, sum(verdicts[place * each : (place + 1) * each]), each)
        for place, constraint in enumerate(constraints)
    ]


def obeyed(probed: Sequence[Probed], min_obedience: float) -> tuple[list[Constraint], list[Probed]]:
    """(the constraints that at least so large a share of answers obeys, the others). Raises GattError where none is left."""
    kept = [each.constraint for each in probed if each.obeying and each.obeying >= min_obedience * each.answers]
    left_out = [each for each in probed if each.constraint not in kept]
    if not kept:
        rates = "\n".join(f"  {each.told()}" for each in left_out)
        raise GattError(
            f"the policy obeys none of {len(probed)} constraints in a single turn often enough (min_obedience "
            f"{min_obedience:g}), so there is nothing to learn from; take constraints that it can obey, or a policy that "
            f"follows instructions. Answers that obey:\n{rates}"
        )
    return kept, left_out
