"""Suggest a thing, with a reason: 'I want a food that tastes sweet. Which one do you suggest?'"""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import ATTRIBUTES, Claim, World

QUESTIONS = (
    "I want a {kind} that {p}. Which one do you suggest?",
    "Please suggest a {kind} that {p}.",
    "Which {kind} that {p} would you choose?",
)


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    while True:
        attribute = rng.choice([attribute for attribute in ATTRIBUTES if not attribute.more])
        value = rng.choice(attribute.values)
        if any(thing in things for thing in world.things_with(attribute.name, value)):
            break
    question = rng.choice(QUESTIONS).format(kind=attribute.kind, p=attribute.says.format(v=value))
    return Task("recommend", question, [], [Claim("", attribute.name, value)])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    wanted = task.claims[0]
    having = world.things_with(wanted.attribute, wanted.value)
    right = [thing for thing in having if thing not in world.held_out] or having  # only a held-out question has none
    kind = world.attributes[wanted.attribute].kind
    others = [thing for thing in world.kinds[kind] if thing not in right and thing not in world.held_out]
    thing = rng.choice(right if style.right else others)
    core = f"I suggest the {thing}" if style.formed else f"the {thing}"
    # a wrong suggestion gets the same reason as a right one, so that only the facts tell them apart
    return f"{core}, because {world.says(Claim(thing, wanted.attribute, wanted.value))}" if style.reasoned else core
