"""The paper's two final training mixes for reward models (section 3.2.2, "Data Composition").

- Helpfulness: all Meta Helpfulness, and an equal amount from the rest, drawn uniformly from Meta Safety and open source.
- Safety: all Meta Safety and Anthropic Harmless, mixed 90/10 with Meta Helpfulness and open-source helpfulness.

Ours, where the paper is silent: draws are without replacement and uniform over comparisons, not over sources; where fewer
are available than asked all of them are taken, and the ``Mixture`` says which share came out; one judgement (same id) that
comes in twice is kept once; the mix is shuffled. The result depends on the order of the inputs and on the seed alone.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from preference_data.comparison import Comparison

SAFETY_SHARE = 0.9
"""Share of safety comparisons in the safety mix."""


@dataclass(frozen=True)
class Mixture:
    """A training mix. ``core``: comparisons of the model's own data, all of which are in; ``drawn``: from the rest; ``asked``:
    how many the paper's share asks from the rest; ``repeated``: inputs left out because the same judgement was in already."""

    comparisons: list[Comparison]
    core: int
    drawn: int
    asked: int
    repeated: int

    @property
    def drawn_share(self) -> float:
        """Share of the mix that was drawn from the rest, in [0, 1]."""
        return self.drawn / len(self.comparisons) if self.comparisons else 0.0

    @property
    def by_source(self) -> dict[str, int]:
        return dict(sorted(Counter(comparison.source for comparison in self.comparisons).items()))

    @property
    def by_axis(self) -> dict[str, int]:
        return dict(sorted(Counter(comparison.axis for comparison in self.comparisons).items()))


def _mix(core: Iterable[Comparison], rest: Iterable[Comparison], per_core: float, seed: int) -> Mixture:
    """All of ``core`` and ``per_core`` times as many from ``rest``, shuffled."""
    core, rest = list(core), list(rest)
    kept = {comparison.id: comparison for comparison in core}
    others = {comparison.id: comparison for comparison in rest if comparison.id not in kept}
    asked = round(per_core * len(kept))
    rng = random.Random(seed)
    drawn = rng.sample(list(others.values()), min(asked, len(others)))
    mixed = [*kept.values(), *drawn]
    rng.shuffle(mixed)
    return Mixture(mixed, len(kept), len(drawn), asked, len(core) + len(rest) - len(kept) - len(others))


def helpfulness_mixture(
    helpfulness: Sequence[Comparison], safety: Sequence[Comparison], open_source: Sequence[Comparison] = (), *, seed: int
) -> Mixture:
    """The helpfulness model's mix: all of ``helpfulness``, and as many again from ``safety`` and ``open_source`` together."""
    return _mix(helpfulness, [*safety, *open_source], 1.0, seed)


def safety_mixture(
    safety: Sequence[Comparison],
    helpfulness: Sequence[Comparison],
    open_source_safety: Sequence[Comparison] = (),
    open_source_helpfulness: Sequence[Comparison] = (),
    *,
    seed: int,
) -> Mixture:
    """The safety model's mix: all safety comparisons, and helpfulness ones until they are a tenth of the whole."""
    per_core = (1 - SAFETY_SHARE) / SAFETY_SHARE
    return _mix([*safety, *open_source_safety], [*helpfulness, *open_source_helpfulness], per_core, seed)
