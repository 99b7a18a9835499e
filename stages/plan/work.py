"""What a step computes: a handful of *passes*, so many times through a batch of so many rows of so many tokens.

How long a pass takes on this machine is ``stages/plan/rehearsal.py``'s business.
"""

from dataclasses import dataclass, field
from typing import Literal

from policy.footprint import Footprint

Kind = Literal["pretrain", "finetune", "reward", "update", "read", "sample", "turn", "write documents", "encode documents"]

# Bytes of a token on the disk, of a record in memory, and of a record together with its lists of ids and masks (measured).
ON_DISK, RECORD, ENCODED = 4, 1_600, 12_000


@dataclass(frozen=True, slots=True)
class Pass:
    """``count`` batches of ``rows`` texts of ``length`` tokens, of which ``new`` are sampled (``k`` responses share a prompt).

    pretrain, finetune, reward, update: forward, backward and a step of the optimizer (``update``: PPO's, of policy and
    critic). read: forward alone. sample: responses from nothing; turn: the next ones of dialogues that are in the cache.
    ``padding``: how much wider the batch is than its mean text.
    """

    kind: Kind
    count: float
    rows: int = 1
    length: int = 0
    new: int = 0
    k: int = 1
    padding: float = 1.0

    @property
    def width(self) -> int:
        """Columns of a batch; new tokens are not padded."""
        return round(self.padding * (self.length - self.new)) + self.new

    @property
    def tokens(self) -> float:
        """Tokens that are trained, read or sampled."""
        return self.count * self.rows * self.length


@dataclass(frozen=True, slots=True)
class Work:
    """A step's passes, what it holds at its worst moment, and the bytes that its artifact and its saved states take."""

    passes: tuple[Pass, ...] = ()
    footprint: Footprint = field(default_factory=Footprint)
    host_bytes: int = 0  # records and token lists, as Python objects
    artifact_bytes: int = 0
    state_bytes: int = 0

    @property
    def tokens(self) -> float:
        return sum(each.tokens for each in self.passes)


@dataclass(frozen=True, slots=True)
class Texts:
    """So many texts of a mean length in tokens, the longest of them ``longest``."""

    count: int
    length: int
    longest: int
