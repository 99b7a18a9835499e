"""Speed as a ratio against a peer: ours and theirs in turn, three times; the median of the ratios counts."""

import statistics
import time
from collections.abc import Callable

ROUNDS = 3


def compare(what: str, amount: int, first: Callable[[], object], second: Callable[[], object]) -> float:
    """The ratio of speeds, printed with both; ``amount`` is what each call does."""
    first(), second()  # warm-up
    speeds = [(amount / timed(first), amount / timed(second)) for _ in range(ROUNDS)]
    ratio = statistics.median(one / other for one, other in speeds)
    mine, peer = (statistics.median(column) for column in zip(*speeds, strict=True))
    print(f"{what}: ours {mine:,.0f}, peer {peer:,.0f}, ratio {ratio:.2f}")
    return ratio


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
