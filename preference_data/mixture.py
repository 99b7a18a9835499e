"""Training mixes for reward models: the paper's two (section 3.2.2, "Data Composition"), and any by proportions.

- Helpfulness: all Meta Helpfulness, and an equal amount from the rest, drawn uniformly from Meta Safety and open source.
- Safety: all Meta Safety and Anthropic Harmless, mixed 90/10 with Meta Helpfulness and open-source helpfulness.

Ours, where the paper is silent: draws are without replacement and uniform over comparisons, not over sources; where fewer are
available than needed, all are taken, and the ``Mixture`` tells the share that results; a comparison that occurs twice (same id)
is taken once; the mix is shuffled. The result depends only on the order of the inputs and on the seed.

A mix is made of ids: a ``Mixture`` holds places, so that the comparisons themselves need not fit into memory. An id of None
stands for a comparison that may not be taken, because its dialogue is held out elsewhere.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from preference_data.comparison import Axis

PER_CORE: dict[Axis, float] = {"helpfulness": 1.0, "safety": 0.1 / 0.9}
"""Comparisons that the paper's mix of each axis draws from the rest, for each of its own."""

Item = TypeVar("Item")


class MixtureError(ValueError):
    """Proportions from which no mix can be made."""


@dataclass(frozen=True)
class Mixture:
    """A training mix, in its order.

    ``places``: of its comparisons in the concatenated sources; ``drawn``: how many come from each source; ``wanted``: how many
    were to come from each; ``repeated``: how many were left out because they were in the mix already.
    """

    places: list[int]
    drawn: tuple[int, ...]
    wanted: tuple[int, ...]
    repeated: int

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the mix that each source has, in [0, 1]."""
        return tuple(count / max(1, len(self.places)) for count in self.drawn)

    def of(self, sources: Sequence[Sequence[Item]]) -> list[Item]:
        """The mix of ``sources``, all in memory."""
        together = [item for source in sources for item in source]
        return [together[place] for place in self.places]


def paper_mixture(axis: Axis, own: Sequence[str | None], rest: Sequence[str | None], seed: int) -> Mixture:
    """The paper's mix for the reward model of an axis: all of its own comparisons, and PER_CORE times as many of the rest.

    ``own`` and ``rest`` are ids of comparisons. For helpfulness ``own`` is Meta Helpfulness, for safety it is Meta Safety with
    Anthropic Harmless; ``rest`` is everything else, in any order of sources.
    """
    kept, others, repeated = _unique([own, rest])
    wanted = round(PER_CORE[axis] * len(kept))
    rng = random.Random(seed)
    drawn = rng.sample(others, min(wanted, len(others)))
    places = [*kept, *drawn]
    rng.shuffle(places)
    return Mixture(places, (len(kept), len(drawn)), (len(kept), wanted), repeated)


def mixture_by_shares(
    sources: Sequence[Sequence[str | None]], shares: Sequence[float], seed: int, size: int | None = None
) -> Mixture:
    """A mix of ``size`` comparisons in which the sources have the ``shares``, which are above 0 and sum to 1.

    ``size`` None: as many as possible. Raises MixtureError for other shares, and for a size that the sources cannot fill.
    """
    if len(shares) != len(sources) or any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        listed = ", ".join(f"{share:g}" for share in shares)
        raise MixtureError(
            f"the shares are {listed} and sum to {sum(shares):g}; give each source a share above 0, so that they sum to 1"
        )
    *unique, repeated = _unique(sources)
    largest = min(int(len(ids) / share + 1e-6) for ids, share in zip(unique, shares, strict=True))
    if size is not None and size > largest:
        raise MixtureError(
            f"a mix of {size} comparisons was asked for, but with these shares the sources yield at most {largest}"
        )
    wanted = _apportioned(shares, largest if size is None else size)
    rng = random.Random(seed)
    drawn = [rng.sample(ids, min(count, len(ids))) for ids, count in zip(unique, wanted, strict=True)]
    places = [place for from_source in drawn for place in from_source]
    rng.shuffle(places)
    return Mixture(places, tuple(map(len, drawn)), wanted, repeated)


def _apportioned(shares: Sequence[float], size: int) -> tuple[int, ...]:
    """Whole numbers that sum to ``size``, each within one of its share: those with the largest remainders are rounded up."""
    exact = [share * size for share in shares]
    counts = [math.floor(number + 1e-9) for number in exact]
    cut_most = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
    for place in cut_most[: size - sum(counts)]:
        counts[place] += 1
    return tuple(counts)


def _unique(sources: Sequence[Sequence[str | None]]) -> tuple:
    """For each source the places of ids that did not occur before, then how many were left out because they did."""
    seen: set[str] = set()
    places: list[list[int]] = []
    offset = barred = 0
    for ids in sources:
        places.append([])
        for place, name in enumerate(ids, start=offset):
            barred += name is None
            if name is not None and name not in seen:
                seen.add(name)
                places[-1].append(place)
        offset += len(ids)
    return *places, offset - barred - len(seen)
