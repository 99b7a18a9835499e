"""Three facts about one thing: 'Tell me about the fox.'"""

import random

from sandbox.tasks.task import Style, Task, join, spoil
from sandbox.world import World

QUESTIONS = ("Tell me about {e}.", "What do you know about {e}?", "Describe {e}.", "Can you describe {e} for me?")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    thing = rng.choice(things)
    claims = [world.claim(thing, attribute.name) for attribute in world.attributes_of(thing)[:3]]
    return Task("describe", rng.choice(QUESTIONS).format(e=f"the {thing}"), [thing], claims)


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    claims = task.claims if style.right else spoil(world, task.claims, rng)
    if not style.complete:
        claims = claims[: rng.choice((1, 2))]
    if not style.formed:
        return join([claim.value for claim in claims])
    return join([world.says(claims[0]), *[world.says(claim, "it") for claim in claims[1:]]])
