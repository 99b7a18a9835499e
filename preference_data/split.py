"""Splitting by prompt: no prompt is on two sides, and all judgements of a prompt stay together.

The side of a prompt is read off a hash of the seed and the prompt's id, so it never moves: comparisons that arrive in a
later round, and the prompts artifact itself, fall on the same sides. The price is that shares hold on average, not exactly.
Prompts are told apart by their whole text; two dialogues with the same first message are two prompts.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

from preference_data.prompt import Split

SHARES: Final[Mapping[Split, float]] = {"train": 0.9, "validation": 0.05, "test": 0.05}
"""Ours; the paper holds out 1,000 comparisons of every batch."""


class OfPrompt(Protocol):
    """Any record that belongs to a prompt: comparisons, dialogues, samples."""

    @property
    def prompt_id(self) -> str: ...


Record = TypeVar("Record", bound=OfPrompt)


def split_of(prompt_id: str, seed: int, shares: Mapping[Split, float] = SHARES) -> Split:
    """The side on which a prompt falls. Raises ValueError unless the shares are at least 0 and sum to 1."""
    if any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        raise ValueError(f"shares are {dict(shares)}, which sum to {sum(shares.values())}; give shares from 0 up that sum to 1")
    place = int.from_bytes(hashlib.sha256(f"{seed}\x1f{prompt_id}".encode()).digest()[:8]) / 2**64
    below = 0.0
    for side, share in shares.items():
        below += share
        if place < below:
            return side
    return [side for side, share in shares.items() if share > 0][-1]  # the shares summed to a hair under 1


def split_by_prompt(records: Iterable[Record], seed: int, shares: Mapping[Split, float] = SHARES) -> dict[Split, list[Record]]:
    """``records`` by side, each side in the order they came; every side of ``shares`` is there, if empty."""
    sides: dict[Split, list[Record]] = {side: [] for side in shares}
    for record in records:
        sides[split_of(record.prompt_id, seed, shares)].append(record)
    return sides
