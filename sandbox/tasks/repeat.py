"""Repeat words: 'Please repeat: amber Napoleon.' It practises copying from the prompt, which lasting instructions need."""

import random

from sandbox.tasks.task import Style, Task
from sandbox.world import ATTRIBUTES, World

QUESTIONS = ("Please repeat: {w}.", "Say this back to me: {w}.", "Repeat after me: {w}.")


def make(world: World, rng: random.Random, things: list[str], extra: tuple[str, ...] = ()) -> Task:
    """Two words: things, values, and ``extra`` (the names that constraints use)."""
    values = [value for attribute in ATTRIBUTES for value in attribute.values]
    pools = [things, values, list(extra) or things]
    words = [rng.choice(rng.choice(pools)) for _ in range(2)]
    return Task("repeat", rng.choice(QUESTIONS).format(w=" ".join(words)), settles=" ".join(words))


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    words = task.settles.split()
    if not style.right:
        words = words[::-1] if len(set(words)) > 1 else words[:1]
    return " ".join(words)
