"""Does the best of N samples rise with N while the median stays (paper Figure 7), and does gold rise with it? Finding F9.

k responses to each prompt at one temperature, from each policy. Beside the reward of the best stands what gold thinks of it:
where reward goes on rising and gold falls, the reward model is being fooled (Goodhart), and N is the strength of the pull.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.best_of_n import best_of_n_kl
from eval.findings.sampling import Sampled, best_rises_with_n, curves, doublings
from eval.findings.sampling_figures import gold_curves, reward_curves
from eval.findings.study import Row, Study, Table
from eval.intervals import Estimate
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

ROWS = {
    "maximum": "maximum",
    "median": "median",
    "gold": "gold of the best by reward",
    "best_gold": "best gold of N",
}
MEDIAN = "At N = 1 and 2 the median is the mean, so scores that are skewed move its slope."
GOODHART = "Where gold falls while reward rises, the reward model is being fooled (Goodhart)."
Curves = Mapping[str, Mapping[int, Estimate]]
Measured = Mapping[str, Curves]
"""Policy -> statistic -> N -> estimate."""


def run(
    config: SamplingStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    if len(config.temperatures) != 1:
        given = ", ".join(f"{temperature:g}" for temperature in config.temperatures)
        raise ValueError(f"best of N is looked at at one temperature, and these are {given}; `rlhf study temperature` has many")
    (temperature,) = config.temperatures
    samplings, responses = sampled_scores(config, inputs, out, progress, seed, states)
    sampled: dict[str, Sampled] = {
        short_name(policy): by_temperature[temperature] for policy, by_temperature in samplings.items()
    }
    sizes = doublings(config.k)
    measured = {policy: curves(by_temperature, sizes) for policy, by_temperature in sampled.items()}
    has_gold = all("gold" in by_temperature for by_temperature in measured.values())
    bounds = {size: best_of_n_kl(size) for size in sizes}
    study = Study(
        title="Does the best of N samples rise with N while the median stays?",
        tables=(_by_size(measured, bounds, config.num_helpful + config.num_adversarial), unfit_table(samplings, responses)),
        findings=(best_rises_with_n(sampled),),
        notes=(
            how_sampled(config),
            SUBSETS,
            INELIGIBLE,
            MEDIAN,
            *(_mean_note(policy, by_temperature) for policy, by_temperature in measured.items()),
            *(gold_note(policy, by_temperature) for policy, by_temperature in measured.items() if has_gold),
            *([GOODHART] if has_gold else []),
            f"The best of {config.k} is at most {bounds[config.k]:.2f} nats of KL divergence from the policy at that "
            "temperature.",
        ),
        facts={"kl_at_most": {str(size): bound for size, bound in bounds.items()}},
    )
    figures = {"best-of-n": reward_curves(measured)}
    if has_gold:
        figures["gold"] = gold_curves(measured)
    return write_study(study, out, figures=figures)


def _by_size(measured: Measured, bounds: Mapping[int, float], num_prompts: int) -> Table:
    """A line for each policy and statistic, and one for the KL ``bounds`` by N, which are no estimates and hold for each
    prompt."""
    rows = [
        Row(f"{policy}, {ROWS[name]}", {f"N = {size}": estimate for size, estimate in by_name[name].items()})
        for policy, by_name in measured.items()
        for name in ROWS
        if name in by_name
    ]
    exact = {f"N = {size}": Estimate(bound, bound, bound, num_prompts) for size, bound in bounds.items()}
    rows.append(Row("KL of the best from the policy, at most, in nats", exact))
    heading = "Reward on (0, 1) of N samples (Fig 7: maximum from 0.54 to 0.67 at 20, median from 0.54 to 0.546), gold, and KL"
    return Table(heading, tuple(f"N = {size}" for size in bounds), tuple(rows), percent=False)


def _mean_note(policy: str, by_name: Curves) -> str:
    """The mean is the same for every N."""
    return f"The mean reward of all responses of {policy} is {_told(by_name['mean'][1])}."


def gold_note(policy: str, by_name: Curves) -> str:
    """Which N gold likes most, the smallest of those that are equal as shown, and what the largest has beside it."""
    gold, reward = by_name["gold"], by_name["maximum"]
    best, last = max(gold, key=lambda size: round(gold[size].value, 2)), max(gold)
    note = f"By gold the best of {best} is the best choice for {policy} ({_told(gold[best])})"
    if best == last:
        return f"{note}, and that is all of them."
    rise = f"from {reward[best].value:.2f} to {reward[last].value:.2f}"
    return f"{note}; of {last} it is {_told(gold[last])}, while the reward goes {rise}."


def _told(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
