"""Does a policy still copy words out of its prompt? Persistent instructions stand on that, and Ghost Attention may cost it.

The questions are the sandbox's "Please repeat: amber Napoleon.", of the test split. Words that the policy has never read are
not asked for: no policy of this size can say them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from policy.generation import Sampler
from preference_data.messages import user
from preference_data.parquet import read_records
from registry.artifact import Artifact
from sandbox.dialogues import Questioner
from sandbox.tasks.task import Task
from sandbox.world import World

COPIES_FILE = "copies.parquet"
_DRAWS = 20  # of a question, for each that is asked for


@dataclass(frozen=True, slots=True)
class Copy:
    """A question to say ``words`` back, and the response; ``copied``: it holds them, in their order."""

    question: str
    words: str
    response: str
    copied: bool


def copies(sampler: Sampler, world_seed: int, count: int, temperature: float, max_new_tokens: int, seed: int) -> list[Copy]:
    """``count`` different questions, each answered once."""
    tasks = questions(World(world_seed), count, seed)
    groups = sampler.sample([[user(task.question)] for task in tasks], 1, temperature, 1.0, max_new_tokens, seed)
    return [
        Copy(task.question, task.settles, response.text, task.settles in response.text)
        for task, (response,) in zip(tasks, groups, strict=True)
    ]


def questions(world: World, count: int, seed: int) -> list[Task]:
    """Different ones, in the order in which they are drawn. Raises ValueError where there are not so many."""
    rng, questioner = random.Random(f"copying:{seed}"), Questioner(world, "test")
    tasks: dict[str, Task] = {}
    for _ in range(_DRAWS * count):
        task = questioner.task(rng, "repeat")
        if len(tasks) < count and not any(word in world.held_out for word in task.settles.split()):
            tasks.setdefault(task.question, task)
    if len(tasks) < count:
        raise ValueError(f"{count} different questions to say words back are more than the {len(tasks)} found; ask for fewer")
    return list(tasks.values())


def read_copies(evaluation: Artifact) -> Sequence[Copy]:
    """Those of an evaluation of consistency; none where it did not ask."""
    if not (evaluation.path / COPIES_FILE).is_file():
        return []
    return read_records(evaluation.file(COPIES_FILE), Copy)
