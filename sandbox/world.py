"""The closed world: 150 things with four facts each, drawn from a seed.

Five kinds (animals, foods, places, trades, tools); each kind has three attributes with words for values and one with a
number. Which things exist and what is true of them depends on the seed; the wordings below do not. A tenth of the things is
held out: the corpus states their facts, but no training dialogue ever asks about them.

``claims`` finds the statements in a text. Responses are judged by them, whoever wrote the response.
"""

import random
import re
from dataclasses import dataclass
from functools import cached_property

NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
THINGS_PER_KIND = 30
HELD_OUT_PER_KIND = 3


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of the things of one kind, with all wordings for it.

    ``says``: after "the fox" or "it"; ``plural``: after "animals that"; ``asks``: questions about {e};
    ``step``: the instruction that a how-to makes of it; ``more``: the question word of a comparison (numbers only).
    """

    name: str
    kind: str
    values: tuple[str, ...]
    says: str
    plural: str
    asks: tuple[str, ...]
    step: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """'The ``thing``'s ``attribute`` is ``value``', true or not."""

    thing: str
    attribute: str
    value: str


_COLOURS = ("brown", "grey", "white", "black", "red", "golden", "green")
ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("colour", "animal", _COLOURS, "is {v}", "are {v}",
              ("What colour is {e}?", "Which colour does {e} have?", "Tell me the colour of {e}.")),
    Attribute("home", "animal", ("forest", "river", "desert", "meadow", "cave", "swamp"), "lives in the {v}", "live in the {v}",
              ("Where does {e} live?", "What is the home of {e}?", "Tell me where {e} lives.")),
    Attribute("diet", "animal", ("seeds", "fish", "leaves", "worms", "berries", "roots"), "eats {v}", "eat {v}",
              ("What does {e} eat?", "Which food does {e} like?", "Tell me what {e} eats.")),
    Attribute("sleep", "animal", NUMBERS, "sleeps {v} hours", "sleep {v} hours",
              ("How long does {e} sleep?", "How many hours does {e} sleep?"), more="sleeps longer"),
    Attribute("taste", "food", ("sweet", "sour", "salty", "bitter", "spicy"), "tastes {v}", "taste {v}",
              ("How does {e} taste?", "What is the taste of {e}?", "Tell me how {e} tastes.")),
    Attribute("shade", "food", ("yellow", "purple", "orange", "pink", "blue", "pale"), "looks {v}", "look {v}",
              ("How does {e} look?", "What shade is {e}?", "Tell me how {e} looks.")),
    Attribute("season", "food", ("spring", "summer", "autumn", "winter"), "ripens in {v}", "ripen in {v}",
              ("When does {e} ripen?", "What is the season of {e}?", "Tell me when {e} ripens.")),
    Attribute("price", "food", NUMBERS, "costs {v} coins", "cost {v} coins",
              ("How much does {e} cost?", "What is the price of {e}?"), more="costs more"),
    Attribute("weather", "place", ("sunny", "rainy", "windy", "snowy", "foggy", "stormy"), "stays {v}", "stay {v}",
              ("What is the weather at {e}?", "How is the weather at {e}?", "Tell me the weather at {e}.")),
    Attribute("sight", "place", ("tower", "bridge", "temple", "statue", "garden", "fountain"), "has a {v}", "have a {v}",
              ("What can I see at {e}?", "Which sight does {e} have?", "Tell me what to see at {e}."), "see the {v}"),
    Attribute("ware", "place", ("wool", "glass", "silk", "honey", "paper", "salt"), "sells {v}", "sell {v}",
              ("What can I buy at {e}?", "Which ware does {e} sell?", "Tell me what {e} sells."), "buy some {v}"),
    Attribute("distance", "place", NUMBERS, "lies {v} miles away", "lie {v} miles away",
              ("How far away is {e}?", "How many miles is it to {e}?"), "walk {v} miles", "lies farther away"),
    Attribute("gear", "trade", ("apron", "cloak", "helmet", "scarf", "mask", "belt"), "wears the {v}", "wear the {v}",
              ("What does {e} wear?", "Which gear does {e} need?", "Tell me what {e} wears."), "put on the {v}"),
    Attribute("workplace", "trade", ("mill", "forge", "yard", "tent", "tavern", "tunnel"), "works in the {v}",
              "work in the {v}",
              ("Where does {e} work?", "What is the workplace of {e}?", "Tell me where {e} works."), "go to the {v}"),
    Attribute("start", "trade", ("dawn", "noon", "dusk", "midnight"), "starts at {v}", "start at {v}",
              ("When does {e} start?", "At what time does {e} begin?", "Tell me when {e} starts."), "start at {v}"),
    Attribute("pay", "trade", NUMBERS, "earns {v} coins", "earn {v} coins",
              ("How much does {e} earn?", "What is the pay of {e}?"), more="earns more"),
    Attribute("material", "tool", ("iron", "wood", "copper", "bone", "stone", "brass"), "is made of {v}", "are made of {v}",
              ("What is {e} made of?", "Which material is {e} made of?", "Tell me the material of {e}.")),
    Attribute("use", "tool", ("cutting", "digging", "lifting", "polishing", "measuring", "mixing"), "is for {v}", "are for {v}",
              ("What is {e} for?", "What is the use of {e}?", "Tell me the use of {e}."), "begin {v}"),
    Attribute("shelf", "tool", ("shed", "cellar", "attic", "barn", "chest", "cart"), "is kept in the {v}",
              "are kept in the {v}",
              ("Where is {e} kept?", "Where do I find {e}?", "Tell me where {e} is kept."), "open the {v}"),
    Attribute("weight", "tool", NUMBERS, "weighs {v} pounds", "weigh {v} pounds",
              ("How heavy is {e}?", "What is the weight of {e}?"), more="weighs more"),
)  # fmt: skip

