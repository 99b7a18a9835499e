"""Holding out comparisons for testing: whole dialogues, so that no prefix of a dialogue is on both sides.

A dialogue is identified by its first user message: it stays the same dialogue when later turns or the system message differ.
A hash of the seed and that message decides the side, so a dialogue never changes sides: comparisons of a later round fall on
the same sides. The price is that the share holds on average, not exactly. The paper holds out 1,000 comparisons of every batch.
"""

import hashlib

from preference_data.messages import Messages


def dialogue_key(messages: Messages) -> str:
    """What identifies a dialogue and all its prefixes: the first user message, without the white space around it."""
    return next(message["content"].strip() for message in messages if message["role"] == "user")


def is_held_out(prompt: Messages, share: float, seed: int) -> bool:
    """Whether the dialogue is in the ``share`` of dialogues, in [0, 1), that is held out. Raises ValueError."""
    if not 0 <= share < 1:
        raise ValueError(f"the share held out is {share}; it must be at least 0 and less than 1")
    place = int.from_bytes(hashlib.sha256(f"{seed}\x1f{dialogue_key(prompt)}".encode()).digest()[:8]) / 2**64
    return place < share
