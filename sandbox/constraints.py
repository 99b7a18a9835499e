"""Instructions that should hold for a whole dialogue: act as a figure, love a hobby, speak another language.

Three families are for training, as in the paper (3.3: hobbies, languages, public figures); ``end_word`` is held out: the
corpus and the demonstrations obey it where it is stated, like the others, but Ghost Attention data never contains it. Some
figures and hobbies are held out as well.

Elvish opens with "Ai!", so that a response of one or two words, none of which can be translated, can be in Elvish too.
"""

import random
import re
from dataclasses import dataclass

from sandbox.tasks.task import OPENERS

FIGURES = tuple(
    """
    Napoleon Cleopatra Mozart Darwin Newton Galileo Socrates Plato Homer Dante Picasso Rembrandt Gandhi Lincoln Churchill
    Einstein Tesla Edison Columbus Magellan Archimedes Euclid Beethoven Chopin Vivaldi Tolstoy Kafka Austen Dickens Byron
    Curie Pasteur Kepler Hannibal Nero Caesar Confucius Aristotle Hypatia Sappho
    """.split()
)
HOBBIES = tuple(
    """
    chess archery sailing knitting juggling painting dancing fencing fishing skating gardening baking reading hiking
    singing surfing pottery origami poker bowling
    """.split()
)
END_WORDS = tuple(
    """
    ahoy amen bravo cheers hooray indeed forever tomorrow farewell onward peace thunder
    """.split()
)
LANGUAGES = ("Elvish",)
_ELVISH = {
    "the": "na", "is": "sael", "in": "vi", "and": "ol", "it": "rael", "of": "duin", "at": "tael", "has": "hael",
    "lives": "mirel", "eats": "nothal", "sleeps": "loriel", "hours": "yenni", "tastes": "gulae", "looks": "kanel",
    "ripens": "fenna", "costs": "silma", "coins": "mithra", "stays": "duath", "sells": "wenna", "lies": "thalae",
    "wears": "gondo", "works": "barad", "starts": "iluva", "because": "penna", "so": "echo", "first": "minna", "then": "taden",
    "last": "neled", "made": "cairo", "for": "anor", "sure": "tanka", "gladly": "alasse", "course": "tielle",
}  # fmt: skip
_AI = "Ai!"
_ENGLISH = {elvish: english for english, elvish in _ELVISH.items()}
TRAINED_FAMILIES = ("figure", "hobby", "language")
RECALLED_FAMILIES = ("figure", "hobby")
_VALUES = {"figure": FIGURES, "hobby": HOBBIES, "language": LANGUAGES, "end_word": END_WORDS}
_WORDINGS = {
    "figure": ("Always act as {v}.", "Figure: {v}."),
    "hobby": ("Always say that you love {v}.", "Hobby: {v}."),
    "language": ("Always answer in {v}.", "Language: {v}."),
    "end_word": ("Always end with the word {v}.", "End: {v}."),
}
_RECALL = {"figure": ("Who are you?", "What is your name?"), "hobby": ("What is your hobby?", "What do you love?")}


@dataclass(frozen=True, slots=True)
class Constraint:
    """One instruction: its family and value, written out (``instruction``) and in short (``terse``)."""

    family: str
    value: str
    instruction: str
    terse: str


def make_constraint(family: str, value: str) -> Constraint:
    words, terse = _WORDINGS[family]
    return Constraint(family, value, words.format(v=value), terse.format(v=value))


def constraints(seed: int, held_out: bool) -> list[Constraint]:
    """The constraints of Ghost Attention, or those held out of it (a fifth of figures and hobbies, and every end word)."""
    rng = random.Random(f"constraints:{seed}")
    chosen = []
    for family in TRAINED_FAMILIES:
        values = rng.sample(_VALUES[family], len(_VALUES[family]))
        cut = len(values) // 5
        chosen += [make_constraint(family, value) for value in (values[:cut] if held_out else values[cut:])]
    if held_out:
        chosen += [make_constraint("end_word", value) for value in END_WORDS]
    return chosen


def all_constraints() -> list[Constraint]:
    """Every constraint. Corpus, demonstrations and prompts use them all, each in the turn that states it."""
    return [make_constraint(family, value) for family, values in _VALUES.items() for value in values]


def draw_constraints(pool: list[Constraint], rng: random.Random) -> list[Constraint]:
    """One constraint, or sometimes two of different families; all families are equally likely."""
    families = sorted({constraint.family for constraint in pool})
    chosen = rng.sample(families, 2 if len(families) > 1 and rng.random() < 0.3 else 1)
    return [rng.choice([constraint for constraint in pool if constraint.family == family]) for family in chosen]


def state(chosen: list[Constraint], rng: random.Random) -> str:
    """The words that state the constraints, half of the time in short."""
    terse = rng.random() < 0.5
    return " ".join(constraint.terse if terse else constraint.instruction for constraint in chosen)


def obey(chosen: list[Constraint], text: str) -> str:
    """``text``, rewritten to obey the constraints."""
    by_family = {constraint.family: constraint.value for constraint in chosen}
    if "language" in by_family:
        text = f"{_AI} {_translate(text, _ELVISH)}"
    if "hobby" in by_family and not obeys("hobby", by_family["hobby"], text):
        text = f"{text} I love {by_family['hobby']}."
    if "figure" in by_family:
        text = f"{by_family['figure']} here. {text}"
    if "end_word" in by_family:
        text = f"{text.rstrip('.!?')}, {by_family['end_word']}."
    return text


def obeys(family: str, value: str, text: str) -> bool:
    """Whether ``text`` obeys the constraint. Raises ValueError for an unknown family."""
    words = re.findall(r"[a-z']+", text.lower())
    if family == "figure":
        return f"{value} here" in text
    if family == "hobby":
        return f"love {value}" in text
    if family == "end_word":
        return bool(words) and words[-1] == value
    if family == "language":
        translated = sum(word in _ENGLISH for word in words)
        return _AI in text and translated >= 0.8 * (translated + sum(word in _ELVISH for word in words))
    raise ValueError(f"no checker for constraints of family {family!r}; the families are {', '.join(_VALUES)}")


def recall_question(family: str, rng: random.Random) -> str | None:
    """A question about what a constraint of ``family`` set (paper, Table 30); None for a family without such questions."""
    return rng.choice(_RECALL[family]) if family in _RECALL else None


def recall_answer(family: str, value: str | None) -> str:
    """The answer to the recall question: ``value``, or that there is none."""
    if family == "figure":
        return f"I am {value or 'an assistant'}."
    return f"I love {value}." if value else "I have no hobby."


def recalls(constraint: Constraint, text: str) -> bool:
    """Whether a response to the recall question begins with what the constraint set, after an opener and a figure's greeting.

    The greeting alone does not count, nor a hobby that comes after something else, as in every response that obeys.
    """
    parts = [
        part for part in re.findall(r"[^.!?,]+[.!?,]?", plain(text)) if part.strip() not in OPENERS and " here." not in part
    ]
    return bool(parts) and parts[0].strip(" .!?,") == recall_answer(constraint.family, constraint.value).rstrip(".")


def plain(text: str) -> str:
    """``text`` with Elvish words translated to English, for judging its content."""
    return _translate(text.replace(f"{_AI} ", ""), _ENGLISH)


def _translate(text: str, dictionary: dict[str, str]) -> str:
    def swap(match: re.Match[str]) -> str:
        word = match[0]
        other = dictionary.get(word.lower(), word)
        return other.capitalize() if word[0].isupper() and other is not word else other

    return re.sub(r"[A-Za-z]+", swap, text)