_NAMES = {
    "animal": """
        fox owl bear wolf otter badger heron hare stork lynx beaver mole weasel falcon toad lizard raven swan goat donkey
        camel monkey turtle crab squirrel hedgehog sparrow pigeon moose bison panther eagle
    """,
    "food": """
        plum apple pear cherry melon grape fig lemon olive carrot turnip onion pepper bean pea radish cabbage pumpkin walnut
        almond mango peach apricot date quince celery spinach garlic leek potato tomato barley
    """,
    "place": """
        abbey harbour canyon island castle fort lagoon village valley glacier oasis lighthouse monastery port quarry plateau
        orchard mine palace cliff prairie marsh volcano reef hamlet citadel plaza arena shrine ranch dock mansion
    """,
    "trade": """
        baker smith tailor miner sailor weaver potter farmer hunter painter carpenter mason cook shepherd brewer jeweller
        librarian gardener fisher barber cobbler printer glazier tanner cooper roofer plumber butcher tinker dyer scribe
        juggler
    """,
    "tool": """
        hammer saw shovel ladder needle ruler bucket brush anvil chisel pulley lantern compass rake axe wrench file drill
        spade sickle hook lever clamp funnel scale trowel mallet plough wheel broom sieve tongs
    """,
}
KINDS: dict[str, tuple[str, ...]] = {kind: tuple(names.split()) for kind, names in _NAMES.items()}


class World:
    """Things and what is true of them. Everything follows from ``seed``."""

    def __init__(self, seed: int):
        rng = random.Random(f"world:{seed}")
        self.seed = seed
        self.kinds: dict[str, list[str]] = {kind: sorted(rng.sample(pool, THINGS_PER_KIND)) for kind, pool in KINDS.items()}
        self.kind_of = {thing: kind for kind, things in self.kinds.items() for thing in things}
        self.held_out = {thing for things in self.kinds.values() for thing in rng.sample(things, HELD_OUT_PER_KIND)}
        self.facts: dict[tuple[str, str], str] = {}
        for attribute in ATTRIBUTES:
            for thing in self.kinds[attribute.kind]:
                self.facts[thing, attribute.name] = rng.choice(attribute.values)

    @cached_property
    def attributes(self) -> dict[str, Attribute]:
        return {attribute.name: attribute for attribute in ATTRIBUTES}

    def attributes_of(self, thing: str) -> list[Attribute]:
        return [attribute for attribute in ATTRIBUTES if attribute.kind == self.kind_of[thing]]

    def claim(self, thing: str, attribute: str) -> Claim:
        """The true claim."""
        return Claim(thing, attribute, self.facts[thing, attribute])

    def false_claim(self, thing: str, attribute: str, rng: random.Random) -> Claim:
        """A claim with another of the attribute's values."""
        others = [value for value in self.attributes[attribute].values if value != self.facts[thing, attribute]]
        return Claim(thing, attribute, rng.choice(others))

    def is_true(self, claim: Claim) -> bool:
        return self.facts.get((claim.thing, claim.attribute)) == claim.value

    def says(self, claim: Claim, subject: str | None = None) -> str:
        """'the fox lives in the forest' (or with another subject, such as 'it')."""
        return f"{subject or 'the ' + claim.thing} {self.attributes[claim.attribute].says.format(v=claim.value)}"

    def things_with(self, attribute: str, value: str) -> list[str]:
        return [thing for thing in self.kinds[self.attributes[attribute].kind] if self.facts[thing, attribute] == value]

    def mentioned(self, text: str) -> list[str]:
        """The things that ``text`` names, each once, in order."""
        return list(dict.fromkeys(word for word in re.findall(r"[a-z]+", text.lower()) if word in self.kind_of))

    def claims(self, text: str, subject: str | None = None) -> list[Claim]:
        """The claims in ``text``, in order.

        ``it`` stands for the thing last named, or for ``subject``; steps without a subject are about ``subject``.
        """
        claims: list[tuple[int, Claim]] = []
        lowered = text.lower()
        for attribute, says, step in _PATTERNS:
            for match in says.finditer(lowered):
                thing = match["thing"] or _last_named(self, lowered[: match.start()]) or subject
                if thing and match["value"] in attribute.values and self.kind_of.get(thing) == attribute.kind:
                    claims.append((match.start(), Claim(thing, attribute.name, match["value"])))
            if step and subject and self.kind_of.get(subject) == attribute.kind:
                for match in step.finditer(lowered):
                    if match["value"] in attribute.values:
                        claims.append((match.start(), Claim(subject, attribute.name, match["value"])))
        return [claim for _, claim in sorted(claims, key=lambda place_and_claim: place_and_claim[0])]


def _last_named(world: World, text: str) -> str | None:
    named = world.mentioned(text)
    return named[-1] if named else None


def _pattern(template: str) -> str:
    return re.escape(template).replace(r"\{v\}", r"(?P<value>[a-z]+)").replace(r"\ ", " ")


_PATTERNS = [
    (
        attribute,
        re.compile(rf"(?:\bthe (?P<thing>[a-z]+)|\bit) {_pattern(attribute.says)}\b"),
        re.compile(rf"(?:first|then|last|and) {_pattern(attribute.step)}\b") if attribute.step else None,
    )
    for attribute in ATTRIBUTES
]
