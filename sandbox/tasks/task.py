"""A task: a question, the facts by which an answer can be judged, and the ways in which writers answer.

The module of a family makes tasks and writes answers; only ``sandbox/gold.py`` judges them. The family gives the core of an
answer; ``write`` adds manners. ``Writer`` says how good a writer is: the corpus has sloppy writers, the demonstrations better
ones, so that the model can learn both what alignment should bring out and what it should not.
"""

import random
from dataclasses import dataclass, field

from sandbox.world import Claim, World

OPENERS = ("Sure!", "Gladly!", "Of course!")
_SENTENCE_STARTS = frozenset(("the", "it", "first", "you", "none"))


@dataclass(frozen=True, slots=True)
class Task:
    """A question and the facts that a judge needs.

    ``things``: those that the question names; ``claims``: what a complete answer states; ``settles``: the word that decides
    the answer (a thing, a number, yes or no; empty where claims decide); ``count``: how many things are asked for.
    """

    family: str
    question: str
    things: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    settles: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class Style:
    """How one answer is written: each part well or not."""

    right: bool = True
    complete: bool = True
    reasoned: bool = True
    formed: bool = True
    concise: bool = True
    courteous: bool = True


@dataclass(frozen=True, slots=True)
class Writer:
    """The probability of writing each part well."""

    right: float
    complete: float
    reasoned: float
    formed: float
    concise: float
    courteous: float

    def style(self, rng: random.Random) -> Style:
        return Style(
            rng.random() < self.right,
            rng.random() < self.complete,
            rng.random() < self.reasoned,
            rng.random() < self.formed,
            rng.random() < self.concise,
            rng.random() < self.courteous,
        )


def write(world: World, core: str, rng: random.Random, style: Style) -> str:
    """Add manners to the core of an answer: an opener where courteous, a stray remark where not concise."""
    parts = [rng.choice(OPENERS)] if style.courteous else []
    parts.append(sentence(core))
    if not style.concise:
        thing = rng.choice(list(world.kind_of))
        attribute = rng.choice(world.attributes_of(thing))
        parts.append(f"By the way, {world.says(world.claim(thing, attribute.name))}.")
        if rng.random() < 0.3:
            parts.append("Is there more?")
    return " ".join(parts)


def sentence(text: str) -> str:
    """``text`` with a full stop, and a capital letter where it is a sentence; bare words ('fish') keep their case."""
    if text.split()[0].rstrip(",") in _SENTENCE_STARTS:
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else text + "."


def spoil(world: World, claims: list[Claim], rng: random.Random) -> list[Claim]:
    """``claims`` with one of them made false."""
    spoilt = rng.randrange(len(claims))
    false = world.false_claim(claims[spoilt].thing, claims[spoilt].attribute, rng)
    return [*claims[:spoilt], false, *claims[spoilt + 1 :]]


def join(items: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
