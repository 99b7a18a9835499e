"""Constraints, and the instructions composed of them (paper 3.3, A.3.5).

The paper's families are hobbies, languages and public figures. A constraint has two wordings: a sentence ("Act as Napoleon.")
and a terse key and value ("Figure: Napoleon."). An instruction combines constraints at random and is terse half of the time.
The caller supplies the constraints.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Constraint:
    """A requirement on a whole dialogue: ``family`` "figure", ``value`` "Napoleon", and its two wordings.

    ``check``: the checker that decides whether a response obeys, by name and argument; None: a model judges. ``held_out``: for
    evaluation only.
    """

    family: str
    value: str
    instruction: str
    terse: str
    check: str | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the user asks for in the first message: one or more constraints of different families, and their text."""

    constraints: tuple[Constraint, ...]
    text: str

    @property
    def family(self) -> str:
        """The families of the constraints, joined: "figure", or "figure+language"."""
        return "+".join(constraint.family for constraint in self.constraints)


def compose_instruction(constraints: Sequence[Constraint], rng: random.Random) -> Instruction:
    """One constraint, or two of different families, with equal chance; terse half of the time.

    Families are drawn first, so that a family with many values is not drawn more often. Raises ValueError without constraints.
    """
    if not constraints:
        raise ValueError("there are no constraints to compose an instruction of; give at least one")
    families = sorted({constraint.family for constraint in constraints})
    drawn_families = sorted(rng.sample(families, min(rng.choice((1, 2)), len(families))))
    drawn = tuple(
        rng.choice([constraint for constraint in constraints if constraint.family == family]) for family in drawn_families
    )
    is_terse = rng.random() < 0.5
    return Instruction(drawn, " ".join(constraint.terse if is_terse else constraint.instruction for constraint in drawn))
