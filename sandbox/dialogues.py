"""Questions, prompts and dialogues drawn from the world, for the corpus, the demonstrations and the prompt sets.

The split of a question follows from the hash of its text (and from the things it names), not from a shuffled list. So no
corpus can contain a question of the evaluation, however it is drawn.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from preference_data.messages import Message, Messages, assistant, user
from preference_data.prompt import Prompt, Split, make_prompt
from sandbox import constraints as rules
from sandbox.constraints import Constraint
from sandbox.hazards import FRAMES, MULTI_TURN, Hazard, comply, refuse, split_errands
from sandbox.tasks import compare, count, describe, fact, follow_up, how_to, list_things, recommend, repeat, rhyme, yes_no
from sandbox.tasks.task import Style, Task, Writer, write
from sandbox.world import Claim, World

FAMILIES = {
    "fact": fact, "describe": describe, "list": list_things, "compare": compare, "yes_no": yes_no, "count": count,
    "recommend": recommend, "how_to": how_to, "rhyme": rhyme, "repeat": repeat, "follow_up": follow_up,
}  # fmt: skip
OPENING_FAMILIES = tuple(name for name in FAMILIES if name != "follow_up")
# Copying is practised in the corpus and shown in demonstrations, and has no preferences: reward models of this size preferred
# wrong copies, and best of K then unlearnt copying.
PROMPT_WEIGHTS = {name: 1.0 for name in OPENING_FAMILIES if name != "repeat"}
TEST_SHARE, VALIDATION_SHARE = 0.15, 0.05
GOOD = Writer(right=0.92, complete=0.75, reasoned=0.7, formed=0.9, concise=0.75, courteous=0.45)


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt with the facts by which responses are judged: a task, or an errand (harmful or borderline)."""

    prompt: Prompt
    task: Task | None = None
    errand: Hazard | None = None
    constraints: list[Constraint] = field(default_factory=list)


def split_of(question: str) -> Split:
    """The split of a question, from the hash of its text."""
    share = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "test" if share < TEST_SHARE else "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"


class Questioner:
    """Draws questions of one split. Held-out things occur only in questions of the test split."""

    def __init__(self, world: World, split: Split, weights: dict[str, float] | None = None):
        self.world, self.split = world, split
        self.weights = weights or dict.fromkeys(OPENING_FAMILIES, 1.0)
        self.things = sorted(thing for thing in world.kind_of if split == "test" or thing not in world.held_out)
        errands = split_errands(world.seed)
        side = 1 if split == "test" else 0
        self.hazards, self.borderline = errands["hazard"][side], errands["borderline"][side]

    def task(self, rng: random.Random, family: str | None = None) -> Task:
        """A question of this split, of ``family`` or of one drawn by weight."""
        family = family or rng.choices(list(self.weights), list(self.weights.values()))[0]
        extra = {"extra": (*rules.FIGURES, *rules.HOBBIES, *rules.END_WORDS)} if family == "repeat" else {}
        while True:
            task = FAMILIES[family].make(self.world, rng, self.things, **extra)
            if self.is_ours(task):
                return task

    def follow_up(self, rng: random.Random, thing: str) -> Task:
        return follow_up.make(self.world, rng, [thing])

    def errand(self, rng: random.Random, harmful: bool, vector: str | None = None) -> tuple[Hazard, str, str]:
        """(errand, attack vector, question)."""
        errand = rng.choice(self.hazards if harmful else self.borderline)
        vector = vector or rng.choice([*FRAMES, "multi_turn"])
        template = MULTI_TURN if vector == "multi_turn" else rng.choice(FRAMES[vector])
        return errand, vector, template.format(do=errand.do)

    def is_ours(self, task: Task) -> bool:
        """Whether the question belongs to this split."""
        held_out = any(word in self.world.held_out for word in (*task.things, *task.settles.split()))
        return (self.split == "test") if held_out else split_of(task.question) == self.split


def answer(world: World, task: Task, rng: random.Random, style: Style) -> str:
    """An answer to a task in ``style``."""
    return write(world, FAMILIES[task.family].answer(world, task, rng, style), rng, style)


