"""Which of two things has more: 'Which costs more, the plum or the fig?'"""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import ATTRIBUTES, NUMBERS, World

QUESTIONS = ("Which one {m}, {a} or {b}?", "{A} or {b}: which {m}?", "Tell me which {m}, {a} or {b}.")


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    while True:
        attribute = rng.choice([attribute for attribute in ATTRIBUTES if attribute.more])
        one, other = rng.sample([thing for thing in things if world.kind_of[thing] == attribute.kind], 2)
        claims = [world.claim(one, attribute.name), world.claim(other, attribute.name)]
        if claims[0].value != claims[1].value:
            break
    winner = max(claims, key=lambda claim: NUMBERS.index(claim.value)).thing
    question = rng.choice(QUESTIONS).format(m=attribute.more, a=f"the {one}", A=f"The {one}", b=f"the {other}")
    return Task("compare", question, [one, other], claims, settles=winner)


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    loser = next(thing for thing in task.things if thing != task.settles)
    winner = task.settles if style.right else loser
    more = world.attributes[task.claims[0].attribute].more
    core = f"the {winner} {more}" if style.formed else f"the {winner}"
    if not style.reasoned:
        return core
    by_thing = {claim.thing: claim for claim in task.claims}
    order = [winner, next(thing for thing in task.things if thing != winner)]
    return f"{core}, because {' and '.join(world.says(by_thing[thing]) for thing in order)}"
