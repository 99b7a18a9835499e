"""What the paper claims of many samples a prompt: F9 of their number (Fig 7), F10 of their temperature (Fig 8).

Both take scores on (0, 1), k a prompt, and the estimators over all subsets of `eval.best_of_n`; the unit is the prompt. Ours,
where the paper is silent: F9's slopes are over log2 N at N = 1, 2, 4, ... and k.

F10's temperatures are chosen on every other prompt and measured on the rest, so that the choice cannot flatter itself. Its
difference is that of the higher chosen temperature minus the lower, which is the one best for many minus the one best for one
wherever the paper is right; where it is not, that order makes the difference speak against the claim. Where both choices are
one temperature the difference is 0 by definition, which lies on no side of 0: inconclusive.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.best_of_n import expected_choice, expected_maximum, expected_mean, expected_median
from eval.bootstrap import Positions, bootstrap, clipped, slope_weights
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, bootstrap_mean

FloatArray = npt.NDArray[np.float64]
Estimator = Callable[[FloatArray, int], FloatArray]
MANY, MEDIAN_DRIFT = 50, 0.005
FIGURE_7 = {"maximum": ((1, 0.54), (20, 0.67)), "median": ((1, 0.54), (20, 0.546))}  # (N, reward), read off the chart


@dataclass(frozen=True, eq=False, slots=True)
class Sampled:
    """What one policy said to P prompts at one temperature, k responses each.

    ``scores`` (P, k) on (0, 1), 0 for a response that cannot be chosen; ``gold`` (P, k) on [0, 1], None where nothing is known
    of it.
    """

    prompt_ids: Sequence[str]
    scores: FloatArray
    gold: FloatArray | None = None

    @property
    def k(self) -> int:
        return self.scores.shape[1]


@dataclass(frozen=True, slots=True)
class TemperatureChoice:
    """The temperatures that are best for one sample and for `MANY`, and what the best of MANY gains from the hotter of them."""

    for_one: float
    for_many: float
    gain: Estimate


def doublings(k: int) -> tuple[int, ...]:
    """1, 2, 4, ... and k."""
    return (*(2**power for power in range(k.bit_length()) if 2**power < k), k)


def curves(sampled: Sampled, sizes: Sequence[int]) -> dict[str, dict[int, Estimate]]:
    """Estimates by size: ``maximum``, ``median`` and ``mean`` of the score; with gold also ``gold`` of the one that scores
    highest, and ``best_gold``, the highest gold there is."""
    scores, gold = sampled.scores, sampled.gold
    found = {
        "maximum": {size: expected_maximum(scores, size) for size in sizes},
        "median": {size: expected_median(scores, size) for size in sizes},
        "mean": {size: expected_mean(scores, size) for size in sizes},
    }
    if gold is not None:
        found["gold"] = {size: expected_choice(scores, gold, size) for size in sizes}
        found["best_gold"] = {size: expected_maximum(gold, size) for size in sizes}
    return {
        name: {size: bootstrap_mean(values.tolist(), sampled.prompt_ids) for size, values in by_size.items()}
        for name, by_size in found.items()
    }


def best_rises_with_n(policies: Mapping[str, Sampled]) -> Finding:
    """F9. Policy -> its samples at one temperature, two or more a prompt."""
    effects = []
    for name, sampled in policies.items():
        rise, drift = (_slope(sampled, estimator) for estimator in (expected_maximum, expected_median))
        effects.append(Effect(f"{name}, maximum: slope for each doubling of N", rise))
        effects.append(Effect(f"{name}, median: slope for each doubling of N", drift, "within", MEDIAN_DRIFT))
    return finding("F9", *effects)


def hotter_for_many(policies: Mapping[str, Mapping[float, Sampled]]) -> Finding:
    """F10. Policy -> temperature -> its samples of the same prompts; not measured with fewer than `MANY` a prompt."""
    effects = []
    for name, by_temperature in policies.items():
        if min(sampled.k for sampled in by_temperature.values()) < MANY:
            return finding("F10")
        choice = choose_temperatures(by_temperature)
        best = {choice.for_many: f"best for {MANY}", choice.for_one: "best for 1"}
        high, low = max(best), min(best)
        told = (
            f"T {high:g} ({best[high]}) - T {low:g} ({best[low]})"
            if high > low
            else f"T best for {MANY} - T best for 1, which are both {high:g}"
        )
        effects.append(Effect(f"{name}, best of {MANY}: {told}", choice.gain))
    return finding("F10", *effects)


def choose_temperatures(by_temperature: Mapping[float, Sampled]) -> TemperatureChoice:
    """Chosen on the first, third, ... prompt, measured on the others; of equals the lower temperature.

    Raises ValueError for fewer than two prompts, and when the temperatures were not given the same prompts.
    """
    prompt_ids = _same_prompts(by_temperature)
    if len(prompt_ids) < 2:
        raise ValueError("a temperature is chosen on one half of the prompts and measured on the other; give two or more")
    one, many = (
        best_temperature(
            {temperature: expected_maximum(sampled.scores[::2], size) for temperature, sampled in by_temperature.items()}
        )
        for size in (1, MANY)
    )
    high, low = (expected_maximum(by_temperature[each].scores[1::2], MANY) for each in (max(one, many), min(one, many)))
    return TemperatureChoice(one, many, _mean(high - low, prompt_ids[1::2], 2.0))


def best_temperature(values: Mapping[float, FloatArray]) -> float:
    """The temperature whose values (P,) have the highest mean; the lower of equals."""
    return max(sorted(values), key=lambda temperature: values[temperature].mean())


def best_for(by_temperature: Mapping[float, Sampled], size: int) -> Estimate:
    """The temperature with the highest expected maximum of ``size``, on all prompts, and where it lies in 95 of 100 draws of
    them. Raises ValueError when the temperatures were not given the same prompts."""
    prompt_ids, temperatures = _same_prompts(by_temperature), sorted(by_temperature)
    values = np.stack([expected_maximum(by_temperature[temperature].scores, size) for temperature in temperatures])

    def best(positions: Positions) -> float:
        return temperatures[int(values[:, positions].mean(axis=1).argmax())]

    return bootstrap(best, prompt_ids, 0.0)


def _slope(sampled: Sampled, estimator: Estimator) -> Estimate:
    """Least-squares slope over log2 N of the mean over prompts. Each prompt has a slope of its own, and theirs is the mean."""
    sizes = doublings(sampled.k)
    weights = np.array(list(slope_weights({str(size): math.log2(size) for size in sizes}).values()))
    slopes = weights @ np.stack([estimator(sampled.scores, size) for size in sizes])
    return _mean(slopes, sampled.prompt_ids, float(np.abs(weights).sum()))


def _mean(values: FloatArray, prompt_ids: Sequence[str], reach: float) -> Estimate:
    """Mean of one value a prompt, each at most reach / 2 from 0, with the interval of `bootstrap`, which claims no certainty
    where all draws agree, within that range."""
    found = bootstrap(lambda positions: float(values[positions].mean()), prompt_ids, reach)
    return clipped(found, -reach / 2, reach / 2)


def _same_prompts(by_temperature: Mapping[float, Sampled]) -> list[str]:
    """The prompts of all temperatures."""
    asked = {tuple(sampled.prompt_ids) for sampled in by_temperature.values()}
    if len(asked) != 1:
        raise ValueError(
            f"the temperatures {', '.join(f'{each:g}' for each in by_temperature)} answered {len(asked)} different lists of "
            "prompts; compare them on the same prompts in the same order"
        )
    return list(asked.pop())
