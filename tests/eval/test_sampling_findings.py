"""F9 and F10 on samples with a known verdict, and reversed; the figures show what they are given."""

import dataclasses
import re

import numpy as np
import pytest
from scipy.stats import linregress

from eval.best_of_n import best_of_n_kl
from eval.findings import sampling_figures as figures
from eval.findings.claims import CLAIMS, finding
from eval.findings.sampling import (
    Sampled,
    best_for,
    best_rises_with_n,
    choose_temperatures,
    curves,
    doublings,
    hotter_for_many,
)
from eval.findings.study import Study
from eval.intervals import Estimate
from eval.report.data import StudyReport
from eval.report.figure import drawn
from eval.report.scorecard import scorecard


def sampled(scores, gold=None):
    array = np.array(scores, dtype=np.float64)
    return Sampled([f"p{row}" for row in range(len(array))], array, None if gold is None else np.array(gold, dtype=np.float64))


def noisy(middle, spread, prompts=60, n=64, seed=0):
    """Scores symmetric about a middle value that each prompt has."""
    rng = np.random.default_rng(seed)
    middles = middle + 0.05 * rng.uniform(-1, 1, (prompts, 1))
    return sampled(middles + spread * rng.uniform(-1, 1, (prompts, n)))


def test_doublings():
    assert [doublings(k) for k in (2, 8, 9)] == [(1, 2), (1, 2, 4, 8), (1, 2, 4, 8, 9)]


def test_curves_by_hand():
    """The pairs of (score, gold): the best of 2 in the first prompt has gold 0, 1, 1; in the second the two 0.6 share."""
    by_statistic = curves(sampled([[0.1, 0.2, 0.4], [0.6, 0.6, 0.2]], [[0.5, 0, 1], [1, 0, 0.3]]), (1, 2, 3))
    values = {name: [estimate.value for estimate in curve.values()] for name, curve in by_statistic.items()}
    maxima, medians = [(0.2 + 0.4 + 0.4) / 3, 0.6], [0.7 / 3, 1.4 / 3]
    assert values["maximum"] == pytest.approx([(0.7 / 3 + 1.4 / 3) / 2, sum(maxima) / 2, 0.5])
    assert values["median"] == pytest.approx([sum(medians) / 2, sum(medians) / 2, 0.4])
    assert values["mean"] == pytest.approx([sum(medians) / 2] * 3)
    assert values["gold"] == pytest.approx([(0.5 + 1.3 / 3) / 2, ((0 + 1 + 1) / 3 + 0.5) / 2, 0.75])
    assert values["best_gold"][2] == pytest.approx(1.0)
    assert by_statistic["maximum"][2].n == 2, "prompts are counted"
    assert curves(sampled([[0.1, 0.2]]), (1, 2)).keys() == {"maximum", "median", "mean"}


def test_the_slope_is_least_squares_over_log2_of_n():
    scores = noisy(0.5, 0.3, n=12)
    rise, drift = best_rises_with_n({"sft@1": scores}).effects
    for effect, name in ((rise, "maximum"), (drift, "median")):
        values = [estimate.value for estimate in curves(scores, (1, 2, 4, 8, 12))[name].values()]
        assert effect.estimate.value == pytest.approx(linregress(np.log2([1, 2, 4, 8, 12]), values).slope)
        assert effect.estimate.low < effect.estimate.value < effect.estimate.high


def test_best_rises_with_n():
    finding = best_rises_with_n({"sft@1": noisy(0.5, 0.3), "v5@1": noisy(0.6, 0.2, seed=1)})
    assert finding.id == "F9" and finding.verdict == "holds"
    assert [(effect.side, effect.threshold) for effect in finding.effects] == [("above", 0.0), ("within", 0.005)] * 2
    assert [effect.name.partition(":")[0] for effect in finding.effects] == [
        "sft@1, maximum", "sft@1, median", "v5@1, maximum", "v5@1, median",
    ]  # fmt: skip
    skewed = sampled([[0.9, 0.9, 0.9, 0.0], [0.8, 0.8, 0.8, 0.1]] * 30)
    rise, drift = best_rises_with_n({"": skewed}).effects
    assert (rise.verdict, drift.verdict) == ("holds", "fails"), "the median rises from the mean of all"


def test_scores_that_are_all_equal_rise_nowhere():
    """The slopes are 0 on every prompt: few prompts do not make that certain, and the interval of many is within 0.005."""
    few, many = (best_rises_with_n({"": sampled([[0.5] * 4] * prompts)}) for prompts in (5, 2000))
    assert [effect.verdict for effect in few.effects] == ["inconclusive", "inconclusive"]
    assert [effect.verdict for effect in many.effects] == ["inconclusive", "holds"]
    assert few.effects[0].estimate.value == 0


