"""A second question about the same thing: 'And what does it eat?' It is always a later turn of a dialogue."""

import random

from sandbox.tasks import fact
from sandbox.tasks.task import Style, Task
from sandbox.world import World


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    """``things[0]`` is the thing that the dialogue is about; the question calls it 'it'."""
    attribute = rng.choice(world.attributes_of(things[0]))
    question = "And " + attribute.asks[0].format(e="it")[0].lower() + attribute.asks[0].format(e="it")[1:]
    return Task("follow_up", question, [things[0]], [world.claim(things[0], attribute.name)])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    return fact.answer(world, task, rng, style)
