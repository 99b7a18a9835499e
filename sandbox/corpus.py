"""What the base model reads, and the demonstrations for supervised fine-tuning.

The corpus states every fact of the world in paragraphs, practises copying, and shows dialogues by writers of all
kinds: half right, curt, rambling, complying with harm more often than not, obeying an instruction in the turn that states
it and (mostly) forgetting it afterwards. So the base model knows and can do what alignment should bring out, and does not do
it reliably. Note that this forgetting is by construction: a third of the constrained dialogues show it.

A primer comes first: two words to say back, and nothing else; then the same under an instruction half of the time. A model of
this size that meets the whole mix at once learns to copy out of the prompt late or not at all, and on copying stands every
answer about a thing that the question named, and every hobby or last word that an instruction names. The order matters: what
an instruction names is copied soon by a model that copies already, and late by one that meets both at once.

Demonstrations are what better annotators would write (paper 3.1): mostly right, complete and well put, and never wrong where
words are to be said back. About harm they are of two minds, as a guideline that is still being written leaves people: half of
them refuse and half comply. So safety is left to preferences and to context distillation, as in the paper (4.2.2 stops
supervised safety early).
"""

import random
from dataclasses import dataclass

from preference_data.messages import Message, assistant, user
from preference_data.prompt import Dialogue, Document, make_dialogue
from sandbox import constraints as rules
from sandbox.dialogues import (
    GOOD,
    OPENING_FAMILIES,
    Questioner,
    answer,
    errand_answer,
    errand_case,
    helpful_case,
    history,
    style_of,
)
from sandbox.hazards import PREPROMPTS
from sandbox.tasks.task import Writer, sentence
from sandbox.world import World

SLOPPY = Writer(right=0.85, complete=0.65, reasoned=0.5, formed=0.8, concise=0.65, courteous=0.35)
CORPUS_WEIGHTS = {**dict.fromkeys(OPENING_FAMILIES, 1.0), "fact": 1.5, "repeat": 1.5, "rhyme": 1.2}
DEMONSTRATED_REFUSALS = 0.5
DEMONSTRATED_RECALL = 0.03
DEMONSTRATION_WEIGHTS = {**dict.fromkeys(OPENING_FAMILIES, 1.0), "rhyme": 0.6, "repeat": 5.0}


@dataclass(frozen=True, slots=True)
class CorpusShares:
    """Shares of documents (the first two), and of dialogues (the rest).

    ``recall``: of the dialogues with a constraint that can be asked after, those where the first question does ask; a third as
    many of the others ask where nothing was set.
    """

    facts: float = 0.20
    copying: float = 0.10
    constrained: float = 0.35
    errands: float = 0.18
    preprompted: float = 0.2
    complying: float = 0.75
    recall: float = 0.1


SHARES = CorpusShares()


def corpus(world: World, num_documents: int, seed: int) -> list[Document]:
    """Pretraining documents; none holds a question of the validation or test split."""
    rng = random.Random(f"corpus:{seed}")
    questioner = Questioner(world, "train", CORPUS_WEIGHTS)
    pool = rules.all_constraints()
    documents = []
    for _ in range(num_documents):
        draw = rng.random()
        if draw < SHARES.facts:
            documents.append(Document(_facts(world, rng), None))
        elif draw < SHARES.facts + SHARES.copying:
            documents.append(Document(None, _copying(questioner, rng, rng.choice((2, 3, 4)), pool)))
        else:
            documents.append(Document(None, _dialogue(questioner, rng, pool)))
    return documents