def test_intervals_of_few_prompts_stay_within_the_possible_range():
    """Of scores on (0, 1) a slope from N = 1 to 2 is at most 1 either way, and so is the gain of a temperature."""
    for effect in best_rises_with_n({"": sampled([[0.5, 0.5]])}).effects:
        assert (effect.estimate.value, effect.estimate.low, effect.estimate.high) == (0, -1, 1)
    (gain,) = hotter_for_many({"": {1.4: daring(0.9, prompts=2), 0.6: steady(0.5, prompts=2)}}).effects
    assert gain.estimate.value == pytest.approx(0.38) and (gain.estimate.low, gain.estimate.high) == (-1, 1)


def steady(value, prompts=60, n=50):
    return sampled(np.full((prompts, n), value) + np.linspace(0, 0.01, prompts)[:, None])


def daring(one, prompts=60, n=50, rest=0.0):
    """One response of each prompt scores ``one``, the others ``rest``."""
    scores = np.full((prompts, n), rest)
    scores[:, 7] = one - np.linspace(0, 0.01, prompts)
    return sampled(scores)


def test_hotter_for_many():
    finding = hotter_for_many({"sft@1": {1.4: daring(0.9), 0.6: steady(0.5), 1.0: steady(0.4)}})
    (effect,) = finding.effects
    assert finding.id == "F10" and finding.verdict == "holds"
    assert effect.name == "sft@1, best of 50: T 1.4 (best for 50) - T 0.6 (best for 1)"
    odd = np.linspace(0, 0.01, 60)[1::2]
    assert effect.estimate.value == pytest.approx(np.mean(0.9 - odd - (0.5 + odd))) and effect.estimate.n == 30


def test_colder_for_many_speaks_against_it():
    finding = hotter_for_many({"": {1.4: steady(0.5), 0.6: daring(0.9)}})
    (effect,) = finding.effects
    assert finding.verdict == "fails" and effect.estimate.value == pytest.approx(-0.39, abs=0.02)
    assert effect.name == ", best of 50: T 1.4 (best for 1) - T 0.6 (best for 50)"


def test_one_temperature_for_both_is_inconclusive():
    finding = hotter_for_many({"": {1.4: steady(0.3), 0.6: steady(0.5)}, "other": {1.4: daring(0.9), 0.6: steady(0.5)}})
    same, other = finding.effects
    assert (same.estimate.value, same.verdict, other.verdict) == (0.0, "inconclusive", "holds")
    assert finding.verdict == "inconclusive" and same.name.endswith("which are both 0.6")


def test_temperatures_are_chosen_on_one_half_and_measured_on_the_other():
    """To the first, third, ... prompt the hot answers are better with many, to the others worse."""
    hot, cold = daring(0.9).scores.copy(), steady(0.5).scores
    hot[1::2] = 0.2
    choice = choose_temperatures({1.4: sampled(hot), 0.6: sampled(cold)})
    assert (choice.for_one, choice.for_many) == (0.6, 1.4)
    assert choice.gain.value == pytest.approx(np.mean(0.2 - cold[1::2, 0])) and choice.gain.high < 0


def test_of_equal_temperatures_the_lower_is_chosen():
    choice = choose_temperatures({1.4: steady(0.5), 0.6: steady(0.5), 1.0: steady(0.5)})
    assert (choice.for_one, choice.for_many, choice.gain.value) == (0.6, 0.6, 0)
    assert best_for({1.4: steady(0.5), 0.6: steady(0.5)}, 1).value == 0.6


def test_fifty_of_more_samples_are_a_subset_of_them():
    """The one good response of 80 is among 50 in five of eight subsets."""
    choice = choose_temperatures({1.4: daring(0.8, n=80), 0.6: sampled(np.full((60, 80), 0.25))})
    odd = np.linspace(0, 0.01, 60)[1::2]
    assert choice.gain.value == pytest.approx(np.mean((0.8 - odd) * 5 / 8 - 0.25))


def test_f10_is_not_measured_with_fewer_samples():
    assert hotter_for_many({"": {1.4: daring(0.9, n=49), 0.6: steady(0.5, n=49)}}).verdict == "not measured"


