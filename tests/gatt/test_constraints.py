"""Instructions are random combinations of constraints, terse half of the time."""

import random
from collections import Counter

import pytest

from gatt.constraints import Constraint, Instruction, compose_instruction

NAPOLEON = Constraint("figure", "Napoleon", "Act as Napoleon.", "Figure: Napoleon.")
CONSTRAINTS = [
    NAPOLEON,
    *[Constraint("hobby", f"h{i}", f"You like h{i}.", f"Hobby: h{i}.") for i in range(50)],
    Constraint("language", "French", "Answer in French.", "Language: French."),
]


def compose_many(count: int = 2000) -> list[Instruction]:
    rng = random.Random(0)
    return [compose_instruction(CONSTRAINTS, rng) for _ in range(count)]


def test_one_or_two_constraints_of_different_families_half_of_them_terse() -> None:
    instructions = compose_many()
    sizes = Counter(len(instruction.constraints) for instruction in instructions)
    assert set(sizes) == {1, 2} and abs(sizes[1] - 1000) < 100
    assert all(len({c.family for c in instruction.constraints}) == len(instruction.constraints) for instruction in instructions)
    terse = [entry for entry in instructions if entry.text == " ".join(c.terse for c in entry.constraints)]
    wordy = [entry for entry in instructions if entry.text == " ".join(c.instruction for c in entry.constraints)]
    assert len(terse) + len(wordy) == len(instructions) and abs(len(terse) - 1000) < 100


def test_a_family_with_many_values_is_not_drawn_more_often() -> None:
    families = Counter(instruction.family for instruction in compose_many() if len(instruction.constraints) == 1)
    assert set(families) == {"figure", "hobby", "language"}
    assert max(families.values()) < 1.3 * min(families.values())


def test_with_one_family_there_is_one_constraint_and_the_seed_decides() -> None:
    assert compose_instruction([NAPOLEON], random.Random(3)).constraints == (NAPOLEON,)
    assert compose_many(20) == compose_many(20)
    with pytest.raises(ValueError, match="give at least one"):
        compose_instruction([], random.Random(0))
