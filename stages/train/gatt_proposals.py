"""Constraints that a policy proposes, for a file that a person edits."""

from collections.abc import Sequence
from pathlib import Path

from gatt.checkers import known_languages
from gatt.constraint_file import named
from gatt.constraints import Constraint
from gatt.proposals import QUESTIONS, known, propose
from policy.checkpoint import load_policy
from policy.generation import TransformersSampler
from stages.terminal.progress import Progress


def proposed(
    policy: Path,
    families: Sequence[str],
    samples: int,
    count: int,
    min_mentions: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    progress: Progress,
) -> list[Constraint]:
    """The constraints of ``families`` that the policy knows; languages that the checker does not know are left out, and told.

    Raises ValueError for an unknown family and where nothing is named often enough, and CheckError where languages are asked
    for and their checker is not installed.
    """
    if unknown := [family for family in families if family not in QUESTIONS]:
        raise ValueError(f"there is no family {unknown[0]!r} to ask for; families are {', '.join(QUESTIONS)}")
    if min_mentions > samples:
        raise ValueError(f"min_mentions is {min_mentions}, and there are {samples} answers; lower it or ask more often")
    languages = known_languages() if "language" in families else {}
    sampler = TransformersSampler(*load_policy(policy), say=progress.say)
    constraints: list[Constraint] = []
    for family in dict.fromkeys(families):
        proposals = propose(sampler, family, samples, count, temperature, max_new_tokens, seed)
        kept = [proposal.value for proposal in known(proposals, min_mentions)]
        if family == "language":
            if strange := [value for value in kept if value.title() not in languages]:
                progress.say(f"left out, since the checker does not know them: {', '.join(strange)}")
            kept = [value for value in kept if value.title() in languages]
        progress.say(f"{family}: {len(proposals)} named in {samples} answers, {len(kept)} of them often enough")
        constraints += [named(family, value) for value in kept]
    if not constraints:
        raise ValueError(
            f"no value is named by {min_mentions} of {samples} answers, so there is nothing that the policy surely knows; take "
            "a policy that can list things, or ask more often"
        )
    return constraints
