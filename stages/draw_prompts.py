"""Prompts of an artifact, and a seeded draw of them: every stage that samples starts here."""

import random
from collections.abc import Sequence

from preference_data.parquet import read_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact


class TooFewPrompts(ValueError):
    """More prompts were asked for than there are."""


def prompts_of(artifact: Artifact) -> list[Prompt]:
    return read_records(artifact.file("prompts.parquet"), Prompt)


def draw_prompts(prompts: Sequence[Prompt], num_helpful: int, num_adversarial: int, draw: str, seed: int) -> list[Prompt]:
    """``num_helpful`` prompts without and ``num_adversarial`` with the safety tag; ``draw`` names this draw.

    Raises TooFewPrompts.
    """
    rng = random.Random(f"draw:{draw}:{seed}")
    found: list[Prompt] = []
    for count, tagged in ((num_helpful, False), (num_adversarial, True)):
        group = [prompt for prompt in prompts if prompt.is_safety == tagged]
        if count > len(group):
            what = "with" if tagged else "without"
            raise TooFewPrompts(
                f"{count} prompts {what} the safety tag were asked for and there are {len(group)}; ask for fewer"
            )
        found += rng.sample(group, count)
    return found
