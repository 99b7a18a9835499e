"""Prompts of an artifact, and a seeded draw of them: every stage that samples starts here."""

import random
from collections.abc import Sequence

from preference_data.messages import messages_id
from preference_data.parquet import read_records
from preference_data.prompt import Prompt
from registry.artifact import Artifact


class TooFewPrompts(ValueError):
    """More prompts were asked for than there are."""


class EvaluationPromptsDrawn(ValueError):
    """What would be learnt from is what is measured with."""


def prompts_of(artifact: Artifact) -> list[Prompt]:
    return read_records(artifact.file("prompts.parquet"), Prompt)


def draw_prompts(
    prompts: Sequence[Prompt], num_helpful: int, num_adversarial: int, draw: str, seed: int, what_to_do: str = "ask for fewer"
) -> list[Prompt]:
    """``num_helpful`` prompts without and ``num_adversarial`` with the safety tag; ``draw`` names this draw.

    Raises TooFewPrompts, which ends with ``what_to_do``.
    """
    rng = random.Random(f"draw:{draw}:{seed}")
    drawn_prompts: list[Prompt] = []
    for count, tagged in ((num_helpful, False), (num_adversarial, True)):
        group = [prompt for prompt in prompts if prompt.is_safety == tagged]
        if count > len(group):
            what = "with" if tagged else "without"
            raise TooFewPrompts(f"{count} prompts {what} the safety tag are needed and there are {len(group)}; {what_to_do}")
        drawn_prompts += rng.sample(group, count)
    return drawn_prompts


def held_out_prompts(
    prompts: Sequence[Prompt], drawn: Sequence[Prompt], count: int, draw: str, seed: int, what_to_do: str
) -> list[Prompt]:
    """``count`` more prompts, none of which is among the ``drawn``; the share with the safety tag is theirs.

    Raises TooFewPrompts, which ends with ``what_to_do``.
    """
    taken = {prompt.id for prompt in drawn}
    left = [prompt for prompt in prompts if prompt.id not in taken]
    num_adversarial = round(count * sum(prompt.is_safety for prompt in drawn) / len(drawn))
    already = f"{len(taken)} are drawn already, and {what_to_do}"
    return draw_prompts(left, count - num_adversarial, num_adversarial, draw, seed, already)


def evaluation_prompts_in(drawn: Sequence[Prompt], evaluation: Sequence[Prompt]) -> list[Prompt]:
    """Those of the ``drawn`` prompts that are for evaluation: by their split, by id, or word for word."""
    ids = {name for prompt in evaluation for name in (prompt.id, messages_id(prompt.messages))}
    return [prompt for prompt in drawn if prompt.split == "test" or prompt.id in ids or messages_id(prompt.messages) in ids]
