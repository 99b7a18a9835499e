"""Is the best sampling temperature higher for many samples than for one (paper Figure 8)? Finding F10.

k responses to each prompt at each temperature, from each policy: the maximum of N by temperature, the best temperature of each
N, and what the best for many gains over the best for one on prompts that neither was chosen on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.best_of_n import expected_maximum
from eval.findings.sampling import MANY, Sampled, best_for, hotter_for_many
from eval.findings.sampling_figures import temperature_curves, temperature_heat
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate, bootstrap_mean
from registry.saved_states import SavedStates
from stages.measure.study_files import write_study
from stages.stage import Inputs
from stages.studies.arms.sampled_scores import (
    INELIGIBLE,
    SUBSETS,
    how_sampled,
    sampled_scores,
    short_name,
    unfit_table,
)
from stages.study_sections import SamplingStudyConfig
from stages.terminal.progress import Progress

SIZES = (1, 2, 5, 10, 20, MANY, 100)
ByTemperature = Mapping[str, Mapping[float, Sampled]]
Maxima = dict[str, dict[float, dict[int, Estimate]]]


def run(
    config: SamplingStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    if len(config.temperatures) < 2:
        raise ValueError(f"temperatures are compared, and one was given ({config.temperatures[0]:g}); give two or more")
    if config.num_helpful + config.num_adversarial < 2:
        raise ValueError("temperatures are chosen on one half of the prompts and measured on the other, and one was asked for")
    samplings, responses = sampled_scores(config, inputs, out, progress, seed, states)
    sampled = {short_name(policy): by_temperature for policy, by_temperature in samplings.items()}
    sizes = tuple(size for size in SIZES if size <= config.k)
    maxima = _maxima(sampled, sizes)
    study = Study(
        title="Is the best sampling temperature higher for many samples than for one?",
        tables=(_best(sampled, sizes), _by_temperature(maxima, sizes), unfit_table(samplings, responses)),
        findings=(hotter_for_many(sampled),),
        notes=(
            how_sampled(config),
            SUBSETS,
            INELIGIBLE,
            "F10's temperatures are chosen on every other prompt and measured on the rest."
            if config.k >= MANY
            else f"F10 is about {MANY} samples, and {config.k} do not measure it.",
        ),
    )
    figures = {}
    for number, (policy, curves) in enumerate(maxima.items(), start=1):
        figures[f"{number}-maximum"] = temperature_curves(policy, curves)
        figures[f"{number}-temperature"] = temperature_heat(policy, curves)
    return write_study(study, out, figures=figures)


def _maxima(sampled: ByTemperature, sizes: tuple[int, ...]) -> Maxima:
    """Policy -> temperature -> N -> the expected maximum."""
    return {
        policy: {
            temperature: {
                size: bootstrap_mean(expected_maximum(scores.scores, size).tolist(), scores.prompt_ids) for size in sizes
            }
            for temperature, scores in by_temperature.items()
        }
        for policy, by_temperature in sampled.items()
    }


def _best(sampled: ByTemperature, sizes: tuple[int, ...]) -> Table:
    rows = [
        Row(policy, {f"N = {size}": best_for(by_temperature, size) for size in sizes})
        for policy, by_temperature in sampled.items()
    ]
    heading = "Best temperature by N, on all prompts (section 3.2.3: 1.2 to 1.3 for 10 to 100 samples of the RLHF model)"
    return Table(heading, _columns(sizes), tuple(rows), percent=False)


def _by_temperature(maxima: Maxima, sizes: tuple[int, ...]) -> Table:
    rows = [
        Row(f"{policy}, T {temperature:g}", {f"N = {size}": estimate for size, estimate in curve.items()})
        for policy, curves in maxima.items()
        for temperature, curve in curves.items()
    ]
    heading = "Maximum reward on (0, 1) of N samples (Fig 8: SFT at best from 0.37 to 0.64, RLHF from 0.54 to 0.73, at 100)"
    return Table(heading, _columns(sizes), tuple(rows), percent=False)


def _columns(sizes: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"N = {size}" for size in sizes)
