"""A two-line rhyme about a thing: the rare, creative skill that is lost by tuning only on the last round (paper 3.2.3)."""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import World

QUESTIONS = ("Write a rhyme about {e}.", "Make up two rhyming lines about {e}.", "Can you rhyme about {e}?")
RHYMES = (
    ("tree", "sea", "bee", "key"),
    ("moon", "spoon", "tune", "dune"),
    ("house", "mouse", "blouse"),
    ("cat", "hat", "mat", "bat"),
    ("star", "jar", "car"),
    ("king", "ring", "string", "swing"),
)
_FIRST = ("sat by the", "dreamed of the", "ran to the", "sang of the")
_SECOND = ("danced with a", "slept near a", "waited for a", "smiled at a")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    thing = rng.choice(things)
    return Task("rhyme", rng.choice(QUESTIONS).format(e=f"the {thing}"), [thing])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    group = rng.choice(RHYMES)
    first, second = rng.sample(group, 2)
    if not style.right:
        second = rng.choice(rng.choice([other for other in RHYMES if other is not group]))
    lines = [f"The {task.things[0]} {rng.choice(_FIRST)} {first},", f"and {rng.choice(_SECOND)} {second}."]
    return "\n".join(lines) if style.formed else lines[0][:-1] + "."
