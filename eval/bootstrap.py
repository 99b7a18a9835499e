"""Bootstrap intervals of statistics that are neither a mean nor a ratio: slopes, differences of groups, correlations.

The unit is the prompt with all of its observations, as in `eval.intervals`: 2,000 draws of units with replacement, with the
statistic computed again on each. Paired observations stay paired, because a draw takes a prompt with its observations under
every arm, or none of them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from eval.intervals import DRAWS, UNKNOWN, Estimate, FloatArray, unit_numbers
from preference_data.measuring.statistics import wilson

Positions = npt.NDArray[np.int64]


def bootstrap(statistic: Callable[[Positions], float], unit_ids: Sequence[Hashable], reach: float, seed: int = 0) -> Estimate:
    """``statistic`` of all observations, with its percentile interval over the units; n counts the observations.

    ``statistic`` takes positions in ``unit_ids`` (N,), some of them several times, and may return NaN where it is undefined:
    such draws are left out, and `UNKNOWN` is returned where it is undefined for all observations together. Draws that all
    agree claim a certainty that the units do not give (see `eval.intervals`). The interval is then the value -+ ``reach``, the
    width of the range of the statistic, times Wilson's upper end for none of the units. It may leave the range of the
    statistic; the caller knows that range and limits the interval with `clipped`.
    """
    value = statistic(np.arange(len(unit_ids))) if len(unit_ids) else np.nan
    if np.isnan(value):
        return UNKNOWN
    order, starts, counts = _by_unit(unit_ids)
    rng = np.random.default_rng(seed)
    draws = np.empty(DRAWS)
    for draw in range(DRAWS):
        units = rng.integers(len(counts), size=len(counts))
        draws[draw] = statistic(order[_ranges(starts[units], counts[units])])
    low, high = np.nanquantile(draws, [0.025, 0.975])
    if np.nanmax(draws) - np.nanmin(draws) < 1e-12:
        spread = reach * wilson(0.0, len(counts))[1]
        low, high = value - spread, value + spread
    return Estimate(float(value), float(low), float(high), len(unit_ids))


def clipped(estimate: Estimate, lowest: float, highest: float) -> Estimate:
    """``estimate`` with its interval limited to [``lowest``, ``highest``]; an unknown estimate is returned as it is."""
    if not estimate.known:
        return estimate
    return replace(estimate, low=max(estimate.low, lowest), high=min(estimate.high, highest))


def bounded_mean(values: FloatArray, unit_ids: Sequence[Hashable], bound: float) -> Estimate:
    """Mean of ``values`` (N,), each within [-``bound``, ``bound``], bootstrapped over ``unit_ids`` (N,).

    Unlike `eval.intervals.bootstrap_mean` it gives an interval with a width where all draws agree. Differences of two shares
    have the bound 1.
    """
    mean = bootstrap(lambda positions: float(values[positions].mean()), unit_ids, 2 * bound)
    return clipped(mean, -bound, bound)


def contrast(
    values: Sequence[float],
    groups: Sequence[str],
    weights: Mapping[str, float],
    unit_ids: Sequence[Hashable],
    seed: int = 0,
) -> Estimate:
    """Sum over the groups g of ``weights[g]`` * mean of the values in g, bootstrapped over units; n counts the values used.

    With the weights 1 and -1 it is a difference of two means, with those of `slope_weights` a least-squares slope. ``values``
    (N,) lie within [0, 1]; ``groups`` and ``unit_ids`` are (N,). The interval is limited to what means within [0, 1] can give:
    from the sum of the negative weights to that of the positive ones. The range of the observed values would not do, because
    it is a single point where they are all equal. `UNKNOWN` when a group with a weight has no value. Raises ValueError for
    different lengths and for values outside [0, 1].
    """
    if not len(values) == len(groups) == len(unit_ids):
        raise ValueError(
            f"there are {len(values)} values, {len(groups)} groups and {len(unit_ids)} unit ids; give one of each for every "
            "observation"
        )
    if outside := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"{outside[0]} is not within [0, 1]; a contrast compares shares, so give values from 0 to 1")
    names = list(weights)
    used = [position for position, group in enumerate(groups) if group in weights]
    group_numbers = np.array([names.index(groups[position]) for position in used], dtype=np.int64)
    used_values = np.array([values[position] for position in used], dtype=np.float64)
    factors = np.array([weights[name] for name in names])

    def statistic(positions: Positions) -> float:
        sums = np.bincount(group_numbers[positions], used_values[positions], len(names))
        counts = np.bincount(group_numbers[positions], minlength=len(names))
        return float(factors @ (sums / counts)) if counts.all() else float("nan")

    estimate = bootstrap(statistic, [unit_ids[position] for position in used], float(np.abs(factors).sum()), seed)
    return clipped(estimate, float(factors.clip(max=0).sum()), float(factors.clip(min=0).sum()))


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], our_units: Sequence[Hashable], their_units: Sequence[Hashable]
) -> Estimate:
    """Mean of ``ours`` minus mean of ``theirs``, all within [0, 1], bootstrapped over units; n counts the pairs.

    Both sides observe the same units equally often, in any order. Raises ValueError as `contrast`.
    """
    groups = ["ours"] * len(ours) + ["theirs"] * len(theirs)
    estimate = contrast([*ours, *theirs], groups, {"ours": 1.0, "theirs": -1.0}, [*our_units, *their_units])
    return replace(estimate, n=estimate.n // 2)


def slope_weights(x: Mapping[str, float]) -> dict[str, float]:
    """The weights that make a contrast the least-squares slope over ``x``, the place of each group.

    Raises ValueError for fewer than two different places.
    """
    if len(set(x.values())) < 2:
        raise ValueError(f"a slope needs groups at two different places or more, and the places are {dict(x)}")
    mean = sum(x.values()) / len(x)
    variation = sum((place - mean) ** 2 for place in x.values())
    return {group: (place - mean) / variation for group, place in x.items()}


def pearson(rows: FloatArray) -> float:
    """Pearson's correlation of the two ``rows`` (2, N), in [-1, 1]; NaN where the values of a row are all equal."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    scale = float(np.sqrt((centred**2).sum(axis=1).prod()))
    return float((centred[0] * centred[1]).sum()) / scale if scale > 1e-12 else float("nan")


def _by_unit(unit_ids: Sequence[Hashable]) -> tuple[Positions, Positions, Positions]:
    """All positions (N,), those of a unit side by side; where each unit starts among them (U,), and how many it has (U,)."""
    units = unit_numbers(unit_ids)
    counts = np.bincount(units)
    return np.argsort(units, kind="stable"), np.cumsum(counts) - counts, counts


def _ranges(starts: Positions, counts: Positions) -> Positions:
    """For each start the positions start, start + 1, ... (as many as its count), one range after the other."""
    offsets = np.cumsum(counts) - counts
    return np.repeat(starts - offsets, counts) + np.arange(counts.sum())