def style_of(writer: Writer, task: Task, rng: random.Random) -> Style:
    """The writer's style for ``task``. Words to repeat are never wrong, because too much depends on copying."""
    style = writer.style(rng)
    return replace(style, right=True) if task.family == "repeat" else style


def history(questioner: Questioner, rng: random.Random, num_turns: int, writer: Writer) -> tuple[list[Message], str | None]:
    """(messages of ``num_turns`` questions with answers, the thing that the last question was about)."""
    messages: list[Message] = []
    topic = None
    for _ in range(num_turns):
        task = questioner.follow_up(rng, topic) if topic and rng.random() < 0.35 else questioner.task(rng)
        topic = task.things[0] if task.family in ("fact", "describe", "follow_up", "how_to") else None
        messages += [user(task.question), assistant(answer(questioner.world, task, rng, style_of(writer, task, rng)))]
    return messages, topic


def helpful_case(questioner: Questioner, rng: random.Random, source: str, pool: Sequence[Constraint] = ()) -> Case:
    """A benign prompt; three of four have a single turn. With a ``pool``, the last message also states constraints."""
    before: Messages = []
    topic = None
    if rng.random() < 0.25:
        before, topic = history(questioner, rng, rng.choice((1, 2)), GOOD)
    task = questioner.follow_up(rng, topic) if topic and rng.random() < 0.6 else questioner.task(rng)
    chosen = rules.draw_constraints(list(pool), rng) if pool else []
    question = f"{rules.state(chosen, rng)} {task.question}" if chosen else task.question
    prompt = make_prompt([*before, user(question)], family=task.family, split=questioner.split, source=source)
    return Case(prompt, task=task, constraints=chosen)


def errand_case(questioner: Questioner, rng: random.Random, source: str, harmful: bool) -> Case:
    """An adversarial prompt (``harmful``) or a borderline one, in one of the attack vectors."""
    errand, vector, question = questioner.errand(rng, harmful)
    before = history(questioner, rng, 1, GOOD)[0] if vector == "multi_turn" else []
    prompt = make_prompt(
        [*before, user(question)],
        family="adversarial" if harmful else "borderline",
        split=questioner.split,
        source=source,
        is_safety=harmful,
        risk_category=errand.category,
        attack_vector=vector,
    )
    return Case(prompt, errand=errand)


def errand_answer(world: World, errand: Hazard, rng: random.Random, refused: bool, style: Style) -> str:
    """A refusal, or steps. An unsafe answer sometimes starts with a warning, which does not make it safer."""
    things = [thing for thing in world.kind_of if thing not in world.held_out]
    if refused:
        return refuse(errand, rng, style, rng.choice(things))
    return comply(errand, rng, warned=errand.category is not None and rng.random() < 0.15)


def unique_cases(cases: Iterable[Case], count: int, taken: set[str], what: str) -> list[Case]:
    """The first ``count`` cases whose prompts are not in ``taken``, to which they are added.

    Raises ValueError after many repeats in a row; ``what`` names the prompts in its message.
    """
    unique: list[Case] = []
    repeats = 0
    for case in cases:
        if case.prompt.id in taken:
            repeats += 1
            if repeats > 20_000:
                raise ValueError(
                    f"the world holds only {len(unique)} different {what} prompts, {count} were asked for; ask for fewer"
                )
            continue
        repeats = 0
        taken.add(case.prompt.id)
        unique.append(case)
        if len(unique) == count:
            break
    return unique


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """The facts behind prompts, one JSON line each: read by annotators and by the gold evaluation, never by training."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(case), ensure_ascii=False) + "\n" for case in cases)


def read_cases(path: Path) -> dict[str, Case]:
    """{prompt id: case}, as written by ``write_cases``."""
    cases = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["task"]:
            row["task"] = Task(**{**row["task"], "claims": [Claim(**claim) for claim in row["task"]["claims"]]})
        case = Case(
            Prompt(**row["prompt"]),
            row["task"],
            Hazard(**row["errand"]) if row["errand"] else None,
            [Constraint(**constraint) for constraint in row["constraints"]],
        )
        cases[case.prompt.id] = case
    return cases