def test_the_best_temperature_of_each_number_with_its_interval():
    by_temperature = {1.4: daring(0.9), 0.6: steady(0.5)}
    assert [best_for(by_temperature, size).value for size in (1, 50)] == [0.6, 1.4]
    assert best_for(by_temperature, 1) == Estimate(0.6, 0.6, 0.6, 60)
    split = np.full((60, 50), 0.5)
    split[::2] = 0.1
    estimate = best_for({1.4: sampled(split), 0.6: sampled(np.full((60, 50), 0.29))}, 1)
    assert (estimate.value, estimate.low, estimate.high) == (1.4, 0.6, 1.4), "other prompts could give the other temperature"


def test_temperatures_are_compared_on_the_same_prompts():
    other = dataclasses.replace(steady(0.5), prompt_ids=[f"q{row}" for row in range(60)])
    for compare in (choose_temperatures, lambda by_temperature: best_for(by_temperature, 1)):
        with pytest.raises(ValueError, match=r"the temperatures 1\.4, 0\.6 have samples of 2 different lists of prompts"):
            compare({1.4: steady(0.5), 0.6: other})
    with pytest.raises(ValueError, match="measured on the other, and there are 1 prompts; give two or more"):
        choose_temperatures({1.4: steady(0.5, prompts=1)})


def test_claims_have_their_places_in_the_paper():
    assert [CLAIMS[name].source for name in ("F9", "F10", "F11", "F29")] == ["Fig 7", "Fig 8", "section 3.2.3", "section 3.2.3"]
    assert finding("F29").verdict == "not measured"
    assert CLAIMS["F10"].text == "the best sampling temperature is higher for many samples than for one", "no more is measured"
    assert "0.72 to 0.73, at T 1.1 to 1.3" in CLAIMS["F10"].paper


def test_f9_is_in_the_report_as_measured_once_its_study_is(report_data):
    before = {row.id: row for row in scorecard(report_data)}["F9"]
    assert (before.verdict, before.study) == ("not measured", "")
    study = Study("Does the best rise?", (), (best_rises_with_n({"sft@1": noisy(0.5, 0.3)}),))
    data = dataclasses.replace(
        report_data, studies=(*report_data.studies, StudyReport("best-of-n", study, "study/best-of-n@1"))
    )
    (row,) = [row for row in scorecard(data) if row.id == "F9"]
    assert (row.verdict, row.reference, len(row.parts)) == ("holds", "study/best-of-n@1", 2)
    assert row.parts[1].claimed == "within ±0.005"


# Figures


def texts(svg, bold=False):
    """The texts of a figure, all or those in bold."""
    elements = re.findall(r"<text([^>]*)>(.*?)</text>", str(drawn(svg)), re.DOTALL)
    return [text for style, text in elements if not bold or "font-weight: 700" in style]


def test_reward_and_gold_figures_hold_a_line_for_each_curve():
    rng = np.random.default_rng(0)
    policies = {name: curves(sampled(rng.random((9, 8)), rng.random((9, 8))), doublings(8)) for name in ("sft@1", "v5@1")}
    shown = texts(figures.reward_curves(policies))
    for name in ("sft@1", "v5@1"):
        assert {f"{name}, maximum", f"{name}, median", f"{name}, mean"} <= set(shown)
    assert {"paper, maximum (ends)", "8", f"{best_of_n_kl(8):.2f}"} <= set(shown)
    shown = texts(figures.gold_curves(policies))
    assert {"v5@1, gold of the best", "v5@1, its reward", "v5@1, best gold of N"} <= set(shown)
    assert figures.reward_curves(policies) == figures.reward_curves(policies), "same numbers, same bytes"


def by_temperature(values):
    """Temperature -> N -> estimate, from rows of values at N = 1 and 50."""
    return {
        temperature: {size: Estimate(value, value, value, 9) for size, value in zip((1, 50), row, strict=True)}
        for temperature, row in values.items()
    }


def test_the_heat_table_has_the_best_temperature_of_each_number_in_bold():
    shown = by_temperature({1.4: (0.21, 0.93), 0.6: (0.55, 0.82), 1.0: (0.44, 0.71)})
    svg = figures.temperature_heat("sft@1", shown)
    assert set(texts(svg, bold=True)) == {"0.55", "0.93"}
    order = [text for text in texts(svg) if text in ("0.6", "1", "1.4")]
    assert order.index("0.6") < order.index("1.4"), "cold to hot"


def test_temperature_curves_name_every_temperature():
    shown = texts(figures.temperature_curves("sft@1", by_temperature({1.4: (0.2, 0.9), 0.6: (0.5, 0.8)})))
    assert [text for text in shown if text.startswith("T ")] == ["T 0.6", "T 1.4"]
