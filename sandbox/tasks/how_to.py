"""Steps made from the facts of a thing: 'How do I visit the abbey?'"""

import random

from sandbox.tasks.task import Style, Task, spoil
from sandbox.world import Claim, World

QUESTIONS = {
    "trade": ("How do I work as {e}?", "What are the steps to work as {e}?", "Explain how to spend a day as {e}."),
    "place": ("How do I visit {e}?", "What are the steps to visit {e}?", "Explain how to get the best of {e}."),
    "tool": ("How do I use {e}?", "What are the steps to use {e}?", "Explain how to get started with {e}."),
}
_STEPS = {"trade": ("gear", "workplace", "start"), "place": ("distance", "sight", "ware"), "tool": ("shelf", "use")}


def make(world: World, rng: random.Random, things: list[str]) -> Task:
    thing = rng.choice([thing for thing in things if world.kind_of[thing] in QUESTIONS])
    kind = world.kind_of[thing]
    question = rng.choice(QUESTIONS[kind]).format(e=f"the {thing}")
    return Task("how_to", question, [thing], [world.claim(thing, attribute) for attribute in _STEPS[kind]])


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    claims = task.claims if style.right else spoil(world, task.claims, rng)
    if not style.complete:
        claims = claims[:-1]
    return steps([_step(world, claim) for claim in claims], style.formed)


def steps(items: list[str], formed: bool = True) -> str:
    """'First a, then b, and last c', or a list without order where not ``formed``."""
    if not formed:
        return f"you just {' and '.join(items)}"
    words = ["first", "then", "and last"] if len(items) > 2 else ["first", "then"]
    return ", ".join(f"{word} {item}" for word, item in zip(words, items, strict=False))


def _step(world: World, claim: Claim) -> str:
    return world.attributes[claim.attribute].step.format(v=claim.value)
