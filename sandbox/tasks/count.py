"""How many of three have a property: 'How many of these eat fish: the fox, the owl, the hare?'"""

import random

from sandbox.tasks.task import Style, Task, join
from sandbox.world import ATTRIBUTES, Claim, World

COUNTS = ("zero", "one", "two", "three")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    attribute = rng.choice([attribute for attribute in ATTRIBUTES if not attribute.more])
    value = rng.choice(attribute.values)
    group = [thing for thing in things if world.kind_of[thing] == attribute.kind]
    having = [thing for thing in group if world.facts[thing, attribute.name] == value]
    chosen = rng.sample(having, min(len(having), rng.choice((1, 1, 2))))
    chosen += rng.sample([thing for thing in group if thing not in having], 3 - len(chosen))
    rng.shuffle(chosen)
    right = [thing for thing in chosen if thing in having]
    question = f"How many of these {attribute.plural.format(v=value)}: {', '.join(f'the {thing}' for thing in chosen)}?"
    return Task("count", question, chosen, [Claim(thing, attribute.name, value) for thing in right], settles=COUNTS[len(right)])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    named = [claim.thing for claim in task.claims]
    if not style.right:
        others = [thing for thing in task.things if thing not in named]
        named = [*named, others[0]] if rng.random() < 0.5 or not named else named[1:]
    total = COUNTS[len(named)]
    if not style.complete:
        return total
    return f"{join([f'the {thing}' for thing in named])}, so {total}" if named else f"none of them, so {total}"
