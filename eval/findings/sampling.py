"""What the paper claims of many samples per prompt: F9 on their number (Fig 7), F10 on their temperature (Fig 8).

Both take scores on (0, 1), k per prompt, and the estimators over all subsets of `eval.best_of_n`; the unit is the prompt. Our
choice, where the paper is silent: the slopes of F9 are over log2 N at N = 1, 2, 4, ... and k.

The temperatures of F10 are chosen on every other prompt and measured on the rest, so that the choice does not bias the
measurement. The difference is the higher chosen temperature minus the lower. Where the paper is right, this is the best for
many minus the best for one; where it is wrong, the difference counts against the claim. Where both choices are the same
temperature, the difference is 0 by definition: inconclusive.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.best_of_n import expected_choice, expected_maximum, expected_mean, expected_median
from eval.bootstrap import Positions, bootstrap, bounded_mean, slope_weights
from eval.findings.claims import finding
from eval.findings.verdict import Effect, Finding
from eval.intervals import Estimate, FloatArray, bootstrap_mean

Estimator = Callable[[FloatArray, int], FloatArray]
MANY, MEDIAN_DRIFT = 50, 0.005
FIGURE_7 = {"maximum": ((1, 0.54), (20, 0.67)), "median": ((1, 0.54), (20, 0.546))}  # (N, reward), read off the chart


@dataclass(frozen=True, eq=False, slots=True)
class Sampled:
    """The responses of one policy to P prompts at one temperature, k each.

    ``scores`` (P, k) on (0, 1), 0 for a response that cannot be chosen; ``gold`` (P, k) on [0, 1], None where it is unknown.
    """

    prompt_ids: Sequence[str]
    scores: FloatArray
    gold: FloatArray | None = None

    @property
    def k(self) -> int:
        return self.scores.shape[1]


@dataclass(frozen=True, slots=True)
class TemperatureChoice:
    """The temperatures that are best for one sample and for `MANY`, and the gain of the best of MANY at the higher of them."""

    for_one: float
    for_many: float
    gain: Estimate


def doublings(k: int) -> tuple[int, ...]:
    """1, 2, 4, ... and k."""
    return (*(2**power for power in range(k.bit_length()) if 2**power < k), k)


def curves(sampled: Sampled, sizes: Sequence[int]) -> dict[str, dict[int, Estimate]]:
    """Estimates by size: ``maximum``, ``median`` and ``mean`` of the score; with gold also ``gold`` of the response with the
    highest score, and ``best_gold``, the highest gold."""
    scores, gold = sampled.scores, sampled.gold
    values = {
        "maximum": {size: expected_maximum(scores, size) for size in sizes},
        "median": {size: expected_median(scores, size) for size in sizes},
        "mean": {size: expected_mean(scores, size) for size in sizes},
    }
    if gold is not None:
        values["gold"] = {size: expected_choice(scores, gold, size) for size in sizes}
        values["best_gold"] = {size: expected_maximum(gold, size) for size in sizes}
    return {
        name: {size: bootstrap_mean(by_prompt.tolist(), sampled.prompt_ids) for size, by_prompt in by_size.items()}
        for name, by_size in values.items()
    }


def best_rises_with_n(policies: Mapping[str, Sampled]) -> Finding:
    """F9. Policy -> its samples at one temperature, two or more per prompt."""
    effects = []
    for name, sampled in policies.items():
        rise, drift = (_slope(sampled, estimator) for estimator in (expected_maximum, expected_median))
        effects.append(Effect(f"{name}, maximum: slope for each doubling of N", rise))
        effects.append(Effect(f"{name}, median: slope for each doubling of N", drift, "within", MEDIAN_DRIFT))
    return finding("F9", *effects)


def hotter_for_many(policies: Mapping[str, Mapping[float, Sampled]]) -> Finding:
    """F10. Policy -> temperature -> its samples of the same prompts; not measured with fewer than `MANY` per prompt."""
    effects = []
    for name, by_temperature in policies.items():
        if min(sampled.k for sampled in by_temperature.values()) < MANY:
            return finding("F10")
        choice = choose_temperatures(by_temperature)
        best_for_what = {choice.for_many: f"best for {MANY}", choice.for_one: "best for 1"}
        high, low = max(best_for_what), min(best_for_what)
        difference = (
            f"T {high:g} ({best_for_what[high]}) - T {low:g} ({best_for_what[low]})"
            if high > low
            else f"T best for {MANY} - T best for 1, which are both {high:g}"
        )
        effects.append(Effect(f"{name}, best of {MANY}: {difference}", choice.gain))
    return finding("F10", *effects)


def choose_temperatures(by_temperature: Mapping[float, Sampled]) -> TemperatureChoice:
    """Chosen on the first, third, ... prompt, measured on the others; of equal temperatures the lower.

    Raises ValueError for fewer than two prompts, and when the temperatures were not given the same prompts.
    """
    prompt_ids = _same_prompts(by_temperature)
    if len(prompt_ids) < 2:
        raise ValueError(
            f"a temperature is chosen on one half of the prompts and measured on the other, and there are {len(prompt_ids)} "
            "prompts; give two or more"
        )
    for_one, for_many = (
        best_temperature(
            {temperature: expected_maximum(sampled.scores[::2], size) for temperature, sampled in by_temperature.items()}
        )
        for size in (1, MANY)
    )
    best_of_high, best_of_low = (
        expected_maximum(by_temperature[temperature].scores[1::2], MANY)
        for temperature in (max(for_one, for_many), min(for_one, for_many))
    )
    return TemperatureChoice(for_one, for_many, bounded_mean(best_of_high - best_of_low, prompt_ids[1::2], 1.0))


def best_temperature(values: Mapping[float, FloatArray]) -> float:
    """The temperature whose values (P,) have the highest mean, the lowest of equal ones."""
    return max(sorted(values), key=lambda temperature: values[temperature].mean())


def best_for(by_temperature: Mapping[float, Sampled], size: int) -> Estimate:
    """The temperature with the highest expected maximum of ``size``, over all prompts, with its bootstrap interval.

    Raises ValueError when the temperatures were not given the same prompts.
    """
    prompt_ids, temperatures = _same_prompts(by_temperature), sorted(by_temperature)
    values = np.stack([expected_maximum(by_temperature[temperature].scores, size) for temperature in temperatures])

    def best(positions: Positions) -> float:
        return temperatures[int(values[:, positions].mean(axis=1).argmax())]

    return bootstrap(best, prompt_ids, 0.0)


def _slope(sampled: Sampled, estimator: Estimator) -> Estimate:
    """Least-squares slope over log2 N of the mean over prompts, which is the mean of the slopes of the prompts."""
    sizes = doublings(sampled.k)
    weights = np.array(list(slope_weights({str(size): math.log2(size) for size in sizes}).values()))
    slopes = weights @ np.stack([estimator(sampled.scores, size) for size in sizes])
    return bounded_mean(slopes, sampled.prompt_ids, float(np.abs(weights).sum()) / 2)


def _same_prompts(by_temperature: Mapping[float, Sampled]) -> list[str]:
    """The ids of the prompts, which all temperatures share."""
    prompt_lists = {tuple(sampled.prompt_ids) for sampled in by_temperature.values()}
    if len(prompt_lists) != 1:
        temperatures = ", ".join(f"{temperature:g}" for temperature in by_temperature)
        raise ValueError(
            f"the temperatures {temperatures} have samples of {len(prompt_lists)} different lists of prompts; compare them on "
            "the same prompts in the same order"
        )
    return list(prompt_lists.pop())
