"""Does the best of N samples rise with N while the median stays (paper Figure 7), and does gold rise with it? Finding F9.

n responses to each prompt at one temperature, from each policy. Beside the reward of the best stands what gold thinks of it:
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
from stages.progress import Progress
from stages.sections import SamplingStudyConfig
from stages.stage import Inputs, Stage
from stages.studies.sampled_scores import INELIGIBLE, INPUT_KINDS, SUBSETS, sampled_scores, short_name, unfit_table
from stages.studies.study import write_study

ROWS = {
    "maximum": "maximum",
    "median": "median",
    "mean": "mean",
    "gold": "gold of the best by reward",
    "best_gold": "best gold of N",
}
Curves = Mapping[str, Mapping[str, Mapping[int, Estimate]]]


def run(
    config: SamplingStudyConfig, inputs: Inputs, out: Path, progress: Progress, seed: int, states: SavedStates
) -> dict[str, Any]:
    if len(config.temperatures) != 1:
        given = ", ".join(f"{each:g}" for each in config.temperatures)
        raise ValueError(f"best of N is looked at at one temperature, and these are {given}; `rlhf study temperature` has many")
    (temperature,) = config.temperatures
    samplings, responses = sampled_scores(config, inputs, out, progress, seed, states)
    sampled: dict[str, Sampled] = {short_name(policy): found[temperature] for policy, found in samplings.items()}
    sizes = doublings(config.n)
    measured = {policy: curves(found, sizes) for policy, found in sampled.items()}
    num_prompts = config.num_helpful + config.num_adversarial
    bounds = {size: best_of_n_kl(size) for size in sizes}
    study = Study(
        title="Does the best of N samples rise with N while the median stays?",
        tables=(_by_size(measured, sizes), unfit_table(samplings, responses)),
        findings=(best_rises_with_n(sampled),),
        notes=(
            f"{config.n} responses to each of {num_prompts} prompts, at temperature {temperature:g}.",
            SUBSETS,
            INELIGIBLE,
            f"The best of {config.n} is at most {bounds[config.n]:.2f} nats of KL divergence from the policy.",
        ),
        facts={"kl_at_most": {str(size): bound for size, bound in bounds.items()}},
    )
    figures = {"best-of-n": reward_curves(measured)}
    if all("gold" in found for found in measured.values()):
        figures["gold"] = gold_curves(measured)
    return write_study(study, out, figures=figures)


def _by_size(measured: Curves, sizes: tuple[int, ...]) -> Table:
    rows = [
        Row(f"{policy}, {ROWS[name]}", {f"N = {size}": found for size, found in curve.items()})
        for policy, by_name in measured.items()
        for name, curve in by_name.items()
    ]
    heading = "Reward on (0, 1) of N samples (Fig 7: maximum from 0.54 to 0.67 at 20, median from 0.54 to 0.546), and gold"
    return Table(heading, tuple(f"N = {size}" for size in sizes), tuple(rows), percent=False)


STAGE = Stage("study-best-of-n", "study", 1, SamplingStudyConfig, run, INPUT_KINDS)
