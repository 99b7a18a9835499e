"""Is a claim true: 'Is it true that the fox lives in the cave?' The answer states the fact first, then settles."""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import World

QUESTIONS = ("Is it true that {c}?", "Would you say that {c}?", "I heard that {c}. Is that so?")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    thing = rng.choice(things)
    attribute = rng.choice(world.attributes_of(thing))
    true = world.claim(thing, attribute.name)
    claim = true if rng.random() < 0.5 else world.false_claim(thing, attribute.name, rng)
    question = rng.choice(QUESTIONS).format(c=world.says(claim))
    return Task("yes_no", question, [thing], [true], settles="yes" if claim == true else "no")


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    settled = task.settles if style.right else ("no" if task.settles == "yes" else "yes")
    if not style.formed:
        return settled
    return f"{world.says(task.claims[0])}, so {settled}" if style.complete else f"I think so, {settled}"
