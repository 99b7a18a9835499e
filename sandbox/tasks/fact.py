"""One fact about one thing: 'Where does the fox live?'"""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import World


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    thing = rng.choice(things)
    attribute = rng.choice(world.attributes_of(thing))
    question = rng.choice(attribute.asks).format(e=f"the {thing}")
    return Task("fact", question, [thing], [world.claim(thing, attribute.name)])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    claim = task.claims[0]
    if not style.right:
        claim = world.false_claim(claim.thing, claim.attribute, rng)
    return world.says(claim) if style.formed else claim.value
