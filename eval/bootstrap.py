"""Intervals of statistics that are neither a mean nor a ratio: slopes, differences between groups, rank correlations.

The unit is the prompt with all that hangs on it, as in `eval.intervals`: 2,000 draws of units with replacement, the statistic
computed anew on each. What is paired stays paired, because a prompt brings its observations under every arm, or none of them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from eval.intervals import DRAWS, UNKNOWN, Estimate
from preference_data.statistics import wilson

Positions = npt.NDArray[np.int64]


def bootstrap(statistic: Callable[[Positions], float], unit_ids: Sequence[Hashable], reach: float, seed: int = 0) -> Estimate:
    """``statistic`` of all observations, with its percentile interval over the units; n counts the observations.

    ``statistic`` takes positions in ``unit_ids`` (N,), some of them several times, and may return NaN where it is undefined:
    such draws are left out, and `UNKNOWN` is returned where it is undefined for the whole. Where all draws agree they claim a
    certainty that the units do not give, as in `eval.intervals`; the interval is then the value -+ ``reach``, the width of the
    range that the statistic can have, times Wilson's upper end for none of the units. Where the value is not in the middle of
    that range the interval may leave it, and only the caller knows its ends: see `clipped`.
    """
    value = statistic(np.arange(len(unit_ids))) if len(unit_ids) else np.nan
    if np.isnan(value):
        return UNKNOWN
    order, starts, counts = _by_unit(unit_ids)
    rng = np.random.default_rng(seed)
    draws = np.empty(DRAWS)
    for number in range(DRAWS):
        drawn = rng.integers(len(counts), size=len(counts))
        draws[number] = statistic(order[_ranges(starts[drawn], counts[drawn])])
    low, high = np.nanquantile(draws, [0.025, 0.975])
    if np.nanmax(draws) - np.nanmin(draws) < 1e-12:
        spread = reach * wilson(0.0, len(counts))[1]
        low, high = value - spread, value + spread
    return Estimate(float(value), float(low), float(high), len(unit_ids))


def clipped(found: Estimate, lowest: float, highest: float) -> Estimate:
    """``found`` with its interval within the ``lowest`` and ``highest`` that it can be; an unknown one as it is."""
    return replace(found, low=max(found.low, lowest), high=min(found.high, highest)) if found.known else found


def contrast(
    values: Sequence[float],
    groups: Sequence[str],
    weights: Mapping[str, float],
    unit_ids: Sequence[Hashable],
    seed: int = 0,
) -> Estimate:
    """Sum over the groups g of ``weights[g]`` * mean of the values in g, bootstrapped over units; n counts the values used.

    With weights 1 and -1 it is the difference of two means, with those of `slope_weights` a least-squares slope. ``values``
    (N,) lie within [0, 1], ``groups`` and ``unit_ids`` are (N,). The interval lies within what such means can make of the
    weights: the sum of the negative ones to that of the positive. Not within what the observed values can, because where they
    are all equal that is one point. `UNKNOWN` when a group with a weight has no value. Raises ValueError on lengths that differ
    and on values outside [0, 1].
    """
    if not len(values) == len(groups) == len(unit_ids):
        raise ValueError(f"{len(values)} values, {len(groups)} groups and {len(unit_ids)} unit ids; give one of each for all")
    if wrong := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"{wrong[0]} is not within [0, 1]; a contrast is of shares, and all of its values are")
    names = list(weights)
    used = [position for position, group in enumerate(groups) if group in weights]
    place = np.array([names.index(groups[position]) for position in used], dtype=np.int64)
    array = np.array([values[position] for position in used], dtype=np.float64)
    factors = np.array([weights[name] for name in names])

    def statistic(positions: Positions) -> float:
        sums = np.bincount(place[positions], array[positions], len(names))
        counts = np.bincount(place[positions], minlength=len(names))
        return float(factors @ (sums / counts)) if counts.all() else float("nan")

    found = bootstrap(statistic, [unit_ids[position] for position in used], float(np.abs(factors).sum()), seed)
    return clipped(found, float(factors.clip(max=0).sum()), float(factors.clip(min=0).sum()))


def slope_weights(x: Mapping[str, float]) -> dict[str, float]:
    """Weights that make a contrast the least-squares slope over ``x``, the place of each group. Raises ValueError for fewer
    than two places."""
    if len(set(x.values())) < 2:
        raise ValueError(f"a slope needs two places or more, and these are {dict(x)}")
    middle = sum(x.values()) / len(x)
    spread = sum((each - middle) ** 2 for each in x.values())
    return {group: (each - middle) / spread for group, each in x.items()}


def _by_unit(unit_ids: Sequence[Hashable]) -> tuple[Positions, Positions, Positions]:
    """All positions (N,), those of a unit side by side; where each unit begins there (U,), and how many it has (U,)."""
    numbers: dict[Hashable, int] = {}
    unit = np.array([numbers.setdefault(each, len(numbers)) for each in unit_ids], dtype=np.int64)
    counts = np.bincount(unit)
    return np.argsort(unit, kind="stable"), np.cumsum(counts) - counts, counts


def _ranges(starts: Positions, counts: Positions) -> Positions:
    """start, start + 1, ... (count of them) for each start, one range after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(counts.sum())
