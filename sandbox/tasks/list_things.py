"""Name some things with a property: 'Name three animals that live in the forest.'"""

import random

from sandbox.tasks.task import Style, Task, join
from sandbox.world import ATTRIBUTES, NUMBERS, Claim, World

QUESTIONS = ("Name {n} {kind}s that {p}.", "Can you list {n} {kind}s that {p}?", "I need {n} {kind}s that {p}.")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    """Asks only for properties that enough of ``things`` have."""
    while True:
        attribute = rng.choice([attribute for attribute in ATTRIBUTES if not attribute.more])
        value = rng.choice(attribute.values)
        count = rng.choice((2, 3))
        if len([thing for thing in world.things_with(attribute.name, value) if thing in things]) >= count:
            break
    question = rng.choice(QUESTIONS).format(n=NUMBERS[count - 2], kind=attribute.kind, p=attribute.plural.format(v=value))
    return Task("list", question, [], [Claim("", attribute.name, value)], count=count)


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    wanted = task.claims[0]
    attribute = world.attributes[wanted.attribute]
    having = world.things_with(wanted.attribute, wanted.value)
    right = [thing for thing in having if thing not in world.held_out] or having  # only a held-out question has none
    count = task.count if style.complete else task.count - 1
    named = rng.sample(right, min(count, len(right)))
    if not style.right:
        others = [thing for thing in world.kinds[attribute.kind] if thing not in right and thing not in world.held_out]
        named[rng.randrange(len(named))] = rng.choice(others)
    listed = join([f"the {thing}" for thing in named])
    phrase = attribute.plural if len(named) > 1 else attribute.says
    return f"{listed} {phrase.format(v=wanted.value)}" if style.formed else listed
