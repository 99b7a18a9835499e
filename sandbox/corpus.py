"""The pretraining corpus of the base model, and the demonstrations for supervised fine-tuning.

The corpus states every fact of the world in paragraphs, practises copying, and shows dialogues by writers of all kinds: half
right, curt, rambling, complying with harm more often than not, obeying an instruction in the turn that states it and (mostly)
forgetting it afterwards. So the base model has the knowledge and the skills that alignment should bring out, but does not show
them reliably. Note that this forgetting is by construction: a third of the constrained dialogues show it.

A primer comes first: turns with two words to repeat and nothing else, then the same with an instruction in half of them. A
model of this size that starts with the whole mix learns late or never to copy from the prompt. Copying is needed for every
response about a thing that the question names, and for every hobby or last word that an instruction names. The order matters: a
model that already copies soon copies what an instruction names, while one that learns both at once does so late.

Demonstrations are written like those of better annotators (paper 3.1): mostly right, complete and well put, and never wrong
where words are to be repeated. About harm they disagree, as people do while a guideline is still being written: half of them
refuse and half comply. So safety is left to preferences and to context distillation, as in the paper (4.2.2 stops supervised
safety early).
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

    ``recall``: how often the first question of a constrained dialogue asks about the constraint; a third as often, another
    dialogue asks where nothing was set.
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
    """Single turns of copying, for training before the corpus; the second half also practises instructions."""
    rng = random.Random(f"primer:{seed}")
    questioner = Questioner(world, "train", CORPUS_WEIGHTS)
    pools: tuple[list[rules.Constraint], ...] = ([], rules.all_constraints())
    half = (num_documents + 1) // 2
    return [Document(None, _copying(questioner, rng, 1, pools[number // half])) for number in range(num_documents)]


def _facts(world: World, rng: random.Random) -> str:
    """Facts about one thing, or the things that share a property."""
    if rng.random() < 0.65:
        thing = rng.choice(list(world.kind_of))
        attributes = rng.sample(world.attributes_of(thing), 4)
        claims = [world.claim(thing, attribute.name) for attribute in attributes]
        statements = [world.says(claims[0])]
        statements += [world.says(claim, rng.choice(("it", f"the {thing}"))) for claim in claims[1:]]
        return " ".join(sentence(statement) for statement in statements)
    attribute = rng.choice([attribute for attribute in world.attributes.values() if not attribute.more])
    value = rng.choice(attribute.values)
    things = world.things_with(attribute.name, value)
    rng.shuffle(things)
    listed = ", ".join(f"the {thing}" for thing in things) or "nothing"
    return f"{attribute.kind.capitalize()}s that {attribute.plural.format(v=value)}: {listed}."


def _copying(questioner: Questioner, rng: random.Random, num_turns: int, pool: list[rules.Constraint]) -> list[Message]:
    """Words repeated; with a ``pool``, half of the turns also state constraints, which are obeyed only there."""
    messages: list[Message] = []
    for _ in range(num_turns):
        task = questioner.task(rng, "repeat")
        question, response = task.question, sentence(task.settles)
        if pool and rng.random() < 0.5:
            chosen = rules.draw_constraints(pool, rng)
            question, response = f"{rules.state(chosen, rng)} {question}", rules.obey(chosen, response)
        messages += [user(question), assistant(response)]
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
    """Constraints restated and obeyed in every turn (two dialogues of three), or stated and obeyed once, then forgotten."""
    chosen = rules.draw_constraints(pool, rng)
    messages = history(questioner, rng, rng.choice((1, 2, 2, 3)), SLOPPY)[0]
    if rng.random() < SHARES.recall and (recall := _recall(rng.choice(chosen), rng)):
        messages[:2] = recall
    restated = rng.random() < 2 / 3
    for position in range(0, len(messages), 2):
        if position == 0 or restated:
            question, response = messages[position]["content"], messages[position + 1]["content"]
            messages[position] = user(f"{rules.state(chosen, rng)} {question}")
            messages[position + 1] = assistant(rules.obey(chosen, response))
    return messages


def _recall(constraint: rules.Constraint | None, rng: random.Random) -> list[Message]:
    """The recall question for ``constraint`` (or for none) and its answer; [] for a family without such questions."""
    family = constraint.family if constraint else rng.choice(rules.RECALLED_FAMILIES)
    question = rules.recall_question(family, rng)
    value = constraint.value if constraint else None
    return [user(question), assistant(rules.recall_answer(family, value))] if question else []


def _errand(questioner: Questioner, rng: random.Random) -> list[Message]:
    """A harmful or borderline errand. With a preprompt that asks for care, harm is nearly always refused."""
    harmful = rng.random() < 0.7
    case = errand_case(questioner, rng, "corpus", harmful)
    assert case.errand is not None
    careful = rng.random() < SHARES.preprompted
    refused = harmful and rng.random() > (0.05 if careful else SHARES.complying)
    response = errand_answer(questioner.world, case.errand, rng, refused, SLOPPY.style(rng))
    preprompt: list[Message] = [{"role": "system", "content": rng.choice(PREPROMPTS)}] if careful else []
    return [*preprompt, *case.prompt.messages, assistant(response)]


def demonstrations(world: World, num_dialogues: int, adversarial_share: float, seed: int) -> list[Dialogue]:
    """Supervised dialogues, each on a different training prompt."""
    rng = random.Random(f"demonstrations:{seed}")
    questioner = Questioner(world, "train", DEMONSTRATION_WEIGHTS)
    pool = rules.all_constraints()
    by_prompt: dict[str, Dialogue] = {}
    while len(by_prompt) < num_dialogues:
        dialogue = _demonstration(questioner, rng, pool, adversarial_share)
        by_prompt.setdefault(dialogue.prompt_id, dialogue)
    return list(by_prompt.values())


def _demonstration(
    questioner: Questioner, rng: random.Random, pool: list[rules.Constraint], adversarial_share: float
) -> Dialogue:
    """A dialogue by a better annotator: about an errand, with a recall question, or on a benign prompt."""
    draw = rng.random()
    if draw < DEMONSTRATED_RECALL:
        chosen = [rng.choice([constraint for constraint in pool if constraint.family in rules.RECALLED_FAMILIES])]
        question, response = (message["content"] for message in _recall(chosen[0], rng))
        messages = [user(f"{rules.state(chosen, rng)} {question}"), assistant(rules.obey(chosen, response))]
        return make_dialogue(messages, family="recall", source="demonstrations")
    if draw < DEMONSTRATED_RECALL + adversarial_share:
        case = errand_case(questioner, rng, "demonstrations", harmful=rng.random() < 0.7)
        assert case.errand is not None
        refused = case.prompt.is_safety and rng.random() < DEMONSTRATED_REFUSALS
        response = errand_answer(questioner.world, case.errand, rng, refused, GOOD.style(rng))
    else:
        case = helpful_case(questioner, rng, "demonstrations", pool if rng.random() < 0.2 else ())
        assert case.task is not None
        response = rules.obey(case.constraints, answer(questioner.world, case.task, rng, style_of(GOOD, case.task, rng)))
    messages = [*case.prompt.messages, assistant(response)]
    return make_dialogue(messages, family=case.prompt.family, source="demonstrations", is_safety=case.prompt.is_safety)
