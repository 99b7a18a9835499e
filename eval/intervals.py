"""Estimates: every number carries its interval and its count.

There are two kinds of interval, both two-sided at 95 %:

- **Wilson** (`rate`) for a plain share of yes among independent prompts. A bootstrap cannot serve here: resampling 400
  prompts without one violation only ever gives 0 violations, and the interval [0, 0] claims a certainty that 400 prompts
  do not give. Wilson's upper end for 0 of 400 is just under one percent.
- **Percentile bootstrap over units** (`bootstrap_mean`, `bootstrap_ratio`) for everything else. The unit is the prompt (the
  dialogue, where there are several turns) with all of its observations: several comparisons of one prompt are not independent,
  and the responses of two policies to one prompt stay paired, because a draw takes the whole prompt or none of it. Where all
  draws of a ratio agree (every comparison won), the bootstrap fails for the reason above, and Wilson's interval over the units
  is used instead.

An evaluation may observe nothing without an error (all comparisons are ties, no response falls below a threshold). The share
of nothing is then `UNKNOWN`, with any value possible and n = 0, never NaN.

An interval covers the choice of prompts for this one trained policy. It does not cover other training seeds.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preference_data.measuring.statistics import wilson

DRAWS = 2_000
_BLOCK = 2_000_000  # units drawn at once, which bounds memory at about 30 MB

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number, the ends of its 95 % interval, and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """False when nothing was observed; value and interval then carry no information."""
        return self.n > 0


UNKNOWN = Estimate(value=0.5, low=0.0, high=1.0, n=0)


def rate(flags: Sequence[bool]) -> Estimate:
    """Share of True among ``flags``, one per prompt, with Wilson's interval; `UNKNOWN` for no flags."""
    if not flags:
        return UNKNOWN
    share = sum(map(bool, flags)) / len(flags)
    return Estimate(share, *wilson(share, len(flags)), n=len(flags))


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """The share sum(numerators) / sum(denominators), each numerator within [0, its denominator], bootstrapped over units.

    All three are (N,), one entry per observation. ``n`` counts the observations with a denominator above zero. A draw whose
    denominators are all zero counts as 0.5; where all denominators are zero the result is `UNKNOWN`. Raises ValueError for
    different lengths and for numbers that are not finite.
    """
    unit_numerators = _sum_by_unit(numerators, unit_ids)
    unit_denominators = _sum_by_unit(denominators, unit_ids)
    n = int(np.count_nonzero(np.asarray(denominators, dtype=np.float64)))
    if n == 0:
        return UNKNOWN
    value = float(unit_numerators.sum() / unit_denominators.sum())
    sums = _resampled_sums(np.stack([unit_numerators, unit_denominators], axis=1), seed)
    draws = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), 0.5), where=sums[:, 1] > 0)
    low, high = np.quantile(draws, [0.025, 0.975])
    if np.ptp(draws) < 1e-12:
        low, high = wilson(min(max(value, 0.0), 1.0), len(unit_denominators))
    return Estimate(value, float(low), float(high), n)


def bootstrap_mean(values: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0) -> Estimate:
    """Mean of ``values`` (N,), in their own unit of measure, bootstrapped over ``unit_ids`` (N,).

    For a paired difference of two policies pass the differences. Raises ValueError for no values, for different lengths and
    for numbers that are not finite.
    """
    if len(values) == 0:
        raise ValueError("cannot take the mean of no values; give at least one")
    totals = _sum_by_unit(values, unit_ids)
    counts = _sum_by_unit(np.ones(len(values)), unit_ids)
    sums = _resampled_sums(np.stack([totals, counts], axis=1), seed)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Estimate(float(totals.sum() / counts.sum()), float(low), float(high), len(values))


def unit_numbers(unit_ids: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    """The number of each observation's unit (N,), from 0 in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(unit_id, len(numbers)) for unit_id in unit_ids], dtype=np.int64)


def _sum_by_unit(values: Sequence[float] | FloatArray, unit_ids: Sequence[Hashable]) -> FloatArray:
    """The sum of each unit's values (U,), the units in order of first appearance."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(unit_ids),):
        raise ValueError(f"there are {array.size} values for {len(unit_ids)} unit ids; give one unit id for each value")
    if not np.isfinite(array).all():
        position = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"value {position} is {array[position]}, and every value must be finite; check how it was computed")
    sums: FloatArray = np.bincount(unit_numbers(unit_ids), weights=array).astype(np.float64)
    return sums


def _resampled_sums(columns: FloatArray, seed: int) -> FloatArray:
    """Sums (DRAWS, C) of ``columns`` (U, C) over U units drawn with replacement."""
    rng = np.random.default_rng(seed)
    num_units = len(columns)
    draws_per_block = max(1, _BLOCK // num_units)
    blocks = []
    for start in range(0, DRAWS, draws_per_block):
        drawn = rng.integers(num_units, size=(min(draws_per_block, DRAWS - start), num_units))
        blocks.append(np.stack([column[drawn].sum(axis=1) for column in columns.T], axis=1))
    return np.concatenate(blocks)
