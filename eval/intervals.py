"""Estimates: a number with its interval and its count, so that no number travels alone.

Two kinds of interval, both two-sided at 95 %:

- **Wilson** (`rate`) for a plain share of yes among independent prompts. The bootstrap cannot serve there: resampling 400
  prompts without one violation only ever finds 0 violations, an interval of [0, 0] that claims a certainty which 400 prompts
  do not give. Wilson's upper end for 0 of 400 is just under one percent.
- **Percentile bootstrap over a unit** (`bootstrap_mean`, `bootstrap_ratio`) for everything else. The unit is the prompt (the
  dialogue, for several turns) with all that hangs on it: several comparisons of one prompt rise and fall together, and two
  policies' answers to one prompt stay paired because the whole prompt is drawn or not. Where all draws of a ratio agree (every
  comparison won), the same argument as above applies, and Wilson's interval over the units takes the bootstrap's place.

Nothing observed is not an error in an evaluation (all comparisons may be ties, no response may fall below a threshold): the
share of nothing is `UNKNOWN`, any value possible and n = 0, never NaN.

The interval speaks of these prompts, for this one trained policy; how another training seed would fare it does not say.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preference_data.statistics import wilson

DRAWS = 2_000
_BLOCK = 2_000_000  # units drawn at once, which bounds memory at some 30 MB

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number, the ends of its 95 % interval, and the count of observations behind it."""

    value: float
    low: float
    high: float
    n: int

    @property
    def known(self) -> bool:
        """False when nothing was observed; then value and interval carry no information."""
        return self.n > 0


UNKNOWN = Estimate(value=0.5, low=0.0, high=1.0, n=0)


def rate(flags: Sequence[bool]) -> Estimate:
    """Share of True among ``flags``, one a prompt, with Wilson's interval; `UNKNOWN` for no flags."""
    if not flags:
        return UNKNOWN
    share = sum(map(bool, flags)) / len(flags)
    return Estimate(share, *wilson(share, len(flags)), n=len(flags))


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0
) -> Estimate:
    """A share sum(numerators) / sum(denominators), each numerator within [0, its denominator], bootstrapped over units.

    The three are (N,), one entry an observation. ``n`` counts the observations with a denominator above zero. A draw whose
    denominators are all zero counts as 0.5, and `UNKNOWN` is returned when the whole data is such. Raises ValueError on
    lengths that differ and on numbers that are not finite.
    """
    upper, units = _sum_by_unit(numerators, unit_ids)
    lower, _ = _sum_by_unit(denominators, unit_ids)
    n = int(np.count_nonzero(np.asarray(denominators, dtype=np.float64)))
    if n == 0:
        return UNKNOWN
    value = float(upper.sum() / lower.sum())
    sums = _resampled_sums(np.stack([upper, lower], axis=1), seed)
    draws = np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), 0.5), where=sums[:, 1] > 0)
    low, high = np.quantile(draws, [0.025, 0.975])
    if np.ptp(draws) < 1e-12:
        low, high = wilson(min(max(value, 0.0), 1.0), units)
    return Estimate(value, float(low), float(high), n)


def bootstrap_mean(values: Sequence[float], unit_ids: Sequence[Hashable], seed: int = 0) -> Estimate:
    """Mean of ``values`` (N,), in their own unit, bootstrapped over ``unit_ids`` (N,).

    For a paired difference of two policies pass the differences. Raises ValueError on no values, on lengths that differ and
    on numbers that are not finite.
    """
    if len(values) == 0:
        raise ValueError("a mean was asked of no values; give at least one")
    totals, _ = _sum_by_unit(values, unit_ids)
    counts, _ = _sum_by_unit(np.ones(len(values)), unit_ids)
    sums = _resampled_sums(np.stack([totals, counts], axis=1), seed)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return Estimate(float(totals.sum() / counts.sum()), float(low), float(high), len(values))


def _sum_by_unit(values: Sequence[float] | FloatArray, unit_ids: Sequence[Hashable]) -> tuple[FloatArray, int]:
    """(sums (U,), U), the units ordered by first appearance."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(unit_ids),):
        raise ValueError(f"{array.size} values were given for {len(unit_ids)} unit ids; give one unit id a value")
    if not np.isfinite(array).all():
        position = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"value {position} is {array[position]}; every value must be finite, so find what made it so")
    order: dict[Hashable, int] = {}
    positions = np.array([order.setdefault(unit, len(order)) for unit in unit_ids], dtype=np.int64)
    sums: FloatArray = np.bincount(positions, weights=array, minlength=len(order)).astype(np.float64)
    return sums, len(order)


def _resampled_sums(columns: FloatArray, seed: int) -> FloatArray:
    """Sums (DRAWS, C) of ``columns`` (U, C) over units drawn with replacement, U a draw."""
    rng = np.random.default_rng(seed)
    units = len(columns)
    rows = max(1, _BLOCK // units)
    blocks = []
    for start in range(0, DRAWS, rows):
        drawn = rng.integers(units, size=(min(rows, DRAWS - start), units))
        blocks.append(np.stack([column[drawn].sum(axis=1) for column in columns.T], axis=1))
    return np.concatenate(blocks)