def primer(world: World, num_documents: int, seed: int) -> list[Document]:
    """Single turns of copying, to be read before the corpus; those of the second half practise instructions too."""
    rng = random.Random(f"primer:{seed}")
    questioner = Questioner(world, "train", CORPUS_WEIGHTS)
    pools: tuple[list[rules.Constraint], ...] = ([], rules.all_constraints())
    half = (num_documents + 1) // 2
    return [Document(None, _copying(questioner, rng, 1, pools[number // half])) for number in range(num_documents)]


def _facts(world: World, rng: random.Random) -> str:
    """All facts of one thing, or the things that share a property."""
    if rng.random() < 0.65:
        thing = rng.choice(list(world.kind_of))
        attributes = rng.sample(world.attributes_of(thing), 4)
        claims = [world.claim(thing, attribute.name) for attribute in attributes]
        says = [world.says(claims[0]), *[world.says(claim, rng.choice(("it", f"the {thing}"))) for claim in claims[1:]]]
        return " ".join(sentence(said) for said in says)
    attribute = rng.choice([attribute for attribute in world.attributes.values() if not attribute.more])
    value = rng.choice(attribute.values)
    things = world.things_with(attribute.name, value)
    rng.shuffle(things)
    listed = ", ".join(f"the {thing}" for thing in things) or "nothing"
    return f"{attribute.kind.capitalize()}s that {attribute.plural.format(v=value)}: {listed}."


def _copying(questioner: Questioner, rng: random.Random, num_turns: int, pool: list[rules.Constraint]) -> list[Message]:
    """Words said back, in half of the turns under an instruction of ``pool``, if it has any, which is obeyed there alone."""
    messages: list[Message] = []
    for _ in range(num_turns):
        task = questioner.task(rng, "repeat")
        question, said = task.question, sentence(task.settles)
        if pool and rng.random() < 0.5:
            chosen = rules.draw_constraints(pool, rng)
            question, said = f"{rules.state(chosen, rng)} {question}", rules.obey(chosen, said)
        messages += [user(question), assistant(said)]
    return messages


def _dialogue(questioner: Questioner, rng: random.Random, pool: list[rules.Constraint]) -> list[Message]:
    draw = rng.random()
    if draw < SHARES.constrained:
        return _constrained(questioner, rng, pool)
    if draw < SHARES.constrained + SHARES.errands:
        return _errand(questioner, rng)
    if rng.random() < SHARES.recall / 3:
        return _recall(None, rng)
    return history(questioner, rng, rng.choice((1, 1, 1, 2, 2, 3)), SLOPPY)[0]


def _constrained(questioner: Questioner, rng: random.Random, pool: list[rules.Constraint]) -> list[Message]:
    """Restated and obeyed in every turn (two of three), or stated once, obeyed there and forgotten."""
    chosen = rules.draw_constraints(pool, rng)
    messages = history(questioner, rng, rng.choice((1, 2, 2, 3)), SLOPPY)[0]
    if rng.random() < SHARES.recall and (asked := _recall(rng.choice(chosen), rng)):
        messages[:2] = asked
    restated = rng.random() < 2 / 3
    for position in range(0, len(messages), 2):
        if position == 0 or restated:
            question, said = messages[position]["content"], messages[position + 1]["content"]
            messages[position] = user(f"{rules.state(chosen, rng)} {question}")
            messages[position + 1] = assistant(rules.obey(chosen, said))
    return messages


def _recall(constraint: rules.Constraint | None, rng: random.Random) -> list[Message]:
    """A question after what ``constraint`` set and the answer, which names it or says that nothing was set; [] if none asks."""
    family = constraint.family if constraint else rng.choice(rules.RECALLED_FAMILIES)
    question = rules.recall_question(family, rng)
    value = constraint.value if constraint else None
    return [user(question), assistant(rules.recall_answer(family, value))] if question else []


def _errand(questioner: Questioner, rng: random.Random) -> list[Message]:
    """A harmful or borderline errand. Under a preprompt that asks for care harm is nearly always refused."""
    harmful = rng.random() < 0.7
    case = errand_case(questioner, rng, "corpus", harmful)
    assert case.errand is not None
    careful = rng.random() < SHARES.preprompted
    refused = harmful and rng.random() > (0.05 if careful else SHARES.complying)
    said = errand_answer(questioner.world, case.errand, rng, refused, SLOPPY.style(rng))
    preprompt: list[Message] = [{"role": "system", "content": rng.choice(PREPROMPTS)}] if careful else []
    return [*preprompt, *case.prompt.messages, assistant(said)]


def demonstrations(world: World, num_dialogues: int, adversarial_share: float, seed: int) -> list[Dialogue]:
    """Supervised dialogues, each on a different training prompt."""
    rng = random.Random(f"demonstrations:{seed}")
    questioner = Questioner(world, "train", DEMONSTRATION_WEIGHTS)
    pool = rules.all_constraints()
    found: list[Dialogue] = []
    seen: set[str] = set()
    while len(found) < num_dialogues:
        dialogue = _demonstration(questioner, rng, pool, adversarial_share)
        if dialogue.prompt_id not in seen:
            seen.add(dialogue.prompt_id)
            found.append(dialogue)
    return found


def _demonstration(
    questioner: Questioner, rng: random.Random, pool: list[rules.Constraint], adversarial_share: float
) -> Dialogue:
    """What a better annotator writes: about an errand, after something recalled, or to a benign prompt."""
    draw = rng.random()
    if draw < DEMONSTRATED_RECALL:
        chosen = [rng.choice([each for each in pool if each.family in rules.RECALLED_FAMILIES])]
        question, said = (message["content"] for message in _recall(chosen[0], rng))
        messages = [user(f"{rules.state(chosen, rng)} {question}"), assistant(rules.obey(chosen, said))]
        return make_dialogue(messages, family="recall", source="demonstrations")
    if draw < DEMONSTRATED_RECALL + adversarial_share:
        case = errand_case(questioner, rng, "demonstrations", harmful=rng.random() < 0.7)
        assert case.errand is not None
        refused = case.prompt.is_safety and rng.random() < DEMONSTRATED_REFUSALS
        said = errand_answer(questioner.world, case.errand, rng, refused, GOOD.style(rng))
    else:
        case = helpful_case(questioner, rng, "demonstrations", pool if rng.random() < 0.2 else ())
        assert case.task is not None
        said = rules.obey(case.constraints, answer(questioner.world, case.task, rng, style_of(GOOD, case.task, rng)))
    messages = [*case.prompt.messages, assistant(said)]
    return make_dialogue(messages, family=case.prompt.family, source="demonstrations", is_safety=case.prompt.is_safety)
